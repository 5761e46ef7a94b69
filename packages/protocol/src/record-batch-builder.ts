// Collects records into the body of one batch, in one buffer that ends up being the batch itself.
import { assert } from './assert.js'
import type { ChecksumFunction } from './checksum.js'
import { ProtocolError } from './errors.js'
import { MAX_BATCH_BYTES, MAX_DECODED_BYTES, MAX_KEY_BYTES, MAX_RECORDS_PER_BATCH } from './limits.js'
import { HAS_HEADERS, HAS_KEY, HAS_VALUE, recordBodyBytes } from './record.js'
import { BATCH_HEADER_BYTES, type BatchIdentity, type CodecName, sealBatch } from './record-batch.js'
import { varintBytes, writeVarint, zigzag } from './varint.js'

const FIRST_CAPACITY_BYTES = 4096

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
  readonly #maxBytes: number

  /** @param maxBytes where `tryAppend` begins to refuse; the first record may always be as large as the limits allow. */
  constructor(maxBytes: number) {
    assert(maxBytes > BATCH_HEADER_BYTES && maxBytes <= MAX_BATCH_BYTES, `batches of at most ${maxBytes} bytes`)
    this.#maxBytes = maxBytes
    this.#bytes = new Uint8Array(Math.min(FIRST_CAPACITY_BYTES, maxBytes))
  }

  get recordCount(): number {
    return this.#count
  }

  /** Bytes of the batch so far, header included, before compression. */
  get byteLength(): number {
    return this.#at
  }

  /**
   * Copies a record into the batch and returns true, or returns false and changes nothing when the batch is full.
   * @param headers the result of `encodeHeaders`, or null.
   * @param timestamp milliseconds since 1970, an integer from 0.
   * @throws ProtocolError BATCH_TOO_LARGE for a record that no batch can hold.
   */
  tryAppend(key: Uint8Array | null, value: Uint8Array | null, headers: Uint8Array | null, timestamp: number): boolean {
    if (this.#count === MAX_RECORDS_PER_BATCH) return false
    const timestampDelta = this.#count === 0 ? 0 : timestamp - this.#baseTimestamp
    const keyLength = key === null ? -1 : key.length
    const valueLength = value === null ? -1 : value.length
    const body = recordBodyBytes(this.#count, timestampDelta, keyLength, valueLength, headers?.length ?? 0)
    const size = varintBytes(body) + body
    checkRecordSize(keyLength, size)
    if (this.#count > 0 && this.#at + size > this.#maxBytes) return false
    this.#reserve(size)
    const bytes = this.#bytes
    let at = writeVarint(bytes, this.#at, body)
    bytes[at++] = (key === null ? 0 : HAS_KEY) | (value === null ? 0 : HAS_VALUE) | (headers === null ? 0 : HAS_HEADERS)
    at = writeVarint(bytes, at, this.#count)
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
    if (this.#count === 0) this.#baseTimestamp = this.#lastTimestamp = timestamp
    else if (timestamp > this.#lastTimestamp) this.#lastTimestamp = timestamp
    this.#count++
    return true
  }

  #reserve(size: number): void {
    const needed = this.#at + size
    if (needed <= this.#bytes.length) return
    const grown = new Uint8Array(Math.max(needed, Math.min(this.#bytes.length * 4, this.#maxBytes)))
    grown.set(this.#bytes.subarray(0, this.#at))
    this.#bytes = grown
  }

  /** The finished client part. The builder must not be used after this. */
  seal(options: SealOptions): Uint8Array {
    assert(this.#count > 0, 'a batch without records cannot be sealed')
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

function checkRecordSize(keyLength: number, size: number): void {
  if (keyLength > MAX_KEY_BYTES) {
    throw new ProtocolError('BATCH_TOO_LARGE', `a key of ${keyLength} bytes, the limit is ${MAX_KEY_BYTES}`)
  }
  const limit = Math.min(MAX_BATCH_BYTES, MAX_DECODED_BYTES) - BATCH_HEADER_BYTES
  if (size > limit) throw new ProtocolError('BATCH_TOO_LARGE', `a record of ${size} bytes, the limit is ${limit}`)
}
