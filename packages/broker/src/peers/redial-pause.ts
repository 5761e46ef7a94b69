// How long to wait before a peer is dialled again: hardly at all at first, so that one that was restarted is found at
// once, and with chance in it, so that brokers which lost each other at the same moment do not meet in step.
import type { Random } from '../environment.js'
import { FIRST_REDIAL_MS, LONG_ABSENCE_MS, MAX_REDIAL_MS, REDIAL_AFTER_LONG_MS } from '../limits.js'

const RANDOM_RANGE = 0x1_0000_0000

export class RedialPause {
  readonly #random: Random
  #attempts = 0

  constructor(random: Random) {
    this.#random = random
  }

  /** The peer has answered. */
  reset(): void {
    this.#attempts = 0
  }

  /** @param absentMs how long the peer has been away. @returns milliseconds, half to all of what is due. */
  next(absentMs: number): number {
    const doubled = FIRST_REDIAL_MS * 2 ** Math.min(this.#attempts++, 10)
    const due = absentMs > LONG_ABSENCE_MS ? REDIAL_AFTER_LONG_MS : Math.min(doubled, MAX_REDIAL_MS)
    return due * (0.5 + this.#random.uint32() / RANDOM_RANGE / 2)
  }
}
