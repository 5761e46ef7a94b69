// CURSOR_HEARTBEAT: an idle cursor is alive, and this is where its partition starts and ends.
//
//   fixed  u64 log start, u64 high watermark
import type { MessageCodec } from '../message.js'

export interface CursorHeartbeat {
  readonly logStartOffset: number
  readonly highWatermark: number
}

export const cursorHeartbeat: MessageCodec<CursorHeartbeat> = {
  kind: 35,
  name: 'CURSOR_HEARTBEAT',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.logStartOffset).u64(m.highWatermark))
  },
  decode(reader) {
    return reader.fixed(() => ({ logStartOffset: reader.u64(), highWatermark: reader.u64() }))
  },
}
