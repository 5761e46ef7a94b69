// How much of a log goes when it has become too long or too old. Whole segments only: what goes is their slots.
import { BLOCK_BYTES } from '../environment.js'
import { FIRST_LOG_START, type LogStart } from './log-start.js'
import type { RetentionLimits } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { Segment } from './segment.js'

/** A log without segments begins where every log begins. */
const FIRST = { firstIndex: FIRST_LOG_START.index, firstOffset: FIRST_LOG_START.offset }

/** What goes: the first `segments` of the log, or everything in it. */
export type Expired = { readonly segments: number } | 'everything'

/**
 * The last segment goes only by age, when the whole log is too old; by size a log always keeps what it is filling.
 * @param segments of the log in order.
 * @param end position behind the last group.
 * @param lastAppendTime greatest append time of all batches.
 */
export function expiredOf(
  segments: readonly Segment[],
  end: number,
  lastAppendTime: number,
  { bytes, appendedBefore }: RetentionLimits,
): Expired {
  if (appendedBefore !== null && lastAppendTime > 0 && lastAppendTime < appendedBefore) return 'everything'
  let count = 0
  for (let i = 1; i < segments.length; i++) {
    const { owner } = segments[i]!
    const { lastAppendTimeBefore } = owner
    const isTooOld = appendedBefore !== null && lastAppendTimeBefore > 0 && lastAppendTimeBefore < appendedBefore
    const isTooMuch = bytes !== null && end - owner.basePosition >= bytes
    if (isTooOld || isTooMuch) count = i
  }
  return { segments: count }
}

/** Where a log begins without what is beyond the limits; null when nothing goes. May begin a segment. */
export function startBehind(
  { chain, filled, starts, terms, assembly }: LogWriter,
  limits: RetentionLimits,
): LogStart | null {
  const expired = expiredOf(chain.segments, chain.end, chain.lastAppendTime, limits)
  const { current } = starts
  const count = expired === 'everything' ? Math.max(0, chain.segments.length - 1) : expired.segments
  if (expired === 'everything' && filled.nextOffset !== current.offset && assembly.open === null) {
    // Without a slot for a new segment everything goes but the last one.
    if (chain.currentIsEmpty || assembly.beginSegment(BLOCK_BYTES)) {
      return { index: filled.index + 1, offset: filled.nextOffset, previousTerm: filled.term }
    }
  }
  const { firstIndex: index, firstOffset: offset } = chain.segments[count] ?? FIRST
  return index > current.index ? { index, offset, previousTerm: terms.termAtIndex(index - 1) } : null
}
