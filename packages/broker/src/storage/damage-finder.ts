// What a reader does about damage: it finds out how far that reaches, goes past it to what stands behind, and tells
// whoever wants the damaged records themselves where the log goes on.
import type { DamagedRange } from './damaged-range.js'
import { keyText } from './group-envelope.js'
import { type LogKey, StorageError } from './log-store.js'
import type { ReadPlace } from './read-place.js'
import type { Segment } from './segment.js'
import { SegmentCheck } from './segment-check.js'
import type { StorageContext } from './storage-context.js'

/** Takes note of the damaged stretches of one group, counts it and says so in the log, once. */
export function noteDamage(
  context: StorageContext,
  key: LogKey,
  segment: Segment,
  ranges: readonly DamagedRange[],
): void {
  if (!segment.noteDamage(ranges)) return
  context.counters.damagedGroups++
  const { name: slot } = segment.slot.file
  for (const damage of ranges) {
    const filePosition = segment.filePositionOf(damage.position)
    context.environment.log.error(
      { log: keyText(key), ...key, slot, filePosition, ...damage },
      'records on disk are damaged: who reads them is refused, everything else is served; stop the broker when you ' +
        'can, run `millrace-broker log verify` on its directory, and replace the disk if there is more',
    )
  }
}

/** Where a log stands, as a reader sees it. */
export interface ReadableLog {
  segmentOf(place: ReadPlace): Segment
  /** Position up to which a segment can be read from disk. */
  endOf(segment: Segment): number
  /** The segment behind one; undefined for the last. */
  segmentBehind(segment: Segment): Segment | undefined
}

export class DamageFinder {
  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    private readonly log: ReadableLog,
  ) {}

  /** Position from which a segment is walked to find a place: from the index, or behind damage that lies before. */
  startOf(segment: Segment, place: ReadPlace): number {
    const { index, basePosition, damage } = segment
    let start = index?.at(index.find(place))?.position ?? basePosition
    for (const range of damage) {
      if (liesBefore(range, place) && range.endPosition > start) start = range.endPosition
    }
    return start
  }

  /** Whether a batch that is damaged is passed by on the way to a place, in a group of which the rest is whole. */
  mayPass({ damage }: Segment, index: number, place: ReadPlace): boolean {
    return damage.some((range) => {
      const { firstIndex, nextIndex } = range
      const isIn = firstIndex !== null && nextIndex !== null && firstIndex <= index && index < nextIndex
      return isIn && endsInGroup(range) && liesBefore(range, place)
    })
  }

  /**
   * A read of a place has met damage.
   * @param knownGroups damaged groups that were known when the read began.
   * @returns what its reader is told; null when the damage lies before the place: read again, and pass by it.
   */
  async explain(failure: StorageError, place: ReadPlace, knownGroups: number): Promise<StorageError | null> {
    const segment = this.log.segmentOf(place)
    const start = this.startOf(segment, place)
    const ranges = await this.locate(segment, start, place)
    if (ranges.length === 0) return failure
    noteDamage(this.context, this.key, segment, ranges)
    const found = ranges.find((range) => !liesBefore(range, place)) ?? ranges.at(-1)!
    const isNews = this.startOf(segment, place) > start || this.context.counters.damagedGroups > knownGroups
    if (!holds(found, place) && isNews) return null
    const { firstOffset, nextOffset, reason } = found
    const until = nextOffset === null ? 'on' : `to ${nextOffset - 1}`
    const goOn = nextOffset === null ? 'nothing behind them can be read yet' : `go on from offset ${nextOffset}`
    return new StorageError(
      'DAMAGED',
      `records ${firstOffset ?? (place.by === 'offset' ? place.at : '?')} ${until} of log ${keyText(this.key)} are damaged on disk (${reason}); ${goOn}`,
      { cause: failure },
    )
  }

  /** The damage of the first group from a position on that does not hold, up to the place. */
  private async locate(segment: Segment, start: number, { by, at }: ReadPlace): Promise<readonly DamagedRange[]> {
    const { memory, clock } = this.context.environment
    const check = new SegmentCheck(memory, clock, this.key, segment, start, this.nextAt(segment, start))
    try {
      while (check.position < this.log.endOf(segment) && (check.next === null || check.next[by] <= at)) {
        const found = await check.step(this.log.endOf(segment), this.log.segmentBehind(segment))
        if (found.length > 0) return found
      }
      return []
    } finally {
      check.close()
    }
  }

  /** Index and offset of what comes at a position; null when that is not known. */
  private nextAt({ index, basePosition, owner, damage }: Segment, position: number) {
    if (position === basePosition) return { index: owner.baseIndex, offset: owner.baseOffset }
    const behind = damage.find((range) => range.endPosition === position && !endsInGroup(range))
    if (behind !== undefined) {
      const { nextIndex, nextOffset } = behind
      return nextIndex === null || nextOffset === null ? null : { index: nextIndex, offset: nextOffset }
    }
    for (let i = 0; index !== null && i < index.length; i++) {
      const entry = index.at(i)
      if (entry?.position === position) return { index: entry.firstIndex, offset: entry.firstOffset }
    }
    return null
  }
}

function liesBefore({ nextOffset, nextIndex }: DamagedRange, { by, at }: ReadPlace): boolean {
  const next = by === 'offset' ? nextOffset : nextIndex
  return next !== null && next <= at
}

/** Whether a place is, or may be, in a range. */
function holds(range: DamagedRange, place: ReadPlace): boolean {
  const first = place.by === 'offset' ? range.firstOffset : range.firstIndex
  return !liesBefore(range, place) && (first === null || first <= place.at)
}

/** Whether whole batches follow in the group. */
function endsInGroup({ position, endPosition }: DamagedRange): boolean {
  return endPosition === position
}
