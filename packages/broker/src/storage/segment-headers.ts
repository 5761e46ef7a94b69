// Writes the headers of segments, each from a block of its own: with the first group, and behind checkpoints.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block } from '../environment.js'
import type { Segment } from './segment.js'
import { type SlotOwner, writeSlotHeader } from './slot-header.js'
import { CHECKPOINT_HEADER_POSITIONS, ROLL_HEADER_POSITION } from './slot-layout.js'
import type { StorageContext } from './storage-context.js'

export class SegmentHeaders {
  private writing: Promise<void> = Promise.resolve()
  /**
   * Segments with a header that no flush has covered yet, and the one that waits for that. Invariant: the other header
   * of the segment is durable, or there never was one; a power failure may tear whatever is not, and once the beginning of
   * a log was given back recovery needs one of the two.
   */
  private readonly unflushed = new Map<Segment, Block | null>()

  constructor(private readonly context: StorageContext) {}

  /** The header that makes the slot the log's; durable in the same flush as the first group. @throws DiskError. */
  async writeRollHeader(segment: Segment): Promise<void> {
    const block = await this.block()
    try {
      this.encode(block, segment, segment.owner)
      await segment.slot.file.write(ROLL_HEADER_POSITION, block, 0, BLOCK_BYTES)
      this.context.counters.bytesWritten += BLOCK_BYTES
    } finally {
      this.context.environment.memory.release(block)
    }
  }

  /**
   * Notes a flushed checkpoint and the watermark in the header block whose turn it is. Made durable by whatever flush
   * comes next: losing it costs recovery time, and evidence that matters only if something else is lost besides.
   */
  writeCheckpointHeader(segment: Segment, checkpointPosition: number | null, watermark: number): void {
    const waiting = this.unflushed.get(segment)
    const block = waiting ?? this.context.environment.memory.allocate(BLOCK_BYTES)
    if (block === null) return
    // Nobody has seen one that waits: this one takes its place and its number.
    if (waiting == null) segment.headerSequence++
    segment.checkpointPosition = checkpointPosition
    this.encode(block, segment, { ...segment.owner, checkpointPosition, watermark })
    if (waiting === undefined) this.begin(segment, block)
    else this.unflushed.set(segment, block)
  }

  private begin(segment: Segment, block: Block): void {
    this.unflushed.set(segment, null)
    const position = CHECKPOINT_HEADER_POSITIONS[segment.headerSequence % 2]!
    this.writing = this.writing.then(() => this.write(segment, position, block))
  }

  private async write(segment: Segment, position: number, block: Block): Promise<void> {
    const { latch, flusher, environment, counters } = this.context
    try {
      if (latch.failure !== null) return
      await segment.slot.file.write(position, block, 0, BLOCK_BYTES)
      counters.bytesWritten += BLOCK_BYTES
      flusher.wrote(segment.slot)
      flusher.join({ flushBegins: () => {}, flushEnded: () => this.flushed(segment) })
    } catch (cause) {
      latch.fail('a write', cause)
    } finally {
      environment.memory.release(block)
    }
  }

  private flushed(segment: Segment): void {
    const waiting = this.unflushed.get(segment)
    this.unflushed.delete(segment)
    if (waiting != null) this.begin(segment, waiting)
  }

  /** Resolves when every header asked for so far is written. @throws StorageError when the volume is latched. */
  async settled(): Promise<void> {
    await this.writing
    if (![...this.unflushed.values()].some((waiting) => waiting !== null)) return
    await this.context.flusher.flushed()
    await this.writing
  }

  /** What waits is not written any more. Resolves when nothing is being written. */
  async stop(): Promise<void> {
    for (const waiting of this.unflushed.values()) {
      if (waiting !== null) this.context.environment.memory.release(waiting)
    }
    this.unflushed.clear()
    await this.writing
  }

  private encode(block: Block, segment: Segment, owner: SlotOwner): void {
    const { slot, generation, headerSequence: sequence } = segment
    const { id: slotId, byteLength: slotBytes, writtenThrough } = slot
    const header = { identity: this.context.identity, slotId, slotBytes, generation, sequence, writtenThrough, owner }
    writeSlotHeader(block.bytes, block.view, 0, header, crc32)
  }

  private async block(): Promise<Block> {
    const { memory, clock } = this.context.environment
    while (true) {
      const block = memory.allocate(BLOCK_BYTES)
      if (block !== null) return block
      // The group is in memory already and cannot be written without its header: whoever holds the rest gives way.
      if (!this.context.frames.reclaim()) await new Promise<void>((resolve) => clock.timer(1, resolve))
    }
  }
}
