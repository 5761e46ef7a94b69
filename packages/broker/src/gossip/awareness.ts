// How this node itself is doing: while it misses answers that others get, or its event loop is late, it waits for longer
// before it accuses anybody (Lifeguard, LHA-Probe).
import type { GossipLimits } from './gossip-limits.js'

export class Awareness {
  /** 0 is well. */
  private missed = 0
  private lateMs = 0
  private lateAtMs = Number.NEGATIVE_INFINITY

  constructor(private readonly limits: GossipLimits) {}

  get score(): number {
    return Math.min(this.limits.maxAwareness - 1, Math.max(this.missed, Math.floor(this.lateMs / this.limits.stallMs)))
  }

  /** How many times as long as usual to wait. */
  get factor(): number {
    return this.score + 1
  }

  /** @param change above 0: it got worse. */
  change(change: number): void {
    this.missed = Math.min(this.limits.maxAwareness - 1, Math.max(0, this.missed + change))
  }

  /** Every tick says how late it is. The worst of the last moments counts. */
  noteTick(nowMs: number, lateMs: number): void {
    const isOver = nowMs - this.lateAtMs > this.limits.stallMemoryMs
    if (lateMs < this.lateMs && !isOver) return
    this.lateMs = lateMs > this.limits.stallMs ? lateMs : 0
    this.lateAtMs = nowMs
  }
}
