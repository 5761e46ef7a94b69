// Checks the groups of a segment as they stand on disk, past every cache, one after the other; goes on behind damage.
import { BLOCK_BYTES, type Clock, DiskError, type Memory } from '../environment.js'
import type { DamagedRange } from './damaged-range.js'
import { checkGroup, type DamagedBatches, damagedBatchesOf } from './group-check.js'
import type { GroupEnvelope } from './group-envelope.js'
import { GroupSource } from './group-source.js'
import type { LogKey } from './log-store.js'
import { endOffsetOf } from './read-selection.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'

/** Behind bytes that the disk refuses to read, the search goes on so much later. */
const UNREADABLE_STEP_BYTES = 64 * 1024

export class SegmentCheck {
  private source: GroupSource
  /** Position up to which the log was flushed when the source last began anew: what it has read ahead of it may be older. */
  private trustedEnd = 0
  /** Checksum of the group before the position; null when that one is not known. */
  private previous: number | null = null
  /** Where to look for the next group when the one at the position does not hold. */
  private searchFrom = 0
  /** Of the group at the position, which does not hold; null where nothing in it is known to be whole. */
  private damaged: readonly DamagedBatches[] | null = null

  /**
   * @param position of a group of the segment.
   * @param next index of the next batch and offset of the next record there; null when that is not known.
   */
  constructor(
    private readonly memory: Memory,
    private readonly clock: Clock,
    private readonly key: LogKey,
    private readonly segment: Segment,
    public position: number,
    public next: { readonly index: number; readonly offset: number } | null,
  ) {
    this.source = new GroupSource(memory, clock, key)
    if (position === segment.basePosition) this.previous = segment.owner.previous
  }

  close(): void {
    this.source.close()
  }

  /**
   * Looks at the group at the position, and moves behind it.
   * @param end position up to which the log is flushed, beyond the present one.
   * @param behind the segment behind this one, where there is one.
   * @returns what is damaged there, in order; nothing when the group holds. @throws DiskError other than INPUT_OUTPUT.
   */
  async step(end: number, behind: Segment | undefined): Promise<readonly DamagedRange[]> {
    if (this.position >= this.trustedEnd) {
      // A whole group may have stood there before, of another life of the log, and pass for the one written since.
      this.reopen()
      this.trustedEnd = end
    }
    if ((await this.look()) === null) return []
    // Once more from the disk: what was read ahead may have been on its way there at that time.
    this.reopen()
    const reason = await this.look()
    if (reason === null) return []
    const found = await this.search(end)
    const { position, next: first } = this
    this.position = found?.position ?? end
    this.next = null
    if (found !== null) this.next = { index: found.firstIndex, offset: found.firstOffset }
    else if (behind !== undefined) this.next = { index: behind.owner.baseIndex, offset: behind.owner.baseOffset }
    this.previous = null
    const whole = { position, endPosition: this.position, reason }
    const nextOffset = this.next?.offset ?? null
    const nextIndex = this.next?.index ?? null
    if (this.damaged === null) {
      const { index: firstIndex, offset: firstOffset } = first ?? { index: null, offset: null }
      return [{ ...whole, firstIndex, firstOffset, nextOffset, nextIndex }]
    }
    return this.damaged.map(({ first: { index: firstIndex, baseOffset: firstOffset }, next }) => {
      if (next === null) return { ...whole, firstIndex, firstOffset, nextOffset, nextIndex }
      return {
        ...whole,
        endPosition: position,
        firstIndex,
        firstOffset,
        nextOffset: next.baseOffset,
        nextIndex: next.index,
      }
    })
  }

  private reopen(): void {
    this.source.close()
    this.source = new GroupSource(this.memory, this.clock, this.key)
  }

  /** Why the group at the position is not what was written; null, and behind it, when it is. */
  private async look(): Promise<string | null> {
    this.searchFrom = this.position + BLOCK_BYTES
    this.damaged = null
    try {
      const group = await this.source.groupAt(this.segment, this.position)
      if (group === null) return 'no valid group stands there'
      const { block, at, envelope } = group
      if (this.previous !== null && envelope.previous !== this.previous) return 'the group follows another one'
      const batches = checkGroup(block, at, envelope, this.memory)
      if (batches === null) {
        this.searchFrom = this.position + padded(envelope.length)
        this.damaged = damagedBatchesOf(block, at, envelope, this.memory)
        return 'the group fails its checksums'
      }
      const last = batches.at(-1)
      this.next = {
        index: last === undefined ? envelope.firstIndex : last.part.index + 1,
        offset: last === undefined ? envelope.firstOffset : endOffsetOf(last.part.baseOffset, last.header),
      }
      this.previous = envelope.checksum
      this.position += padded(envelope.length)
      return null
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
      return `the disk refuses to read it: ${cause.message}`
    }
  }

  private async search(end: number): Promise<GroupEnvelope | null> {
    let found: GroupEnvelope | null = null
    let at = this.searchFrom
    while (at < end && found === null) {
      try {
        await this.source.search(this.segment, at, end, (envelope) => {
          found = envelope
          return true
        })
        return found
      } catch (cause) {
        if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
        this.reopen()
        at += UNREADABLE_STEP_BYTES
      }
    }
    return found
  }
}
