// Memory in which groups are assembled, and which then serves the tail of each log for as long as there is room.
import { assert } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, type Memory } from '../environment.js'
import { Fifo } from '../fifo.js'

/** A block in which one or more groups of one log stand behind each other. */
export class Extent {
  /** Bytes given to groups so far, a multiple of 4,096. */
  usedBytes = 0
  /** Groups in it, reads of it, and the log that still fills it. */
  holds = 1

  constructor(readonly block: Block) {}

  get freeBytes(): number {
    return this.block.byteLength - this.usedBytes
  }
}

/** A flushed group: its memory is kept for readers of the tail, but may be taken back at any time. */
export interface RetainedGroup {
  readonly extent: Extent
  /** The log forgets the group; its hold on the extent is dropped by the caller. */
  forget(): void
}

export class AppendMemory {
  usedBytes = 0
  /** Called when memory has come back. */
  onReleased: () => void = () => {}
  /** Asks others for memory when the environment has none left; false when they have none to give. */
  reclaim: () => boolean = () => false
  private readonly retained = new Fifo<RetainedGroup>()

  /** @param limitBytes of all extents together; half of it at most serves groups that are flushed. */
  constructor(
    private readonly memory: Memory,
    private readonly limitBytes: number,
  ) {}

  /** An extent with one hold on it, or null when there is no memory now. */
  allocate(byteLength: number): Extent | null {
    assert(byteLength > 0 && byteLength % BLOCK_BYTES === 0, 'extents are made of blocks')
    while (this.usedBytes + byteLength > this.limitBytes) if (!this.forgetOldest()) return null
    let block = this.memory.allocate(byteLength)
    while (block === null) {
      if (!this.forgetOldest() && !this.reclaim()) return null
      block = this.memory.allocate(byteLength)
    }
    this.usedBytes += block.byteLength
    return new Extent(block)
  }

  hold(extent: Extent): void {
    assert(extent.holds > 0, 'an extent in use is held')
    extent.holds++
  }

  drop(extent: Extent): void {
    assert(extent.holds > 0, 'a hold is dropped once')
    if (--extent.holds > 0) return
    this.usedBytes -= extent.block.byteLength
    this.memory.release(extent.block)
    this.onReleased()
  }

  /** Takes over the hold of a group that is flushed. */
  retain(group: RetainedGroup): void {
    this.retained.push(group)
    while (this.usedBytes > this.limitBytes / 2) if (!this.forgetOldest()) return
  }

  /** Frees the memory of the group that has been flushed for the longest time; false when there is none. */
  forgetOldest(): boolean {
    const oldest = this.retained.shift()
    if (oldest === undefined) return false
    oldest.forget()
    this.drop(oldest.extent)
    return true
  }
}
