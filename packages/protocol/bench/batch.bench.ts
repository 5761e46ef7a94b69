// What a record costs the client on its way into a batch and out of it again, and the broker that checks it.
import { crc32 as zlibCrc32 } from 'node:zlib'
import {
  type BatchIdentity,
  checkRecords,
  encodeHeaders,
  RecordBatchBuilder,
  RecordReader,
  readBatchHeader,
} from '@millrace/protocol'
import { type BenchOptions, measure } from './measure.js'

export const name = 'protocol-batch'

const BATCH_BYTES = 256 * 1024
const IDENTITY: BatchIdentity = {
  topicId: 1,
  partition: 0,
  lane: 0,
  control: false,
  producer: [1, 2, 3, 4],
  epoch: 0,
  sequence: 0,
}

interface Shape {
  readonly label: string
  readonly key: Uint8Array | null
  readonly value: Uint8Array
  readonly headers: Uint8Array | null
}

const text = new TextEncoder()
const filled = (length: number): Uint8Array => new Uint8Array(length).map((_, i) => i * 31)
const key = text.encode('customer-4211')

const SHAPES: readonly Shape[] = [
  { label: '100 B, no key', key: null, value: filled(100), headers: null },
  { label: '100 B, key', key, value: filled(87), headers: null },
  { label: '1 KiB, key', key, value: filled(1011), headers: null },
  {
    label: '1 KiB, key, 2 headers',
    key,
    value: filled(960),
    headers: encodeHeaders([
      ['content-type', text.encode('application/json')],
      ['trace', text.encode('0123456789abcdef')],
    ]),
  },
]

/** @param buffer memory of a batch that is done with, as a busy producer has it; without, fresh memory. */
function build(shape: Shape, buffer?: Uint8Array): Uint8Array {
  const builder = new RecordBatchBuilder(BATCH_BYTES, buffer)
  let timestamp = 1_700_000_000_000
  while (builder.tryAppend(shape.key, shape.value, shape.headers, timestamp)) timestamp += builder.recordCount & 1
  return builder.seal({ identity: IDENTITY, checksum: zlibCrc32 })
}

/** Every record as a consumer sees it: views of key and value. */
function read(batch: Uint8Array): { records: number; bytes: number } {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength)
  const header = readBatchHeader(view, 0)
  const reader = new RecordReader(batch, 80, batch.length, header.recordCount, header.lastOffsetDelta)
  let bytes = 0
  let records = 0
  while (reader.next()) {
    const readKey = reader.key()
    const value = reader.value()
    bytes += (readKey === null ? 0 : readKey.length) + (value === null ? 0 : value.length)
    records++
  }
  return { records, bytes }
}

/** Only stepping: what the reader itself costs. */
function step(batch: Uint8Array, records: number): number {
  const reader = new RecordReader(batch, 80, batch.length, records, records - 1)
  let bytes = 0
  while (reader.next()) bytes += reader.valueEnd - reader.valueStart
  return bytes
}

export function run({ tiny }: BenchOptions): Promise<object> {
  const results = SHAPES.map((shape) => {
    const batch = build(shape)
    const { records, bytes } = read(batch)
    const recordBytes = (batch.length - 80) / records
    const row = (units: () => number) => Number(measure(units, tiny).nsPerUnit.toFixed(2))
    const used = new Uint8Array(BATCH_BYTES)
    const buildNs = row(() => (build(shape, used).length > 0 ? records : 0))
    return {
      name: shape.label,
      recordsPerBatch: records,
      buildNsPerRecord: buildNs,
      buildFreshNsPerRecord: row(() => (build(shape).length > 0 ? records : 0)),
      buildGbPerSecond: Number((recordBytes / buildNs).toFixed(2)),
      readNsPerRecord: row(() => read(batch).records),
      stepNsPerRecord: row(() => (step(batch, records) > 0 ? records : 0)),
      checkNsPerRecord: row(() => {
        checkRecords(batch, 80, batch.length, records, records - 1)
        return records
      }),
      // The same work gives the same sum.
      checksum: (zlibCrc32(batch) ^ bytes) >>> 0,
    }
  })
  return Promise.resolve({ results })
}
