// How fast new members of all groups on this node are sent the past, so that those who produce meanwhile keep their disk and
// their share of the processor.
import type { Clock } from '../environment.js'

/** Every read waits for so long at least: how much later it comes tells whether this broker has time to spare. */
const LEAST_WAIT_MS = 2
/** A turn of the event loop may take so long without anybody waiting for it. */
const USUAL_LATENESS_MS = 3
/** Whoever comes late has others before it, and leaves them so many times as long; up to a limit, so that it comes to an end. */
const TIMES_LEFT = 4
const LONGEST_LEFT_MS = 100

export class CatchUpPace {
  /** On the monotonic clock: when everything that was sent is paid for. */
  #paidMs = 0

  constructor(
    private readonly clock: Pick<Clock, 'monotonicMs'>,
    private readonly bytesPerSecond: number,
  ) {}

  /** Milliseconds until more may be read. */
  waitMs(): number {
    return Math.max(LEAST_WAIT_MS, this.#paidMs - this.clock.monotonicMs())
  }

  /**
   * @param bytes of what was sent; `pastBytes` of these were there before it was known who needs them.
   * @param lateMs how much later than it should the read could begin.
   */
  sent(bytes: number, pastBytes: number, lateMs: number): void {
    if (pastBytes === 0) return
    const leftMs = Math.min(LONGEST_LEFT_MS, TIMES_LEFT * Math.max(0, lateMs - USUAL_LATENESS_MS))
    const costMs = (pastBytes * 1_000) / this.bytesPerSecond + (leftMs * pastBytes) / bytes
    this.#paidMs = Math.max(this.#paidMs, this.clock.monotonicMs()) + costMs
  }
}
