// One log as its partition sees it: the writing and the reading side, checkpoints and failures together.
import { assert, type BatchHeader, LOG_PART_BYTES } from '@millrace/protocol'
import type { Block } from '../environment.js'
import { Checkpointer } from './checkpointer.js'
import { FlushWaiters } from './flush-waiters.js'
import { type FormerSlot, FormerSlots } from './former-slots.js'
import type { AppendStamp } from './group-assembly.js'
import { keyText } from './group-envelope.js'
import { cutOff, emptyFrom, type LogContinuation } from './log-continuation.js'
import { LogParts, slotsOf } from './log-parts.js'
import { FIRST_LOG_START, type LogStart } from './log-start.js'
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
import { LogWriter, type WriterEvents } from './log-writer.js'
import { NewBeginning } from './new-beginning.js'
import type { RecoveredDamage, RecoveredLog } from './recovered-log.js'
import type { ReplicaMarks } from './replica-marks.js'
import { startBehind } from './retention.js'
import type { StorageContext } from './storage-context.js'

export class StoredLog implements PartitionLog {
  onAdvance: () => void = () => {}
  failure: StorageError | null = null
  /** Slots with the log's name that are no part of it: given back, or kept while the log is damaged. */
  readonly former: FormerSlots
  private parts: LogParts
  /** The log is about to begin anew. */
  private beginning: NewBeginning | null = null
  private readonly damage: RecoveredDamage | null
  /** Everything up to here is committed, as far as the owner has said. */
  private committedIndex = 0
  /** A suffix is being cut off. */
  private truncating = false
  private readonly waiters = new FlushWaiters()
  private closed = false
  private readonly onLatched = (failure: StorageError): void => this.fail(failure)

  /** @param recovered null for a log that does not exist yet. */
  constructor(
    private readonly context: StorageContext,
    readonly key: LogKey,
    private readonly state: LogState,
    recovered: RecoveredLog | null,
    readonly marks: ReplicaMarks,
  ) {
    const start = recovered ?? { ...emptyFrom(FIRST_LOG_START), position: 0, previous: 0 }
    const events = this.eventsOf(() => writer)
    const writer: LogWriter = new LogWriter(context, key, start, events)
    if (recovered !== null) writer.chain.adopt(recovered.segments, recovered.maxTimestamp, recovered.lastAppendTime)
    const checkpointer = new Checkpointer(context, state, recovered?.checkpointEnd ?? 0, writer.chain.current)
    this.parts = new LogParts(context, key, writer, checkpointer)
    this.former = new FormerSlots(context, () => this.wakeRecycler())
    this.damage = recovered?.damage ?? null
    if (this.damage !== null) {
      const { position, reason } = this.damage
      this.failure = new StorageError('DAMAGED', `log ${keyText(key)} is damaged at ${position}: ${reason}`)
    }
    if (context.latch.failure !== null) this.failure = context.latch.failure
    else context.latch.listen(this.onLatched)
  }

  get writer(): LogWriter {
    return this.parts.writer
  }

  /** Every slot that carries the log's name. */
  get slots(): readonly FormerSlot[] {
    const slots = new Map(this.former.left.map((former) => [former.slot, former]))
    for (const writer of [this.writer, this.beginning?.writer]) {
      for (const former of writer === undefined ? [] : slotsOf(writer)) slots.set(former.slot, former)
    }
    return [...slots.values()]
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

  get committedStartOffset(): number {
    return this.writer.starts.after(this.committedIndex).offset
  }

  get lostAcknowledged(): boolean {
    return this.marks.lostAcknowledged
  }

  get wasPowerLost(): boolean {
    return this.marks.wasPowerLost
  }

  noteWhole(): Promise<void> {
    assert(!this.isDamaged, 'a damaged log is not whole before it is repaired')
    return this.marks.noteWhole()
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
    return this.parts.reader.read(offset, maxBytes, limitIndex)
  }

  readFrom(index: number, maxBytes: number): LogRead | Promise<LogRead> {
    if (this.closed) return Promise.reject(this.closedError())
    return this.parts.reader.readFrom(index, maxBytes)
  }

  async offsetForTime(timestamp: number, limitIndex: number): Promise<TimedOffset | null> {
    if (this.closed) throw this.closedError()
    return new TimeSearch(this.context, this.key, this.writer, this.parts.reader, timestamp, limitIndex).run()
  }

  async termAt(offset: number): Promise<number> {
    if (this.closed) throw this.closedError()
    if (offset < this.startOffset || offset >= this.writer.filled.nextOffset) return 0
    return this.writer.terms.termAt(offset)
  }

  termAtIndex(index: number): number {
    return this.parts.reader.termAtIndex(index)
  }

  termRuns(): readonly TermRun[] {
    return this.parts.reader.termRuns()
  }

  noteCommitted(index: number): void {
    if (index > this.committedIndex) this.committedIndex = index
    const { starts, terms, flushedIndex } = this.writer
    if (starts.commit(Math.min(this.committedIndex, flushedIndex))) terms.forgetBefore(starts.current.index)
    if (!this.closed && this.failure === null) this.wakeRecycler()
  }

  /** Invariant: a slot with which the log began anew is not given back before all that it cuts off are. */
  private wakeRecycler(): void {
    if (this.former.left.length === 0) this.parts.recycler.wake(this.committedIndex)
  }

  expire(limits: RetentionLimits): LogStart | null {
    if (this.closed || this.failure !== null || this.truncating || this.writer.starts.hasProposed) return null
    // What could not be given back for want of memory is tried again.
    this.wakeRecycler()
    return startBehind(this.writer, limits)
  }

  async truncateTo(lastIndex: number): Promise<void> {
    const { writer, checkpointer } = this.parts
    if (this.isDamaged) return this.repair(lastIndex)
    assert(lastIndex >= this.committedIndex, `truncation to ${lastIndex}, committed is ${this.committedIndex}`)
    assert(!this.truncating, 'one suffix is cut off at a time')
    if (lastIndex >= writer.filled.index) return
    this.truncating = true
    checkpointer.suspended = true
    try {
      // Nothing is under way any more: no completion of what is cut off can be taken for one of what comes instead.
      await this.drained()
      this.assertUsable()
      const end = await rewindState(this.context, this.key, writer, this.state, lastIndex)
      this.assertUsable()
      while (!checkpointer.writeSuperseding(writer, end)) {
        await new Promise<void>((resolve) => this.writer.onAnyRoom(resolve))
        this.assertUsable()
      }
      checkpointer.suspended = false
    } catch (cause) {
      // The owner's state may be made in part only, so nothing may be built upon it.
      if (cause instanceof StorageError && !this.closed) this.fail(cause)
      throw cause
    } finally {
      this.truncating = false
      this.writer.wakeAll()
    }
  }

  async installStart(start: LogStart, state: Uint8Array | null): Promise<void> {
    const isNew = start.index > this.committedIndex || this.isDamaged
    assert(isNew, `a log that is to begin at ${start.index}, committed is ${this.committedIndex}`)
    await this.beginAnew(0, async () => {
      this.state.restoreState(state)
      return emptyFrom(start)
    })
  }

  /** Everything from the damage on is given up. */
  private async repair(lastIndex: number): Promise<void> {
    const { writer, key, context, state } = this
    if (this.damage?.isAtEnd !== true) throw this.failure ?? this.closedError()
    await this.beginAnew(writer.chain.end, async (position) => {
      const end = await rewindState(context, key, writer, state, Math.min(lastIndex, writer.filled.index))
      return cutOff(writer, end, position)
    })
  }

  /**
   * Lets the log go on in a slot of its own, and gives back those from `cutFrom` on.
   * @param make how the log is from then on; called when nothing is under way any more.
   */
  private async beginAnew(cutFrom: number, make: (position: number) => Promise<LogContinuation>): Promise<void> {
    assert(!this.truncating, 'a log begins anew when nothing is being cut off')
    const { writer, checkpointer, recycler } = this.parts
    this.truncating = true
    checkpointer.suspended = true
    try {
      if (!this.isDamaged) await this.drained()
      this.assertUsable(true)
      await this.marks.remember()
      await recycler.stop()
      // Beyond everything that carries the log's name: no two slots ever stand at one position.
      const position = Math.max(writer.chain.unusedPosition, this.damage?.limit ?? 0)
      const next = await make(position)
      this.assertUsable(true)
      const previous = writer.lastChecksum
      const events = this.eventsOf(() => beginning.writer)
      const beginning = new NewBeginning(this.context, this.key, this.state, { ...next, position, previous }, events)
      if (cutFrom > 0) beginning.goOnBehind(writer.chain)
      this.beginning = beginning
      await beginning.write(cutFrom)
      await writer.stop()
      await writer.headers.stop()
      this.assertUsable(true)
      if (cutFrom === 0) this.committedIndex = next.filled.index
      this.switchTo(beginning)
    } catch (cause) {
      // The owner's state may be made in part only, so nothing may be built upon it.
      if (cause instanceof StorageError && !this.closed) this.fail(cause)
      throw cause
    } finally {
      this.truncating = false
      writer.wakeAll()
    }
    this.onAdvance()
  }

  /** @param writer one that is not the log's yet has nothing to tell. */
  private eventsOf(writer: () => LogWriter): WriterEvents {
    const tell = (say: () => void) => () => {
      if (writer() === this.writer) say()
    }
    const begins = (): Promise<void> => this.marks.begin()
    return { onAdvance: tell(() => this.advanced()), onTurn: tell(() => this.turned()), begins }
  }

  /** The new log is durable: nothing of what is no part of it is read any more. */
  private switchTo({ writer, checkpointer }: NewBeginning): void {
    const kept = new Set(writer.chain.segments)
    this.former.add(slotsOf(this.writer).filter(({ segment }) => !kept.has(segment)))
    this.parts = new LogParts(this.context, this.key, writer, checkpointer)
    this.beginning = null
    if (this.isDamaged) this.failure = null
    this.former.giveBack()
  }

  private get isDamaged(): boolean {
    return this.failure?.code === 'DAMAGED'
  }

  private assertUsable(mayBeDamaged = false): void {
    const failure = this.context.latch.failure ?? this.failure
    if (failure !== null && !(mayBeDamaged && failure.code === 'DAMAGED')) throw failure
    if (this.closed) throw this.closedError()
  }

  flush(): Promise<void> {
    const { index } = this.writer.filled
    if (this.writer.flushedIndex >= index) return Promise.resolve()
    if (this.failure !== null) return Promise.reject(this.failure)
    const flushed = this.waiters.wait(index)
    this.writer.wantFlush()
    return flushed
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
    const { checkpointer } = this.parts
    if (checkpointer.suspended || checkpointer.isCurrent(writer) || !checkpointer.write(writer)) return
    await this.drained()
    await writer.headers.settled()
  }

  /** Resolves when every group, those without batches too, is flushed; rejects when the latch falls before. */
  private drained(): Promise<void> {
    if (this.failure !== null) return Promise.reject(this.failure)
    if (this.writer.isIdle) return Promise.resolve()
    const flushed = this.waiters.wait(Number.POSITIVE_INFINITY)
    this.writer.wantFlush()
    return flushed
  }

  /** Ends all work: the log is dropped, or the store closes. Resolves when nothing is under way. */
  async stop(): Promise<void> {
    this.closed = true
    this.context.latch.ignore(this.onLatched)
    this.beginning?.abandon(this.closedError())
    const others = [this.parts.recycler.stop(), this.former.stop(), this.beginning?.stop()]
    await this.writer.stop()
    await Promise.all(others)
    await this.writer.headers.stop()
    this.waiters.reject(this.closedError())
  }

  private turned(): void {
    const { writer, checkpointer, recycler } = this.parts
    if (!recycler.wantsCheckpoint) checkpointer.consider(writer)
    else if (checkpointer.writeWanted(writer)) recycler.checkpointWritten()
  }

  private advanced(): void {
    this.waiters.settle(this.writer)
    if (this.parts.recycler.waits) this.wakeRecycler()
    this.onAdvance()
  }

  private fail(failure: StorageError): void {
    this.failure ??= failure
    if (failure.code === 'DAMAGED') this.marks.lostAcknowledged = true
    this.beginning?.abandon(failure)
    this.waiters.reject(failure)
    this.writer.wakeAll()
    this.onAdvance()
  }

  private closedError(): StorageError {
    return new StorageError('CLOSED', `log ${keyText(this.key)} is closed`)
  }
}
