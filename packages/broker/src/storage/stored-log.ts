// One log as its partition sees it: the writing and the reading side, checkpoints and failures together.
import { assert, type BatchHeader, LOG_PART_BYTES } from '@millrace/protocol'
import type { Block } from '../environment.js'
import { FIRST_LOG_START, type LogStart } from './checkpoint.js'
import { Checkpointer } from './checkpointer.js'
import type { AppendStamp } from './group-assembly.js'
import { keyText } from './group-envelope.js'
import { LogReader } from './log-reader.js'
import type { RecoveredLog } from './log-recovery.js'
import { type LogKey, type LogRead, type LogState, type PartitionLog, StorageError } from './log-store.js'
import { type TimedOffset, TimeSearch } from './log-times.js'
import { LogWriter } from './log-writer.js'
import type { StorageContext } from './storage-context.js'
import { TermTable } from './term-table.js'

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
  private readonly logStart: LogStart
  private waiters: FlushWaiter[] = []
  private closed = false
  private readonly onLatched = (failure: StorageError): void => this.fail(failure)

  /** @param recovered null for a log that does not exist yet. */
  constructor(
    private readonly context: StorageContext,
    readonly key: LogKey,
    state: LogState,
    recovered: RecoveredLog | null,
  ) {
    const start = recovered ?? {
      filled: { index: 0, nextOffset: 0, term: 0 },
      position: 0,
      previous: 0,
      terms: new TermTable(),
    }
    this.logStart = recovered?.logStart ?? FIRST_LOG_START
    this.writer = new LogWriter(context, key, start, {
      onAdvance: () => this.advanced(),
      onTurn: () => this.checkpointer.consider(this.writer),
    })
    if (recovered !== null) this.writer.chain.adopt(recovered.segments, recovered.maxTimestamp)
    this.reader = new LogReader(context, key, this.writer)
    const { current } = this.writer.chain
    this.checkpointer = new Checkpointer(context, state, this.logStart, recovered?.checkpointEnd ?? 0, current)
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

  get startOffset(): number {
    return this.logStart.offset
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
    const bytes = LOG_PART_BYTES + header.length
    if (this.writer.assembly.isFullFor(bytes)) {
      throw new StorageError('DISK_FULL', `the disk has no space for another segment of log ${keyText(this.key)}`)
    }
    return this.writer.append(source, sourceOffset, header, stamp, mode === 'flush')
  }

  /** True also when an append would fail at once: the caller then hears why. */
  hasRoom(bytes: number): boolean {
    return this.closed || this.failure !== null || this.writer.assembly.isFullFor(bytes) || this.writer.hasRoom(bytes)
  }

  onRoom(callback: () => void): void {
    this.context.room.wait(callback)
    if (this.closed || this.failure !== null) this.context.room.wake()
  }

  async read(offset: number, maxBytes: number, limitIndex: number): Promise<LogRead> {
    if (this.closed) throw this.closedError()
    return this.reader.read(offset, maxBytes, limitIndex)
  }

  async offsetForTime(timestamp: number, limitIndex: number): Promise<TimedOffset | null> {
    if (this.closed) throw this.closedError()
    return new TimeSearch(this.context, this.key, this.writer, this.reader, timestamp, limitIndex).run()
  }

  async termAt(offset: number): Promise<number> {
    if (this.closed) throw this.closedError()
    if (offset < this.logStart.offset || offset >= this.writer.filled.nextOffset) return 0
    return this.writer.terms.termAt(offset)
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
    this.context.room.wake()
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
    await this.writer.stop()
    await this.writer.headers.settled()
    for (const { reject } of this.waiters.splice(0)) reject(this.closedError())
  }

  private advanced(): void {
    if (this.waiters.length > 0) this.settleWaiters()
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
    this.context.room.wake()
    this.onAdvance()
  }

  private closedError(): StorageError {
    return new StorageError('CLOSED', `log ${keyText(this.key)} is closed`)
  }
}
