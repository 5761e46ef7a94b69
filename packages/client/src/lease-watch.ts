// Watches over the lease of a member of a group: whether it may have run out, and whether this process was too busy to
// renew it. A lease is renewed by a connection of its own, so that only an event loop that stands still can lose it.
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { MAX_LEASE_WATCH_MS, MIN_LEASE_WATCH_MS } from './limits.js'
import type { Warnings } from './warnings.js'

/** A loop that stood still for so much of the lease is worth a warning. */
const BLOCKED_SHARE = 1 / 4
const LOOKS_PER_LEASE = 8

export class LeaseWatch {
  readonly #environment: ClientEnvironment
  readonly #warnings: Warnings
  readonly #group: string
  readonly #onDoubt: (inDoubt: boolean) => void
  #timer: ClientTimer | null = null
  #renewedAtMs = 0
  #lookedAtMs = 0
  /** As granted last. */
  leaseMs: number
  /** The lease may have run out. */
  isInDoubt = false

  constructor(
    environment: ClientEnvironment,
    warnings: Warnings,
    options: { readonly group: string; readonly leaseMs: number },
    onDoubt: (inDoubt: boolean) => void,
  ) {
    this.#environment = environment
    this.#warnings = warnings
    this.#group = options.group
    this.leaseMs = options.leaseMs
    this.#onDoubt = onDoubt
  }

  /** @param sentMs when the request was sent: the lease began then at the earliest. */
  granted(leaseMs: number, sentMs: number): void {
    this.leaseMs = leaseMs
    this.renewed(sentMs)
    if (this.#timer === null) this.#arm()
  }

  renewed(sentMs: number): void {
    this.#renewedAtMs = sentMs
    this.#doubt(this.#environment.monotonicMs() - sentMs >= this.leaseMs)
  }

  /** There is no lease until another one is granted. */
  ended(): void {
    this.stop()
    this.#doubt(false)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #arm(): void {
    const everyMs = Math.min(
      MAX_LEASE_WATCH_MS,
      Math.max(MIN_LEASE_WATCH_MS, Math.floor(this.leaseMs / LOOKS_PER_LEASE)),
    )
    this.#lookedAtMs = this.#environment.monotonicMs()
    this.#timer = this.#environment.timer(everyMs, () => {
      const timer = this.#timer
      this.#warnWhenBlocked(everyMs)
      // Timers run before input after the loop was blocked: answers that have arrived count.
      this.#environment.defer(() => {
        if (timer === null || this.#timer !== timer) return
        this.#doubt(this.#environment.monotonicMs() - this.#renewedAtMs >= this.leaseMs)
        this.#arm()
      })
    })
  }

  #doubt(inDoubt: boolean): void {
    if (inDoubt === this.isInDoubt) return
    this.isInDoubt = inDoubt
    this.#onDoubt(inDoubt)
  }

  #warnWhenBlocked(everyMs: number): void {
    const passedMs = this.#environment.monotonicMs() - this.#lookedAtMs
    if (passedMs < this.leaseMs * BLOCKED_SHARE) return
    const blockedMs = Math.round(passedMs - everyMs)
    const message =
      `the event loop stood still for ${blockedMs} ms, the lease in group ${this.#group} lasts ${this.leaseMs} ms: ` +
      'have long computations done by worker threads, or raise leaseMs'
    this.#warnings.warn('MILLRACE_LOOP_BLOCKED', message, { group: this.#group, blockedMs, leaseMs: this.leaseMs })
  }
}
