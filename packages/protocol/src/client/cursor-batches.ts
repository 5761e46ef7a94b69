// CURSOR_BATCHES: committed batches, pushed as they come while credit lasts.
//
//   fixed  u64 high watermark, u32 batches, u32 zero
//   tail   batches to the end of the frame, each log part and client part
import { LOG_PART_BYTES } from '../log-part.js'
import type { MessageCodec } from '../message.js'
import { BATCH_HEADER_BYTES } from '../record-batch.js'

export interface CursorBatches {
  readonly highWatermark: number
  readonly batchCount: number
  /** Batches end to end. The first may begin before the offset asked for. Encode writes only what is given here. */
  readonly batches: Uint8Array
}

export const cursorBatches: MessageCodec<CursorBatches> = {
  kind: 34,
  name: 'CURSOR_BATCHES',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.highWatermark).u32(m.batchCount).u32(0)).bytes(m.batches)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const highWatermark = reader.u64()
      const batchCount = reader.u32()
      reader.u32()
      return { highWatermark, batchCount }
    })
    reader.count(fixed.batchCount, LOG_PART_BYTES + BATCH_HEADER_BYTES)
    return { ...fixed, batches: reader.bytes(reader.remaining) }
  },
}
