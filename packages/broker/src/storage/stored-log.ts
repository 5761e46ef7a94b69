// One log as its partition sees it: the writing and the reading side, checkpoints and failures together.
import { assert, type BatchHeader, LOG_PART_BYTES } from '@millrace/protocol'
import { BLOCK_BYTES, type Block } from '../environment.js'
import { Checkpointer } from './checkpointer.js'
import type { AppendStamp } from './group-assembly.js'
import { keyText } from './group-envelope.js'
import { LogReader } from './log-reader.js'
import type { RecoveredLog } from './log-recovery.js'
import { FIRST_LOG_START, type LogStart, LogStarts } from './log-start.js'
import {
  type LogKey,
  type LogRead,
  type LogState,
  type PartitionLog,
  type RetentionLimits,
  StorageError,
  type TermRun,
} from './log-store.js'
import { type TimedOffset, TimeSearch } from './log-times.js'
import { rewindState } from './log-truncation.js'
import { LogWriter } from './log-writer.js'
import type { ReplicaMarks } from './replica-marks.js'
import { expiredOf } from './retention.js'
import { SlotRecycler } from './slot-recycler.js'
import type { StorageContext } from './storage-context.js'
import { TermTable } from './term-table.js'
import { Truncations } from './truncations.js'

/** A log without segments begins where every log begins. */
const FIRST = { firstIndex: FIRST_LOG_START.index, firstOffset: FIRST_LOG_START.offset }

interface FlushWaiter {
  readonly index: number
  readonly resolve: () => void
  readonly reject: (failure: StorageError) => void
}

export class StoredLog implements PartitionLog {
  onAdvance: () => void = () => {}
  failure: StorageError | null = null
  readonly writer: LogWriter
  private readonly reader: LogReader
  private readonly checkpointer: Checkpointer
  private readonly recycler: SlotRecycler
  /** Everything up to here is committed, as far as the owner has said. */
  private committedIndex = 0
  /** A suffix is being cut off. */
  private truncating = false
  private waiters: FlushWaiter[] = []
  private closed = false
  private readonly onLatched = (failure: StorageError): void => this.fail(failure)

  /** @param recovered null for a log that does not exist yet. */
  constructor(
    private readonly context: StorageContext,
    readonly key: LogKey,
    private readonly state: LogState,
    recovered: RecoveredLog | null,
    private readonly marks: ReplicaMarks,
  ) {
    const start = recovered ?? {
      filled: { index: 0, nextOffset: 0, term: 0 },
      position: 0,
      previous: 0,
      terms: new TermTable(),
      starts: new LogStarts(),
      truncations: new Truncations(),
    }
    this.writer = new LogWriter(context, key, start, {
      onAdvance: () => this.advanced(),
      onTurn: () => this.turned(),
    })
    if (recovered !== null) {
      this.writer.chain.adopt(recovered.segments, recovered.maxTimestamp, recovered.lastAppendTime)
    }
    this.recycler = new SlotRecycler(context, this.writer)
    this.reader = new LogReader(context, key, this.writer)
    const { current } = this.writer.chain
    this.checkpointer = new Checkpointer(context, state, recovered?.checkpointEnd ?? 0, current)
    if (recovered?.damage != null) {
      const { position, reason } = recovered.damage
      this.failure = new StorageError('DAMAGED', `log ${keyText(key)} is damaged at ${position}: ${reason}`)
    }
    if (context.latch.failure !== null) this.failure = context.latch.failure
    else context.latch.listen(this.onLatched)
  }

  get filled() {
    return this.writer.filled
  }

  get writtenIndex(): number {
    return this.writer.writtenIndex
  }

  get flushedIndex(): number {
    return this.writer.flushedIndex
  }

  get start(): LogStart {
    return this.writer.starts.current
  }

  get startOffset(): number {
    return this.start.offset
  }

  get lostAcknowledged(): boolean {
    return this.marks.lostAcknowledged
  }

  get wasPowerLost(): boolean {
    return this.marks.wasPowerLost
  }

  async noteWhole(): Promise<void> {
    assert(this.failure?.code !== 'DAMAGED', 'a damaged log is not whole before it is repaired')
    await this.marks.noteWhole()
  }

  get unflushedBytes(): number {
    return this.writer.unflushedBytes
  }

  get bytesOnDisk(): number {
    return this.writer.chain.bytesOnDisk
  }

  append(
    source: Block,
    sourceOffset: number,
    header: BatchHeader,
    stamp: AppendStamp,
    mode: 'flush' | 'write',
  ): boolean {
    if (this.closed) throw this.closedError()
    if (this.failure !== null) throw this.failure
    assert(sourceOffset + header.length <= source.byteLength, 'a client part lies inside its block')
    assert(!this.truncating, 'an append while a suffix is cut off: hasRoom was not asked')
    const bytes = LOG_PART_BYTES + header.length
    if (this.writer.assembly.isFullFor(bytes, header.control)) {
      throw new StorageError('DISK_FULL', `the disk has no space for another segment of log ${keyText(this.key)}`)
    }
    return this.writer.append(source, sourceOffset, header, stamp, mode === 'flush')
  }

  /** True also when an append would fail at once: the caller then hears why. */
  hasRoom(bytes: number, isControl = false): boolean {
    if (this.closed || this.failure !== null) return true
    if (this.truncating) return false
    return this.writer.assembly.isFullFor(bytes, isControl) || this.writer.hasRoom(bytes, isControl)
  }

  onRoom(callback: () => void): void {
    this.writer.onRoom(callback)
    if (this.closed || this.failure !== null) this.writer.wakeAll()
  }

  async read(offset: number, maxBytes: number, limitIndex: number): Promise<LogRead> {
    if (this.closed) throw this.closedError()
    return this.reader.read(offset, maxBytes, limitIndex)
  }

  readFrom(index: number, maxBytes: number): LogRead | Promise<LogRead> {
    if (this.closed) return Promise.reject(this.closedError())
    return this.reader.readFrom(index, maxBytes)
  }

  async offsetForTime(timestamp: number, limitIndex: number): Promise<TimedOffset | null> {
    if (this.closed) throw this.closedError()
    return new TimeSearch(this.context, this.key, this.writer, this.reader, timestamp, limitIndex).run()
  }

  async termAt(offset: number): Promise<number> {
    if (this.closed) throw this.closedError()
    if (offset < this.startOffset || offset >= this.writer.filled.nextOffset) return 0
    return this.writer.terms.termAt(offset)
  }

  termAtIndex(index: number): number {
    const { start, writer } = this
    if (index === start.index - 1) return start.previousTerm
    return index < start.index || index > writer.filled.index ? 0 : writer.terms.termAtIndex(index)
  }

  termRuns(): readonly TermRun[] {
    const { index, offset } = this.start
    return this.writer.filled.index < index ? [] : this.writer.terms.runsFrom(index, offset)
  }

  // -------------------------------------------------------------- the beginning

  noteCommitted(index: number): void {
    if (index > this.committedIndex) this.committedIndex = index
    const { starts, terms, flushedIndex } = this.writer
    if (starts.commit(Math.min(this.committedIndex, flushedIndex))) terms.forgetBefore(starts.current.index)
    if (!this.closed && this.failure === null) this.recycler.wake(this.committedIndex)
  }

  expire(limits: RetentionLimits): LogStart | null {
    const { chain, filled, starts, terms, assembly } = this.writer
    if (this.closed || this.failure !== null || this.truncating || starts.hasProposed) return null
    // What could not be given back for want of memory is tried again.
    this.recycler.wake(this.committedIndex)
    const expired = expiredOf(chain.segments, chain.end, chain.lastAppendTime, limits)
    const { current } = starts
    const count = expired === 'everything' ? Math.max(0, chain.segments.length - 1) : expired.segments
    if (expired === 'everything' && filled.nextOffset !== current.offset && assembly.open === null) {
      // Without a slot for a new segment everything goes but the last one.
      if (chain.currentIsEmpty || assembly.beginSegment(BLOCK_BYTES)) {
        return { index: filled.index + 1, offset: filled.nextOffset, previousTerm: filled.term }
      }
    }
    const { firstIndex: index, firstOffset: offset } = chain.segments[count] ?? FIRST
    return index > current.index ? { index, offset, previousTerm: terms.termAtIndex(index - 1) } : null
  }

  // -------------------------------------------------------------- the end

  async truncateTo(lastIndex: number): Promise<void> {
    const { writer } = this
    assert(lastIndex >= this.committedIndex, `truncation to ${lastIndex}, committed is ${this.committedIndex}`)
    assert(!this.truncating, 'one suffix is cut off at a time')
    if (lastIndex >= writer.filled.index) return
    this.truncating = true
    this.checkpointer.suspended = true
    try {
      // Nothing is under way any more: no completion of what is cut off can be taken for one of what comes instead.
      await this.drained()
      this.assertUsable()
      const end = await rewindState(this.context, this.key, writer, this.state, lastIndex)
      this.assertUsable()
      while (!this.checkpointer.writeSuperseding(writer, end)) {
        await new Promise<void>((resolve) => this.writer.onAnyRoom(resolve))
        this.assertUsable()
      }
      this.checkpointer.suspended = false
    } catch (cause) {
      // The owner's state may be made in part only, so nothing may be built upon it.
      if (cause instanceof StorageError && !this.closed) this.fail(cause)
      throw cause
    } finally {
      this.truncating = false
      this.writer.wakeAll()
    }
  }

  async installStart(start: LogStart): Promise<void> {
    throw new StorageError('CLOSED', `log ${keyText(this.key)} cannot begin anew at ${start.index} yet`)
  }

  private assertUsable(): void {
    if (this.failure !== null) throw this.failure
    if (this.closed) throw this.closedError()
  }

  flush(): Promise<void> {
    const { index } = this.writer.filled
    if (this.writer.flushedIndex >= index) return Promise.resolve()
    if (this.failure !== null) return Promise.reject(this.failure)
    return new Promise((resolve, reject) => {
      this.waiters.push({ index, resolve, reject })
      this.writer.wantFlush()
    })
  }

  /** Flushes everything and leaves a checkpoint at the very end, so that opening the log again reads only that. */
  async close(): Promise<void> {
    if (this.closed) return
    this.closed = true
    this.writer.wakeAll()
    try {
      if (this.failure === null) await this.closeInOrder()
    } finally {
      await this.stop()
    }
  }

  private async closeInOrder(): Promise<void> {
    const { writer } = this
    await this.drained()
    await writer.headers.settled()
    if (this.checkpointer.suspended) return
    if (this.checkpointer.isCurrent(writer) || !this.checkpointer.write(writer)) return
    await this.drained()
    await writer.headers.settled()
  }

  /** Resolves when every group, those without batches too, is flushed; rejects when the latch falls before. */
  private drained(): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure)
    if (this.writer.isIdle) return Promise.resolve()
    return new Promise((resolve, reject) => {
      this.waiters.push({ index: Number.POSITIVE_INFINITY, resolve, reject })
      this.writer.wantFlush()
    })
  }

  /** Ends all work: the log is dropped, or the store closes. Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.closed = true
    this.context.latch.ignore(this.onLatched)
    const recycled = this.recycler.stop()
    await this.writer.stop()
    await recycled
    await this.writer.headers.stop()
    for (const { reject } of this.waiters.splice(0)) reject(this.closedError())
  }

  private turned(): void {
    if (!this.recycler.wantsCheckpoint) this.checkpointer.consider(this.writer)
    else if (this.checkpointer.writeWanted(this.writer)) this.recycler.checkpointWritten()
  }

  private advanced(): void {
    if (this.waiters.length > 0) this.settleWaiters()
    if (this.recycler.waits) this.recycler.wake(this.committedIndex)
    this.onAdvance()
  }

  private settleWaiters(): void {
    const { flushedIndex, isIdle } = this.writer
    const due = this.waiters.filter(({ index }) => index <= flushedIndex || isIdle)
    this.waiters = this.waiters.filter((waiter) => !due.includes(waiter))
    for (const { resolve } of due) resolve()
  }

  private fail(failure: StorageError): void {
    this.failure ??= failure
    for (const { reject } of this.waiters.splice(0)) reject(failure)
    this.writer.wakeAll()
    this.onAdvance()
  }

  private closedError(): StorageError {
    return new StorageError('CLOSED', `log ${keyText(this.key)} is closed`)
  }
}
