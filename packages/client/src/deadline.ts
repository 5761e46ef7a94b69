// The time by which something that is being closed ends: the earliest that anybody has asked for.
import type { ClientEnvironment } from './environment.js'

export class Deadline {
  readonly #environment: ClientEnvironment
  #endMs = Number.POSITIVE_INFINITY
  readonly #waits = new Set<() => void>()

  constructor(environment: ClientEnvironment) {
    this.#environment = environment
  }

  /** Not later than in so many milliseconds from now; what waits already hears of it. @returns whether that is sooner. */
  within(timeoutMs: number): boolean {
    const endMs = this.#environment.monotonicMs() + timeoutMs
    if (endMs >= this.#endMs) return false
    this.#endMs = endMs
    for (const wait of this.#waits) wait()
    return true
  }

  /** Whole milliseconds, or the share of them. */
  leftMs(share = 1): number {
    return Math.max(0, Math.ceil((this.#endMs - this.#environment.monotonicMs()) * share))
  }

  /** Waits for `work`, but no longer than that share of the time there is left now. Keeps the process alive meanwhile. */
  async wait(work: Promise<void>, share = 1): Promise<void> {
    let rearm = (): void => {}
    let stop = (): void => {}
    const time = new Promise<void>((resolve) => {
      rearm = () => {
        stop()
        const timer = this.#environment.timer(this.leftMs(share), resolve, true)
        stop = () => timer.cancel()
      }
      rearm()
      this.#waits.add(rearm)
    })
    try {
      await Promise.race([work, time])
    } finally {
      this.#waits.delete(rearm)
      stop()
    }
  }
}
