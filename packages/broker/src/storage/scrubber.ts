// Reads everything that is flushed, slowly and over and over, so that rot is found before somebody needs the records.
import type { Timer } from '../environment.js'
import { noteDamage } from './damage-finder.js'
import type { LogKey } from './log-store.js'
import type { Segment } from './segment.js'
import { SegmentCheck } from './segment-check.js'
import type { StorageContext } from './storage-context.js'

/** A log as the scrubber sees it. */
export interface ScrubbedLog {
  readonly key: LogKey
  readonly writer: { readonly chain: { readonly segments: readonly Segment[] }; readonly flushedPosition: number }
}

/** The logs of the store as they come and go. */
export interface ScrubbedLogs {
  all(): readonly ScrubbedLog[]
  /** Whether a log is still there. */
  has(log: ScrubbedLog): boolean
}

/** Sleeping for less is not worth a timer. */
const SHORTEST_REST_MS = 10

export class Scrubber {
  private stopped = false
  private running: Promise<void> | null = null
  private resting: { readonly timer: Timer; readonly wake: () => void } | null = null
  /** How long to rest for what was read since the last rest. */
  private owedMs = 0

  constructor(
    private readonly context: StorageContext,
    private readonly logs: ScrubbedLogs,
  ) {}

  start(): void {
    if (this.context.limits.scrubBytesPerSecond > 0) this.running = this.run()
  }

  /** Resolves when nothing is read any more: the slots may be closed. */
  async stop(): Promise<void> {
    this.stopped = true
    this.resting?.timer.cancel()
    this.resting?.wake()
    await this.running
  }

  private async run(): Promise<void> {
    const { limits, counters, environment } = this.context
    while (true) {
      await this.rest(limits.scrubRestMs)
      if (this.stopped) return
      try {
        await this.pass()
        if (!this.stopped) counters.scrubPasses++
      } catch (cause) {
        environment.log.error({ cause }, 'the scrubber gave up this pass over the disk; it begins another one later')
      }
    }
  }

  private async pass(): Promise<void> {
    for (const log of this.logs.all()) {
      for (const segment of [...log.writer.chain.segments]) {
        if (this.stopped) return
        await this.scrub(log, segment)
      }
    }
  }

  private async scrub(log: ScrubbedLog, segment: Segment): Promise<void> {
    const { environment, counters } = this.context
    const { basePosition, owner } = segment
    const { memory, clock } = environment
    const check = new SegmentCheck(memory, clock, log.key, segment, basePosition, {
      index: owner.baseIndex,
      offset: owner.baseOffset,
    })
    try {
      while (this.mayRead(log, segment) && check.position < this.endOf(log, segment)) {
        const from = check.position
        const { segments } = log.writer.chain
        const behind = segments[segments.indexOf(segment) + 1]
        const damage = await check.step(this.endOf(log, segment), behind)
        // A slot that was given back while it was read says nothing of the log: it may have another owner by now.
        if (!this.mayRead(log, segment)) return
        if (damage.length > 0) noteDamage(this.context, log.key, segment, damage)
        counters.scrubbedBytes += check.position - from
        await this.pace(check.position - from)
      }
    } finally {
      check.close()
    }
  }

  /** Invariant: a segment leaves its chain, or the log the store, before anybody writes over its slot. */
  private mayRead(log: ScrubbedLog, segment: Segment): boolean {
    return !this.stopped && this.logs.has(log) && log.writer.chain.segments.includes(segment)
  }

  private endOf(log: ScrubbedLog, segment: Segment): number {
    return Math.min(segment.endPosition ?? Number.POSITIVE_INFINITY, log.writer.flushedPosition)
  }

  /** Invariant: on the whole not more is read than the rate allows, whatever a single group takes. */
  private async pace(bytes: number): Promise<void> {
    this.owedMs += (bytes / this.context.limits.scrubBytesPerSecond) * 1000
    if (this.owedMs < SHORTEST_REST_MS) return
    const owedMs = this.owedMs
    this.owedMs = 0
    await this.rest(owedMs)
  }

  private async rest(durationMs: number): Promise<void> {
    if (this.stopped) return
    await new Promise<void>((resolve) => {
      this.resting = { timer: this.context.environment.clock.timer(durationMs, resolve), wake: resolve }
    })
    this.resting = null
  }
}
