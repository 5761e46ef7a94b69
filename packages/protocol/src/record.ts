// One record inside a decoded batch body.
//
//   varint  length of what follows
//   u8      attributes: bit 0 has a key, bit 1 has a value, bit 2 has headers; the rest is zero
//   varint  offset delta to the batch's base offset; strictly rising
//   varint  timestamp delta to the batch's base timestamp, zigzag
//   [varint key length, key]            when bit 0
//   [varint value length, value]        when bit 1
//   [varint header count, headers]      when bit 2; each: varint name length, name in UTF-8,
//                                       varint 0 for null or value length + 1, value
import { assert } from './assert.js'
import { ProtocolError } from './errors.js'
import { MAX_HEADER_BYTES_PER_RECORD, MAX_HEADERS_PER_RECORD, MAX_KEY_BYTES, MIN_RECORD_BYTES } from './limits.js'
import type { BatchHeader } from './record-batch.js'
import { decodeText, encodeText, isText } from './text.js'
import { unzigzag, VarintReader, varintBytes, writeVarint, zigzag } from './varint.js'

export const HAS_KEY = 1
export const HAS_VALUE = 2
export const HAS_HEADERS = 4

/** Name and value; a list, since order and repetition are kept. */
export type RecordHeader = readonly [name: string, value: Uint8Array | null]

export interface RecordFields {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly RecordHeader[]
}

function invalid(detail: string): never {
  throw new ProtocolError('INVALID_BATCH', detail)
}

/** The headers of a record as bytes, count included. @throws ProtocolError BATCH_TOO_LARGE over the limits. */
export function encodeHeaders(headers: readonly RecordHeader[]): Uint8Array {
  if (headers.length > MAX_HEADERS_PER_RECORD) {
    throw new ProtocolError('BATCH_TOO_LARGE', `${headers.length} headers, the limit is ${MAX_HEADERS_PER_RECORD}`)
  }
  const names = headers.map(([name]) => encodeText(name))
  let size = varintBytes(headers.length)
  headers.forEach(([, value], i) => {
    const nameLength = names[i]!.length
    size += varintBytes(nameLength) + nameLength + (value === null ? 1 : varintBytes(value.length + 1) + value.length)
  })
  if (size > MAX_HEADER_BYTES_PER_RECORD) {
    throw new ProtocolError('BATCH_TOO_LARGE', `${size} bytes of headers, the limit is ${MAX_HEADER_BYTES_PER_RECORD}`)
  }
  const bytes = new Uint8Array(size)
  let at = writeVarint(bytes, 0, headers.length)
  headers.forEach(([, value], i) => {
    const name = names[i]!
    at = writeVarint(bytes, at, name.length)
    bytes.set(name, at)
    at = writeVarint(bytes, at + name.length, value === null ? 0 : value.length + 1)
    if (value !== null) {
      bytes.set(value, at)
      at += value.length
    }
  })
  return bytes
}

/** Bytes of a record after its length field. `headerBytes` is the length of `encodeHeaders`, 0 without headers. */
export function recordBodyBytes(
  offsetDelta: number,
  timestampDelta: number,
  keyLength: number,
  valueLength: number,
  headerBytes: number,
): number {
  let size = 1 + varintBytes(offsetDelta) + varintBytes(zigzag(timestampDelta)) + headerBytes
  if (keyLength >= 0) size += varintBytes(keyLength) + keyLength
  if (valueLength >= 0) size += varintBytes(valueLength) + valueLength
  return size
}

/** The range that the timestamps of a batch's records lie in, as its header says: none below 0, none above the last. */
export type TimestampBounds = Pick<BatchHeader, 'baseTimestamp' | 'lastTimestamp'>

/**
 * Reads the records of a body one after another into its own fields: one object for all of them, so that a consumer
 * pays for what it keeps. Everything is bounds-checked; a body that contradicts its header is INVALID_BATCH, and the
 * reader is of no use after that.
 */
export class RecordReader {
  offsetDelta = -1
  timestampDelta = 0
  /** Range of the key in `bytes`, or -1 for null. */
  keyStart = -1
  keyEnd = -1
  valueStart = -1
  valueEnd = -1
  #headersStart = -1
  #recordEnd = 0
  #read = 0
  readonly #varints: VarintReader
  /** Asked for once: `bytes.buffer` is a call into the engine. */
  readonly #buffer: ArrayBufferLike
  readonly #bufferStart: number
  readonly #minTimestampDelta: number
  readonly #maxTimestampDelta: number

  /** @param timestamps the batch's header; left out, timestamps are not checked. */
  constructor(
    readonly bytes: Uint8Array,
    start: number,
    end: number,
    readonly recordCount: number,
    readonly lastOffsetDelta: number,
    timestamps?: TimestampBounds,
  ) {
    assert(start >= 0 && start <= end && end <= bytes.length, 'the records lie within the bytes')
    this.#varints = new VarintReader(bytes, start, end)
    this.#buffer = bytes.buffer
    this.#bufferStart = bytes.byteOffset
    this.#minTimestampDelta = timestamps === undefined ? -Number.MAX_SAFE_INTEGER : -timestamps.baseTimestamp
    this.#maxTimestampDelta =
      timestamps === undefined ? Number.MAX_SAFE_INTEGER : timestamps.lastTimestamp - timestamps.baseTimestamp
  }

  /** Steps to the next record; false after the last. @throws ProtocolError INVALID_BATCH. */
  next(): boolean {
    const v = this.#varints
    if (this.#read === this.recordCount) return this.#finish()
    const length = v.next()
    const recordEnd = v.at + length
    if (recordEnd > v.end || length + 1 < MIN_RECORD_BYTES) invalid(`record ${this.#read} of ${length} bytes`)
    const attributes = this.bytes[v.at++]!
    if ((attributes & ~(HAS_KEY | HAS_VALUE | HAS_HEADERS)) !== 0) invalid(`record attributes ${attributes}`)
    this.#takeDeltas(v.next(), unzigzag(v.next()))
    this.keyStart = this.keyEnd = this.valueStart = this.valueEnd = this.#headersStart = -1
    if (attributes & HAS_KEY) {
      const keyLength = v.next()
      if (keyLength > MAX_KEY_BYTES) invalid(`a key of ${keyLength} bytes`)
      this.keyStart = v.at
      this.keyEnd = v.at += keyLength
    }
    if (attributes & HAS_VALUE) {
      const valueLength = v.next()
      this.valueStart = v.at
      this.valueEnd = v.at += valueLength
    }
    if (v.at > recordEnd) invalid(`record ${this.#read} is longer than it says`)
    if (attributes & HAS_HEADERS) {
      const headerBytes = recordEnd - v.at
      if (headerBytes > MAX_HEADER_BYTES_PER_RECORD) invalid(`${headerBytes} bytes of headers`)
      this.#headersStart = v.at
      v.at = recordEnd
    } else if (v.at !== recordEnd) {
      invalid(`record ${this.#read} is shorter than it says`)
    }
    this.#recordEnd = recordEnd
    this.#read++
    return true
  }

  #takeDeltas(offsetDelta: number, timestampDelta: number): void {
    if (offsetDelta <= this.offsetDelta || offsetDelta > this.lastOffsetDelta) {
      invalid(`offset delta ${offsetDelta} after ${this.offsetDelta}, the last is ${this.lastOffsetDelta}`)
    }
    if (timestampDelta < this.#minTimestampDelta || timestampDelta > this.#maxTimestampDelta) {
      invalid(`timestamp delta ${timestampDelta} of record ${this.#read}`)
    }
    this.offsetDelta = offsetDelta
    this.timestampDelta = timestampDelta
  }

  #finish(): false {
    const v = this.#varints
    if (v.at !== v.end) invalid(`${v.end - v.at} bytes behind the last record`)
    if (this.offsetDelta !== this.lastOffsetDelta) {
      invalid(`the last record has offset delta ${this.offsetDelta}, the header says ${this.lastOffsetDelta}`)
    }
    return false
  }

  /** A view of the key's bytes, or null. */
  key(): Uint8Array | null {
    return this.keyStart < 0 ? null : this.#viewOf(this.keyStart, this.keyEnd)
  }

  /** A view of the value's bytes, or null. */
  value(): Uint8Array | null {
    return this.valueStart < 0 ? null : this.#viewOf(this.valueStart, this.valueEnd)
  }

  /** Half the price of `subarray`, which looks for the constructor to use each time. */
  #viewOf(start: number, end: number): Uint8Array {
    return new Uint8Array(this.#buffer, this.#bufferStart + start, end - start)
  }

  /** Where the current record ends in `bytes`; the next one begins there. */
  get recordEnd(): number {
    return this.#recordEnd
  }

  get hasHeaders(): boolean {
    return this.#headersStart >= 0
  }

  /** The headers of the current record; decoded anew on each call. @throws ProtocolError INVALID_BATCH. */
  headers(): RecordHeader[] {
    const headers: RecordHeader[] = []
    if (this.#headersStart >= 0) this.#walkHeaders(headers)
    return headers
  }

  /** Checks what `headers` would return, without an object per header. @throws ProtocolError INVALID_BATCH. */
  checkHeaders(): void {
    if (this.#headersStart >= 0) this.#walkHeaders(null)
  }

  #walkHeaders(into: RecordHeader[] | null): void {
    const v = this.#varints
    const end = this.#recordEnd
    v.at = this.#headersStart
    const count = v.next()
    if (count > MAX_HEADERS_PER_RECORD || count * 2 > end - v.at) invalid(`${count} headers`)
    for (let i = 0; i < count; i++) {
      const nameStart = this.#skip(v.next())
      const nameEnd = v.at
      const lengthPlusOne = v.next()
      const valueStart = lengthPlusOne === 0 ? -1 : this.#skip(lengthPlusOne - 1)
      if (into === null) {
        if (!isText(this.bytes, nameStart, nameEnd)) invalid('a header name that is not UTF-8')
      } else {
        const value = valueStart < 0 ? null : this.bytes.subarray(valueStart, v.at)
        into.push([decodeName(this.bytes.subarray(nameStart, nameEnd)), value])
      }
    }
    if (v.at !== end) invalid('headers and record do not end together')
  }

  /** Steps over bytes of the current record and returns where they began. */
  #skip(length: number): number {
    const at = this.#varints.at
    if (length > this.#recordEnd - at) invalid('a header is longer than its record')
    this.#varints.at = at + length
    return at
  }
}

function decodeName(name: Uint8Array): string {
  try {
    return decodeText(name)
  } catch (cause) {
    throw new ProtocolError('INVALID_BATCH', 'a header name that is not UTF-8', { cause })
  }
}

/**
 * Checks at ingest that an uncompressed body holds exactly the records its header announces: lengths, count, rising
 * offset deltas, headers, nothing behind. Makes no object per record.
 * @param timestamps the batch's header; left out, timestamps are not checked.
 * @throws ProtocolError INVALID_BATCH.
 */
export function checkRecords(
  bytes: Uint8Array,
  start: number,
  end: number,
  recordCount: number,
  lastOffsetDelta: number,
  timestamps?: TimestampBounds,
): void {
  const records = new RecordReader(bytes, start, end, recordCount, lastOffsetDelta, timestamps)
  while (records.next()) records.checkHeaders()
}
