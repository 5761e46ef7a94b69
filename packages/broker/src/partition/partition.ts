// One lane of a partition as its leader runs it: takes batches in, lets their producers know when they are committed,
// and lets readers see what is.
import {
  assert,
  type BatchHeader,
  type CodecName,
  type Durability,
  LOG_PART_BYTES,
  ProtocolError,
  type Route,
  readBatchHeader,
} from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import type { Metrics } from '../metrics.js'
import { sealLogStart } from '../storage/log-start.js'
import type { LogKey, LogRead, PartitionLog } from '../storage/log-store.js'
import { checkBatch, checksumHolds } from './check-batch.js'
import type { PartitionState } from './partition-state.js'
import type { PendingBatch, Refusal } from './pending-batch.js'
import { refusalOf } from './refusal.js'
import { RefusedStarts } from './refused-starts.js'

/** What a topic keeps; null for no limit. */
export interface Retention {
  /** Records go this long after they were appended. */
  readonly retentionMs: number | null
  /** Of each partition so many bytes are kept, as they stand on disk. */
  readonly retentionBytes: number | null
}

const CORRUPT: Refusal = { code: 'CORRUPT_BATCH', detail: 'the checksum of the batch does not hold' }

export interface PartitionOptions {
  readonly log: PartitionLog
  readonly state: PartitionState
  readonly route: Route
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  readonly retention: Retention
  readonly clock: Clock
  readonly memory: Memory
  readonly metrics: Metrics
}

/** Told whenever the high watermark has moved, and when the partition has closed. */
export interface Follower {
  onCommit(): void
}

export class Partition {
  readonly key: LogKey
  readonly route: Route
  /** Offset after the last committed record: what consumers see ends here. */
  highWatermark: number
  /** Index of the last committed batch. */
  committedIndex: number
  /** Why the partition takes nothing any more; null while it is open. */
  closed: Refusal | null = null
  readonly #options: PartitionOptions
  readonly #log: PartitionLog
  readonly #state: PartitionState
  readonly #refusedStarts = new RefusedStarts()
  /** Batches that wait for room in the log, in the order they came. */
  readonly #waiting = new Fifo<PendingBatch>()
  /** Batches in the log that are not committed, by index. */
  readonly #uncommitted = new Fifo<PendingBatch>()
  /** Retries of batches in the log that are not committed. */
  #duplicates: PendingBatch[] = []
  readonly #followers = new Set<Follower>()
  #askedForRoom = false

  /** Everything in the log counts as committed: whoever opens it has flushed what recovery found. */
  constructor(options: PartitionOptions) {
    this.#options = options
    this.#log = options.log
    this.#state = options.state
    this.key = options.log.key
    this.route = options.route
    this.highWatermark = options.log.filled.nextOffset
    this.committedIndex = options.log.filled.index
    options.log.onAdvance = () => this.#advance()
    // Slots below a start that was committed before a crash are given back now.
    options.log.noteCommitted(this.committedIndex)
  }

  get logStartOffset(): number {
    return this.#log.startOffset
  }

  get bytesOnDisk(): number {
    return this.#log.bytesOnDisk
  }

  /** Batches that were taken in and not answered yet. */
  get pendingBatches(): number {
    return this.#waiting.length + this.#uncommitted.length + this.#duplicates.length
  }

  /** Takes a batch in, or refuses it; the sink hears of both, perhaps before this returns. */
  append(batch: PendingBatch): void {
    try {
      if (this.closed !== null) {
        this.#refuse(batch, this.closed)
        return
      }
      batch.header = checkBatch(batch, this.key, this.#options.codecs, this.#options.memory)
      if (this.#waiting.length > 0 || !this.#log.hasRoom(LOG_PART_BYTES + batch.length)) {
        this.#waiting.push(batch)
        this.#askForRoom()
      } else {
        this.#admit(batch, batch.header)
      }
    } catch (error) {
      this.#refuse(batch, refusalOf(error))
    }
  }

  /** Judges a batch and writes it into the log. @throws StorageError */
  #admit(batch: PendingBatch, header: BatchHeader): void {
    if (batch.expiresAtMs !== Number.POSITIVE_INFINITY && this.#options.clock.monotonicMs() > batch.expiresAtMs) {
      this.#noteRefusedStart(header)
      this.#refuse(batch, { code: 'DEADLINE_EXCEEDED', detail: 'the batch waited for its log too long' })
      return
    }
    if (this.#log.failure !== null) throw this.#log.failure
    const { sessions } = this.#state
    const verdict = sessions.judge(header)
    // The log verifies what it takes. Everything else is judged by its header alone, which must not be a damaged one:
    // a new batch whose sequence became an old one would be acknowledged as a duplicate, and lost.
    if (verdict !== 'append' && !checksumHolds(batch, this.#options.memory)) {
      this.#refuse(batch, CORRUPT)
      return
    }
    switch (verdict) {
      case 'append':
        this.#write(batch, header)
        return
      case 'duplicate':
      case 'oldDuplicate':
        this.#answerDuplicate(batch, header, verdict === 'duplicate')
        return
      case 'fenced':
        this.#refuse(batch, { code: 'PRODUCER_FENCED', detail: sessions.explain(verdict, header) })
        return
      case 'unknownProducer': {
        const code = this.#refusedStarts.has(header) ? 'OUT_OF_ORDER_SEQUENCE' : 'UNKNOWN_PRODUCER'
        this.#refuse(batch, { code, detail: sessions.explain(verdict, header) })
        return
      }
      case 'outOfOrder':
        this.#refuse(batch, { code: 'OUT_OF_ORDER_SEQUENCE', detail: sessions.explain(verdict, header) })
        return
    }
  }

  #write(batch: PendingBatch, header: BatchHeader): void {
    const { filled } = this.#log
    const appendTime = Math.max(this.#options.clock.wallMs(), this.#state.lastAppendTime)
    const index = filled.index + 1
    const baseOffset = filled.nextOffset
    const stamp = { term: this.route.term, baseOffset, index, appendTime }
    const mode = this.#options.durability === 'flushed' ? 'flush' : 'write'
    let written: boolean
    try {
      written = this.#log.append(batch.block, batch.at, header, stamp, mode)
    } catch (error) {
      this.#noteRefusedStart(header)
      throw error
    }
    if (!written) {
      this.#noteRefusedStart(header)
      this.#refuse(batch, CORRUPT)
      return
    }
    this.#state.appended(header, baseOffset, index, appendTime)
    this.#options.metrics.appended(header.recordCount, header.length)
    batch.baseOffset = baseOffset
    batch.appendTime = appendTime
    batch.index = index
    batch.endOffset = baseOffset + header.lastOffsetDelta + 1
    this.#uncommitted.push(batch)
    batch.sink.taken(batch)
  }

  /** A retry is acknowledged like its original: once that is committed, with the original's offset if it is known. */
  #answerDuplicate(batch: PendingBatch, header: BatchHeader, inWindow: boolean): void {
    const session = this.#state.sessions.find(header.producer)!
    const sequence = inWindow ? header.sequence : session.oldestSequence
    batch.index = session.index(sequence)
    if (inWindow) {
      batch.baseOffset = session.baseOffset(sequence)
      batch.appendTime = session.appendTime(sequence)
    }
    this.#options.metrics.duplicateBatches++
    batch.sink.taken(batch)
    if (batch.index <= this.committedIndex) batch.sink.settled(batch, null)
    else this.#duplicates.push(batch)
  }

  #noteRefusedStart(header: BatchHeader): void {
    if (header.sequence === 0) this.#refusedStarts.add(header)
  }

  #refuse(batch: PendingBatch, refusal: Refusal): void {
    batch.sink.taken(batch)
    batch.sink.settled(batch, refusal)
  }

  #askForRoom(): void {
    if (this.#askedForRoom) return
    this.#askedForRoom = true
    this.#log.onRoom(() => {
      this.#askedForRoom = false
      this.#admitWaiting()
    })
  }

  #admitWaiting(): void {
    while (true) {
      const batch = this.#waiting.peek()
      if (batch === undefined) return
      const expired = this.#options.clock.monotonicMs() > batch.expiresAtMs
      if (!expired && !this.#log.hasRoom(LOG_PART_BYTES + batch.length)) {
        this.#askForRoom()
        return
      }
      this.#waiting.shift()
      try {
        this.#admit(batch, batch.header!)
      } catch (error) {
        this.#refuse(batch, refusalOf(error))
      }
    }
  }

  /** Refuses waiting batches whose time is over; called now and then, since room may be long in coming. */
  dropExpired(): void {
    if (this.#waiting.length > 0) this.#admitWaiting()
  }

  get hasWaiting(): boolean {
    return this.#waiting.length > 0
  }

  /** The log has written or flushed more, or has failed. */
  #advance(): void {
    const log = this.#log
    const committed = this.#options.durability === 'flushed' ? log.flushedIndex : log.writtenIndex
    if (committed > this.committedIndex) this.#commit(committed)
    log.noteCommitted(this.committedIndex)
    if (log.failure !== null && this.pendingBatches > 0) this.#fail(refusalOf(log.failure))
  }

  #commit(committed: number): void {
    this.committedIndex = committed
    let settled = this.#uncommitted.peek()
    while (settled !== undefined && settled.index <= committed) {
      this.highWatermark = settled.endOffset
      this.#uncommitted.shift()
      settled.sink.settled(settled, null)
      settled = this.#uncommitted.peek()
    }
    if (this.#duplicates.length > 0) {
      const due = this.#duplicates.filter((batch) => batch.index <= committed)
      this.#duplicates = this.#duplicates.filter((batch) => batch.index > committed)
      for (const batch of due) batch.sink.settled(batch, null)
    }
    for (const follower of this.#followers) follower.onCommit()
  }

  #fail(refusal: Refusal): void {
    const appended = [...this.#uncommitted.drain(), ...this.#duplicates]
    this.#duplicates = []
    for (const batch of appended) batch.sink.settled(batch, refusal)
    for (const batch of this.#waiting.drain()) this.#refuse(batch, refusal)
  }

  follow(follower: Follower): void {
    this.#followers.add(follower)
  }

  unfollow(follower: Follower): void {
    this.#followers.delete(follower)
  }

  /** Committed batches from the one that holds `offset` on. @throws StorageError, ProtocolError when closed. */
  read(offset: number, maxBytes: number): Promise<LogRead> {
    if (this.closed !== null) throw new ProtocolError(this.closed.code, this.closed.detail)
    return this.#log.read(offset, maxBytes, this.committedIndex)
  }

  /** First committed offset whose record is at or after `timestamp`; null when there is none. @throws StorageError. */
  offsetForTime(timestamp: number): Promise<{ offset: number; timestamp: number } | null> {
    return this.#log.offsetForTime(timestamp, this.committedIndex)
  }

  /** Term of the batch that holds `offset`; 0 when the log does not hold it. @throws StorageError. */
  termAt(offset: number): Promise<number> {
    return this.#log.termAt(offset)
  }

  get hasRetention(): boolean {
    const { retentionMs, retentionBytes } = this.#options.retention
    return retentionMs !== null || retentionBytes !== null
  }

  /**
   * Moves the log start up if the log has become too long or too old: writes the control batch that does it, if there
   * is room now. Otherwise the next call finds the same. @throws StorageError.
   */
  retain(): void {
    const { clock, memory, retention, durability } = this.#options
    if (this.closed !== null || this.#log.failure !== null || !this.hasRetention) return
    const { retentionMs, retentionBytes: bytes } = retention
    const wallMs = Math.max(clock.wallMs(), this.#state.lastAppendTime)
    const start = this.#log.expire({ bytes, appendedBefore: retentionMs === null ? null : wallMs - retentionMs })
    if (start === null) return
    const index = this.#log.filled.index + 1
    const batch = sealLogStart(start, this.key, index, wallMs)
    if (!this.#log.hasRoom(LOG_PART_BYTES + batch.length, true)) return
    const block = memory.allocate(batch.length)
    if (block === null) return
    try {
      block.bytes.set(batch)
      const header = readBatchHeader(block.view, 0)
      const baseOffset = this.#log.filled.nextOffset
      const stamp = { term: this.route.term, baseOffset, index, appendTime: wallMs }
      const written = this.#log.append(block, 0, header, stamp, durability === 'flushed' ? 'flush' : 'write')
      assert(written, 'the checksum of a batch just sealed holds')
      this.#state.appended(header, baseOffset, index, wallMs)
    } finally {
      memory.release(block)
    }
  }

  /** Takes nothing more: what is pending is refused for this reason, readers are woken to see it. */
  close(reason: Refusal): void {
    if (this.closed !== null) return
    this.closed = reason
    this.#fail(reason)
    for (const follower of this.#followers) follower.onCommit()
  }
}
