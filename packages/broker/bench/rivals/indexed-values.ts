// Values of a fixed length that carry their number, so that whoever reads them back can tell that none is missing.
import { payloadPool } from '../support/payloads.js'

export class IndexedValues {
  readonly #pool: readonly Buffer[]
  #next = 0

  constructor(recordBytes: number) {
    this.#pool = payloadPool(recordBytes).map((value) => Buffer.from(value))
  }

  /** The next value. It is written anew after a thousand others, so send and await it before. */
  one(): Buffer {
    const value = this.#pool[this.#next % this.#pool.length]!
    value.writeUInt32LE(this.#next++, 0)
    return value
  }

  next(count: number): readonly Buffer[] {
    return Array.from({ length: count }, () => this.one())
  }
}

export const indexAt = (bytes: Uint8Array, at: number): number =>
  (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
