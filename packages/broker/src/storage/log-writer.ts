// The writing side of one log: batches into groups, groups to the slots, watermarks behind them.
import { assert, type BatchHeader, crc32, LOG_PART_BYTES, writeLogPart } from '@millrace/protocol'
import { type Block, DiskError } from '../environment.js'
import { Fifo } from '../fifo.js'
import { ExtentSource } from '../memory/extent-source.js'
import type { FlushClient } from './flusher.js'
import { Group } from './group.js'
import { ENVELOPE_BYTES, GROUP_KINDS, type GroupKind } from './group-envelope.js'
import type { LogEnd, LogKey } from './log-store.js'
import type { Segment } from './segment.js'
import { SegmentChain } from './segment-chain.js'
import { SegmentHeaders } from './segment-headers.js'
import { padded } from './slot-layout.js'
import type { StorageContext } from './storage-context.js'
import type { TermTable } from './term-table.js'

/** While so many urgent groups are not flushed, a small one waits and gathers. */
const URGENT_GROUPS_UNDER_WAY = 2

export interface AppendStamp {
  readonly term: number
  readonly baseOffset: number
  readonly index: number
  readonly appendTime: number
}

/** What recovery found, or an empty log. */
export interface WriterStart {
  readonly filled: LogEnd
  readonly position: number
  readonly previous: number
  readonly terms: TermTable
}

export interface WriterEvents {
  /** A watermark has moved. */
  onAdvance(): void
  /** Everything in the queue is closed: the moment to add a checkpoint. */
  onTurn(): void
  /** A checkpoint group is flushed. */
  onCheckpointFlushed(segment: Segment, position: number): void
}

export class LogWriter implements FlushClient {
  readonly chain: SegmentChain
  readonly headers: SegmentHeaders
  readonly filled: { index: number; nextOffset: number; term: number }
  readonly terms: TermTable
  /** Groups of batches in memory, oldest first; all that are not flushed, and flushed ones while there is room. */
  readonly tail: Group[] = []
  writtenIndex: number
  flushedIndex: number
  flushedPosition: number
  unflushedBytes = 0
  private writtenPosition: number
  private previous: number
  private open: Group | null = null
  /** Closed, but without a slot to go to. */
  private readonly unplaced = new Fifo<Group>()
  /** Closed and placed, not submitted. */
  private readonly ready = new Fifo<Group>()
  /** Submitted and not flushed, in order; the first `writtenCount` are written without a gap. */
  private submitted: Group[] = []
  private writtenCount = 0
  private flushingCount = 0
  private writesInFlight = 0
  private urgentUnderWay = 0
  private turnScheduled = false
  /** Everything up to this index is to be flushed at once. */
  private flushWantedIndex = 0
  private flushWanted = false
  private usesUnwritten = false
  private waitsForSlot = false
  private stopped = false
  private readonly writeWaiters: (() => void)[] = []
  private readonly extents: ExtentSource

  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    start: WriterStart,
    private readonly events: WriterEvents,
  ) {
    this.chain = new SegmentChain(context, key)
    this.chain.end = start.position
    this.headers = new SegmentHeaders(context)
    this.extents = new ExtentSource(context.appendMemory, context.limits.extentBytes)
    this.filled = { ...start.filled }
    this.terms = start.terms
    this.writtenIndex = start.filled.index
    this.flushedIndex = start.filled.index
    this.writtenPosition = start.position
    this.flushedPosition = start.position
    this.previous = start.previous
  }

  get isIdle(): boolean {
    const { open, submitted, ready, unplaced } = this
    return (
      (open === null || open.batchCount === 0) && submitted.length === 0 && ready.length === 0 && unplaced.length === 0
    )
  }

  get hasUnplaced(): boolean {
    return this.unplaced.length > 0 || (this.open !== null && this.open.segment === null)
  }

  // -------------------------------------------------------------- appending

  hasRoom(batchBytes: number): boolean {
    const { limits } = this.context
    if (this.unflushedBytes > 0 && this.unflushedBytes + batchBytes > limits.maxUnflushedBytes) return false
    const { open } = this
    if (open !== null && open.segment !== null && open.length + batchBytes <= open.capacity) return true
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    if (!this.extents.ensure(groupBytes, open === null ? 0 : open.paddedLength)) return false
    this.scheduleTurn()
    return this.hasSlotRoom(groupBytes)
  }

  /** Whether appends fail until the disk has space again. */
  isFullFor(batchBytes: number): boolean {
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    if (!this.context.pool.isFullFor(groupBytes)) return false
    const { open } = this
    if (open !== null && open.segment !== null && open.length + batchBytes <= open.capacity) return false
    return !this.hasSlotRoom(groupBytes)
  }

  private hasSlotRoom(groupBytes: number): boolean {
    if (this.hasUnplaced) return false
    const end = this.open === null ? this.chain.end : this.open.end
    return this.chain.fits(end, groupBytes) || this.chain.ensureSlot(groupBytes, this.usesUnwritten)
  }

  /** @returns false when the checksum does not hold; nothing has changed then. */
  append(source: Block, sourceOffset: number, header: BatchHeader, stamp: AppendStamp, urgent: boolean): boolean {
    const { filled, context } = this
    assert(stamp.index === filled.index + 1, `index ${stamp.index} behind ${filled.index}`)
    assert(stamp.baseOffset === filled.nextOffset, `offset ${stamp.baseOffset}, the log is at ${filled.nextOffset}`)
    assert(stamp.term >= filled.term, `term ${stamp.term} behind ${filled.term}`)
    this.usesUnwritten = !urgent
    const bytes = LOG_PART_BYTES + header.length
    const group = this.groupFor(bytes)
    const { block } = group.extent
    const at = group.start + group.length
    const clientAt = at + LOG_PART_BYTES
    const { memory } = context.environment
    this.scheduleTurn()
    // The checksum itself is not part of what it covers, so it is not copied but written.
    const length = header.length - 4
    const checksum = memory.copyWithChecksum(block, clientAt + 4, source, sourceOffset + 4, length, 0)
    if (checksum !== header.checksum) return false
    block.view.setUint32(clientAt, checksum, true)
    const { term, baseOffset, index, appendTime } = stamp
    const part = { term, baseOffset, index, appendTime, clientLength: header.length, clientChecksum: checksum }
    writeLogPart(block.bytes, block.view, at, part, crc32)
    const nextOffset = header.control ? baseOffset : baseOffset + header.lastOffsetDelta + 1
    group.added(bytes, block.view.getUint32(at, true), nextOffset, header.control ? 0 : header.lastTimestamp)
    if (urgent) group.urgent = true
    this.terms.note(term, baseOffset)
    filled.index = index
    filled.nextOffset = nextOffset
    filled.term = term
    this.unflushedBytes += bytes
    context.counters.bytesAppended += bytes
    context.counters.copiedBytes += bytes
    return true
  }

  private groupFor(batchBytes: number): Group {
    if (this.open !== null && this.open.length + batchBytes <= this.open.capacity) return this.open
    this.closeOpen()
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    assert(groupBytes <= this.chain.maxGroupBytes, `a batch of ${batchBytes} bytes is more than a group holds`)
    const extent = this.extents.take(groupBytes)
    assert(extent !== null, 'an append without room: hasRoom was not asked')
    const capacity = Math.min(extent.freeBytes, Math.max(groupBytes, this.chain.maxGroupBytes))
    const { index, nextOffset } = this.filled
    const group = new Group(GROUP_KINDS.batches, extent, extent.usedBytes, capacity, index + 1, nextOffset)
    group.onForget = () => this.forgetOldest(group)
    this.open = group
    this.tail.push(group)
    if (this.unplaced.length === 0) this.place(group, groupBytes)
    return group
  }

  private closeOpen(): void {
    const { open } = this
    if (open === null) return
    this.open = null
    if (open.batchCount === 0) {
      this.tail.pop()
      this.context.appendMemory.drop(open.extent)
      return
    }
    open.close()
    open.extent.usedBytes = open.start + open.paddedLength
    if (open.segment === null) this.unplaced.push(open)
    else this.enqueue(open)
  }

  // -------------------------------------------------------------- placing

  /** Gives a group its place in the log. @returns false while there is no slot for it. */
  private place(group: Group, groupBytes: number): boolean {
    const { chain } = this
    if (!chain.fits(chain.end, groupBytes)) {
      if (!chain.ensureSlot(groupBytes, this.usesUnwritten)) return false
      this.roll(group)
    }
    group.segment = chain.current!
    group.position = chain.end
    if (group.stage === 'filling') group.capacity = Math.min(group.capacity, chain.remainingBytes)
    return true
  }

  private roll(first: Group): void {
    const last = this.chain.current
    if (last?.index != null) {
      const content = this.headers.encodeIndex(last.index)
      // A log that was cut behind the index group of an earlier attempt to roll may have no room for another one.
      const fits = this.chain.end + padded(ENVELOPE_BYTES + content.length) <= last.limit
      if (fits && this.addGroup(GROUP_KINDS.index, content, first.firstIndex, first.firstOffset, last)) {
        last.indexPosition = this.chain.end - padded(ENVELOPE_BYTES + content.length)
      }
    }
    this.chain.roll(first.firstIndex, first.firstOffset)
  }

  /** Adds a checkpoint behind everything appended; false when there is no memory or slot for it now. */
  addCheckpoint(content: Uint8Array): boolean {
    assert(this.open === null && !this.hasUnplaced, 'a checkpoint stands behind all batches')
    const groupBytes = padded(ENVELOPE_BYTES + content.length)
    const { chain } = this
    if (groupBytes > chain.maxGroupBytes) return false
    if (!chain.fits(chain.end, groupBytes)) return false
    const { index, nextOffset } = this.filled
    return this.addGroup(GROUP_KINDS.checkpoint, content, index + 1, nextOffset, chain.current!)
  }

  /** Groups without batches have memory of their own, since a group of batches may be open in the log's. */
  private addGroup(kind: GroupKind, content: Uint8Array, index: number, offset: number, segment: Segment): boolean {
    const extent = this.context.appendMemory.allocate(padded(ENVELOPE_BYTES + content.length))
    if (extent === null) return false
    const group = new Group(kind, extent, 0, extent.block.byteLength, index, offset)
    group.setContent(content)
    group.segment = segment
    group.position = this.chain.end
    group.close()
    this.enqueue(group)
    return true
  }

  private enqueue(group: Group): void {
    this.chain.placed(group)
    this.ready.push(group)
  }

  // -------------------------------------------------------------- writing

  private scheduleTurn(): void {
    if (this.turnScheduled) return
    this.turnScheduled = true
    this.context.environment.clock.defer(() => {
      this.turnScheduled = false
      this.pump()
    })
  }

  /** Does whatever can be done now; called at the end of a turn and whenever something has completed. */
  pump(): void {
    if (this.stopped || this.context.latch.failure !== null) return
    this.placeWaiting()
    if (this.shouldClose()) this.closeOpen()
    if (this.open === null && !this.hasUnplaced) this.events.onTurn()
    let next = this.ready.peek()
    while (next !== undefined && this.maySubmit(next)) {
      this.ready.shift()
      this.submit(next)
      next = this.ready.peek()
    }
    if (this.isIdle) this.extents.idle()
  }

  private placeWaiting(): void {
    let waiting = this.unplaced.peek()
    while (waiting !== undefined) {
      if (!this.place(waiting, waiting.paddedLength)) {
        this.waitForSlot()
        return
      }
      this.unplaced.shift()
      this.enqueue(waiting)
      waiting = this.unplaced.peek()
    }
    const { open } = this
    if (open !== null && open.segment === null && !this.place(open, open.paddedLength)) this.waitForSlot()
  }

  private waitForSlot(): void {
    if (this.waitsForSlot) return
    this.waitsForSlot = true
    this.context.room.wait(() => {
      this.waitsForSlot = false
      this.pump()
    })
  }

  /** Natural batching: while groups are under way a small one waits for company. */
  private shouldClose(): boolean {
    const { open } = this
    if (open === null || this.ready.length > 0 || open.segment === null) return false
    if (open.batchCount === 0) return true
    if (open.length >= this.context.limits.gatherBytes) return this.writesInFlight < this.context.limits.writesInFlight
    return this.writesInFlight === 0 && this.urgentUnderWay < URGENT_GROUPS_UNDER_WAY
  }

  private maySubmit(group: Group): boolean {
    if (this.writesInFlight >= this.context.limits.writesInFlight) return false
    if (group.position - this.flushedPosition <= this.chain.windowOf(group.segment!.slot)) return true
    // Recovery looks only so far ahead of a bad group, so nothing may be written farther beyond what is flushed.
    this.flushWanted = true
    if (this.writtenPosition > this.flushedPosition) this.context.flusher.enlist(this, true)
    return false
  }

  private submit(group: Group): void {
    const segment = group.segment!
    if (this.flushWantedIndex >= group.firstIndex) group.urgent = true
    if (group.urgent) this.urgentUnderWay++
    const { counters, session } = this.context
    const isFirst = group.position === segment.basePosition
    if (isFirst) segment.owner = { ...segment.owner, previous: this.previous, watermark: this.flushedPosition }
    this.previous = group.seal(this.key, session, this.flushedPosition, this.previous)
    this.writesInFlight++
    this.submitted.push(group)
    counters.groups++
    counters.bytesWritten += group.paddedLength
    const writes = [this.write(group)]
    if (isFirst) writes.push(this.headers.writeRollHeader(segment))
    void Promise.allSettled(writes).then((results) => {
      this.writesInFlight--
      const failed = results.find((result) => result.status === 'rejected')
      if (failed !== undefined) this.context.latch.fail('a write', failed.reason)
      else this.groupWritten(group)
      if (this.writesInFlight === 0) for (const wake of this.writeWaiters.splice(0)) wake()
    })
  }

  private async write(group: Group): Promise<void> {
    const { slot } = group.segment!
    const filePosition = group.segment!.filePositionOf(group.position)
    while (true) {
      try {
        return await slot.file.write(filePosition, group.extent.block, group.start, group.paddedLength)
      } catch (cause) {
        // A slot that was not written through may find the disk full now. Nothing of the group counts yet, and its
        // bytes are still here, so it is written again once there is space.
        if (!(cause instanceof DiskError) || cause.code !== 'NO_SPACE' || slot.writtenThrough) throw cause
        this.context.pool.becomeFull(this.context.limits.slotBytes[0]!)
        await new Promise<void>((resolve) => {
          this.context.environment.clock.timer(this.context.limits.spaceRetryMs, resolve)
        })
      }
    }
  }

  private groupWritten(group: Group): void {
    group.stage = 'written'
    this.context.flusher.wrote(group.segment!.slot)
    if (this.stopped || this.context.latch.failure !== null) return
    let urgent = false
    let advanced = false
    let next = this.submitted[this.writtenCount]
    while (next?.stage === 'written') {
      this.writtenCount++
      this.writtenPosition = next.end
      this.writtenIndex = next.lastIndex
      urgent ||= next.urgent
      advanced = true
      next = this.submitted[this.writtenCount]
    }
    if (advanced) {
      const many = this.unflushedBytes * 2 >= this.context.limits.maxUnflushedBytes
      this.context.flusher.enlist(
        this,
        urgent || this.flushWanted || many || this.writtenIndex <= this.flushWantedIndex,
      )
      this.events.onAdvance()
    }
    this.pump()
  }

  // -------------------------------------------------------------- flushing

  flushBegins(): void {
    this.flushingCount = this.writtenCount
    this.flushWanted = false
  }

  flushEnded(): void {
    if (this.stopped) return
    const flushed = this.submitted.slice(0, this.flushingCount)
    this.submitted = this.submitted.slice(this.flushingCount)
    this.writtenCount -= this.flushingCount
    this.flushingCount = 0
    for (const group of flushed) this.groupFlushed(group)
    if (flushed.length > 0) this.events.onAdvance()
    this.pump()
    this.context.room.wake()
  }

  private groupFlushed(group: Group): void {
    this.flushedPosition = group.end
    this.flushedIndex = group.lastIndex
    this.unflushedBytes -= group.appendedBytes
    if (group.urgent) this.urgentUnderWay--
    if (group.kind === GROUP_KINDS.batches) this.context.appendMemory.retain(group)
    else this.context.appendMemory.drop(group.extent)
    if (group.kind === GROUP_KINDS.checkpoint) this.events.onCheckpointFlushed(group.segment!, group.position)
  }

  private forgetOldest(group: Group): void {
    assert(this.tail[0] === group, 'the tail is forgotten from its oldest group on')
    this.tail.shift()
  }

  /** Everything appended so far is to be flushed at once. */
  wantFlush(): void {
    this.flushWantedIndex = this.filled.index
    this.flushWanted = true
    if (this.open !== null) this.open.urgent = true
    if (this.writtenPosition > this.flushedPosition) this.context.flusher.enlist(this, true)
    this.scheduleTurn()
  }

  /** Nothing more is submitted. Resolves when nothing is under way any more and the memory of it is given back. */
  async stop(): Promise<void> {
    this.stopped = true
    this.chain.giveUp()
    const { open } = this
    this.open = null
    if (open !== null) this.discard(open)
    for (const group of [...this.unplaced.drain(), ...this.ready.drain()]) this.discard(group)
    this.extents.idle()
    if (this.writesInFlight > 0) await new Promise<void>((resolve) => this.writeWaiters.push(resolve))
    for (const group of this.submitted.splice(0)) this.discard(group)
  }

  private discard(group: Group): void {
    const at = this.tail.indexOf(group)
    if (at >= 0) this.tail.splice(at, 1)
    this.context.appendMemory.drop(group.extent)
  }
}
