// Batches as some other client would have written them.
import { type BatchIdentity, crc32, encodeHeaders, RecordBatchBuilder, type RecordHeader } from '@millrace/protocol'
import type { FakeCluster } from './fake-broker.js'

export interface WrittenRecord {
  readonly key?: string | null
  readonly value?: string | null
  readonly headers?: readonly RecordHeader[]
  readonly timestamp?: number
}

const encoder = new TextEncoder()
const bytesOf = (text: string | null | undefined): Uint8Array | null => (text == null ? null : encoder.encode(text))

export function buildBatch(
  topicId: number,
  partition: number,
  records: readonly WrittenRecord[],
  options: { readonly control?: boolean; readonly gzip?: (body: Uint8Array) => Uint8Array } = {},
): Uint8Array {
  const builder = new RecordBatchBuilder(1024 * 1024)
  for (const { key, value, headers, timestamp } of records) {
    builder.tryAppend(bytesOf(key), bytesOf(value), headers ? encodeHeaders(headers) : null, timestamp ?? 1)
  }
  const identity: BatchIdentity = {
    topicId,
    partition,
    lane: 0,
    control: options.control ?? false,
    producer: [1, 2, 3, 4],
    epoch: 0,
    sequence: 0,
  }
  const { gzip } = options
  return builder.seal({
    identity,
    checksum: crc32,
    ...(gzip && { compression: { codec: 'gzip' as const, compress: gzip } }),
  })
}

/** Fills a partition with `count` records in batches of `perBatch`: values are their offsets as text. */
export function fill(cluster: FakeCluster, topicId: number, partition: number, count: number, perBatch: number): void {
  let at = cluster.partition(topicId, partition).end
  const end = at + count
  while (at < end) {
    const size = Math.min(perBatch, end - at)
    const records = Array.from({ length: size }, (_, i) => ({ key: `k${(at + i) % 7}`, value: String(at + i) }))
    cluster.append(topicId, partition, buildBatch(topicId, partition, records))
    at += size
  }
}
