// Where the batches behind the commit end, so that the high watermark can follow it.
import { Fifo } from '../fifo.js'

interface BatchEnd {
  readonly index: number
  /** Offset after its last record. */
  readonly offset: number
}

export class BatchEnds {
  #ends = new Fifo<BatchEnd>()
  /** What a restart found: where the batches in it end is not known one by one. */
  #found: BatchEnd

  constructor(found: BatchEnd) {
    this.#found = found
  }

  add(index: number, offset: number): void {
    this.#ends.push({ index, offset })
  }

  /** The offset behind everything up to `index`, or as far as it is known, at least `highWatermark`. */
  passed(index: number, highWatermark: number): number {
    let offset = index >= this.#found.index ? Math.max(highWatermark, this.#found.offset) : highWatermark
    for (let end = this.#ends.peek(); end !== undefined && end.index <= index; end = this.#ends.peek()) {
      this.#ends.shift()
      offset = Math.max(offset, end.offset)
    }
    return offset
  }

  /** The log was cut: nothing above `lastIndex` is there, and behind that one stands `offset`. */
  truncated(lastIndex: number, offset: number): void {
    const kept = new Fifo<BatchEnd>()
    for (const end of this.#ends.drain()) if (end.index <= lastIndex) kept.push(end)
    this.#ends = kept
    if (this.#found.index > lastIndex) this.#found = { index: lastIndex, offset }
  }
}
