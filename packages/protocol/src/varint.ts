// Variable-length integers of the record format: seven bits a byte, the low ones first (LEB128), up to 2^53 - 1.
import { ProtocolError } from './errors.js'

/** Longest encoding of a number below 2^53. */
export const MAX_VARINT_BYTES = 8

/** Bytes that `writeVarint` takes for `value`. */
export function varintBytes(value: number): number {
  let bytes = 1
  while (value >= 128) {
    value = Math.floor(value / 128)
    bytes++
  }
  return bytes
}

/** Writes `value` (a safe integer from 0) at `at` and returns the position behind it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  while (value >= 0x1000_0000) {
    bytes[at++] = (value % 128) | 128
    value = Math.floor(value / 128)
  }
  while (value >= 128) {
    bytes[at++] = (value & 127) | 128
    value >>>= 7
  }
  bytes[at++] = value
  return at
}

/** Signed numbers fold to unsigned ones: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4. */
export const zigzag = (value: number): number => (value >= 0 ? value * 2 : -value * 2 - 1)
export const unzigzag = (value: number): number => (value % 2 === 0 ? value / 2 : -(value + 1) / 2)

/** Reads varints one after another from a range of bytes. Every method throws INVALID_BATCH when the range ends. */
export class VarintReader {
  at: number

  constructor(
    readonly bytes: Uint8Array,
    start: number,
    readonly end: number,
  ) {
    this.at = start
  }

  next(): number {
    if (this.at >= this.end) this.#cutShort()
    const first = this.bytes[this.at]!
    if (first < 128) {
      this.at++
      return first
    }
    return this.#long()
  }

  #long(): number {
    let value = 0
    let scale = 1
    for (let i = 0; i < MAX_VARINT_BYTES; i++) {
      if (this.at >= this.end) this.#cutShort()
      const byte = this.bytes[this.at++]!
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 128
    }
    throw new ProtocolError('INVALID_BATCH', `a number above 2^53 at ${this.at}`)
  }

  #cutShort(): never {
    throw new ProtocolError('INVALID_BATCH', `the records end in the middle of a number at ${this.at}`)
  }
}
