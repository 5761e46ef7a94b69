// Random numbers from a seed, for simulation, fuzzing and jitter in tests: the same seed gives the same numbers.

/** xoshiro128** (Blackman and Vigna, 2018), its state drawn from the seed by SplitMix32. Not for secrets. */
export class SeededRandom {
  #a: number
  #b: number
  #c: number
  #d: number

  /** @param seed any number; its lowest 32 bits count. */
  constructor(seed: number) {
    let state = seed | 0
    const next = (): number => {
      state = (state + 0x9e3779b9) | 0
      let z = Math.imul(state ^ (state >>> 16), 0x21f0aaad)
      z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
      return z ^ (z >>> 15)
    }
    this.#a = next()
    this.#b = next()
    this.#c = next()
    this.#d = next()
  }

  /** 0 to 2^32 - 1. */
  u32(): number {
    const product = Math.imul(this.#b, 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9)
    const shifted = this.#b << 9
    this.#c ^= this.#a
    this.#d ^= this.#b
    this.#b ^= this.#c
    this.#a ^= this.#d
    this.#c ^= shifted
    this.#d = (this.#d << 11) | (this.#d >>> 21)
    return result >>> 0
  }

  /** 0 to just below 1, with 32 random bits. */
  fraction(): number {
    return this.u32() / 0x1_0000_0000
  }

  /** A whole number from 0 to `limit` - 1; `limit` is at most 2^32. */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit)
  }

  /** True once in `n` times on average. */
  oneIn(n: number): boolean {
    return this.below(n) === 0
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) bytes[i] = this.u32() >>> 24
    return bytes
  }
}
