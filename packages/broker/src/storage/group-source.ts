// Reads the groups of a log from its slots one after another, for recovery: few large reads, no cache.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, type Clock, type Memory } from '../environment.js'
import { ENVELOPE_BYTES, type GroupEnvelope, readEnvelope, sameKey } from './group-envelope.js'
import type { LogKey } from './log-store.js'
import { PatientReads } from './patient-reads.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'

/** An idle log ends right behind its checkpoint, so the first read is small. */
const FIRST_READ_BYTES = 64 * 1024
/** Many logs are recovered at the same time, and memory taken for the first time costs more than another read. */
const LARGEST_READ_BYTES = 256 * 1024
const MEMORY_RETRY_MS = 5

export interface FoundGroup {
  readonly block: Block
  /** Where the envelope stands in the block; the whole group is there until the next call. */
  readonly at: number
  readonly envelope: GroupEnvelope
}

export class GroupSource {
  bytesRead = 0
  private block: Block | null = null
  private segment: Segment | null = null
  /** Range of the slot file that is in the block. */
  private start = 0
  private end = 0
  private nextReadBytes = FIRST_READ_BYTES
  private readonly reads: PatientReads

  constructor(
    private readonly memory: Memory,
    private readonly clock: Clock,
    private readonly key: LogKey,
    /** 0: what the disk refuses is not asked for again. */
    retries = 0,
  ) {
    this.reads = new PatientReads(clock, retries)
  }

  /**
   * The group at a position of a segment, if an envelope of this log stands there that belongs to this place; its
   * content is not checked. @throws DiskError.
   */
  async groupAt(segment: Segment, position: number): Promise<FoundGroup | null> {
    const from = segment.filePositionOf(position)
    if (from + BLOCK_BYTES > segment.slot.byteLength) return null
    if (!this.isLoaded(segment, from, BLOCK_BYTES) && !(await this.load(segment, from, BLOCK_BYTES))) return null
    const envelope = this.envelopeAt(segment, from)
    if (envelope === null) return null
    const length = padded(envelope.length)
    if (!this.isLoaded(segment, from, length) && !(await this.load(segment, from, length))) return null
    return { block: this.block!, at: from - this.start, envelope }
  }

  /**
   * Every valid envelope of this log that stands at its place between two positions of a segment, whatever lies between
   * them. `visit` returns true to end the search. @throws DiskError.
   */
  async search(segment: Segment, from: number, to: number, visit: (envelope: GroupEnvelope) => boolean): Promise<void> {
    const end = Math.min(segment.filePositionOf(to), segment.slot.byteLength)
    for (let at = segment.filePositionOf(from); at + BLOCK_BYTES <= end; at += BLOCK_BYTES) {
      if (!this.isLoaded(segment, at, BLOCK_BYTES) && !(await this.load(segment, at, BLOCK_BYTES))) return
      const envelope = this.envelopeAt(segment, at)
      if (envelope !== null && visit(envelope)) return
    }
  }

  close(): void {
    if (this.block !== null) this.memory.release(this.block)
    this.block = null
    this.segment = null
  }

  private envelopeAt(segment: Segment, filePosition: number): GroupEnvelope | null {
    const { bytes, view } = this.block!
    const envelope = readEnvelope(bytes, view, filePosition - this.start, crc32)
    if (envelope === null) return null
    const { slot, generation } = segment
    const belongs =
      envelope.slotId === slot.id &&
      envelope.generation === generation &&
      envelope.position === segment.positionOf(filePosition) &&
      sameKey(envelope.key, this.key)
    if (!belongs || envelope.length < ENVELOPE_BYTES) return null
    return filePosition + padded(envelope.length) <= slot.byteLength ? envelope : null
  }

  /** Asked before `load`: there are hundreds of thousands of blocks to look at, and a promise for each adds up. */
  private isLoaded(segment: Segment, from: number, length: number): boolean {
    return this.segment === segment && from >= this.start && from + length <= this.end
  }

  /** Has a stretch of the slot file in the block; false when the file ends before it does. */
  private async load(segment: Segment, from: number, length: number): Promise<boolean> {
    const wanted = Math.max(length, Math.min(this.nextReadBytes, segment.slot.byteLength - from))
    this.nextReadBytes = Math.min(this.nextReadBytes * 2, LARGEST_READ_BYTES)
    const block = await this.blockOf(wanted, length)
    this.segment = null
    const bytes = await this.reads.read(segment.slot.file, from, block, Math.min(wanted, block.byteLength))
    this.bytesRead += bytes
    this.segment = segment
    this.start = from
    this.end = from + bytes
    return bytes >= length
  }

  /** A block of the wanted size; of the size needed at least where memory is short. */
  private async blockOf(wantedBytes: number, neededBytes: number): Promise<Block> {
    if (this.block !== null && this.block.byteLength >= wantedBytes) return this.block
    this.close()
    while (this.block === null) {
      this.block = this.memory.allocate(wantedBytes) ?? this.memory.allocate(neededBytes)
      // Other logs being recovered give theirs back soon.
      if (this.block === null) await new Promise<void>((resolve) => this.clock.timer(MEMORY_RETRY_MS, resolve))
    }
    return this.block
  }
}
