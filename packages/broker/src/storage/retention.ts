// How much of a log goes when it has become too long or too old. Whole segments only: what goes is their slots.
import type { RetentionLimits } from './log-store.js'
import type { Segment } from './segment.js'

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
