// Gives back the slots of a log that lie wholly below its start, one after the other, oldest first.
import { StorageError } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { StorageContext } from './storage-context.js'

export class SlotRecycler {
  /** No slot is given back before another checkpoint is flushed: recovery could not do without it. */
  private checkpoint: 'there' | 'wanted' | 'written' = 'there'
  private running: Promise<void> | null = null
  private stopped = false
  private stop_: () => void = () => {}
  private readonly stopping = new Promise<void>((resolve) => {
    this.stop_ = resolve
  })

  constructor(
    private readonly context: StorageContext,
    private readonly writer: LogWriter,
  ) {}

  /** @param committedIndex the log is never truncated below. */
  wake(committedIndex: number): void {
    if (this.running !== null || this.stopped || !this.isDue) return
    if (!this.hasCheckpoint(committedIndex)) {
      if (this.checkpoint === 'written') return
      this.checkpoint = 'wanted'
      this.writer.requestTurn()
      return
    }
    this.checkpoint = 'there'
    this.running = this.run(committedIndex).finally(() => {
      this.running = null
    })
  }

  get wantsCheckpoint(): boolean {
    return this.checkpoint === 'wanted'
  }

  /** Whether it goes on with what is flushed next. */
  get waits(): boolean {
    return this.checkpoint !== 'there'
  }

  /** The checkpoint that was wanted is on its way: one is enough. */
  checkpointWritten(): void {
    this.checkpoint = 'written'
  }

  /** Nothing more is begun. Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.stopped = true
    this.stop_()
    await this.running
  }

  /** Whether the first segment lies wholly below the start. */
  private get isDue(): boolean {
    const { chain, starts, truncations, flushedPosition } = this.writer
    const lastCut = truncations.all().at(-1)
    // Until the checkpoint that cuts it off is flushed, a crash may bring back a suffix that began in the first segment.
    if (lastCut !== undefined && lastCut.position >= flushedPosition) return false
    const second: { readonly firstIndex: number } | undefined = chain.segments[1]
    return second !== undefined && second.firstIndex <= starts.current.index
  }

  /**
   * Whether recovery finds a checkpoint in what stays, and truncation one that it cannot cut off. The first segment may
   * be the next one to go, so it does not count.
   */
  private hasCheckpoint(committedIndex: number): boolean {
    const { segments } = this.writer.chain
    return segments.some(
      ({ checkpointPosition, oldestCheckpointIndex }, i) =>
        i > 0 && checkpointPosition !== null && oldestCheckpointIndex <= committedIndex,
    )
  }

  /**
   * A crash may come anywhere: the start is flushed, slots become free in the order of the log, and each durably before
   * the next one, so that what is left is always a log without its beginning.
   */
  private async run(committedIndex: number): Promise<void> {
    try {
      while (!this.stopped && this.isDue && this.hasCheckpoint(committedIndex)) await this.recycleFirst()
    } catch (cause) {
      // The volume is latched, and everybody who has to know does.
      if (!(cause instanceof StorageError)) throw cause
    }
  }

  private async recycleFirst(): Promise<void> {
    const { writer, context } = this
    const { chain, headers, truncations } = writer
    const first = chain.segments[0]!
    // The header that names the checkpoint is durable with this.
    await headers.settled()
    await context.flusher.flushed()
    if (this.stopped) return
    chain.segments.shift()
    // Nobody finds the segment any more; those who have pinned pages of it finish sending them.
    await Promise.race([context.frames.drop(first.source), this.stopping])
    if (this.stopped) {
      chain.segments.unshift(first)
      return
    }
    truncations.forgetBefore(chain.segments[0]!.basePosition)
    await context.pool.release(first.slot, first.writtenBytes(writer.flushedPosition))
    context.counters.slotsRecycled++
  }
}
