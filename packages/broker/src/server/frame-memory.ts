// Memory for frames on their way in: one budget in bytes for all connections, handed out first come, first served.
import { assert } from '@millrace/protocol'
import type { Block, Clock, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import { MEMORY_RETRY_MS } from '../limits.js'

/** Somebody who found no memory. */
export interface FrameMemoryWaiter {
  /** Takes what it needs, or returns false and stays in line. */
  retry(): boolean
}

export class FrameMemory {
  #usedBytes = 0
  readonly #waiters = new Fifo<FrameMemoryWaiter>()
  #serving = false
  #timerSet = false

  constructor(
    readonly memory: Memory,
    readonly clock: Clock,
    private budget: number,
  ) {}

  get budgetBytes(): number {
    return this.budget
  }

  /** There is less for these frames, or more, from now on. */
  limitTo(budgetBytes: number): void {
    this.budget = budgetBytes
  }

  get usedBytes(): number {
    return this.#usedBytes
  }

  get waiters(): number {
    return this.#waiters.length
  }

  /** A block of at least `byteLength` bytes; null when there is none, or others were there first: then `wait`. */
  take(byteLength: number): Block | null {
    if (!this.#serving && this.#waiters.length > 0) return null
    if (this.#usedBytes > 0 && this.#usedBytes + byteLength > this.budget) return null
    const block = this.memory.allocate(byteLength)
    if (block === null) return null
    this.#usedBytes += block.byteLength
    return block
  }

  give(block: Block): void {
    this.#usedBytes -= block.byteLength
    assert(this.#usedBytes >= 0, 'frame memory is given back once')
    this.memory.release(block)
    if (this.#waiters.length > 0) this.#serveSoon(0)
  }

  wait(waiter: FrameMemoryWaiter): void {
    this.#waiters.push(waiter)
    // Others use the same arena and tell nobody when they give back, hence the look from time to time.
    this.#serveSoon(MEMORY_RETRY_MS)
  }

  #serveSoon(delayMs: number): void {
    if (delayMs === 0) {
      this.clock.defer(() => this.#serve())
      return
    }
    if (this.#timerSet) return
    this.#timerSet = true
    this.clock.timer(delayMs, () => {
      this.#timerSet = false
      this.#serve()
    })
  }

  #serve(): void {
    if (this.#serving) return
    this.#serving = true
    try {
      let first = this.#waiters.peek()
      while (first?.retry()) {
        this.#waiters.shift()
        first = this.#waiters.peek()
      }
    } finally {
      this.#serving = false
    }
    if (this.#waiters.length > 0) this.#serveSoon(MEMORY_RETRY_MS)
  }
}
