// The part of `Atomics` that the page table uses, as an object: an explorer puts its own there to step through operations.

/**
 * All of these are sequentially consistent: every worker sees all of them in one order. The page table touches shared
 * words by these alone and has no other effect, so an operation whose results are fed back replays exactly.
 */
export interface AtomicOperations {
  load(words: Int32Array, at: number): number
  store(words: Int32Array, at: number, value: number): number
  /** The value before; it was replaced if that is `expected`. */
  compareExchange(words: Int32Array, at: number, expected: number, replacement: number): number
  /** The value before. */
  add(words: Int32Array, at: number, value: number): number
  /** The value before. */
  or(words: Int32Array, at: number, value: number): number
  /** The value before. */
  exchange(words: Int32Array, at: number, value: number): number
}
