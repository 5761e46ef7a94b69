// The timer of all groups of a node: one tick after the other while some group counts them, and two at a time while there are
// only groups at rest, since a broker that nobody uses spends its time on being woken up.
import type { Clock, Timer } from '../environment.js'
import { RAFT_LIMITS } from '../raft/raft-limits.js'

/** Beats of groups at rest are four ticks apart, and their silence is counted in dozens. */
const TICKS_AT_REST = 2
const { tickMs } = RAFT_LIMITS

interface TickTimerEvents {
  /** Whether some group counts ticks by itself. */
  isBusy(): boolean
  /** Whether time matters at all. */
  isInUse(): boolean
  /** So many have passed. */
  ticked(count: number): void
}

export class TickTimer {
  #timer: Timer | null = null
  #beganMs = 0
  /** What the timer stands for. */
  #ticks = 0
  #stopped = false

  constructor(
    private readonly clock: Clock,
    private readonly events: TickTimerEvents,
  ) {}

  /** To be called whenever time has come to matter, to somebody or more. */
  look(): void {
    const { clock, events } = this
    if (this.#stopped) return
    if (this.#timer === null) {
      if (events.isInUse()) this.#begin(clock.monotonicMs(), events.isBusy() ? 1 : TICKS_AT_REST)
      return
    }
    if (this.#ticks === 1 || !events.isBusy()) return
    const passed = Math.floor((clock.monotonicMs() - this.#beganMs) / tickMs)
    if (passed + 1 >= this.#ticks) return
    this.#timer.cancel()
    this.#begin(this.#beganMs, passed + 1)
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
    this.#timer = null
  }

  #begin(beganMs: number, ticks: number): void {
    this.#beganMs = beganMs
    this.#ticks = ticks
    const waitMs = beganMs + ticks * tickMs - this.clock.monotonicMs()
    this.#timer = this.clock.timer(waitMs, () => {
      this.#timer = null
      this.look()
      this.events.ticked(ticks)
    })
  }
}
