// A slot while a log owns it: the piece of the log from one base position to the next.
import type { FrameSource } from '../memory/frame.js'
import type { Slot } from './slot.js'
import type { SlotOwner } from './slot-header.js'
import { dataLimitOf, indexIntervalOf, SLOT_DATA_START } from './slot-layout.js'
import { SparseIndex } from './sparse-index.js'

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
  /** Under way, so that several readers load the index once. */
  loadingIndex: Promise<SparseIndex> | null = null
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

  /** Position up to which groups of batches may reach; the rest is for the index group. */
  get dataLimit(): number {
    return this.positionOf(dataLimitOf(this.slot.byteLength))
  }

  /** Position behind the last byte of the slot. */
  get limit(): number {
    return this.positionOf(this.slot.byteLength)
  }
}
