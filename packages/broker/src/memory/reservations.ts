// How many frames readers may pin: all workers share one count, so that nobody waits for a frame he could never get.
import { assert } from '@millrace/protocol'
import type { AtomicOperations } from './atomics.js'
import { RESERVATION_WAITERS, RESERVED_FRAMES } from './table-layout.js'

export class Reservations {
  constructor(
    readonly frames: number,
    private readonly words: Int32Array,
    private readonly atomics: AtomicOperations,
  ) {}

  /** False, and nothing has changed, when there are not so many left. */
  take(count: number): boolean {
    while (true) {
      const reserved = this.atomics.load(this.words, RESERVED_FRAMES)
      if (reserved + count > this.frames) return false
      if (this.atomics.compareExchange(this.words, RESERVED_FRAMES, reserved, reserved + count) === reserved)
        return true
    }
  }

  /** Asks for a wake-up. Invariant: whoever was refused listens first and then tries once more, see `PageTable.listen`. */
  listen(workerBit: number): void {
    this.atomics.or(this.words, RESERVATION_WAITERS, workerBit)
  }

  /** @returns a bit for each worker to wake. */
  giveBack(count: number): number {
    const before = this.atomics.add(this.words, RESERVED_FRAMES, -count)
    assert(before >= count, 'what is given back was reserved')
    return this.atomics.exchange(this.words, RESERVATION_WAITERS, 0)
  }
}
