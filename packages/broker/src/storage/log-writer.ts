// The writing side of one log: groups to the disk, and the watermarks behind them.
import type { BatchHeader } from '@millrace/protocol'
import { type Block, DiskError } from '../environment.js'
import type { FlushClient } from './flusher.js'
import type { Group } from './group.js'
import { type AppendStamp, GroupAssembly, type LogBeginning } from './group-assembly.js'
import { GROUP_KINDS, isCheckpoint } from './group-envelope.js'
import type { LogStarts } from './log-start.js'
import type { LogEnd, LogKey } from './log-store.js'
import { Room } from './room.js'
import type { Segment } from './segment.js'
import type { SegmentChain } from './segment-chain.js'
import { SegmentHeaders } from './segment-headers.js'
import type { StorageContext } from './storage-context.js'
import type { TermTable } from './term-table.js'
import type { Truncations } from './truncations.js'

/** While so many urgent groups are not flushed, a small one waits and gathers. */
const URGENT_GROUPS_UNDER_WAY = 2

export interface WriterEvents {
  /** A watermark has moved. */
  onAdvance(): void
  /** Everything appended is in groups that are closed: the moment to add a checkpoint. */
  onTurn(): void
  /** The first group of a segment is on its way to the disk; it counts as written only once this resolves. */
  begins(): Promise<void>
}

export class LogWriter implements FlushClient {
  readonly assembly: GroupAssembly
  readonly headers: SegmentHeaders
  writtenIndex: number
  flushedIndex: number
  flushedPosition: number
  private writtenPosition: number
  private flushedBytes = 0
  private previous: number
  /** Submitted and not flushed, in order; the first `writtenCount` are written without a gap. */
  private submitted: Group[] = []
  private writtenCount = 0
  /** Of each flush under way, how many of `submitted` it covers; ascending. */
  private flushing: number[] = []
  private writesInFlight = 0
  private urgentUnderWay = 0
  private turnScheduled = false
  /** Everything up to this index is to be flushed at once. */
  private flushWantedIndex = 0
  private flushWanted = false
  private stopped = false
  private readonly writeWaiters: (() => void)[] = []
  private readonly idleWaiters: (() => void)[] = []
  /** Those who wait for a slot or for flushes of this log. */
  private readonly room: Room
  private lacksMemory = false

  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    beginning: LogBeginning,
    private readonly events: WriterEvents,
  ) {
    this.room = new Room(context.environment.clock)
    this.assembly = new GroupAssembly(context, key, beginning, () => {
      this.pump()
      this.room.wake()
    })
    this.headers = new SegmentHeaders(context)
    this.writtenIndex = beginning.filled.index
    this.flushedIndex = beginning.filled.index
    this.writtenPosition = beginning.position
    this.flushedPosition = beginning.position
    this.previous = beginning.previous
  }

  get filled() {
    return this.assembly.filled
  }

  get chain(): SegmentChain {
    return this.assembly.chain
  }

  get terms(): TermTable {
    return this.assembly.terms
  }

  get starts(): LogStarts {
    return this.assembly.starts
  }

  get truncations(): Truncations {
    return this.assembly.truncations
  }

  get tail(): readonly Group[] {
    return this.assembly.tail
  }

  /** Of the last group that was submitted: the next one refers to it. */
  get lastChecksum(): number {
    return this.previous
  }

  get isIdle(): boolean {
    return this.submitted.length === 0 && this.assembly.isEmpty
  }

  /** Bytes appended and not flushed. */
  get unflushedBytes(): number {
    return this.assembly.appendedBytes - this.flushedBytes
  }

  // -------------------------------------------------------------- appending

  hasRoom(batchBytes: number, isControl: boolean): boolean {
    const unflushed = this.unflushedBytes
    this.lacksMemory = false
    if (unflushed > 0 && unflushed + batchBytes > this.context.limits.maxUnflushedBytes) return false
    // Memory taken ahead goes back at the end of the turn if nothing is appended after all.
    this.scheduleTurn()
    if (this.assembly.hasRoom(batchBytes, isControl)) return true
    this.lacksMemory = this.assembly.lacks === 'memory'
    return false
  }

  /** Calls back when what the last `hasRoom` found missing may be there. */
  onRoom(callback: () => void): void {
    if (this.lacksMemory) this.context.room.wait(callback)
    else this.room.wait(callback)
  }

  /** Calls back, perhaps twice, when memory, a slot or a flush may have come. */
  onAnyRoom(callback: () => void): void {
    this.context.room.wait(callback)
    this.room.wait(callback)
  }

  /** Appends have come to fail, or the log to its end: nobody waits any more. */
  wakeAll(): void {
    this.context.room.wakeAll()
    this.room.wakeAll()
  }

  /** @returns false when the checksum does not hold; nothing has changed then. */
  append(source: Block, sourceOffset: number, header: BatchHeader, stamp: AppendStamp, urgent: boolean): boolean {
    this.scheduleTurn()
    return this.assembly.append(source, sourceOffset, header, stamp, urgent)
  }

  private scheduleTurn(): void {
    if (this.turnScheduled) return
    this.turnScheduled = true
    this.context.environment.clock.defer(() => {
      this.turnScheduled = false
      this.pump()
    })
  }

  // -------------------------------------------------------------- writing

  /** Does whatever can be done now; called at the end of a turn and whenever something has completed. */
  private pump(): void {
    if (this.stopped || this.context.latch.failure !== null) return
    const { assembly } = this
    if (assembly.placeWaiting()) this.room.wake()
    if (this.shouldClose()) assembly.closeOpen()
    if (assembly.open === null && !assembly.hasUnplaced) this.events.onTurn()
    let next = assembly.ready.peek()
    while (next !== undefined && this.maySubmit(next)) {
      assembly.ready.shift()
      this.submit(next)
      next = assembly.ready.peek()
    }
    if (this.isIdle) assembly.idle()
  }

  /** Natural batching: while groups are under way a small one waits for company. */
  private shouldClose(): boolean {
    const { open, ready } = this.assembly
    if (open === null || ready.length > 0 || open.segment === null) return false
    if (open.batchCount === 0) return true
    if (open.length >= this.context.limits.gatherBytes) return this.writesInFlight < this.context.limits.writesInFlight
    return this.writesInFlight === 0 && this.urgentUnderWay < URGENT_GROUPS_UNDER_WAY
  }

  private maySubmit(group: Group): boolean {
    if (this.writesInFlight >= this.context.limits.writesInFlight) return false
    // Invariant: `lookAheadOf` relies on both.
    const isInWindow = group.end - this.flushedPosition <= this.chain.windowOf(group.segment!.slot)
    if (isInWindow || this.submitted.length === 0) return true
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
    if (isFirst) writes.push(this.headers.writeRollHeader(segment), this.events.begins())
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
      // Other groups say nothing of their own: an index written on the way to a truncation knows what is cut off since.
      if (next.kind === GROUP_KINDS.batches) this.writtenIndex = next.lastIndex
      urgent ||= next.urgent
      advanced = true
      next = this.submitted[this.writtenCount]
    }
    if (advanced) {
      const many = this.unflushedBytes * 2 >= this.context.limits.maxUnflushedBytes
      const asked = this.flushWanted || this.writtenIndex <= this.flushWantedIndex
      this.context.flusher.enlist(this, urgent || asked || many)
      this.events.onAdvance()
    }
    this.pump()
  }

  // -------------------------------------------------------------- flushing

  flushBegins(): void {
    this.flushing.push(this.writtenCount)
    this.flushWanted = false
  }

  flushEnded(): void {
    if (this.stopped) return
    const count = this.flushing.shift()!
    const flushed = this.submitted.slice(0, count)
    this.submitted = this.submitted.slice(count)
    this.writtenCount -= count
    this.flushing = this.flushing.map((covered) => covered - count)
    for (const group of flushed) this.groupFlushed(group)
    if (flushed.length > 0) this.events.onAdvance()
    this.pump()
    if (this.isIdle) for (const wake of this.idleWaiters.splice(0)) wake()
    this.room.wake()
  }

  private groupFlushed(group: Group): void {
    this.flushedPosition = group.end
    if (group.kind === GROUP_KINDS.batches) this.flushedIndex = group.lastIndex
    this.flushedBytes += group.appendedBytes
    if (group.urgent) this.urgentUnderWay--
    if (group.kind === GROUP_KINDS.batches) this.context.appendMemory.retain(group)
    else this.context.appendMemory.drop(group.extent)
    const segment = group.segment!
    if (isCheckpoint(group)) {
      segment.oldestCheckpointIndex = Math.min(segment.oldestCheckpointIndex, group.lastIndex)
      this.headers.writeCheckpointHeader(segment, group.position, this.flushedPosition)
    }
    if (group.position === segment.basePosition) this.noteRoll(segment)
  }

  /** The segment before learns that the log was flushed beyond it, so that the loss of this one shows. */
  private noteRoll(segment: Segment): void {
    const { segments } = this.chain
    const before = segments[segments.indexOf(segment) - 1]
    if (before !== undefined) {
      this.headers.writeCheckpointHeader(before, before.checkpointPosition, this.flushedPosition)
    }
  }

  /** Everything appended so far is to be flushed at once. */
  wantFlush(): void {
    this.flushWantedIndex = this.filled.index
    this.flushWanted = true
    if (this.assembly.open !== null) this.assembly.open.urgent = true
    if (this.writtenPosition > this.flushedPosition) this.context.flusher.enlist(this, true)
    this.scheduleTurn()
  }

  /** What has to happen at the end of a turn happens at the end of this one. */
  requestTurn(): void {
    this.scheduleTurn()
  }

  /**
   * Cuts off everything behind a batch, all of which is flushed. Watermarks are positions: only their indexes follow.
   * @returns false while there is no memory or no slot; nothing has changed then.
   */
  supersede(end: LogEnd, contentBytes: number, contentOf: () => Uint8Array): boolean {
    if (!this.assembly.supersede(end, contentBytes, contentOf)) return false
    this.writtenIndex = end.index
    this.flushedIndex = end.index
    this.flushWantedIndex = Math.min(this.flushWantedIndex, end.index)
    this.scheduleTurn()
    return true
  }

  /**
   * Puts the checkpoint with which the log begins anew into a segment of its own; everything in memory speaks of the log as
   * it is then. @returns false while there is no memory or no slot; nothing has changed then.
   */
  beginAnew(cutFrom: number, contentBytes: number, contentOf: () => Uint8Array): boolean {
    if (!this.assembly.beginAnew(cutFrom, contentBytes, contentOf)) return false
    this.wantFlush()
    return true
  }

  /** Calls back once everything is flushed; never after the volume was latched. */
  onIdle(callback: () => void): void {
    if (this.isIdle) callback()
    else this.idleWaiters.push(callback)
  }

  /** Nothing more is submitted. Resolves when nothing is under way any more and the memory of it is given back. */
  async stop(): Promise<void> {
    this.stopped = true
    this.assembly.stop()
    if (this.writesInFlight > 0) await new Promise<void>((resolve) => this.writeWaiters.push(resolve))
    for (const group of this.submitted.splice(0)) this.assembly.discard(group)
  }
}
