// What a reader does about damage: it finds out how far that reaches, goes past it to what stands behind, and tells
// whoever wants the damaged records themselves where the log goes on.
import type { DamagedRange } from './damaged-range.js'
import { keyText } from './group-envelope.js'
import { type LogKey, StorageError } from './log-store.js'
import type { Segment } from './segment.js'
import { SegmentCheck } from './segment-check.js'
import type { StorageContext } from './storage-context.js'

/** Takes note of a damaged stretch, counts it and says so in the log, once. */
export function noteDamage(context: StorageContext, key: LogKey, segment: Segment, damage: DamagedRange): void {
  if (!segment.noteDamage(damage)) return
  context.counters.damagedGroups++
  const { name: slot } = segment.slot.file
  const filePosition = segment.filePositionOf(damage.position)
  context.environment.log.error(
    { log: keyText(key), ...key, slot, filePosition, ...damage },
    'records on disk are damaged: who reads them is refused, everything else is served; stop the broker when you can, ' +
      'run `millrace-broker log verify` on its directory, and replace the disk if there is more',
  )
}

/** Where a log stands, as a reader sees it. */
export interface ReadableLog {
  segmentOf(offset: number): Segment
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

  /** Position from which a segment is walked to find an offset: from the index, or behind damage that lies before. */
  startOf(segment: Segment, offset: number): number {
    const { index, basePosition, damage } = segment
    let start = index?.at(index.findOffset(offset))?.position ?? basePosition
    for (const { nextOffset, endPosition } of damage) {
      if (nextOffset !== null && nextOffset <= offset && endPosition > start) start = endPosition
    }
    return start
  }

  /**
   * A read of an offset has met damage.
   * @returns what its reader is told; null when the damage lies before the offset: read again, and pass by it.
   */
  async explain(failure: StorageError, offset: number): Promise<StorageError | null> {
    const segment = this.log.segmentOf(offset)
    const start = this.startOf(segment, offset)
    const found = await this.locate(segment, start, offset)
    if (found === null) return failure
    noteDamage(this.context, this.key, segment, found)
    if (found.nextOffset !== null && found.nextOffset <= offset && this.startOf(segment, offset) > start) return null
    const { firstOffset, nextOffset, reason } = found
    const until = nextOffset === null ? 'on' : `to ${nextOffset - 1}`
    const goOn = nextOffset === null ? 'nothing behind them can be read yet' : `go on from offset ${nextOffset}`
    return new StorageError(
      'DAMAGED',
      `records ${firstOffset ?? offset} ${until} of log ${keyText(this.key)} are damaged on disk (${reason}); ${goOn}`,
      { cause: failure },
    )
  }

  /** The first damage from a position on, up to the offset. */
  private async locate(segment: Segment, start: number, offset: number): Promise<DamagedRange | null> {
    const { memory, clock } = this.context.environment
    const check = new SegmentCheck(memory, clock, this.key, segment, start, this.offsetAt(segment, start))
    try {
      while (check.position < this.log.endOf(segment) && (check.offset === null || check.offset <= offset)) {
        const found = await check.next(this.log.endOf(segment), this.log.segmentBehind(segment))
        if (found !== null) return found
      }
      return null
    } finally {
      check.close()
    }
  }

  private offsetAt({ index, basePosition, owner, damage }: Segment, position: number): number | null {
    if (position === basePosition) return owner.baseOffset
    const behind = damage.find(({ endPosition }) => endPosition === position)
    if (behind !== undefined) return behind.nextOffset
    for (let i = 0; index !== null && i < index.length; i++) {
      const entry = index.at(i)
      if (entry?.position === position) return entry.firstOffset
    }
    return null
  }
}
