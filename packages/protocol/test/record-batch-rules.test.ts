// Every rule of a batch's header, of its records and of the log part, broken once: a typed error, nothing else.
import {
  BATCH_HEADER_BYTES,
  BATCH_VERSION,
  checkRecords,
  crc32,
  type ErrorName,
  LOG_PART_BYTES,
  type LogPart,
  loggedBatches,
  logPartIsValid,
  MAX_BATCH_BYTES,
  MAX_DECODED_BYTES,
  MAX_HEADER_BYTES_PER_RECORD,
  MAX_HEADERS_PER_RECORD,
  MAX_KEY_BYTES,
  MAX_RECORDS_PER_BATCH,
  RecordReader,
  readLogPart,
  writeLogPart,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { writeVarint } from '#src/varint.js'
import { codeOf } from './expect-error.js'
import { buildBatch, bytesOf, concat, headerOf, logged, type SampleRecord, SOME_TIME, viewOf } from './samples.js'

const THREE: readonly SampleRecord[] = [
  { key: bytesOf('a'), value: bytesOf('1'), timestamp: SOME_TIME },
  { key: null, value: bytesOf('2'), headers: [['h', bytesOf('x')]], timestamp: SOME_TIME + 5 },
  { key: bytesOf('c'), value: null, timestamp: SOME_TIME - 5 },
]

describe('rules of the header', () => {
  const broken = (change: (view: DataView) => void): ErrorName => {
    const batch = buildBatch(THREE)
    change(viewOf(batch))
    return codeOf(() => headerOf(batch))
  }
  const set32 = (at: number, value: number) => (view: DataView) => view.setUint32(at, value, true)
  const set64 = (at: number, value: bigint) => (view: DataView) => view.setBigUint64(at, value, true)
  /** A gzip batch, whose decoded size says nothing about its length. */
  const gzipped = (change: (view: DataView) => void) => (view: DataView) => {
    view.setUint8(11, 1)
    change(view)
  }

  const rules: readonly (readonly [string, (view: DataView) => void, ErrorName])[] = [
    ['a magic number', (view) => view.setUint16(8, 0x4d42, true), 'INVALID_BATCH'],
    ['a version that is known', (view) => view.setUint8(10, BATCH_VERSION + 1), 'INVALID_BATCH'],
    ['a codec that is known', (view) => view.setUint8(11, 3), 'CODEC_NOT_ALLOWED'],
    ['no attributes but the known one', (view) => view.setUint16(22, 2, true), 'INVALID_BATCH'],
    ['a length within the limit', set32(4, MAX_BATCH_BYTES + 1), 'BATCH_TOO_LARGE'],
    ['a length that matches its body', set32(60, 1), 'INVALID_BATCH'],
    ['a length of at least its header', set32(4, BATCH_HEADER_BYTES - 1), 'INVALID_BATCH'],
    ['records', set32(48, 0), 'INVALID_BATCH'],
    ['not too many records', set32(48, MAX_RECORDS_PER_BATCH + 1), 'INVALID_BATCH'],
    ['a last offset delta for its records', set32(52, 1), 'INVALID_BATCH'],
    ['a last offset delta within the limit', set32(52, MAX_RECORDS_PER_BATCH), 'INVALID_BATCH'],
    ['a decoded size within the limit', gzipped(set32(56, MAX_DECODED_BYTES + 1)), 'INVALID_BATCH'],
    ['a decoded size that can hold its records', gzipped(set32(56, 11)), 'INVALID_BATCH'],
    ['a decoded size that is the body size without a codec', set32(56, 100), 'INVALID_BATCH'],
    ['a base timestamp below 2^53', set64(64, 2n ** 53n), 'INVALID_BATCH'],
    ['a last timestamp below 2^53', set64(72, 2n ** 53n), 'INVALID_BATCH'],
    ['a last timestamp not before the first', set64(72, BigInt(SOME_TIME - 1)), 'INVALID_BATCH'],
  ]
  for (const [name, change, code] of rules) it(name, () => expect(broken(change)).toBe(code))

  it('holds at its limits', () => {
    const batch = buildBatch(THREE)
    const view = viewOf(batch)
    view.setUint8(11, 1)
    set32(52, MAX_RECORDS_PER_BATCH - 1)(view)
    set32(56, MAX_DECODED_BYTES)(view)
    set64(72, 2n ** 53n - 1n)(view)
    view.setUint16(22, 1, true)
    expect(headerOf(batch)).toMatchObject({ lastOffsetDelta: 65_535, decodedBytes: MAX_DECODED_BYTES, control: true })
    set32(48, 3)(view)
    set32(56, 12)(view)
    expect(headerOf(batch).decodedBytes).toBe(12)
  })
})

/** A body made by hand; numbers become varints. */
function body(...parts: readonly (number | Uint8Array)[]): Uint8Array {
  return concat(
    parts.map((part) => {
      if (typeof part !== 'number') return part
      const bytes = new Uint8Array(8)
      return bytes.slice(0, writeVarint(bytes, 0, part))
    }),
  )
}

/** A record with its length in front. */
const record = (...parts: readonly (number | Uint8Array)[]): Uint8Array => {
  const content = body(...parts)
  return body(content.length, content)
}

describe('rules of the records', () => {
  const check = (bytes: Uint8Array, count: number, lastOffsetDelta = count - 1, timestamps?: [number, number]) => {
    const bounds = timestamps === undefined ? undefined : { baseTimestamp: timestamps[0], lastTimestamp: timestamps[1] }
    // The check at ingest and a consumer that reads everything have to agree.
    const read = () => {
      const reader = new RecordReader(bytes, 0, bytes.length, count, lastOffsetDelta, bounds)
      while (reader.next()) {
        reader.key()
        reader.value()
        reader.headers()
      }
      return 'fine'
    }
    const ingest = () => {
      checkRecords(bytes, 0, bytes.length, count, lastOffsetDelta, bounds)
      return 'fine'
    }
    const outcome = (work: () => string): string => {
      let result = 'fine'
      try {
        result = work()
      } catch {
        result = codeOf(work)
      }
      return result
    }
    expect(outcome(read)).toBe(outcome(ingest))
    return outcome(ingest)
  }
  const NULL = record(0, 0, 0)
  const text = bytesOf

  it('are kept by batches as they are built', () => {
    const batch = buildBatch(THREE)
    expect(check(batch.subarray(BATCH_HEADER_BYTES), 3, 2, [SOME_TIME, SOME_TIME + 5])).toBe('fine')
    expect(check(NULL, 1)).toBe('fine')
  })

  const rules: readonly (readonly [string, () => string])[] = [
    ['a record ends within the body', () => check(body(4, 0, 0, 0), 1)],
    ['a record has attributes and two deltas', () => check(body(2, 0, 0), 1)],
    ['a body does not end in a length', () => check(Uint8Array.of(0x80), 1)],
    ['no attributes but the known ones', () => check(record(8, 0, 0), 1)],
    ['offset deltas rise', () => check(body(record(0, 0, 0), record(0, 0, 0)), 2)],
    ['offset deltas do not pass the last one', () => check(body(record(0, 0, 0), record(0, 5, 0)), 2, 4)],
    ['the last record has the last offset delta', () => check(body(record(0, 0, 0), record(0, 1, 0)), 2, 5)],
    ['a key ends within its record', () => check(body(record(1, 0, 0, 3, text('k')), text('more')), 1)],
    ['a key is not too long', () => check(record(1, 0, 0, MAX_KEY_BYTES + 1, new Uint8Array(MAX_KEY_BYTES + 1)), 1)],
    ['a key that is announced is there', () => check(record(1, 0, 0), 1)],
    ['a value ends within its record', () => check(body(record(2, 0, 0, 3, text('v')), text('more')), 1)],
    ['a value of 2^53 bytes is none', () => check(record(2, 0, 0, Number.MAX_SAFE_INTEGER, text('v')), 1)],
    ['a record ends with its last field', () => check(record(2, 0, 0, 1, text('vx')), 1)],
    ['headers that are announced are there', () => check(record(4, 0, 0), 1)],
    ['headers are not too many', () => check(record(4, 0, 0, 257, new Uint8Array(2 * 257)), 1)],
    ['headers that are counted are there', () => check(record(4, 0, 0, 2, 1, text('h'), 0), 1)],
    ['headers are not too long', () => check(record(4, 0, 0, new Uint8Array(MAX_HEADER_BYTES_PER_RECORD + 1)), 1)],
    ['a header name ends within its record', () => check(body(record(4, 0, 0, 1, 9, text('h')), text('more more')), 1)],
    ['a header value ends within its record', () => check(body(record(4, 0, 0, 1, 0, 9), text('more more')), 1)],
    ['a header value is announced', () => check(record(4, 0, 0, 1, 1, text('h')), 1)],
    ['a header name is UTF-8', () => check(record(4, 0, 0, 1, 1, Uint8Array.of(0xff), 0), 1)],
    ['a record ends with its last header', () => check(record(4, 0, 0, 1, 1, text('h'), 0, 7), 1)],
    ['there are as many records as announced', () => check(NULL, 2)],
    ['there is nothing behind the last record', () => check(body(NULL, text('x')), 1)],
    ['no timestamp lies before 1970', () => check(record(0, 0, 21), 1, 0, [10, 10])],
    ['no timestamp lies behind the last one', () => check(record(0, 0, 2), 1, 0, [10, 10])],
  ]
  for (const [name, outcome] of rules) it(name, () => expect(outcome()).toBe('INVALID_BATCH'))

  it('hold at their limits', () => {
    expect(check(body(record(0, 0, 0), record(0, 5, 0)), 2, 5)).toBe('fine')
    expect(check(record(0, 0, 19), 1, 0, [10, 10])).toBe('fine')
    expect(check(record(0, 0, 20), 1, 0, [0, 10])).toBe('fine')
    expect(check(record(1, 0, 0, MAX_KEY_BYTES, new Uint8Array(MAX_KEY_BYTES)), 1)).toBe('fine')
    expect(check(record(4, 0, 0, 256, new Uint8Array(2 * MAX_HEADERS_PER_RECORD)), 1)).toBe('fine')
    expect(check(record(4, 0, 0, 0), 1)).toBe('fine')
    const long = MAX_HEADER_BYTES_PER_RECORD
    expect(check(record(4, 0, 0, 1, 0, long - 4, new Uint8Array(long - 5)), 1)).toBe('fine')
  })

  it('are checked within the given range only', () => {
    const bytes = body(text('before'), NULL, text('behind'))
    checkRecords(bytes, 6, 6 + NULL.length, 1, 0)
    expect(codeOf(() => checkRecords(bytes, 6, 6 + NULL.length - 1, 1, 0))).toBe('INVALID_BATCH')
    expect(() => checkRecords(bytes, 6, bytes.length + 1, 1, 0)).toThrow('within the bytes')
  })
})

describe('the log part', () => {
  const PART = { term: 17, baseOffset: 95, index: 12, appendTime: SOME_TIME }
  const first = logged(buildBatch(THREE), PART)
  const second = logged(buildBatch(THREE.slice(0, 1)), { ...PART, baseOffset: 98, index: 13 })
  const walk = (bytes: Uint8Array) => [...loggedBatches(bytes, crc32)]

  it('comes back', () => {
    expect(walk(new Uint8Array(0))).toEqual([])
    const both = walk(concat([first, second]))
    expect(both.map(({ baseOffset, index }) => [baseOffset, index])).toEqual([
      [95, 12],
      [98, 13],
    ])
    expect(both[0]).toMatchObject({ ...PART, clientStart: LOG_PART_BYTES, end: first.length })
    expect(both[1]!.end).toBe(first.length + second.length)
    expect(both[1]!.clientStart).toBe(first.length + LOG_PART_BYTES)
  })

  it('is found to be damaged whichever bit flips', () => {
    for (let bit = 0; bit < LOG_PART_BYTES * 8; bit++) {
      const bytes = first.slice()
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(logPartIsValid(bytes, viewOf(bytes), 0, crc32), `bit ${bit}`).toBe(false)
      expect(codeOf(() => walk(bytes))).toBe('CORRUPT_BATCH')
    }
  })

  it('is refused when it, or the batch behind it, is cut short', () => {
    const whole = concat([first, second])
    for (let length = 1; length < whole.length; length++) {
      if (length === first.length) continue
      expect(
        codeOf(() => walk(whole.subarray(0, length))),
        `${length} bytes`,
      ).toBe('CORRUPT_BATCH')
    }
  })

  /** A log part that says something wrong, with a checksum that holds. */
  const lying = (change: Partial<LogPart>): ErrorName => {
    const bytes = concat([first, new Uint8Array(8 * 1024 * 1024)])
    const part = { ...readLogPart(viewOf(first), 0), ...change }
    writeLogPart(bytes, viewOf(bytes), 0, part, crc32)
    return codeOf(() => walk(bytes))
  }

  it('is refused when it lies about the client part', () => {
    expect(lying({ clientLength: BATCH_HEADER_BYTES - 1 })).toBe('CORRUPT_BATCH')
    expect(lying({ clientLength: MAX_BATCH_BYTES + 1 })).toBe('CORRUPT_BATCH')
    expect(lying({ clientChecksum: 1 })).toBe('CORRUPT_BATCH')
  })

  it('is refused with positions that numbers cannot hold', () => {
    expect(lying({ baseOffset: Number.MAX_SAFE_INTEGER - 1 })).toBe('CORRUPT_BATCH')
    expect(lying({ index: 2 ** 53 })).toBe('CORRUPT_BATCH')
    expect(lying({ appendTime: 2 ** 53 })).toBe('CORRUPT_BATCH')
  })
})
