// Looks after the retention of all partitions of a shard in small steps, so that however many there are, no step is long.
import type { Clock, Timer } from '../environment.js'
import { RETENTION_PARTITIONS_PER_STEP, RETENTION_REST_MS, RETENTION_STEP_MS } from '../limits.js'
import { StorageError } from '../storage/log-store.js'
import type { Partition } from './partition.js'

export class RetentionLoop {
  readonly #clock: Clock
  readonly #partitions: () => Iterable<Partition>
  readonly #report: (error: unknown) => void
  /** Partitions of this round that are still to be looked at, the next one last. */
  #round: Partition[] = []
  #timer: Timer | null = null

  /**
   * @param partitions those that there are when a round begins.
   * @param report told of what is nobody's refusal: a bug.
   */
  constructor(clock: Clock, partitions: () => Iterable<Partition>, report: (error: unknown) => void) {
    this.#clock = clock
    this.#partitions = partitions
    this.#report = report
  }

  start(): void {
    this.#schedule(RETENTION_STEP_MS)
  }

  #schedule(afterMs: number): void {
    this.#timer = this.#clock.timer(afterMs, () => {
      if (this.#round.length === 0) this.#beginRound()
      this.#schedule(this.#round.length === 0 ? RETENTION_REST_MS : RETENTION_STEP_MS)
      this.#step()
    })
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
    this.#round = []
  }

  #beginRound(): void {
    for (const partition of this.#partitions()) if (partition.hasRetention) this.#round.push(partition)
  }

  #step(): void {
    for (const partition of this.#round.splice(-RETENTION_PARTITIONS_PER_STEP)) {
      try {
        partition.retain()
      } catch (error) {
        // Whoever appends to this log is told the same, and this is tried again in the next round.
        if (!(error instanceof StorageError)) this.#report(error)
      }
    }
  }
}
