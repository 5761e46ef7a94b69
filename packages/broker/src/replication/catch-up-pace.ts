// How fast new members of all groups on this node are sent the past, so that those who produce meanwhile keep their disk.
import type { Clock } from '../environment.js'

/** Waits shorter than this are not worth a timer. */
const LEAST_WAIT_MS = 2

export class CatchUpPace {
  /** On the monotonic clock: when everything that was sent is paid for. */
  #paidMs = 0

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    private readonly bytesPerSecond: number,
  ) {}

  /** Milliseconds until more may be sent; 0 for now. */
  waitMs(): number {
    const wait = this.#paidMs - this.clock.monotonicMs()
    return wait < LEAST_WAIT_MS ? 0 : wait
  }

  sent(bytes: number): void {
    this.#paidMs = Math.max(this.#paidMs, this.clock.monotonicMs()) + (bytes * 1_000) / this.bytesPerSecond
  }
}
