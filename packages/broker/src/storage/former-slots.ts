// Slots that carry the name of a log and are no part of it any more: given back in the background.
import type { FrameSource } from '../memory/frame.js'
import { StorageError } from './log-store.js'
import type { Slot } from './slot.js'
import type { StorageContext } from './storage-context.js'

export interface FormerSlot {
  readonly slot: Slot
  /** Pages of it may be in memory; null when it was never read. */
  readonly source: FrameSource | null
  /** Bytes of the file that its log has written; 0 when that is not known. */
  readonly writtenBytes: number
}

export class FormerSlots {
  /** Those that still carry the name. */
  readonly left: FormerSlot[] = []
  private running: Promise<void> | null = null
  private stopped = false
  private stop_: () => void = () => {}
  private readonly stopping = new Promise<void>((resolve) => {
    this.stop_ = resolve
  })

  /** @param onGone called when none is left. */
  constructor(
    private readonly context: StorageContext,
    private readonly onGone: () => void,
  ) {}

  add(slots: Iterable<FormerSlot>): void {
    this.left.push(...slots)
  }

  /** That they are no part of the log is durable. */
  giveBack(): void {
    if (this.stopped || this.running !== null || this.left.length === 0) return
    this.running = this.run().finally(() => {
      this.running = null
      if (this.left.length === 0) this.onGone()
    })
  }

  /** Nothing more is begun. Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.stopped = true
    this.stop_()
    await this.running
  }

  private async run(): Promise<void> {
    const { frames, pool, counters } = this.context
    try {
      for (let next = this.left[0]; next !== undefined && !this.stopped; next = this.left[0]) {
        // Those who have pinned pages of it finish sending them.
        if (next.source !== null) await Promise.race([frames.drop(next.source), this.stopping])
        if (this.stopped) return
        await pool.release(next.slot, next.writtenBytes)
        this.left.shift()
        counters.slotsRecycled++
      }
    } catch (cause) {
      // The volume is latched, and everybody who has to know does.
      if (!(cause instanceof StorageError)) throw cause
    }
  }
}
