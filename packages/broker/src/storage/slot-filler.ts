// Makes slot files: written through once, so that later writes change no metadata of the file system.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, type Clock, type DiskFile, type Memory, type Volume } from '../environment.js'
import { JoinedFlushes } from './joined-flushes.js'
import { Slot, slotName } from './slot.js'
import { type SlotIdentity, writeSlotHeader } from './slot-header.js'
import {
  CHECKPOINT_HEADER_POSITIONS,
  FREE_HEADER_POSITION,
  ROLL_HEADER_POSITION,
  SLOT_DATA_START,
} from './slot-layout.js'
import type { StorageCounters } from './storage-counters.js'
import type { StorageLimits } from './storage-limits.js'

const ZERO_BYTES = 1024 * 1024

export interface SlotFillerOptions {
  readonly volume: Volume
  readonly memory: Memory
  readonly clock: Clock
  readonly limits: StorageLimits
  readonly identity: SlotIdentity
  readonly counters: StorageCounters
}

export class SlotFiller {
  /** Of headers, and of the names of all files made until then: those who wait for a name are many when logs are. */
  private readonly headerFlushes: JoinedFlushes

  constructor(private readonly options: SlotFillerOptions) {
    this.headerFlushes = new JoinedFlushes(async (files) => {
      await Promise.all([options.volume.syncDirectory(), ...files.map((file) => file.sync())])
    })
  }

  /**
   * A free slot, durable with its name. Its header is written once the zeros are flushed: a slot with a header has all
   * its blocks written. @throws DiskError NO_SPACE, and then there is no such file.
   */
  async create(id: number, slotBytes: number, isUrgent: () => boolean): Promise<Slot> {
    const file = await this.reserve(id, slotBytes)
    const slot = new Slot(id, slotBytes, file, 0, true)
    try {
      await this.fill(file, 0, slotBytes, isUrgent)
      await this.writeFreeHeader(slot)
      await this.headerFlushes.join(file)
    } catch (cause) {
      await this.abandon(file)
      throw cause
    }
    return slot
  }

  /** A free slot whose space is reserved and not written; its name and header are durable with its first flush. */
  async createUnwritten(id: number, slotBytes: number): Promise<Slot> {
    const file = await this.reserve(id, slotBytes)
    const slot = new Slot(id, slotBytes, file, 0, false)
    slot.needsDirectorySync = true
    try {
      await this.writeFreeHeader(slot)
    } catch (cause) {
      await this.abandon(file)
      throw cause
    }
    return slot
  }

  /**
   * Fills what a log has not written of a slot that was taken unwritten, so that every block is written once. The
   * headers behind checkpoints may be missing; what they said does not matter any more.
   */
  async fillRest(slot: Slot, writtenBytes: number): Promise<void> {
    const urgent = (): boolean => true
    if (writtenBytes <= SLOT_DATA_START) return this.fill(slot.file, 0, slot.byteLength, urgent)
    await this.fill(slot.file, CHECKPOINT_HEADER_POSITIONS[0], ROLL_HEADER_POSITION, urgent)
    if (writtenBytes < slot.byteLength) await this.fill(slot.file, writtenBytes, slot.byteLength, urgent)
  }

  /** Writes zeros over a stretch of a slot and flushes them, not faster than the limit unless it is urgent. */
  private async fill(file: DiskFile, from: number, to: number, isUrgent: () => boolean): Promise<void> {
    const { clock, limits, counters } = this.options
    const block = await this.zeros(Math.min(ZERO_BYTES, to - from))
    try {
      for (let at = from; at < to; at += block.byteLength) {
        const length = Math.min(block.byteLength, to - at)
        const startedMs = clock.monotonicMs()
        await file.write(at, block, 0, length)
        counters.bytesFilled += length
        const restMs = (length / limits.fillBytesPerSecond) * 1000 - (clock.monotonicMs() - startedMs)
        if (restMs > 0 && !isUrgent()) await new Promise<void>((resolve) => clock.timer(restMs, resolve))
      }
      await file.sync()
    } finally {
      this.options.memory.release(block)
    }
  }

  private async reserve(id: number, slotBytes: number): Promise<DiskFile> {
    const file = await this.options.volume.open(slotName(id), { create: true })
    try {
      await file.allocate(slotBytes)
    } catch (cause) {
      await this.abandon(file)
      throw cause
    }
    return file
  }

  private async abandon(file: DiskFile): Promise<void> {
    await file.close()
    await this.options.volume.remove(file.name)
  }

  /** Says that nobody owns the slot in its present generation. The caller flushes. */
  async writeFreeHeader(slot: Slot): Promise<void> {
    const { id: slotId, byteLength: slotBytes, generation, writtenThrough } = slot
    const block = await this.zeros(BLOCK_BYTES)
    try {
      const { identity } = this.options
      const header = { identity, slotId, slotBytes, generation, sequence: 0, writtenThrough, owner: null }
      writeSlotHeader(block.bytes, block.view, 0, header, crc32)
      await slot.file.write(FREE_HEADER_POSITION, block, 0, BLOCK_BYTES)
      this.options.counters.bytesWritten += BLOCK_BYTES
    } finally {
      this.options.memory.release(block)
    }
  }

  /** A block of zeros; waits while memory is short, since slots can come later but appends cannot do without theirs. */
  private async zeros(byteLength: number): Promise<Block> {
    let wantedBytes = byteLength
    while (true) {
      const block = this.options.memory.allocate(wantedBytes)
      if (block !== null) {
        block.bytes.fill(0)
        return block
      }
      if (wantedBytes > BLOCK_BYTES) wantedBytes /= 2
      else await new Promise<void>((resolve) => this.options.clock.timer(10, resolve))
    }
  }
}
