// Writes the headers of segments, each from a block of its own: with the first group, and behind checkpoints.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block } from '../environment.js'
import type { Segment } from './segment.js'
import { type SlotOwner, writeSlotHeader } from './slot-header.js'
import { CHECKPOINT_HEADER_POSITIONS, ROLL_HEADER_POSITION } from './slot-layout.js'
import type { StorageContext } from './storage-context.js'

export class SegmentHeaders {
  private writing: Promise<void> = Promise.resolve()

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
    const block = this.context.environment.memory.allocate(BLOCK_BYTES)
    if (block === null) return
    segment.headerSequence++
    segment.checkpointPosition = checkpointPosition
    this.encode(block, segment, { ...segment.owner, checkpointPosition, watermark })
    const position = CHECKPOINT_HEADER_POSITIONS[segment.headerSequence % 2]!
    // One after the other: of two headers of a segment under way at once, both could be torn.
    this.writing = this.writing.then(() => this.write(segment, position, block))
  }

  private async write(segment: Segment, position: number, block: Block): Promise<void> {
    const { latch, flusher, environment, counters } = this.context
    try {
      if (latch.failure !== null) return
      await segment.slot.file.write(position, block, 0, BLOCK_BYTES)
      counters.bytesWritten += BLOCK_BYTES
      flusher.wrote(segment.slot)
    } catch (cause) {
      latch.fail('a write', cause)
    } finally {
      environment.memory.release(block)
    }
  }

  /** Resolves when no header is being written. */
  async settled(): Promise<void> {
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
