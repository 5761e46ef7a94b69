// Control batches: what brokers write into a log between the records of producers. Each holds one record; its key is one
// byte that says what it is, and its value belongs to whoever writes that kind.
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  crc32,
  ProtocolError,
  RecordBatchBuilder,
  RecordReader,
} from '@millrace/protocol'

/** Numbers are for ever. */
export const CONTROL_KINDS = { logStart: 1, termBegin: 2, configuration: 3 } as const

/** The log that a control batch is for. */
export interface LogPlace {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
}

const NO_PRODUCER = [0, 0, 0, 0] as const
const MAX_CONTROL_BATCH_BYTES = 4096

/** The client part of a control batch. @param wallMs milliseconds since 1970. */
export function sealControlBatch(
  kind: number,
  value: Uint8Array,
  place: LogPlace,
  index: number,
  wallMs: number,
): Uint8Array {
  const builder = new RecordBatchBuilder(MAX_CONTROL_BATCH_BYTES)
  builder.tryAppend(new Uint8Array([kind]), value, null, wallMs)
  const { topicId, partition, lane } = place
  const sequence = index % 0x1_0000_0000
  const identity = { topicId, partition, lane, control: true, producer: NO_PRODUCER, epoch: 0, sequence }
  return builder.seal({ identity, checksum: crc32 })
}

/** The value of a control batch of a kind, whose checksum holds; null for every other batch. */
export function controlValueOf(
  kind: number,
  header: BatchHeader,
  bytes: Uint8Array,
  clientAt: number,
): Uint8Array | null {
  if (!header.control || header.codec !== 'none') return null
  const end = clientAt + header.length
  try {
    const from = clientAt + BATCH_HEADER_BYTES
    const records = new RecordReader(bytes, from, end, header.recordCount, header.lastOffsetDelta)
    if (!records.next()) return null
    const key = records.key()
    return key?.length === 1 && key[0] === kind ? records.value() : null
  } catch (cause) {
    // What a later version says in its control batches is none of our business.
    if (cause instanceof ProtocolError) return null
    throw cause
  }
}
