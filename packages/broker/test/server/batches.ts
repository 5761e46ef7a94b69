// Batches for tests, well formed unless asked otherwise.
import { type BatchIdentity, crc32, encodeHeaders, RecordBatchBuilder, type RecordHeader } from '@millrace/protocol'

export interface TestRecord {
  readonly key?: string | null
  readonly value?: string | null
  readonly headers?: readonly RecordHeader[]
  readonly timestamp?: number
}

const encoder = new TextEncoder()
const bytesOf = (text: string | null | undefined): Uint8Array | null => (text == null ? null : encoder.encode(text))

export const PRODUCER: BatchIdentity['producer'] = [1, 2, 3, 4]

/** A batch of topic 1, partition 0, sequence 0 unless told otherwise. */
export function batchOf(records: readonly TestRecord[] | number, identity: Partial<BatchIdentity> = {}): Uint8Array {
  const list =
    typeof records === 'number' ? Array.from({ length: records }, (_, i) => ({ value: `value ${i}` })) : records
  const builder = new RecordBatchBuilder(1024 * 1024)
  for (const { key, value, headers, timestamp } of list as readonly TestRecord[]) {
    const encoded = headers === undefined ? null : encodeHeaders(headers)
    if (!builder.tryAppend(bytesOf(key), bytesOf(value), encoded, timestamp ?? 1_700_000_000_000)) {
      throw new Error('the test batch is full')
    }
  }
  return builder.seal({
    identity: {
      topicId: 1,
      partition: 0,
      lane: 0,
      control: false,
      producer: PRODUCER,
      epoch: 0,
      sequence: 0,
      ...identity,
    },
    checksum: crc32,
  })
}
