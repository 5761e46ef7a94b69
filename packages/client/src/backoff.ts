// How long to wait before the next attempt: exponential with full jitter, so that many clients do not come back at once.
import type { ClientEnvironment } from './environment.js'
import type { RetryOptions } from './options.js'

export class Backoff {
  #attempts = 0

  constructor(
    readonly environment: ClientEnvironment,
    readonly retry: RetryOptions,
  ) {}

  /** Milliseconds to wait before the next attempt; each call counts as one. */
  next(): number {
    const ceiling = Math.min(this.retry.maxMs, this.retry.initialMs * 2 ** Math.min(this.#attempts, 30))
    this.#attempts++
    return Math.ceil(ceiling * this.environment.random())
  }

  /** After a success. */
  reset(): void {
    this.#attempts = 0
  }
}
