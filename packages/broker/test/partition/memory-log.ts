// An in-memory log store for unit tests: keeps every rule of the interface, and lets a test decide when bytes are
// written, flushed or lost.
import {
  BATCH_CHECKSUM_START,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  crc32,
  LOG_PART_BYTES,
  type LogPart,
  RecordReader,
  readBatchHeader,
  readLogPart,
  writeLogPart,
} from '@millrace/protocol'
import type { Block, Environment } from '#src/environment.js'
import type { HardState } from '#src/raft/raft-types.js'
import { FIRST_LOG_START, type LogStart, LogStarts, logStartOf } from '#src/storage/log-start.js'
import {
  type LogEnd,
  type LogKey,
  type LogRead,
  type LogState,
  type LogStore,
  type PartitionLog,
  type RetentionLimits,
  StorageError,
  type StorageStatistics,
  type TermRun,
  type VoteStore,
} from '#src/storage/log-store.js'

interface StoredBatch {
  readonly bytes: Uint8Array
  readonly part: LogPart
  readonly header: BatchHeader
}

interface StoredMemoryLog {
  readonly key: LogKey
  readonly batches: StoredBatch[]
  state: { index: number; bytes: Uint8Array } | null
  /** Where the log began, or began anew, and the owner's state there. */
  base: LogStart
  baseState: Uint8Array | null
}

/** What stays when a store is closed and opened again. */
export interface MemoryDisk {
  readonly logs: Map<string, StoredMemoryLog>
  readonly votes: Map<string, HardState>
}

export const newMemoryDisk = (): MemoryDisk => ({ logs: new Map(), votes: new Map() })

const nameOf = (key: LogKey): string => `${key.topicId}/${key.partition}/${key.lane}`

export interface MemoryStoreOptions {
  /** `turn` flushes at the end of the turn of an append; `manual` waits for `log.complete`. */
  readonly flush: 'turn' | 'manual'
}

export class MemoryLogStore implements LogStore {
  readonly recovery = { logs: 0, replayedBytes: 0, torn: [], damaged: [], unreadable: [], durationMs: 0 }
  readonly logs = new Map<string, MemoryLog>()
  readonly votes: VoteStore
  /** A disk that never fails. */
  readonly pulse = { completedAtMs: Number.POSITIVE_INFINITY, probe() {} }
  readonly wasPowerLost = false
  closed = false

  constructor(
    readonly environment: Pick<Environment, 'clock'>,
    readonly disk: MemoryDisk = newMemoryDisk(),
    readonly options: MemoryStoreOptions = { flush: 'turn' },
  ) {
    const { votes } = disk
    this.votes = {
      find: (key) => votes.get(nameOf(key)) ?? null,
      save: async (key, hardState) => void votes.set(nameOf(key), hardState),
      hadLog: (key) => votes.has(nameOf(key)),
      forget: (key) => void votes.delete(nameOf(key)),
    }
  }

  get found(): readonly LogKey[] {
    return [...this.disk.logs.values()].map((log) => log.key).filter((key) => !this.logs.has(nameOf(key)))
  }

  get statistics(): StorageStatistics {
    return {
      bytesAppended: 0,
      bytesWritten: 0,
      bytesFilled: 0,
      slotsRecycled: 0,
      groups: 0,
      flushes: 0,
      copiedBytes: 0,
      scrubbedBytes: 0,
      scrubPasses: 0,
      damagedGroups: 0,
      pagePool: {
        hits: 0,
        misses: 0,
        evictions: 0,
        readAheadUsed: 0,
        readAheadWasted: 0,
        pinnedFrames: 0,
        frames: 0,
      },
      slots: 0,
      freeSlots: 0,
      failure: null,
      full: false,
      failedReads: 0,
    }
  }

  async open(key: LogKey, state: LogState): Promise<MemoryLog> {
    const name = nameOf(key)
    const empty = { key, batches: [], state: null, base: FIRST_LOG_START, baseState: null }
    const stored: StoredMemoryLog = this.disk.logs.get(name) ?? empty
    this.disk.logs.set(name, stored)
    state.restoreState(stored.state?.bytes ?? stored.baseState)
    const log = new MemoryLog(this, key, stored, state)
    for (const { part, header, bytes } of stored.batches)
      if (part.index > (stored.state?.index ?? 0)) state.replay(part, header, bytes, LOG_PART_BYTES)
    this.logs.set(name, log)
    return log
  }

  async drop(key: LogKey): Promise<void> {
    const log = this.logs.get(nameOf(key))
    if (log !== undefined) log.closed = true
    this.logs.delete(nameOf(key))
    this.disk.logs.delete(nameOf(key))
  }

  /** Writes checkpoints of all logs. */
  checkpoint(): void {
    for (const [name, log] of this.logs) {
      const stored = this.disk.logs.get(name)
      if (stored !== undefined) stored.state = { index: log.filled.index, bytes: log.state.encodeState().slice() }
    }
  }

  async close(): Promise<void> {
    for (const log of this.logs.values()) log.complete()
    this.checkpoint()
    for (const log of this.logs.values()) log.closed = true
    this.closed = true
  }
}

export class MemoryLog implements PartitionLog {
  writtenIndex: number
  flushedIndex: number
  readonly starts: LogStarts
  failure: StorageError | null = null
  lostAcknowledged = false
  wasPowerLost = false
  closed = false
  onAdvance: () => void = () => {}
  /** Set to make `hasRoom` refuse. */
  full = false
  /** Thrown by the next append. */
  nextAppendError: StorageError | null = null
  #roomWaiters: (() => void)[] = []
  #scheduled = false
  #committedIndex = 0

  constructor(
    readonly store: MemoryLogStore,
    readonly key: LogKey,
    private readonly stored: StoredMemoryLog,
    readonly state: LogState,
  ) {
    this.starts = new LogStarts(stored.base)
    this.writtenIndex = this.flushedIndex = this.filled.index
    for (const { bytes, part, header } of this.batches) {
      const start = logStartOf(header, bytes, LOG_PART_BYTES)
      if (start !== null) this.starts.propose(part.index, start)
    }
  }

  get batches(): StoredBatch[] {
    return this.stored.batches
  }

  get filled(): LogEnd {
    const last = this.batches.at(-1)
    const { index, offset, previousTerm } = this.stored.base
    if (last === undefined) return { index: index - 1, nextOffset: offset, term: previousTerm }
    return { index: last.part.index, nextOffset: endOf(last), term: last.part.term }
  }

  get start(): LogStart {
    return this.starts.current
  }

  get startOffset(): number {
    return this.start.offset
  }

  get committedStartOffset(): number {
    return this.starts.after(this.#committedIndex).offset
  }

  get unflushedBytes(): number {
    return this.batches.filter((batch) => batch.part.index > this.flushedIndex).length
  }

  get bytesOnDisk(): number {
    return this.batches.reduce((sum, batch) => sum + batch.bytes.length, 0)
  }

  append(
    source: Block,
    sourceOffset: number,
    header: BatchHeader,
    stamp: { readonly term: number; readonly baseOffset: number; readonly index: number; readonly appendTime: number },
  ): boolean {
    if (this.closed) throw new StorageError('CLOSED', 'the log is closed')
    if (this.failure !== null) throw this.failure
    const error = this.nextAppendError
    this.nextAppendError = null
    if (error !== null) throw error
    if (stamp.index !== this.filled.index + 1) throw new Error(`index ${stamp.index} after ${this.filled.index}`)
    if (stamp.baseOffset !== this.filled.nextOffset) throw new Error(`offset ${stamp.baseOffset}`)
    const bytes = new Uint8Array(LOG_PART_BYTES + header.length)
    bytes.set(source.bytes.subarray(sourceOffset, sourceOffset + header.length), LOG_PART_BYTES)
    if (crc32(bytes.subarray(LOG_PART_BYTES + BATCH_CHECKSUM_START), 0) !== header.checksum) return false
    const view = new DataView(bytes.buffer)
    const part: LogPart = { ...stamp, clientLength: header.length, clientChecksum: header.checksum }
    writeLogPart(bytes, view, 0, part, crc32)
    const stored = { bytes, part: readLogPart(view, 0), header: readBatchHeader(view, LOG_PART_BYTES) }
    this.batches.push(stored)
    const start = logStartOf(header, bytes, LOG_PART_BYTES)
    if (start !== null) this.starts.propose(stamp.index, start)
    if (this.store.options.flush === 'turn' && !this.#scheduled) {
      this.#scheduled = true
      this.store.environment.clock.defer(() => {
        this.#scheduled = false
        this.complete()
      })
    }
    return true
  }

  /** Everything appended is now written, and flushed unless said otherwise. */
  complete(watermark: 'written' | 'flushed' = 'flushed', index = this.filled.index): void {
    this.writtenIndex = Math.max(this.writtenIndex, index)
    if (watermark === 'flushed') this.flushedIndex = Math.max(this.flushedIndex, index)
    this.onAdvance()
  }

  fail(): void {
    this.failure = new StorageError('STORAGE_FAILED', 'the test broke the disk')
    this.onAdvance()
  }

  hasRoom(): boolean {
    return !this.full
  }

  onRoom(callback: () => void): void {
    this.#roomWaiters.push(callback)
  }

  makeRoom(): void {
    this.full = false
    for (const callback of this.#roomWaiters.splice(0)) callback()
  }

  async read(offset: number, maxBytes: number, limitIndex: number): Promise<LogRead> {
    if (this.closed) throw new StorageError('CLOSED', 'the log is closed')
    return this.#choose(offset, maxBytes, (batch) => endOf(batch) > offset && batch.part.index <= limitIndex)
  }

  readFrom(index: number, maxBytes: number): LogRead | Promise<LogRead> {
    if (this.closed) return Promise.reject(new StorageError('CLOSED', 'the log is closed'))
    if (index < this.start.index) return Promise.reject(new StorageError('OUT_OF_RANGE', `index ${index} is gone`))
    return this.#choose(this.filled.nextOffset, maxBytes, ({ part }) => part.index >= index)
  }

  #choose(emptyOffset: number, maxBytes: number, isWanted: (batch: StoredBatch) => boolean): LogRead {
    const chosen: StoredBatch[] = []
    let byteLength = 0
    for (const batch of this.batches) {
      if (!isWanted(batch)) continue
      if (chosen.length > 0 && byteLength + batch.bytes.length > maxBytes) break
      chosen.push(batch)
      byteLength += batch.bytes.length
    }
    const pieces = chosen.map(({ bytes }) => ({ block: blockOf(bytes), offset: 0, length: bytes.length }))
    const last = chosen.at(-1)
    return {
      pieces,
      byteLength,
      batchCount: chosen.length,
      decodedBytes: chosen.reduce((sum, { header }) => sum + header.decodedBytes, 0),
      firstIndex: chosen[0]?.part.index ?? 0,
      lastIndex: last?.part.index ?? 0,
      nextOffset: last === undefined ? emptyOffset : endOf(last),
      release: () => {},
    }
  }

  async offsetForTime(timestamp: number, limitIndex: number): Promise<{ offset: number; timestamp: number } | null> {
    for (const { bytes, part, header } of this.batches) {
      if (part.index > limitIndex || header.control || header.lastTimestamp < timestamp) continue
      const start = LOG_PART_BYTES + BATCH_HEADER_BYTES
      const records = new RecordReader(bytes, start, bytes.length, header.recordCount, header.lastOffsetDelta)
      while (records.next()) {
        const found = header.baseTimestamp + records.timestampDelta
        if (found >= timestamp) return { offset: part.baseOffset + records.offsetDelta, timestamp: found }
      }
    }
    return null
  }

  async termAt(offset: number): Promise<number> {
    const batch = this.batches.find(({ part, header }) => offset >= part.baseOffset && offset < endOf({ part, header }))
    return batch?.part.term ?? 0
  }

  termAtIndex(index: number): number {
    if (index === this.start.index - 1) return this.start.previousTerm
    return index < this.start.index ? 0 : (this.batches.find(({ part }) => part.index === index)?.part.term ?? 0)
  }

  termRuns(): readonly TermRun[] {
    const runs: TermRun[] = []
    for (const { part } of this.batches) {
      if (part.index < this.start.index || runs.at(-1)?.term === part.term) continue
      runs.push({ term: part.term, firstIndex: part.index, firstOffset: part.baseOffset })
    }
    return runs
  }

  noteCommitted(index: number): void {
    this.#committedIndex = Math.max(this.#committedIndex, index)
    this.starts.commit(Math.min(index, this.flushedIndex))
  }

  /** Every batch stands for a segment. */
  expire({ bytes, appendedBefore }: RetentionLimits): LogStart | null {
    if (this.starts.hasProposed) return null
    const kept = this.batches.filter(({ part }) => part.index >= this.starts.current.index)
    let left = kept.reduce((sum, batch) => sum + batch.bytes.length, 0)
    let start: LogStart | null = null
    for (const { bytes: batch, part, header } of kept) {
      left -= batch.length
      const isTooOld = appendedBefore !== null && part.appendTime < appendedBefore
      if (!isTooOld && (bytes === null || left < bytes)) break
      start = { index: part.index + 1, offset: endOf({ part, header }), previousTerm: part.term }
    }
    return start
  }

  async truncateTo(lastIndex: number): Promise<void> {
    this.batches.length = Math.max(0, lastIndex - (this.stored.base.index - 1))
    this.stored.state = null
    this.writtenIndex = this.flushedIndex = lastIndex
    this.starts.truncateTo(lastIndex)
    this.state.restoreState(this.stored.baseState)
    for (const { part, header, bytes } of this.batches) this.state.replay(part, header, bytes, LOG_PART_BYTES)
  }

  async installStart(start: LogStart, state: Uint8Array | null): Promise<void> {
    this.batches.length = 0
    Object.assign(this.stored, { base: start, baseState: state, state: null })
    this.starts.truncateTo(0)
    this.starts.current = start
    this.writtenIndex = this.flushedIndex = start.index - 1
    this.state.restoreState(state)
  }

  async noteWhole(): Promise<void> {
    this.lostAcknowledged = this.wasPowerLost = false
  }

  async flush(): Promise<void> {
    this.complete()
  }
}

function endOf({ part, header }: Pick<StoredBatch, 'part' | 'header'>): number {
  return header.control ? part.baseOffset : part.baseOffset + header.lastOffsetDelta + 1
}

/** Bytes as a block, for reading only. */
export function blockOf(bytes: Uint8Array): Block {
  return { bytes, view: new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), byteLength: bytes.length }
}
