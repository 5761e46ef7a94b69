// Which of the slots that carry a log's name make up the log, in order: it may have begun anew since some were written.
import { DiskError, type Memory } from '../environment.js'
import { checkpointIn } from './checkpoint-search.js'
import { GROUP_KINDS } from './group-envelope.js'
import type { GroupSource } from './group-source.js'
import { Segment } from './segment.js'
import type { SlotOwner } from './slot-header.js'
import type { OwnedSlot } from './slot-scan.js'

interface LaidOutSlot {
  readonly segment: Segment
  /** By all headers of the slot. */
  readonly copies: readonly SlotOwner[]
}

export interface LogLayout {
  /** In the order of the log. */
  readonly segments: Segment[]
  /** No part of the log any more: given up when it began anew. */
  readonly former: readonly Segment[]
  /** Slots with which the log was to begin anew; a power failure tore what stands in them. */
  readonly torn: readonly Segment[]
  /** Every byte before this position was flushed once, by the word of a header. */
  readonly watermark: number
  /** Number of the segment with which the log began anew last: nothing before is walked. Zero when it never did. */
  readonly beginning: number
}

/**
 * A slot with which the log begins anew counts when its first group is whole, or when a header of the slot says that this
 * group was flushed: then the log never goes back to what it was before, whatever has become of the group. The headers of
 * other slots prove nothing: the log may have gone on without what was torn.
 */
export async function layOut(found: readonly OwnedSlot[], source: GroupSource, memory: Memory): Promise<LogLayout> {
  const slots = found.map(({ slot, owner, sequence, copies }): LaidOutSlot => {
    return { segment: new Segment(slot, slot.generation, owner, sequence, false), copies }
  })
  const ordered = [...slots].sort((a, b) => a.segment.basePosition - b.segment.basePosition)
  const former: Segment[] = []
  const torn: Segment[] = []
  let segments: Segment[] = []
  // From the last one on, so that a beginning is known before what it cuts off.
  let cutFrom = Number.POSITIVE_INFINITY
  let counted: Segment | null = null
  for (const { segment, copies } of ordered.reverse()) {
    if (segment.basePosition >= cutFrom) {
      former.push(segment)
      continue
    }
    if (segment.owner.cutFrom !== null) {
      const wasFlushed = copies.some((copy) => copy.watermark > segment.basePosition)
      if (!wasFlushed && !(await mayBegin(segment, source, memory))) {
        torn.push(segment)
        continue
      }
      cutFrom = segment.owner.cutFrom
      counted ??= segment
    }
    segments = [segment, ...segments]
  }
  // A slot with which the log was to begin anew counts from the beginning of that one, beyond the end of the log.
  const proving = slots.filter(({ segment }) => !torn.includes(segment))
  const watermark = Math.max(0, ...proving.flatMap(({ copies }) => copies.map((copy) => copy.watermark)))
  for (const [i, segment] of segments.entries()) {
    const next = segments[i + 1]
    segment.endPosition = next === undefined ? null : beginOf(next)
  }
  return { segments, former, torn, watermark, beginning: counted === null ? 0 : segments.indexOf(counted) }
}

/** Where the segment before ends. */
export function beginOf({ owner }: Segment): number {
  return owner.cutFrom ?? owner.basePosition
}

/**
 * Whether the group with which the log begins anew is whole. What the disk refuses to read may be: going back to what the
 * log was before would be wrong then, and the walk finds the damage.
 */
async function mayBegin(segment: Segment, source: GroupSource, memory: Memory): Promise<boolean> {
  try {
    const group = await source.groupAt(segment, segment.basePosition)
    if (group === null || group.envelope.kind !== GROUP_KINDS.beginning) return false
    return checkpointIn(segment, group, memory) !== null
  } catch (cause) {
    if (cause instanceof DiskError && cause.code === 'INPUT_OUTPUT') return true
    throw cause
  }
}
