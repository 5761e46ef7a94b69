// Reads little-endian fields from bytes somebody else wrote: every length is checked before it is used.
import { ProtocolError } from './errors.js'
import { MAX_STRING_BYTES } from './limits.js'
import { decodeText } from './text.js'

const HIGH = 0x1_0000_0000

/** Every method throws ProtocolError CORRUPT_FRAME when the bytes end too early or hold an impossible value. */
export class Reader {
  readonly #view: DataView
  readonly #bytes: Uint8Array
  #at: number
  #end: number

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.#at = 0
    this.#end = bytes.byteLength
  }

  get position(): number {
    return this.#at
  }

  get remaining(): number {
    return this.#end - this.#at
  }

  #take(length: number): number {
    if (length > this.#end - this.#at) {
      throw new ProtocolError('CORRUPT_FRAME', `${length} bytes wanted at ${this.#at}, ${this.remaining} left`)
    }
    const at = this.#at
    this.#at += length
    return at
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1))
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true)
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true)
  }

  /** An unsigned 64-bit integer; refused above 2^53 - 1, the largest position Millrace has. */
  u64(): number {
    const at = this.#take(8)
    const value = this.#view.getUint32(at + 4, true) * HIGH + this.#view.getUint32(at, true)
    if (!Number.isSafeInteger(value)) throw new ProtocolError('CORRUPT_FRAME', `a number above 2^53 at ${at}`)
    return value
  }

  /** Like `u64`, with all bits set meaning null. */
  u64OrNull(): number | null {
    const low = this.#view.getUint32(this.#take(4), true)
    const high = this.#view.getUint32(this.#take(4), true)
    if (low === 0xffffffff && high === 0xffffffff) return null
    const value = high * HIGH + low
    if (!Number.isSafeInteger(value)) throw new ProtocolError('CORRUPT_FRAME', `a number above 2^53 at ${this.#at - 8}`)
    return value
  }

  /** An unsigned 64-bit integer of which every bit counts: an id, not a position. */
  bits64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true)
  }

  /** A view, not a copy. */
  bytes(length: number): Uint8Array {
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  /** u16 length and UTF-8 bytes, at most MAX_STRING_BYTES. */
  string(): string {
    const length = this.u16()
    if (length > MAX_STRING_BYTES) throw new ProtocolError('CORRUPT_FRAME', `a string of ${length} bytes`)
    const bytes = this.bytes(length)
    try {
      return decodeText(bytes)
    } catch (cause) {
      throw new ProtocolError('CORRUPT_FRAME', 'a string that is not UTF-8', { cause })
    }
  }

  /** 16 bytes as 32 hexadecimal digits. */
  uuid(): string {
    let text = ''
    for (const byte of this.bytes(16)) text += byte.toString(16).padStart(2, '0')
    return text
  }

  /** A count of things of at least `minBytesEach`; refused when so many cannot be there. */
  count(value: number, minBytesEach: number, limit = Number.MAX_SAFE_INTEGER): number {
    if (value > limit || value * minBytesEach > this.remaining) {
      throw new ProtocolError('CORRUPT_FRAME', `${value} entries announced, ${this.remaining} bytes left`)
    }
    return value
  }

  /** `count` things one after another, the count checked as `count` does. */
  list<T>(count: number, minBytesEach: number, limit: number, read: (reader: Reader) => T): T[] {
    this.count(count, minBytesEach, limit)
    const things: T[] = []
    for (let i = 0; i < count; i++) things.push(read(this))
    return things
  }

  /**
   * Reads the fixed part of a payload: a u16 length, then fields. Fields that a newer version added at its end are
   * skipped; the reader then stands at the tail.
   */
  fixed<T>(read: () => T): T {
    const length = this.u16()
    if (length > this.remaining) {
      throw new ProtocolError('CORRUPT_FRAME', `a fixed part of ${length} bytes, ${this.remaining} left`)
    }
    const end = this.#end
    const fixedEnd = this.#at + length
    this.#end = fixedEnd
    const value = read()
    this.#end = end
    this.#at = fixedEnd
    return value
  }
}
