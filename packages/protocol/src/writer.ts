// Writes little-endian fields into a buffer that grows; the counterpart of the reader.
import { AssertionError, assert } from './assert.js'
import { MAX_STRING_BYTES } from './limits.js'
import { encodeText } from './text.js'

const HIGH = 0x1_0000_0000

/** Apart from the checks, so that no message is put together for a value that is right. */
function refuse(wanted: string, value: number): never {
  throw new AssertionError(`not ${wanted}: ${value}`)
}

/** What does not fit its field is a bug of the caller: an AssertionError. */
export class Writer {
  #bytes: Uint8Array
  #view: DataView
  #at = 0

  constructor(capacityBytes = 256) {
    this.#bytes = new Uint8Array(capacityBytes)
    this.#view = new DataView(this.#bytes.buffer)
  }

  get length(): number {
    return this.#at
  }

  /** Begins anew in the same memory: views given out before change with what is written now. */
  clear(): this {
    this.#at = 0
    return this
  }

  /** What was written so far; a view that stays valid until the next write. */
  written(): Uint8Array {
    return this.#bytes.subarray(0, this.#at)
  }

  /** Where to write `length` bytes. May replace `#bytes` and `#view`, so call it before either is looked at. */
  #room(length: number): number {
    const at = this.#at
    if (at + length > this.#bytes.length) {
      const grown = new Uint8Array(Math.max(this.#bytes.length * 2, at + length))
      grown.set(this.#bytes.subarray(0, at))
      this.#bytes = grown
      this.#view = new DataView(grown.buffer)
    }
    this.#at = at + length
    return at
  }

  u8(value: number): this {
    if ((value & 0xff) !== value) refuse('a u8', value)
    const at = this.#room(1)
    this.#view.setUint8(at, value)
    return this
  }

  u16(value: number): this {
    if ((value & 0xffff) !== value) refuse('a u16', value)
    const at = this.#room(2)
    this.#view.setUint16(at, value, true)
    return this
  }

  u32(value: number): this {
    if (value >>> 0 !== value) refuse('a u32', value)
    const at = this.#room(4)
    this.#view.setUint32(at, value, true)
    return this
  }

  u64(value: number): this {
    // Most are small, and a remainder of floating-point numbers costs more than the rest.
    if (value >>> 0 === value) return this.u32(value).u32(0)
    if (!(Number.isSafeInteger(value) && value >= 0)) refuse('a position', value)
    const at = this.#room(8)
    this.#view.setUint32(at, value % HIGH, true)
    this.#view.setUint32(at + 4, Math.floor(value / HIGH), true)
    return this
  }

  u64OrNull(value: number | null): this {
    if (value !== null) return this.u64(value)
    const at = this.#room(8)
    this.#view.setUint32(at, 0xffffffff, true)
    this.#view.setUint32(at + 4, 0xffffffff, true)
    return this
  }

  bits64(value: bigint): this {
    if (BigInt.asUintN(64, value) !== value) throw new AssertionError(`not 64 bits: ${value}`)
    const at = this.#room(8)
    this.#view.setBigUint64(at, value, true)
    return this
  }

  bytes(bytes: Uint8Array): this {
    const at = this.#room(bytes.length)
    this.#bytes.set(bytes, at)
    return this
  }

  string(text: string): this {
    // Most details are empty, and the encoder costs more than the rest of a small frame.
    if (text === '') return this.u16(0)
    const bytes = encodeText(text)
    if (bytes.length > MAX_STRING_BYTES) refuse('a string within the limit; bytes', bytes.length)
    return this.u16(bytes.length).bytes(bytes)
  }

  /** 32 hexadecimal digits as 16 bytes. */
  uuid(text: string): this {
    assert(/^[0-9a-f]{32}$/.test(text), `not a uuid of 32 hexadecimal digits: ${text}`)
    const at = this.#room(16)
    for (let i = 0; i < 16; i++) this.#bytes[at + i] = Number.parseInt(text.slice(i * 2, i * 2 + 2), 16)
    return this
  }

  /** Writes the fixed part of a payload with its u16 length in front. */
  fixed(write: () => void): this {
    const at = this.#room(2)
    write()
    const length = this.#at - at - 2
    if (length > 0xffff) refuse('a fixed part within the limit; bytes', length)
    this.#view.setUint16(at, length, true)
    return this
  }

  /** Sets a u32 written earlier, once its value is known. */
  patchU32(at: number, value: number): void {
    if (value >>> 0 !== value) refuse('a u32', value)
    this.#view.setUint32(at, value, true)
  }
}
