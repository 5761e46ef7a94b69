// Records to one topic at a fixed rate, whatever becomes of them, and how long after it was due each was acknowledged.
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { bytes, type Mill, MillraceError, type Producer, topic } from '@millrace/client'
import { payloadPool } from './payloads.js'

const TICK_MS = 1
const MICROSECONDS_PER_MS = 1_000
/** Records that are due and not acknowledged: more than that are not sent, and counted as failed. */
const MOST_UNDER_WAY = 200_000

export interface SteadyLoad {
  readonly topic: string
  readonly recordBytes: number
  readonly recordsPerSecond: number
  /** The partition of a record by its number; by key or in turn where it is not given. */
  readonly partitionOf?: (number: number) => number
}

/** What was due in one stretch of time. */
export class Stretch {
  readonly latency: RecordableHistogram = createHistogram()
  acknowledged = 0
  failed = 0

  ms(percentile: number): number {
    return Number((this.latency.percentile(percentile) / MICROSECONDS_PER_MS).toFixed(2))
  }

  get maxMs(): number {
    return Number((this.latency.max / MICROSECONDS_PER_MS).toFixed(1))
  }
}

export class SteadySends {
  /** Of what was refused or given up, the first one's words. */
  firstFailure: string | null = null
  private readonly producer: Producer<Uint8Array, Uint8Array>
  private readonly values: readonly Uint8Array[]
  private readonly beganMs = performance.now()
  private stretch = new Stretch()
  private due = 0
  private underWay = 0
  private timer: NodeJS.Timeout | null = null

  constructor(
    mill: Mill,
    private readonly load: SteadyLoad,
  ) {
    this.producer = mill.producer(topic(load.topic, { key: bytes, value: bytes }))
    this.values = payloadPool(load.recordBytes)
    this.tick()
  }

  /** What is due from now on counts for a stretch of its own. @returns the one that ends. */
  next(): Stretch {
    const ended = this.stretch
    this.stretch = new Stretch()
    return ended
  }

  /** Resolves when everything that was sent has been acknowledged, or has failed. */
  async end(): Promise<void> {
    if (this.timer !== null) clearTimeout(this.timer)
    await this.producer.close()
    while (this.underWay > 0) await new Promise((resolve) => setTimeout(resolve, TICK_MS))
  }

  private tick(): void {
    const now = performance.now()
    const { recordsPerSecond, partitionOf } = this.load
    while (this.dueMs(this.due) <= now) this.send(this.due++, partitionOf)
    this.timer = setTimeout(() => this.tick(), Math.max(TICK_MS, 500 / recordsPerSecond))
  }

  private dueMs(number: number): number {
    return this.beganMs + (number * 1_000) / this.load.recordsPerSecond
  }

  private send(number: number, partitionOf: SteadyLoad['partitionOf']): void {
    const { stretch } = this
    if (this.underWay >= MOST_UNDER_WAY) {
      stretch.failed++
      this.firstFailure ??= 'too many records are under way'
      return
    }
    this.underWay++
    const options = partitionOf === undefined ? {} : { partition: partitionOf(number) }
    this.producer.send(null, this.values[number % this.values.length]!, options).then(
      () => {
        this.underWay--
        stretch.acknowledged++
        const micros = Math.round((performance.now() - this.dueMs(number)) * MICROSECONDS_PER_MS)
        stretch.latency.record(Math.max(1, micros))
      },
      (error: unknown) => {
        this.underWay--
        if (!MillraceError.is(error)) throw error
        stretch.failed++
        this.firstFailure ??= `${error.code}: ${error.message}`
      },
    )
  }
}
