// Batches: whatever records go in come out again, compressed or not, and the builder keeps to its limits.
import { gunzipSync, gzipSync, crc32 as zlibCrc32 } from 'node:zlib'
import {
  AssertionError,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  checkRecords,
  codecName,
  crc32,
  encodeHeaders,
  MAX_BATCH_BYTES,
  MAX_HEADER_BYTES_PER_RECORD,
  MAX_HEADERS_PER_RECORD,
  MAX_KEY_BYTES,
  MAX_RECORDS_PER_BATCH,
  producerName,
  RecordBatchBuilder,
  type RecordHeader,
  RecordReader,
  verifyBatch,
} from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { asSamples, splitRecords } from './batch-fields.js'
import { codeOf } from './expect-error.js'
import { buildBatch, bytesOf, headerOf, type SampleRecord, SOME_IDENTITY, SOME_TIME } from './samples.js'

const gzip = (body: Uint8Array): Uint8Array => new Uint8Array(gzipSync(body))

/** The decoded body of a batch. */
function bodyOf(batch: Uint8Array, header: BatchHeader): Uint8Array {
  const body = batch.subarray(BATCH_HEADER_BYTES)
  return header.codec === 'gzip' ? new Uint8Array(gunzipSync(body)) : body
}

/** Records as a consumer reads them. */
function readRecords(batch: Uint8Array): SampleRecord[] {
  const header = headerOf(batch)
  const body = bodyOf(batch, header)
  expect(body.length).toBe(header.decodedBytes)
  const reader = new RecordReader(body, 0, body.length, header.recordCount, header.lastOffsetDelta, header)
  const records: SampleRecord[] = []
  while (reader.next()) {
    expect(reader.offsetDelta).toBe(records.length)
    records.push({
      key: reader.key()?.slice() ?? null,
      value: reader.value()?.slice() ?? null,
      ...(reader.hasHeaders
        ? { headers: reader.headers().map(([name, value]): RecordHeader => [name, value?.slice() ?? null]) }
        : {}),
      timestamp: header.baseTimestamp + reader.timestampDelta,
    })
  }
  return records
}

const bytes = fc.uint8Array({ maxLength: 300 })
const nullable = fc.option(bytes)
const header = fc.tuple(fc.string({ unit: 'binary', maxLength: 20 }), nullable)
const timestamp = fc.oneof(
  fc.constant(SOME_TIME),
  fc.integer({ min: SOME_TIME - 100_000, max: SOME_TIME + 100_000 }),
  fc.integer({ min: 0, max: 2 ** 52 - 1 }),
)
const record: fc.Arbitrary<SampleRecord> = fc.oneof(
  fc.record({ key: nullable, value: nullable, timestamp }),
  fc.record({ key: nullable, value: nullable, timestamp, headers: fc.array(header, { maxLength: 8 }) }),
)
const records = fc.array(record, { minLength: 1, maxLength: 40 })

describe('records', () => {
  it('come back as they were', () => {
    fc.assert(
      fc.property(records, (given) => {
        expect(readRecords(buildBatch(given))).toEqual(given)
      }),
      { numRuns: 300 },
    )
  })

  it('come back as they were from gzip', () => {
    fc.assert(
      fc.property(records, (given) => {
        expect(readRecords(buildBatch(given, SOME_IDENTITY, gzip))).toEqual(given)
      }),
    )
  })

  it('are read alike by the layout in the documents', () => {
    fc.assert(
      fc.property(records, (given) => {
        const batch = buildBatch(given)
        const parsed = splitRecords(batch.subarray(BATCH_HEADER_BYTES)).map((split) => split.record)
        expect(asSamples(parsed, headerOf(batch).baseTimestamp)).toEqual(given)
      }),
    )
  })

  it('pass the check at ingest, wherever the batch stands in memory', () => {
    fc.assert(
      fc.property(records, fc.nat(9), (given, at) => {
        const batch = buildBatch(given)
        const memory = new Uint8Array(batch.length + 20)
        memory.set(batch, at)
        const found = headerOf(memory.subarray(at))
        const end = at + found.length
        checkRecords(memory, at + BATCH_HEADER_BYTES, end, found.recordCount, found.lastOffsetDelta, found)
        expect(verifyBatch(memory.subarray(at, end), zlibCrc32)).toBe(true)
      }),
    )
  })

  it('come back with empty strings, no headers, and the same header name again', () => {
    const given: SampleRecord[] = [
      { key: bytesOf(''), value: bytesOf(''), headers: [], timestamp: 0 },
      {
        key: null,
        value: null,
        headers: [
          ['', null],
          ['', bytesOf('')],
          ['', null],
        ],
        timestamp: 0,
      },
      { key: null, value: null, timestamp: 0 },
    ]
    expect(readRecords(buildBatch(given))).toEqual(given)
  })
})

describe('the header of a batch', () => {
  it('says what is in it', () => {
    fc.assert(
      fc.property(records, (given) => {
        const batch = buildBatch(given)
        const found = headerOf(batch)
        expect(found).toMatchObject({
          ...SOME_IDENTITY,
          codec: 'none',
          length: batch.length,
          bodyBytes: batch.length - BATCH_HEADER_BYTES,
          decodedBytes: batch.length - BATCH_HEADER_BYTES,
          recordCount: given.length,
          lastOffsetDelta: given.length - 1,
          baseTimestamp: given[0]!.timestamp,
          lastTimestamp: Math.max(...given.map((one) => one.timestamp)),
        })
        expect(found.checksum).toBe(crc32(batch.subarray(4), 0))
      }),
    )
  })

  it('carries every identity', () => {
    const u32 = fc.integer({ min: 0, max: 0xffffffff })
    const identity = fc.record({
      topicId: u32,
      partition: u32,
      lane: fc.integer({ min: 0, max: 0xffff }),
      control: fc.boolean(),
      producer: fc.tuple(u32, u32, u32, u32),
      epoch: u32,
      sequence: u32,
    })
    const one: SampleRecord = { key: null, value: null, timestamp: 0 }
    fc.assert(
      fc.property(identity, (given) => {
        expect(headerOf(buildBatch([one], given))).toMatchObject(given)
      }),
    )
  })

  it('has a checksum that notices every flipped bit', () => {
    const batch = buildBatch([{ key: bytesOf('k'), value: bytesOf('v'), timestamp: SOME_TIME }])
    for (let bit = 0; bit < batch.length * 8; bit++) {
      const flipped = batch.slice()
      flipped[bit >> 3]! ^= 1 << (bit & 7)
      expect(verifyBatch(flipped, zlibCrc32), `bit ${bit}`).toBe(false)
    }
  })

  it('names producers by their bytes as they stand in the batch', () => {
    const batch = buildBatch([{ key: null, value: null, timestamp: 0 }])
    const stands = [...batch.subarray(24, 40)].map((byte) => byte.toString(16).padStart(2, '0')).join('')
    expect(producerName(SOME_IDENTITY.producer)).toBe(stands)
    expect(codecName(1)).toBe('gzip')
    expect(codecName(2)).toBe('zstd')
    expect(codecName(3)).toBe(null)
  })
})

describe('the builder', () => {
  const options = { identity: SOME_IDENTITY, checksum: crc32 }

  it('refuses when it is full and changes nothing then', () => {
    const builder = new RecordBatchBuilder(1000)
    const value = new Uint8Array(90)
    while (builder.tryAppend(null, value, null, SOME_TIME));
    const { byteLength, recordCount } = builder
    expect(byteLength).toBeLessThanOrEqual(1000)
    expect(byteLength).toBeGreaterThan(900)
    expect(builder.tryAppend(null, value, null, SOME_TIME)).toBe(false)
    expect([builder.byteLength, builder.recordCount]).toEqual([byteLength, recordCount])
    expect(readRecords(builder.seal(options)).length).toBe(recordCount)
  })

  it('takes a first record of any size that a batch can hold, and no byte more', () => {
    // Length of 4 bytes, attributes, two deltas, value length of 4 bytes.
    const largest = MAX_BATCH_BYTES - BATCH_HEADER_BYTES - 11
    const builder = new RecordBatchBuilder(100)
    expect(codeOf(() => builder.tryAppend(null, new Uint8Array(largest + 1), null, 0))).toBe('BATCH_TOO_LARGE')
    expect([builder.recordCount, builder.byteLength]).toEqual([0, BATCH_HEADER_BYTES])
    expect(builder.tryAppend(null, new Uint8Array(largest), null, 0)).toBe(true)
    const batch = builder.seal(options)
    expect(batch.length).toBe(MAX_BATCH_BYTES)
    expect(headerOf(batch).recordCount).toBe(1)
  })

  it('refuses keys and headers over their limits', () => {
    const builder = new RecordBatchBuilder(MAX_BATCH_BYTES)
    const largestKey = new Uint8Array(MAX_KEY_BYTES)
    const largestHeaders = encodeHeaders([['', new Uint8Array(MAX_HEADER_BYTES_PER_RECORD - 5)]])
    expect(largestHeaders.length).toBe(MAX_HEADER_BYTES_PER_RECORD)
    expect(builder.tryAppend(largestKey, null, largestHeaders, 0)).toBe(true)
    const longKey = new Uint8Array(MAX_KEY_BYTES + 1)
    expect(codeOf(() => builder.tryAppend(longKey, null, null, 0))).toBe('BATCH_TOO_LARGE')
    const longHeaders = new Uint8Array(MAX_HEADER_BYTES_PER_RECORD + 1)
    expect(codeOf(() => builder.tryAppend(null, null, longHeaders, 0))).toBe('BATCH_TOO_LARGE')
    expect(builder.recordCount).toBe(1)
    expect(readRecords(builder.seal(options))[0]!.key!.length).toBe(MAX_KEY_BYTES)
  })

  it('refuses headers that are too many or too long', () => {
    const many: RecordHeader[] = Array.from({ length: MAX_HEADERS_PER_RECORD }, () => ['h', null])
    const one: SampleRecord = { key: null, value: null, headers: many, timestamp: 0 }
    expect(readRecords(buildBatch([one]))).toEqual([one])
    expect(codeOf(() => encodeHeaders([...many, ['h', null]]))).toBe('BATCH_TOO_LARGE')
    const long = new Uint8Array(MAX_HEADER_BYTES_PER_RECORD - 4)
    expect(codeOf(() => encodeHeaders([['', long]]))).toBe('BATCH_TOO_LARGE')
  })

  it('holds so many records and no more', () => {
    const builder = new RecordBatchBuilder(MAX_BATCH_BYTES)
    for (let i = 0; i < MAX_RECORDS_PER_BATCH; i++) expect(builder.tryAppend(null, null, null, 0)).toBe(true)
    expect(builder.tryAppend(null, null, null, 0)).toBe(false)
    const batch = builder.seal(options)
    expect(headerOf(batch).recordCount).toBe(MAX_RECORDS_PER_BATCH)
    expect(readRecords(batch).length).toBe(MAX_RECORDS_PER_BATCH)
  })

  it('is full for a timestamp too far from its first one', () => {
    const far = 2 ** 52
    for (const [first, second] of [
      [0, far],
      [far, 0],
    ] as const) {
      const builder = new RecordBatchBuilder(1000)
      builder.tryAppend(null, null, null, first)
      expect(builder.tryAppend(null, null, null, second)).toBe(false)
      expect(builder.tryAppend(null, null, null, second + (first > second ? 1 : -1))).toBe(true)
      expect(readRecords(builder.seal(options)).map((one) => one.timestamp)[0]).toBe(first)
    }
  })

  it('takes whole milliseconds since 1970 only', () => {
    const builder = new RecordBatchBuilder(1000)
    for (const wrong of [-1, 0.5, Number.NaN, Number.MAX_SAFE_INTEGER + 1]) {
      expect(() => builder.tryAppend(null, null, null, wrong)).toThrow(AssertionError)
    }
    expect(builder.tryAppend(null, null, null, Number.MAX_SAFE_INTEGER)).toBe(true)
  })

  it('is sealed once, and not without records', () => {
    const builder = new RecordBatchBuilder(1000)
    expect(() => builder.seal(options)).toThrow(AssertionError)
    builder.tryAppend(null, null, null, 0)
    const batch = builder.seal(options)
    const before = batch.slice()
    expect(() => builder.seal(options)).toThrow(AssertionError)
    expect(builder.tryAppend(null, null, null, 0)).toBe(false)
    expect(batch).toEqual(before)
  })

  it('refuses limits that no batch can have', () => {
    for (const wrong of [BATCH_HEADER_BYTES, MAX_BATCH_BYTES + 1]) {
      expect(() => new RecordBatchBuilder(wrong)).toThrow(AssertionError)
    }
    expect(() => new RecordBatchBuilder(1000, new Uint8Array(BATCH_HEADER_BYTES - 1))).toThrow(AssertionError)
  })

  it('builds in memory that was used before, and grows out of it', () => {
    const given: SampleRecord[] = [{ key: bytesOf('k'), value: new Uint8Array(200), timestamp: SOME_TIME }]
    for (const size of [BATCH_HEADER_BYTES, 100, 4096]) {
      const used = new Uint8Array(size).fill(0xee)
      const builder = new RecordBatchBuilder(4096, used)
      builder.tryAppend(given[0]!.key, given[0]!.value, null, SOME_TIME)
      const batch = builder.seal(options)
      expect(batch.buffer === used.buffer).toBe(size === 4096)
      expect(batch).toEqual(buildBatch(given))
    }
  })

  it('keeps a body uncompressed that compression does not shrink', () => {
    const given: SampleRecord[] = [{ key: null, value: bytesOf('x'), timestamp: 0 }]
    expect(headerOf(buildBatch(given, SOME_IDENTITY, gzip)).codec).toBe('none')
    const long: SampleRecord[] = [{ key: null, value: new Uint8Array(1000), timestamp: 0 }]
    const compressed = buildBatch(long, SOME_IDENTITY, gzip)
    expect(headerOf(compressed)).toMatchObject({ codec: 'gzip', length: compressed.length })
    expect(readRecords(compressed)).toEqual(long)
  })
})
