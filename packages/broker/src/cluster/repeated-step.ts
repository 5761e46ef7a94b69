// A step that is taken again and again, each time a while after the one before has ended.
import type { Clock, Timer } from '../environment.js'

interface RepeatedStepOptions {
  readonly clock: Clock
  readonly everyMs: number
  readonly step: () => Promise<void>
  /** What a step rejects with; the next one comes all the same. */
  readonly report: (error: unknown) => void
}

export class RepeatedStep {
  #timer: Timer | null = null
  #stopped = false

  constructor(private readonly options: RepeatedStepOptions) {}

  start(): void {
    if (this.#stopped) return
    const { clock, everyMs, step, report } = this.options
    this.#timer = clock.timer(everyMs, () => {
      step()
        .catch(report)
        .finally(() => this.start())
    })
  }

  /** No step begins any more; one that is under way can see that it is to end. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  get isStopped(): boolean {
    return this.#stopped
  }
}
