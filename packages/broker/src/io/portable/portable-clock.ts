// Time and chance of the portable environment: Node's clocks, unreferenced timers and node:crypto.
import { randomFillSync } from 'node:crypto'
import type { Clock, Random, Timer } from '../../environment.js'
import type { Turn } from './turn.js'

/** Node fires timers above this at once. */
const LONGEST_TIMEOUT_MS = 2 ** 31 - 1

/**
 * A timer that never fires early: Node counts whole milliseconds of its own cached clock and may fire a fraction of
 * one too soon, so the deadline is checked against the clock that callers see.
 */
class PortableTimer implements Timer {
  private handle: NodeJS.Timeout | null = null
  private readonly deadlineMs: number

  constructor(
    delayMs: number,
    private readonly callback: () => void,
  ) {
    this.deadlineMs = performance.now() + Math.max(0, delayMs)
    this.arm()
  }

  cancel(): void {
    if (this.handle !== null) clearTimeout(this.handle)
    this.handle = null
  }

  private arm(): void {
    const remaining = Math.max(1, Math.ceil(this.deadlineMs - performance.now()))
    this.handle = setTimeout(() => this.fire(), Math.min(remaining, LONGEST_TIMEOUT_MS))
    this.handle.unref()
  }

  private fire(): void {
    if (performance.now() < this.deadlineMs) {
      this.arm()
      return
    }
    this.handle = null
    this.callback()
  }
}

export class PortableClock implements Clock {
  constructor(private readonly turn: Pick<Turn, 'defer'>) {}

  monotonicMs(): number {
    return performance.now()
  }

  wallMs(): number {
    return Date.now()
  }

  timer(delayMs: number, callback: () => void): Timer {
    return new PortableTimer(delayMs, callback)
  }

  defer(callback: () => void): void {
    this.turn.defer(callback)
  }
}

/** Random numbers are drawn in bulk: a call into the generator of the system per number costs a microsecond. */
export class PortableRandom implements Random {
  private readonly pool = new Uint32Array(256)
  private used = this.pool.length

  uint32(): number {
    if (this.used === this.pool.length) {
      randomFillSync(this.pool)
      this.used = 0
    }
    return this.pool[this.used++]!
  }

  fill(bytes: Uint8Array): void {
    randomFillSync(bytes)
  }
}
