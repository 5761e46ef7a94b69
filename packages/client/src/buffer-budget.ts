// The one budget of bytes that records waiting to be acknowledged may take, over all producers of a client.
import type { ClientEnvironment } from './environment.js'
import type { MillraceError } from './errors.js'
import { BUFFER_WARNING_MS, READY_TURN_BYTES } from './limits.js'

interface RoomWaiter {
  readonly reserveBytes: number
  resolve(): void
  reject(error: MillraceError): void
}

const RESOLVED = Promise.resolve()

export class BufferBudget {
  #usedBytes = 0
  #warnAgainAtMs = Number.NEGATIVE_INFINITY
  /** Bytes taken since the event loop last turned. */
  #turnBytes = 0
  #turnScheduled = false
  #waiters: RoomWaiter[] = []

  constructor(
    readonly environment: ClientEnvironment,
    readonly limitBytes: number,
  ) {}

  get usedBytes(): number {
    return this.#usedBytes
  }

  /** Whether a warning that it is full is due; true once in a while. */
  warningDue(): boolean {
    const nowMs = this.environment.monotonicMs()
    if (nowMs < this.#warnAgainAtMs) return false
    this.#warnAgainAtMs = nowMs + BUFFER_WARNING_MS
    return true
  }

  /** Nothing more is admitted. Until then a call is admitted whatever its size: it overdraws the budget at most once. */
  get full(): boolean {
    return this.#usedBytes >= this.limitBytes
  }

  take(byteLength: number): void {
    this.#usedBytes += byteLength
    this.#turnBytes += byteLength
  }

  release(byteLength: number): void {
    this.#usedBytes -= byteLength
    if (this.#waiters.length > 0) this.#wake()
  }

  /**
   * Resolves when `reserveBytes` fit; also lets the event loop turn now and then, so that a loop that awaits only this
   * does not keep replies from being read.
   */
  whenRoom(reserveBytes: number): Promise<void> {
    const free = this.#waiters.length === 0 && this.#turnBytes < READY_TURN_BYTES
    if (free && this.#fits(reserveBytes)) return RESOLVED
    return new Promise((resolve, reject) => {
      this.#waiters.push({ reserveBytes, resolve, reject })
      this.#scheduleTurn()
    })
  }

  fail(error: MillraceError): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const waiter of waiters) waiter.reject(error)
  }

  /** An empty budget has room for anything, else a large reserve would wait for ever. */
  #fits(byteLength: number): boolean {
    return this.#usedBytes + byteLength <= this.limitBytes || this.#usedBytes === 0
  }

  #scheduleTurn(): void {
    if (this.#turnScheduled) return
    this.#turnScheduled = true
    this.environment.defer(() => {
      this.#turnScheduled = false
      this.#turnBytes = 0
      this.#wake()
    })
  }

  #wake(): void {
    let promisedBytes = 0
    let woken = 0
    for (const waiter of this.#waiters) {
      if (this.#turnBytes >= READY_TURN_BYTES) break
      if (!this.#fits(promisedBytes + waiter.reserveBytes)) break
      promisedBytes += waiter.reserveBytes
      woken++
      waiter.resolve()
    }
    if (woken > 0) this.#waiters.splice(0, woken)
    if (this.#waiters.length > 0 && this.#turnBytes >= READY_TURN_BYTES) this.#scheduleTurn()
  }
}
