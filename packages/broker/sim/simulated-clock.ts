// Time and chance of one simulated process.
import type { Clock, Random, Timer } from '#src/environment.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'

/** 2026-01-01 UTC, where every simulation begins. */
const EPOCH_MS = 1_767_225_600_000
/** How long the input of one turn may go on before deferred work runs. */
const LONGEST_TURN_MS = 0.05
const ROUNDING_MS = 1 / 1024

export class SimulatedClock implements Clock {
  /** How far the wall clock of this machine is off; jumps when somebody sets it. */
  wallOffsetMs = 0
  private deferred: (() => void)[] = []

  /** @param rate how fast this machine counts its milliseconds; 1 is right. */
  constructor(
    private readonly scheduler: Scheduler,
    private readonly process: SimulatedProcess,
    private readonly random: SeededRandom,
    private readonly rate = 1,
  ) {}

  monotonicMs(): number {
    return this.scheduler.nowMs * this.rate
  }

  wallMs(): number {
    return Math.floor(EPOCH_MS + this.scheduler.nowMs + this.wallOffsetMs)
  }

  timer(delayMs: number, callback: () => void): Timer {
    let pending = true
    this.process.pendingTimers++
    // Rounding must not make a timer early by the clock it was set by.
    const trueDelayMs = this.rate === 1 ? delayMs : delayMs / this.rate + ROUNDING_MS
    const event = this.scheduler.schedule(this.process, trueDelayMs, 'timer', () => {
      pending = false
      this.process.pendingTimers--
      callback()
    })
    return {
      cancel: () => {
        if (!pending) return
        pending = false
        this.process.pendingTimers--
        event.cancel()
      },
    }
  }

  defer(callback: () => void): void {
    this.deferred.push(callback)
    if (this.deferred.length > 1) return
    // Input that arrives within the turn is handled before the deferred work, as in a real event loop.
    this.scheduler.schedule(this.process, this.random.between(0, LONGEST_TURN_MS), 'turn', () => {
      const callbacks = this.deferred
      this.deferred = []
      for (const each of callbacks) each()
    })
  }
}

export class SimulatedRandom implements Random {
  constructor(private readonly random: SeededRandom) {}

  uint32(): number {
    return this.random.uint32()
  }

  fill(bytes: Uint8Array): void {
    this.random.fill(bytes)
  }
}
