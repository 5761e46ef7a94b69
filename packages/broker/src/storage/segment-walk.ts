// Walks the groups of a segment on disk, batch by batch, through the page pool: for reads, times and lost indexes.
import {
  BATCH_CHECKSUM_START,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  crc32,
  LOG_PART_BYTES,
  type LogPart,
  logPartIsValid,
  MAX_BATCH_BYTES,
  ProtocolError,
  readBatchHeader,
  readLogPart,
} from '@millrace/protocol'
import type { FrameWindow } from './frame-window.js'
import { ENVELOPE_BYTES, GROUP_KINDS, type GroupEnvelope, keyText, readEnvelope, sameKey } from './group-envelope.js'
import { type LogKey, StorageError } from './log-store.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'

/** A batch whose checksums hold, and where it stands in the slot file. */
export interface WalkedBatch {
  readonly part: LogPart
  readonly header: BatchHeader
  readonly filePosition: number
  /** Log part and client part. */
  readonly byteLength: number
}

export interface WalkVisitor {
  /** Whether to look into a group of batches. */
  enter(envelope: GroupEnvelope): boolean
  /** Whether to go on. */
  visit(batch: WalkedBatch): boolean
  /** A batch of so many bytes comes; false ends the walk before it is loaded. */
  mayLoad(byteLength: number): boolean
  /** A stretch of the slot file is needed next; false ends the walk. */
  mayPin(from: number, to: number): boolean
  /** The batch of this index is damaged: whether to go on behind it, where its log part says that it ends. */
  mayPass(index: number): boolean
}

/** Goes on whatever comes: for walks that look at every batch and keep none. */
export const WALK_EVERYTHING: WalkVisitor = {
  enter: () => true,
  visit: () => true,
  mayLoad: () => true,
  mayPin: () => true,
  mayPass: () => false,
}

/** What stands at a place in a group: a batch, or one that is damaged and passed by. */
interface BatchPlace {
  readonly part: LogPart
  readonly byteLength: number
  readonly batch: WalkedBatch | null
}

const BATCH_PROLOGUE_BYTES = LOG_PART_BYTES + BATCH_HEADER_BYTES

export class SegmentWalk {
  private readonly prologue = new Uint8Array(BATCH_PROLOGUE_BYTES)
  private readonly prologueView = new DataView(this.prologue.buffer)
  /** Frames before this file position may be given back as the walk goes on. */
  keepFrom = Number.POSITIVE_INFINITY

  constructor(
    private readonly window: FrameWindow,
    private readonly key: LogKey,
    private readonly segment: Segment,
  ) {}

  /**
   * Visits the groups from the one at `position` to `endPosition`.
   * @throws StorageError DAMAGED when what stands there is not what was written; DiskError, ProtocolError OVERLOADED.
   */
  async run(position: number, endPosition: number, visitor: WalkVisitor): Promise<void> {
    let at = position
    while (at < endPosition) {
      const filePosition = this.segment.filePositionOf(at)
      if (!visitor.mayPin(filePosition, filePosition + ENVELOPE_BYTES)) return
      const envelope = await this.envelopeAt(at)
      if (envelope.kind === GROUP_KINDS.batches && visitor.enter(envelope)) {
        if (!(await this.walkGroup(envelope, visitor))) return
      }
      at += padded(envelope.length)
      this.window.releaseBefore(Math.min(this.keepFrom, this.segment.filePositionOf(at)))
    }
  }

  async envelopeAt(position: number): Promise<GroupEnvelope> {
    const filePosition = this.segment.filePositionOf(position)
    if (!(await this.window.pin(filePosition, filePosition + ENVELOPE_BYTES))) {
      throw this.damaged(position, 'the slot ends before it')
    }
    // A frame is a multiple of what groups are aligned to, so an envelope lies in one.
    const { frame, offset } = this.window.at(filePosition)
    const envelope = readEnvelope(frame.block.bytes, frame.block.view, offset, crc32)
    if (envelope === null) throw this.damaged(position, 'no valid group stands there')
    const { slot, generation, limit } = this.segment
    const belongs =
      envelope.position === position &&
      envelope.slotId === slot.id &&
      envelope.generation === generation &&
      sameKey(envelope.key, this.key)
    if (!belongs) throw this.damaged(position, 'a group of another place stands there')
    if (envelope.length < ENVELOPE_BYTES || position + padded(envelope.length) > limit) {
      throw this.damaged(position, 'a group longer than its slot')
    }
    return envelope
  }

  private async walkGroup(envelope: GroupEnvelope, visitor: WalkVisitor): Promise<boolean> {
    const start = this.segment.filePositionOf(envelope.position)
    const end = start + envelope.length
    let at = start + ENVELOPE_BYTES
    for (let i = 0; i < envelope.batchCount; i++) {
      const place = await this.batchAt(at, end, envelope.position, visitor)
      if (place === null) return false
      const { part, byteLength, batch } = place
      if (part.index !== envelope.firstIndex + i) throw this.damaged(envelope.position, 'a batch out of order')
      if (batch !== null && !visitor.visit(batch)) return false
      at += byteLength
      this.window.releaseBefore(Math.min(this.keepFrom, at))
    }
    return true
  }

  private async batchAt(at: number, end: number, position: number, visitor: WalkVisitor): Promise<BatchPlace | null> {
    if (at + BATCH_PROLOGUE_BYTES > end) throw this.damaged(position, 'a group shorter than its batches')
    if (!visitor.mayPin(at, at + BATCH_PROLOGUE_BYTES)) return null
    await this.pinOrFail(at, at + BATCH_PROLOGUE_BYTES, position)
    this.window.copy(at, this.prologue)
    if (!logPartIsValid(this.prologue, this.prologueView, 0, crc32)) throw this.damaged(position, 'a bad log part')
    const part = readLogPart(this.prologueView, 0)
    const byteLength = LOG_PART_BYTES + part.clientLength
    if (part.clientLength < BATCH_HEADER_BYTES || part.clientLength > MAX_BATCH_BYTES || at + byteLength > end) {
      throw this.damaged(position, 'a batch longer than its group')
    }
    if (!visitor.mayLoad(byteLength) || !visitor.mayPin(at, at + byteLength)) return null
    await this.pinOrFail(at, at + byteLength, position)
    if (!this.window.isVerified(at, at + byteLength)) {
      const checksum = this.window.checksum(at + LOG_PART_BYTES + BATCH_CHECKSUM_START, at + byteLength)
      if (checksum !== part.clientChecksum || checksum !== this.prologueView.getUint32(LOG_PART_BYTES, true)) {
        if (visitor.mayPass(part.index)) return { part, byteLength, batch: null }
        throw this.damaged(position, `batch ${part.index} fails its checksum`)
      }
      this.window.markVerified(at, at + byteLength)
    }
    return { part, byteLength, batch: { part, header: this.headerOf(position), filePosition: at, byteLength } }
  }

  private headerOf(position: number): BatchHeader {
    try {
      return readBatchHeader(this.prologueView, LOG_PART_BYTES)
    } catch (cause) {
      if (cause instanceof ProtocolError) throw this.damaged(position, cause.message)
      throw cause
    }
  }

  private async pinOrFail(from: number, to: number, position: number): Promise<void> {
    if (!(await this.window.pin(from, to))) throw this.damaged(position, 'the slot ends inside it')
  }

  private damaged(position: number, reason: string): StorageError {
    return new StorageError('DAMAGED', `log ${keyText(this.key)} is damaged at ${position}: ${reason}`)
  }
}
