// Keeps the process alive while the client owes somebody something: pending sends, open subscriptions, requests.
// Links and other timers never do, so that an idle client lets the process end.
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { MAX_TIMER_MS } from './limits.js'

/** How long the process may be kept alive in vain: sends one after the other would otherwise set a timer each. */
const GRACE_MS = 50

export class Lifeline {
  #held = 0
  #timer: ClientTimer | null = null
  #timerIsLong = false
  #closed = false

  constructor(readonly environment: ClientEnvironment) {}

  hold(): void {
    if (this.#held++ === 0 && this.#timer === null) this.#arm(GRACE_MS)
  }

  release(): void {
    this.#held--
    // A short timer sees for itself that nothing is held any more.
    if (this.#held === 0 && this.#timerIsLong) this.#arm(GRACE_MS)
  }

  /** Holds until `work` has settled. */
  async during<T>(work: () => Promise<T>): Promise<T> {
    this.hold()
    try {
      return await work()
    } finally {
      this.release()
    }
  }

  /** Lets the process end, whatever is held. */
  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#timer = null
  }

  #arm(delayMs: number): void {
    if (this.#closed) return
    this.#timer?.cancel()
    this.#timerIsLong = delayMs === MAX_TIMER_MS
    this.#timer = this.environment.timer(
      delayMs,
      () => {
        this.#timer = null
        if (this.#held > 0) this.#arm(MAX_TIMER_MS)
      },
      true,
    )
  }
}
