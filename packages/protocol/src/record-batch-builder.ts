// Collects records into the body of one batch, in one buffer that ends up being the batch itself.
import { AssertionError, assert } from './assert.js'
import type { ChecksumFunction } from './checksum.js'
import { ProtocolError } from './errors.js'
import { MAX_BATCH_BYTES, MAX_HEADER_BYTES_PER_RECORD, MAX_KEY_BYTES, MAX_RECORDS_PER_BATCH } from './limits.js'
import { HAS_HEADERS, HAS_KEY, HAS_VALUE, recordBodyBytes } from './record.js'
import { BATCH_HEADER_BYTES, type BatchIdentity, type CodecName, sealBatch } from './record-batch.js'
import { MAX_ZIGZAG_MAGNITUDE, varintBytes, writeVarint, zigzag } from './varint.js'

const FIRST_CAPACITY_BYTES = 4096
/** With it a batch of one record is as large as a batch may be. */
const MAX_RECORD_BYTES = MAX_BATCH_BYTES - BATCH_HEADER_BYTES

export interface SealOptions {
  readonly identity: BatchIdentity
  readonly checksum: ChecksumFunction
  /** Leave out for codec `none`. Must return a buffer of its own. */
  readonly compression?: { readonly codec: CodecName; compress(body: Uint8Array): Uint8Array }
}

export class RecordBatchBuilder {
  #bytes: Uint8Array
  #at = BATCH_HEADER_BYTES
  #count = 0
  #baseTimestamp = 0
  #lastTimestamp = 0
  #sealed = false
  readonly #maxBytes: number

  /**
   * @param maxBytes where `tryAppend` begins to refuse; the first record may always be as large as the limits allow.
   * @param buffer memory to build in, of at least BATCH_HEADER_BYTES, which nobody else uses until the sealed batch is
   * done with; what it holds does not matter. Fresh pages cost several times as much as copying a record does, so a
   * busy producer hands the buffers of acknowledged batches back here. Grows like any other when it is too small.
   */
  constructor(maxBytes: number, buffer?: Uint8Array) {
    assert(maxBytes > BATCH_HEADER_BYTES && maxBytes <= MAX_BATCH_BYTES, `batches of at most ${maxBytes} bytes`)
    this.#maxBytes = maxBytes
    this.#bytes = buffer ?? new Uint8Array(Math.min(FIRST_CAPACITY_BYTES, maxBytes))
    assert(this.#bytes.length >= BATCH_HEADER_BYTES, 'a buffer with room for the header of a batch')
  }

  get recordCount(): number {
    return this.#count
  }

  /** Bytes of the batch so far, header included, before compression. */
  get byteLength(): number {
    return this.#at
  }

  /**
   * Copies a record into the batch and returns true, or returns false and changes nothing when the batch is full (also
   * when its timestamp is too far from that of the first record to be written as a difference).
   * @param headers the result of `encodeHeaders`, or null.
   * @param timestamp milliseconds since 1970, an integer from 0.
   * @throws ProtocolError BATCH_TOO_LARGE for a record that no batch can hold.
   */
  tryAppend(key: Uint8Array | null, value: Uint8Array | null, headers: Uint8Array | null, timestamp: number): boolean {
    assertTimestamp(timestamp)
    const count = this.#count
    const timestampDelta = count === 0 ? 0 : timestamp - this.#baseTimestamp
    const keyLength = key === null ? -1 : key.length
    const valueLength = value === null ? -1 : value.length
    const headerBytes = headers === null ? 0 : headers.length
    const body = recordBodyBytes(count, timestampDelta, keyLength, valueLength, headerBytes)
    const size = varintBytes(body) + body
    checkRecordSize(keyLength, headerBytes, size)
    if (count > 0 && (this.#at + size > this.#maxBytes || !isEncodableDelta(timestampDelta))) return false
    if (count === MAX_RECORDS_PER_BATCH || this.#sealed) return false
    const bytes = this.#reserve(size)
    let at = writeVarint(bytes, this.#at, body)
    bytes[at++] = (key === null ? 0 : HAS_KEY) | (value === null ? 0 : HAS_VALUE) | (headers === null ? 0 : HAS_HEADERS)
    at = writeVarint(bytes, at, count)
    at = writeVarint(bytes, at, zigzag(timestampDelta))
    if (key !== null) {
      at = writeVarint(bytes, at, keyLength)
      bytes.set(key, at)
      at += keyLength
    }
    if (value !== null) {
      at = writeVarint(bytes, at, valueLength)
      bytes.set(value, at)
      at += valueLength
    }
    if (headers !== null) bytes.set(headers, at)
    this.#at += size
    if (count === 0) this.#baseTimestamp = this.#lastTimestamp = timestamp
    else if (timestamp > this.#lastTimestamp) this.#lastTimestamp = timestamp
    this.#count = count + 1
    return true
  }

  /** The buffer, with room for `size` more bytes. */
  #reserve(size: number): Uint8Array {
    const needed = this.#at + size
    if (needed > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(needed, Math.min(this.#bytes.length * 4, this.#maxBytes)))
      grown.set(this.#bytes.subarray(0, this.#at))
      this.#bytes = grown
    }
    return this.#bytes
  }

  /** The finished client part, a view of the builder's buffer unless it was compressed. Takes no record after this. */
  seal(options: SealOptions): Uint8Array {
    assert(this.#count > 0 && !this.#sealed, 'a batch is sealed once, and holds a record')
    this.#sealed = true
    const decodedBytes = this.#at - BATCH_HEADER_BYTES
    let batch = this.#bytes.subarray(0, this.#at)
    let codec: CodecName = 'none'
    if (options.compression !== undefined) {
      const body = options.compression.compress(batch.subarray(BATCH_HEADER_BYTES))
      if (body.length < decodedBytes) {
        codec = options.compression.codec
        batch = new Uint8Array(BATCH_HEADER_BYTES + body.length)
        batch.set(body, BATCH_HEADER_BYTES)
      }
    }
    const content = {
      codec,
      recordCount: this.#count,
      lastOffsetDelta: this.#count - 1,
      decodedBytes,
      baseTimestamp: this.#baseTimestamp,
      lastTimestamp: this.#lastTimestamp,
    }
    sealBatch(batch, options.identity, content, options.checksum)
    return batch
  }
}

const isEncodableDelta = (delta: number): boolean => delta <= MAX_ZIGZAG_MAGNITUDE && delta >= -MAX_ZIGZAG_MAGNITUDE

function assertTimestamp(timestamp: number): void {
  if (Number.isSafeInteger(timestamp) && timestamp >= 0) return
  throw new AssertionError(`a timestamp is a whole number of milliseconds since 1970, not ${timestamp}`)
}

function checkRecordSize(keyLength: number, headerBytes: number, size: number): void {
  if (keyLength > MAX_KEY_BYTES) {
    throw new ProtocolError('BATCH_TOO_LARGE', `a key of ${keyLength} bytes, the limit is ${MAX_KEY_BYTES}`)
  }
  if (headerBytes > MAX_HEADER_BYTES_PER_RECORD) {
    const limit = MAX_HEADER_BYTES_PER_RECORD
    throw new ProtocolError('BATCH_TOO_LARGE', `${headerBytes} bytes of headers, the limit is ${limit}`)
  }
  if (size > MAX_RECORD_BYTES) {
    throw new ProtocolError('BATCH_TOO_LARGE', `a record of ${size} bytes, the limit is ${MAX_RECORD_BYTES}`)
  }
}
