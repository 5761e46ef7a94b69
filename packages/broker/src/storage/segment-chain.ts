// The segments of one log in order, and the slots it will need next.
import { LOG_PART_BYTES } from '@millrace/protocol'
import { BLOCK_BYTES } from '../environment.js'
import type { Group } from './group.js'
import { ENVELOPE_BYTES, GROUP_KINDS } from './group-envelope.js'
import type { LogKey } from './log-store.js'
import { Segment } from './segment.js'
import type { Slot } from './slot.js'
import { lookAheadOf, maxGroupBytesOf, padded, unflushedWindowOf } from './slot-layout.js'
import type { SlotWish } from './slot-wishes.js'
import type { StorageContext } from './storage-context.js'
import type { Truncation } from './truncations.js'

/** A busy log gets a slot of at most so many times what its slots hold together: thousands of young logs must not fill a disk. */
const MOST_GROWTH = 4

export class SegmentChain {
  readonly segments: Segment[] = []
  /** Position behind the last group that has its place. */
  end = 0
  /** Greatest timestamp of all records in groups that have their place. */
  maxTimestamp = 0
  /** Greatest append time of all batches in groups that have their place. */
  lastAppendTime = 0
  private nextSlot: Slot | null = null
  private wish: SlotWish | null = null
  private makingUnwritten = false
  private stopped = false
  private classNumber = 0
  private rolledAtMs: number

  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    /** A slot has come, or the disk has become full or has space again. */
    private readonly onSlot: () => void,
  ) {
    this.rolledAtMs = context.environment.clock.monotonicMs()
  }

  get current(): Segment | undefined {
    return this.segments.at(-1)
  }

  get bytesOnDisk(): number {
    return this.segments.reduce((bytes, segment) => bytes + segment.slot.byteLength, 0)
  }

  /** Takes over what recovery found; `end` is set already. */
  adopt(segments: readonly Segment[], maxTimestamp: number, lastAppendTime: number): void {
    this.segments.push(...segments)
    this.maxTimestamp = maxTimestamp
    this.lastAppendTime = lastAppendTime
    const { current } = this
    if (current === undefined) return
    current.endPosition = null
    const { slotBytes } = this.context.limits
    this.classNumber = slotBytes.reduce((found, bytes, i) => (bytes <= current.slot.byteLength ? i : found), 0)
  }

  /** Whether a group would fit behind `position` of the current segment. */
  fits(position: number, groupBytes: number): boolean {
    const { current } = this
    if (current === undefined || groupBytes > maxGroupBytesOf(current.slot.byteLength)) return false
    return position + groupBytes <= current.dataLimit
  }

  /**
   * Whether a group would fit into the room kept for the index. A control batch may use it when there is no other slot:
   * on a full disk it moves the log start, so that slots come back, and an index can be made again.
   */
  fitsAtWorst(position: number, groupBytes: number): boolean {
    const { current } = this
    return current !== undefined && position + groupBytes <= current.limit
  }

  /** The largest group that may begin at the end of the chain; 0 when a new segment is due. */
  get remainingBytes(): number {
    const { current } = this
    if (current === undefined) return 0
    return Math.min(current.dataLimit - this.end, maxGroupBytesOf(current.slot.byteLength))
  }

  /** Whether a slot for such a group is at hand; otherwise it is asked for. */
  ensureSlot(groupBytes: number, allowUnwritten: boolean): boolean {
    const held = this.nextSlot
    if (held !== null) {
      if (maxGroupBytesOf(held.byteLength) >= groupBytes) return true
      this.nextSlot = null
      this.context.pool.add(held)
    }
    const { pool } = this.context
    const slotBytes = pool.slotBytesFor(groupBytes, this.nextClass())
    this.nextSlot = pool.take(groupBytes, slotBytes, allowUnwritten)
    if (this.nextSlot !== null && this.nextSlot.byteLength >= slotBytes) this.withdraw()
    // A smaller one keeps a busy log going, and not for long: the right one is to be there by then.
    else if (allowUnwritten) this.askForUnwritten(slotBytes, groupBytes)
    else this.ask(slotBytes, groupBytes, true)
    return this.nextSlot !== null
  }

  /** Gives back what was asked for and not used. */
  giveUp(): void {
    this.stopped = true
    this.withdraw()
    if (this.nextSlot !== null) this.context.pool.add(this.nextSlot)
    this.nextSlot = null
  }

  private withdraw(): void {
    if (this.wish !== null) this.context.pool.withdraw(this.wish)
    this.wish = null
  }

  /**
   * Begins a segment in the slot that `ensureSlot` found, at the end of the chain.
   * @param cutFrom where the segments before end when the log begins anew with this one.
   */
  roll(firstIndex: number, firstOffset: number, usesUnwritten: boolean, cutFrom: number | null = null): Segment {
    const { environment, limits } = this.context
    const slot = this.nextSlot!
    this.nextSlot = null
    const last = this.current
    const tookMs = environment.clock.monotonicMs() - this.rolledAtMs
    this.classNumber = this.nextClass()
    this.rolledAtMs = environment.clock.monotonicMs()
    if (last !== undefined) last.endPosition = cutFrom ?? this.end
    slot.generation++
    const owner = {
      key: this.key,
      previous: 0,
      basePosition: this.end,
      baseIndex: firstIndex,
      baseOffset: firstOffset,
      maxTimestampBefore: this.maxTimestamp,
      lastAppendTimeBefore: this.lastAppendTime,
      indexPosition: last?.indexPosition ?? 0,
      checkpointPosition: null,
      watermark: 0,
      lookAheadBytes: lookAheadOf(
        this.windowOf(slot),
        Math.min(maxGroupBytesOf(slot.byteLength), limits.maxGroupBytes),
      ),
      cutFrom,
    }
    const segment = new Segment(slot, slot.generation, owner, 0, true)
    this.segments.push(segment)
    // A log that outruns the filler's rest asks for its next slot at once, and without rest.
    const isFast =
      !usesUnwritten && last !== undefined && last.slot.byteLength > (tookMs / 1000) * (limits.fillBytesPerSecond / 2)
    if (isFast) this.ask(this.context.pool.slotBytesFor(0, this.nextClass()), 0, true)
    return segment
  }

  /** The group has its final length and its place at the end of the chain. */
  placed(group: Group, usesUnwritten: boolean): void {
    this.end = group.end
    const segment = group.segment!
    if (group.kind !== GROUP_KINDS.batches) return
    if (group.lastTimestamp > this.maxTimestamp) this.maxTimestamp = group.lastTimestamp
    if (group.lastAppendTime > this.lastAppendTime) this.lastAppendTime = group.lastAppendTime
    segment.index?.note(group)
    const halfway = segment.basePosition + (segment.dataLimit - segment.basePosition) / 2
    if (this.end <= halfway || this.nextSlot !== null) return
    const groupBytes = padded(ENVELOPE_BYTES + LOG_PART_BYTES + group.length)
    if (usesUnwritten) this.ensureSlot(groupBytes, true)
    else this.ask(this.context.pool.slotBytesFor(groupBytes, this.nextClass()), groupBytes, false)
  }

  /** Whether the current segment holds anything, placed or about to be. */
  get currentIsEmpty(): boolean {
    return this.current === undefined || this.current.basePosition === this.end
  }

  /** Where no slot of the log begins: the last one may be there for a group that was never written. */
  get unusedPosition(): number {
    return this.segments.length > 0 && this.currentIsEmpty ? this.end + BLOCK_BYTES : this.end
  }

  /** A suffix is cut off: the next group stands at the end of the chain. */
  truncate(truncation: Truncation): void {
    for (const segment of this.segments) {
      segment.truncate(truncation)
      if (segment === this.current) segment.index?.truncateTo(truncation.lastIndex)
      else segment.index?.drop((entry) => entry.firstIndex > truncation.lastIndex)
    }
  }

  windowOf(slot: Slot): number {
    return unflushedWindowOf(slot.byteLength, this.context.limits.maxUnflushedBytes)
  }

  private ask(slotBytes: number, groupBytes: number, urgent: boolean): void {
    if (this.wish?.slotBytes === slotBytes && (this.wish.urgent || !urgent)) return
    this.withdraw()
    this.wish = {
      slotBytes,
      groupBytes,
      urgent,
      grant: (slot) => {
        this.wish = null
        this.takeOver(slot)
      },
      lookAgain: this.onSlot,
    }
    this.context.pool.wish(this.wish)
  }

  private readonly onSpace = (): void => {
    this.makingUnwritten = false
    this.onSlot()
  }

  private takeOver(slot: Slot): void {
    const smaller = this.nextSlot
    this.nextSlot = slot
    if (smaller !== null) this.context.pool.add(smaller)
    this.onSlot()
  }

  private askForUnwritten(slotBytes: number, groupBytes: number): void {
    if (this.makingUnwritten) return
    this.makingUnwritten = true
    const { pool } = this.context
    void pool.makeUnwritten(slotBytes, groupBytes, this.onSpace).then((slot) => {
      if (slot === null) return
      this.makingUnwritten = false
      if (this.stopped || (this.nextSlot?.byteLength ?? 0) >= slot.byteLength) pool.add(slot)
      else this.takeOver(slot)
    })
  }

  /** A log that fills its slots fast gets larger ones, as far as it holds enough to be worth them; a slow one smaller ones. */
  private nextClass(): number {
    const { quickRollMs, slowRollMs, slotBytes } = this.context.limits
    if (this.segments.length === 0) return 0
    const tookMs = this.context.environment.clock.monotonicMs() - this.rolledAtMs
    if (tookMs < quickRollMs) {
      const larger = slotBytes[this.classNumber + 1] ?? Number.POSITIVE_INFINITY
      return larger <= MOST_GROWTH * this.bytesOnDisk ? this.classNumber + 1 : this.classNumber
    }
    const next = tookMs > slowRollMs ? this.classNumber - 1 : this.classNumber
    return Math.max(this.leastClass, next)
  }

  /** The smallest slots are for logs that hold next to nothing: a gigabyte of them would be thousands of open files. */
  private get leastClass(): number {
    const second = this.context.limits.slotBytes[1] ?? Number.POSITIVE_INFINITY
    return this.bytesOnDisk < second ? 0 : 1
  }
}
