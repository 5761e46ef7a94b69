// Keeps the process alive while the client owes somebody something: pending sends, open subscriptions, requests.
// Links and other timers never do, so that an idle client lets the process end.
import type { ClientEnvironment, ClientTimer } from './environment.js'

const LONG_MS = 2 ** 31 - 1

export class Lifeline {
  #held = 0
  #timer: ClientTimer | null = null

  constructor(readonly environment: ClientEnvironment) {}

  get held(): number {
    return this.#held
  }

  hold(): void {
    if (this.#held++ === 0) this.#arm()
  }

  release(): void {
    if (--this.#held > 0) return
    this.#timer?.cancel()
    this.#timer = null
  }

  #arm(): void {
    this.#timer = this.environment.timer(LONG_MS, () => this.#arm(), true)
  }
}
