// Walks a whole log, from its first segment to its end, as recovery does from the last checkpoint: every group, every
// batch. Where recovery stops at damage this goes on behind it, so that everything that is lost is named.
import { BLOCK_BYTES, DiskError, type Memory } from '../environment.js'
import { type CheckedBatch, checkGroup } from '../storage/group-check.js'
import { type GroupEnvelope, isCheckpoint } from '../storage/group-envelope.js'
import type { FoundGroup, GroupSource } from '../storage/group-source.js'
import { beginOf } from '../storage/log-layout.js'
import { endOffsetOf } from '../storage/read-selection.js'
import type { Segment } from '../storage/segment.js'
import { padded } from '../storage/slot-layout.js'
import { whyGroupFails, whyNoGroup } from './group-diagnosis.js'
import type { DamagedRange, DeadRange, LogEndReport } from './reports.js'

/** A group that belongs to the log and holds; its bytes are there until the visit ends. */
export interface WalkedGroup extends FoundGroup {
  readonly segment: Segment
  /** Empty for a group of another kind. */
  readonly batches: readonly CheckedBatch[]
}

/** A place where the chain does not go on. */
interface Break {
  readonly reason: string
  /** Where to look for the next group. */
  readonly from: number
  /** The group is the next one of the log by its envelope; its content is not what was written. */
  readonly isNext: boolean
  /** No crash does that. */
  readonly isCertain: boolean
}

/** What was found behind such a place. */
interface Behind {
  proof: string | null
  /** A group of the session that wrote the log last: it was under way when that ended. */
  isTorn: boolean
  next: { readonly segmentNumber: number; readonly envelope: GroupEnvelope } | null
}

/** Behind bytes that the disk refuses to read, the search goes on so much later. */
const UNREADABLE_STEP_BYTES = 1024 * 1024

export class LogWalk {
  readonly damage: DamagedRange[] = []
  readonly deadRanges: DeadRange[] = []
  readonly groupsOf = new Map<Segment, { groups: number; endPosition: number }>()
  position: number
  lastIndex: number
  nextOffset: number
  lastTerm = 0
  private current = 0
  private previous: number
  private session = 0
  /** By the word of the last group that holds. */
  durableTo = 0
  /** Position and first index of every group with batches that still counts: where a cut suffix begins. */
  private readonly live: { readonly position: number; readonly firstIndex: number }[] = []

  /**
   * @param segments in the order of their base positions, at least one.
   * @param watermark every byte of the log before it was flushed once, by the word of a header.
   */
  constructor(
    private readonly source: GroupSource,
    private readonly memory: Memory,
    private readonly segments: readonly Segment[],
    private readonly watermark: number,
    private readonly visit: (group: WalkedGroup) => void,
  ) {
    const { owner } = segments[0]!
    this.position = owner.basePosition
    this.previous = owner.previous
    this.lastIndex = owner.baseIndex - 1
    this.nextOffset = owner.baseOffset
  }

  /** @throws DiskError other than INPUT_OUTPUT, which is damage. */
  async run(): Promise<LogEndReport> {
    while (true) {
      if (this.entersNext()) continue
      const broken = await this.step()
      if (broken === null) continue
      const end = await this.judge(broken)
      if (end !== null) return end
    }
  }

  private entersNext(): boolean {
    const next = this.segments[this.current + 1]
    if (next === undefined || beginOf(next) !== this.position || next.owner.previous !== this.previous) return false
    this.current++
    // Behind damage that was cut off the log goes on in a slot of its own.
    this.position = next.basePosition
    return true
  }

  /** Takes in the group at the position; what is wrong when there is none. */
  private async step(): Promise<Break | null> {
    const segment = this.segments[this.current]!
    const from = this.position + BLOCK_BYTES
    let group: FoundGroup | null
    try {
      group = await this.source.groupAt(segment, this.position)
      if (group === null) {
        const reason = await whyNoGroup(segment, this.position, this.memory)
        return { reason, from, isNext: false, isCertain: false }
      }
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
      return { reason: `the disk refuses to read it: ${cause.message}`, from, isNext: true, isCertain: true }
    }
    const { block, at, envelope } = group
    if (envelope.previous !== this.previous) {
      return { reason: 'the group there follows another one', from, isNext: false, isCertain: false }
    }
    const batches = checkGroup(block, at, envelope, this.memory)
    if (batches === null) {
      const reason = whyGroupFails(block, at, envelope, this.memory)
      return { reason, from: this.position + padded(envelope.length), isNext: true, isCertain: false }
    }
    const contradiction = this.contradictionOf(envelope)
    if (contradiction !== null) return { reason: contradiction, from, isNext: true, isCertain: true }
    this.take(segment, envelope, batches)
    this.visit({ segment, block, at, envelope, batches })
    return null
  }

  /** What a group that holds says against the groups before it. */
  private contradictionOf(envelope: GroupEnvelope): string | null {
    const { firstIndex, firstOffset, position, durableTo } = envelope
    // Only a checkpoint cuts off what stands before it.
    if (firstIndex <= this.lastIndex && !isCheckpoint(envelope)) {
      return `it begins with index ${firstIndex}, and the log has ${this.lastIndex} already`
    }
    if (firstIndex > this.lastIndex + 1) return `it begins with index ${firstIndex} behind ${this.lastIndex}`
    if (firstIndex === this.lastIndex + 1 && firstOffset !== this.nextOffset) {
      return `it begins with offset ${firstOffset}, the log is at ${this.nextOffset}`
    }
    if (durableTo > position) return `it says that the log was flushed up to ${durableTo}, behind its own beginning`
    if (durableTo < this.durableTo) return `it says that the log was flushed up to ${durableTo}, less than before`
    return null
  }

  private take(segment: Segment, envelope: GroupEnvelope, batches: readonly CheckedBatch[]): void {
    const { firstIndex, firstOffset, position } = envelope
    if (firstIndex <= this.lastIndex) this.supersede(envelope)
    if (batches.length > 0) this.live.push({ position, firstIndex })
    this.lastIndex = firstIndex - 1
    this.nextOffset = firstOffset
    for (const { part, header } of batches) {
      this.lastIndex = part.index
      this.lastTerm = part.term
      this.nextOffset = endOffsetOf(part.baseOffset, header)
    }
    this.previous = envelope.checksum
    this.session = envelope.session
    this.durableTo = envelope.durableTo
    this.position = position + padded(envelope.length)
    const noted = this.groupsOf.get(segment)
    this.groupsOf.set(segment, { groups: (noted?.groups ?? 0) + 1, endPosition: this.position })
  }

  /** A checkpoint says how the log is without everything from this index on. */
  private supersede({ firstIndex, firstOffset, position }: GroupEnvelope): void {
    let from = position
    let lowest = this.lastIndex + 1
    for (let last = this.live.at(-1); last !== undefined && last.firstIndex >= firstIndex; last = this.live.at(-1)) {
      this.live.pop()
      from = last.position
      lowest = last.firstIndex
    }
    // The group that holds the first index cut off goes on counting for what stands in it before that index.
    if (lowest > firstIndex) from = this.live.at(-1)?.position ?? from
    this.deadRanges.push({
      position: from,
      endPosition: position,
      firstIndex,
      lastIndex: this.lastIndex,
      firstOffset,
      nextOffset: this.nextOffset,
    })
  }

  /** Null when the walk goes on behind damage; otherwise how the log ends. */
  private async judge(broken: Break): Promise<LogEndReport | null> {
    const end = this.position
    const found = await this.lookBehind(broken.from, end)
    const isDamage = broken.isCertain || this.watermark > end || found.proof !== null
    if (!isDamage) {
      const isTorn = broken.isNext || found.isTorn || this.current + 1 < this.segments.length
      const reason = isTorn ? `${broken.reason}; it was never flushed` : 'nothing follows'
      return { kind: isTorn ? 'torn' : 'clean', position: end, reason }
    }
    const evidence =
      found.proof ?? (this.watermark > end ? `a header says that the log was flushed up to ${this.watermark}` : null)
    const { next } = found
    const segment = this.segments[this.current]!
    // What is lost would not have had room in this segment, so another one stood between the two.
    const isMissing = next !== null && next.envelope.position > segment.limit
    const what = isMissing ? `a segment behind ${segment.slot.file.name} is missing` : broken.reason
    const reason = evidence === null ? what : `${what} (${evidence})`
    this.damage.push({
      slot: segment.slot.file.name,
      position: end,
      endPosition: next?.envelope.position ?? null,
      filePosition: segment.filePositionOf(end),
      reason,
      firstOffset: this.nextOffset,
      nextOffset: next?.envelope.firstOffset ?? null,
      firstIndex: this.lastIndex + 1,
      nextIndex: next?.envelope.firstIndex ?? null,
    })
    if (next === null) return { kind: 'damaged', position: end, reason }
    this.resumeAt(next.segmentNumber, next.envelope)
    return null
  }

  private resumeAt(segmentNumber: number, { position, previous, firstIndex, firstOffset }: GroupEnvelope): void {
    this.current = segmentNumber
    this.position = position
    this.previous = previous
    if (firstIndex > this.lastIndex) {
      this.lastIndex = firstIndex - 1
      this.nextOffset = firstOffset
    }
  }

  /** Looks at everything behind a break: for what proves that it was flushed, and for where the log goes on. */
  private async lookBehind(from: number, end: number): Promise<Behind> {
    const behind: Behind = { proof: null, isTorn: false, next: null }
    for (const [segmentNumber, segment] of this.segments.entries()) {
      if (segmentNumber < this.current) continue
      await this.searchSegment(segment, Math.max(from, segment.basePosition), (envelope) => {
        const { position, durableTo, session } = envelope
        if (session === this.session) behind.isTorn = true
        if (durableTo > end) {
          behind.proof ??= `the group at ${position} was written when the log was flushed up to ${durableTo}`
        }
        // A group that a tear has left behind is of an older session, and nobody has flushed the log beyond it.
        const goesOn = session === this.session || durableTo > end || this.watermark > position
        if (goesOn) behind.next ??= { segmentNumber, envelope }
        return behind.next !== null && behind.proof !== null
      })
      if (behind.next !== null && behind.proof !== null) break
    }
    return behind
  }

  /** Goes past what the disk refuses to read. */
  private async searchSegment(segment: Segment, from: number, visit: (envelope: GroupEnvelope) => boolean) {
    for (let at = from; at < segment.limit; ) {
      let reached = at
      try {
        await this.source.search(segment, at, segment.limit, (envelope) => {
          reached = envelope.position
          return visit(envelope)
        })
        return
      } catch (cause) {
        if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
        at = Math.max(reached, at) + UNREADABLE_STEP_BYTES
      }
    }
  }
}

/** Of the first batch that lives in the segment with which a walk began, or behind it. */
export function firstIndexOf({ owner }: Segment, { deadRanges }: LogWalk): number {
  return deadRanges.reduce((least, range) => Math.min(least, range.firstIndex), owner.baseIndex)
}
