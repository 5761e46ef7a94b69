// A slot while a log owns it: the piece of the log from one base position to the next.
import type { FrameSource } from '../memory/frame.js'
import type { DamagedRange } from './damaged-range.js'
import type { Slot } from './slot.js'
import type { SlotOwner } from './slot-header.js'
import { dataLimitOf, indexIntervalOf, SLOT_DATA_START } from './slot-layout.js'
import { SparseIndex } from './sparse-index.js'
import type { Truncation } from './truncations.js'

export class Segment {
  /** Null until it is asked for: the index of a finished segment is read from its index group. */
  index: SparseIndex | null
  /** Sequence of the last header written. */
  headerSequence: number
  /** Position of this segment's own index group; 0 while there is none. */
  indexPosition = 0
  /** Latest flushed checkpoint in this segment. */
  checkpointPosition: number | null
  /** Where the next segment begins; null for the last one. */
  endPosition: number | null = null
  /**
   * Of the first batch and record that live here or behind; below what the header says once a truncation reached back
   * beyond the beginning of the slot. Every live batch in the segments before has a lower index.
   */
  firstIndex: number
  firstOffset: number
  /** Index of the oldest checkpoint here that is known to be flushed. */
  oldestCheckpointIndex = Number.POSITIVE_INFINITY
  /** Under way, so that several readers load the index once. */
  loadingIndex: Promise<SparseIndex> | null = null
  /** Found on disk so far, in no order: a range stays even when it can be read again, as a disk that is failing does. */
  damage: readonly DamagedRange[] = []
  readonly source: FrameSource

  constructor(
    readonly slot: Slot,
    readonly generation: number,
    public owner: SlotOwner,
    headerSequence: number,
    isNew: boolean,
  ) {
    this.headerSequence = headerSequence
    this.source = { file: slot.file, byteLength: slot.byteLength, slotId: slot.id, generation }
    this.checkpointPosition = owner.checkpointPosition
    this.firstIndex = owner.baseIndex
    this.firstOffset = owner.baseOffset
    this.index = isNew ? new SparseIndex(indexIntervalOf(slot.byteLength)) : null
  }

  get basePosition(): number {
    return this.owner.basePosition
  }

  filePositionOf(position: number): number {
    return position - this.owner.basePosition + SLOT_DATA_START
  }

  positionOf(filePosition: number): number {
    return filePosition - SLOT_DATA_START + this.owner.basePosition
  }

  /** A suffix was cut off that may begin before this segment. */
  truncate({ position, lastIndex, nextOffset }: Truncation): void {
    if (this.basePosition > position) return
    this.firstIndex = Math.min(this.firstIndex, lastIndex + 1)
    this.firstOffset = Math.min(this.firstOffset, nextOffset)
  }

  /** @param ranges of one group. @returns false when it was known; how far they reach may be seen differently by now. */
  noteDamage(ranges: readonly DamagedRange[]): boolean {
    const others = this.damage.filter(({ position }) => position !== ranges[0]?.position)
    const isNew = others.length === this.damage.length
    this.damage = [...others, ...ranges]
    return isNew
  }

  /** Bytes of the slot file, from its start, that hold what was written by this log, given how far it has written. */
  writtenBytes(writtenPosition: number): number {
    const end = Math.min(this.endPosition ?? writtenPosition, writtenPosition)
    return end > this.basePosition ? this.filePositionOf(end) : 0
  }

  /** Position up to which groups of batches may reach; the rest is for the index group. */
  get dataLimit(): number {
    return this.positionOf(dataLimitOf(this.slot.byteLength))
  }

  /** Position behind the last byte of the slot. */
  get limit(): number {
    return this.positionOf(this.slot.byteLength)
  }
}
