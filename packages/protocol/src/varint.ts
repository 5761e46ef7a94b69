// Variable-length integers of the record format: seven bits a byte, the low ones first (LEB128), up to 2^53 - 1.
import { ProtocolError } from './errors.js'

/** Longest encoding of a number below 2^53. */
export const MAX_VARINT_BYTES = 8

/** Bytes that `writeVarint` takes for `value`. */
export function varintBytes(value: number): number {
  if (value < 0x80) return 1
  if (value < 0x4000) return 2
  if (value < 0x20_0000) return 3
  if (value < 0x1000_0000) return 4
  return 4 + varintBytes(Math.floor(value / 0x1000_0000))
}

/** Writes `value` (a safe integer from 0) at `at` and returns the position behind it. */
export function writeVarint(bytes: Uint8Array, at: number, value: number): number {
  // Bit operations work on 32 bits only; numbers beyond them are rare and take the division.
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

/** Greatest distance of a signed number from 0 whose folded form is still a safe integer. */
export const MAX_ZIGZAG_MAGNITUDE = 2 ** 52 - 1

/** Signed numbers fold to unsigned ones: 0, -1, 1, -2, 2 become 0, 1, 2, 3, 4. */
export function zigzag(value: number): number {
  if (value >= -0x4000_0000 && value < 0x4000_0000) return (value << 1) ^ (value >> 31)
  return value >= 0 ? value * 2 : -value * 2 - 1
}

export function unzigzag(value: number): number {
  if (value < 0x8000_0000) return (value >>> 1) ^ -(value & 1)
  return value % 2 === 0 ? value / 2 : -(value + 1) / 2
}

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
    const at = this.at
    if (at >= this.end) this.#cutShort()
    const first = this.bytes[at]!
    if (first < 128) {
      this.at = at + 1
      return first
    }
    return this.#long()
  }

  #long(): number {
    const bytes = this.bytes
    let value = 0
    // Up to four bytes fit into 32-bit arithmetic; lengths and deltas end there.
    for (let shift = 0; shift < 28; shift += 7) {
      const byte = this.#byte(bytes)
      value |= (byte & 127) << shift
      if (byte < 128) return value
    }
    let scale = 0x1000_0000
    for (let i = 4; i < MAX_VARINT_BYTES; i++) {
      const byte = this.#byte(bytes)
      value += (byte & 127) * scale
      if (byte < 128) {
        if (value > Number.MAX_SAFE_INTEGER) break
        return value
      }
      scale *= 128
    }
    throw new ProtocolError('INVALID_BATCH', `a number above 2^53 at ${this.at}`)
  }

  #byte(bytes: Uint8Array): number {
    if (this.at >= this.end) this.#cutShort()
    return bytes[this.at++]!
  }

  #cutShort(): never {
    throw new ProtocolError('INVALID_BATCH', `the records end in the middle of a number at ${this.at}`)
  }
}
