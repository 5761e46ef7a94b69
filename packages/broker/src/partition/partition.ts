// One lane of a partition on one of its replicas. Where this node leads, it takes batches in, lets their producers know
// when they are committed, and lets readers see what is; elsewhere it follows, and shows the way.
import { assert, type BatchHeader, LOG_PART_BYTES, ProtocolError, type Route } from '@millrace/protocol'
import { Fifo } from '../fifo.js'
import type { GroupOwner, LoggedEntry } from '../replication/group-ports.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import type { LogKey, LogRead, PartitionLog } from '../storage/log-store.js'
import { endOffsetOf } from '../storage/read-selection.js'
import { Acknowledgements } from './acknowledgements.js'
import { BatchEnds } from './batch-ends.js'
import { checkBatch, checksumHolds } from './check-batch.js'
import { proposeLogStart } from './log-start-proposal.js'
import type { PartitionOptions } from './partition-options.js'
import type { PartitionState } from './partition-state.js'
import type { PendingBatch, Refusal } from './pending-batch.js'
import { refusalOf } from './refusal.js'
import { RefusedStarts } from './refused-starts.js'

const LOST_LEADERSHIP: Refusal = { code: 'NOT_LEADER', detail: 'leadership was lost before the batch was committed' }
const CORRUPT: Refusal = { code: 'CORRUPT_BATCH', detail: 'the checksum of the batch does not hold' }

/** Told whenever the high watermark has moved, and when the partition is not served here any more. */
export interface Follower {
  onCommit(): void
}

export class Partition implements GroupOwner {
  readonly key: LogKey
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
  readonly #acknowledgements = new Acknowledgements()
  readonly #ends: BatchEnds
  readonly #followers = new Set<Follower>()
  #group: ReplicaGroup | null = null
  #askedForRoom = false
  #onOpened: () => void = () => {}
  /** The route while this node leads; null while it does not. */
  #ownRoute: Route | null = null

  constructor(options: PartitionOptions) {
    const { log, state, wasSole } = options
    this.#options = options
    this.#log = log
    this.#state = state
    this.key = log.key
    // Whoever is alone has committed what it has flushed; anybody else has to hear it from a leader.
    this.highWatermark = wasSole ? log.filled.nextOffset : log.startOffset
    this.committedIndex = wasSole ? log.filled.index : log.start.index - 1
    this.#ends = new BatchEnds({ index: log.filled.index, offset: log.filled.nextOffset })
  }

  /** The group that it is a replica of; given once, before anything else is asked. */
  join(group: ReplicaGroup): void {
    this.#group = group
  }

  get group(): ReplicaGroup {
    assert(this.#group !== null, 'a partition has joined its group before it is used')
    return this.#group
  }

  /** Who leads, as far as this node knows. */
  get route(): Route {
    return this.#ownRoute ?? this.#options.knownRoute()
  }

  get leads(): boolean {
    return this.#ownRoute !== null
  }

  /** Resolves once a replica without others takes batches, or cannot; at once where others have a say. */
  opened(): Promise<void> {
    if (!this.#options.wasSole || this.leads || this.#log.failure !== null) return Promise.resolve()
    return new Promise((resolve) => {
      this.#onOpened = resolve
    })
  }

  /** Why nothing is read or written here; null while this node leads. */
  get refusal(): Refusal | null {
    if (this.closed !== null) return this.closed
    if (this.leads) return null
    const { nodeId } = this.route
    return { code: 'NOT_LEADER', detail: nodeId === 0 ? 'the partition has no leader' : `node ${nodeId} leads` }
  }

  get logStartOffset(): number {
    return this.#log.committedStartOffset
  }

  get bytesOnDisk(): number {
    return this.#log.bytesOnDisk
  }

  get lastAppendTime(): number {
    return this.#state.lastAppendTime
  }

  /** Batches that were taken in and not answered yet. */
  get pendingBatches(): number {
    return this.#waiting.length + this.#acknowledgements.length
  }

  /** Takes a batch in, or refuses it; the sink hears of both, perhaps before this returns. */
  append(batch: PendingBatch): void {
    try {
      const { refusal } = this
      if (refusal !== null) {
        this.#refuse(batch, refusal)
        return
      }
      batch.header = checkBatch(batch, this.key, this.#options.codecs, this.#options.memory)
      if (this.#waiting.length > 0 || !this.#hasRoom(batch)) {
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
    if (!this.leads) throw new ProtocolError(LOST_LEADERSHIP.code, LOST_LEADERSHIP.detail)
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
    const { nextOffset: baseOffset } = this.#log.filled
    const appendTime = Math.max(this.#options.clock.wallMs(), this.#state.lastAppendTime)
    let index: number | null
    try {
      index = this.#group!.append(batch.block, batch.at, header, baseOffset, appendTime)
    } catch (error) {
      this.#noteRefusedStart(header)
      throw error
    }
    if (index === null) {
      this.#noteRefusedStart(header)
      this.#refuse(batch, CORRUPT)
      return
    }
    this.#state.appended(header, baseOffset, index, appendTime)
    this.#options.metrics.appended(header.recordCount, header.length)
    batch.baseOffset = baseOffset
    batch.appendTime = appendTime
    batch.index = index
    this.#ends.add(index, baseOffset + header.lastOffsetDelta + 1)
    this.#acknowledgements.add(batch)
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
    else this.#acknowledgements.addDuplicate(batch)
  }

  #noteRefusedStart(header: BatchHeader): void {
    if (header.sequence === 0) this.#refusedStarts.add(header)
  }

  #refuse(batch: PendingBatch, refusal: Refusal): void {
    batch.sink.taken(batch)
    batch.sink.settled(batch, refusal)
  }

  #hasRoom({ length }: PendingBatch): boolean {
    return this.#mayAppend && this.#log.hasRoom(LOG_PART_BYTES + length)
  }

  /** While leadership is handed over, or too much is not committed, batches wait for what the group tells next. */
  get #mayAppend(): boolean {
    return !this.leads || this.#log.failure !== null || this.#group!.mayAppend
  }

  #askForRoom(): void {
    if (this.#askedForRoom || !this.#mayAppend) return
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
      if (!expired && !this.#hasRoom(batch)) {
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

  // -------------------------------------------------------------- what the group says

  followed({ part, header }: LoggedEntry): void {
    this.#state.appended(header, part.baseOffset, part.index, part.appendTime)
    this.#ends.add(part.index, endOffsetOf(part.baseOffset, header))
  }

  begun(header: BatchHeader, index: number, appendTime: number): void {
    this.#state.appended(header, this.#log.filled.nextOffset, index, appendTime)
  }

  truncated(lastIndex: number): void {
    this.#ends.truncated(lastIndex, this.#log.filled.nextOffset)
  }

  installed(): void {
    const { start, startOffset } = this.#log
    this.#ends.truncated(start.index - 1, startOffset)
    this.highWatermark = Math.max(this.highWatermark, startOffset)
    this.committedIndex = Math.max(this.committedIndex, start.index - 1)
  }

  committed(index: number): void {
    if (index <= this.committedIndex) return
    this.committedIndex = index
    this.highWatermark = this.#ends.passed(index, this.highWatermark)
    this.#acknowledgements.committed(index)
    for (const follower of this.#followers) follower.onCommit()
    if (this.#waiting.length > 0) this.#admitWaiting()
  }

  durable(index: number): void {
    this.#acknowledgements.durable(index)
  }

  changed(): void {
    const { nodeId, onLeadership } = this.#options
    const term = this.#ledTerm
    if (term !== (this.#ownRoute?.term ?? 0)) {
      this.#ownRoute = term === 0 ? null : { nodeId, shard: 0, placement: 0, term }
      if (term === 0) this.#fail(this.#log.failure === null ? LOST_LEADERSHIP : refusalOf(this.#log.failure))
      for (const follower of this.#followers) follower.onCommit()
      onLeadership(this)
    }
    if (this.#log.failure !== null) this.#fail(refusalOf(this.#log.failure))
    if (this.#waiting.length > 0) this.#admitWaiting()
    if (this.leads || this.#log.failure !== null) this.#onOpened()
  }

  /**
   * 0 while this node does not lead. From its election on it takes batches, while readers wait for what is committed then.
   * What is whole of a failed log that nobody else has is still to be had here.
   */
  get #ledTerm(): number {
    const group = this.#group
    if (group?.leads === true) return group.term
    const isAllThereIs = group?.membership.isSole === true && this.#log.failure !== null && this.closed === null
    return isAllThereIs ? Math.max(1, group?.term ?? 0, this.#log.filled.term) : 0
  }

  stateToInstall(index: number): Uint8Array {
    return this.#state.stateAt(index)
  }

  /** What was taken in ends so; for batches in the log that is no promise that they are lost. */
  #fail(refusal: Refusal): void {
    this.#acknowledgements.fail(refusal)
    for (const batch of this.#waiting.drain()) this.#refuse(batch, refusal)
  }

  // -------------------------------------------------------------- readers

  follow(follower: Follower): void {
    this.#followers.add(follower)
  }

  unfollow(follower: Follower): void {
    this.#followers.delete(follower)
  }

  /** Committed batches from the one that holds `offset` on. @throws StorageError, ProtocolError when closed. */
  read(offset: number, maxBytes: number): Promise<LogRead> {
    const { refusal } = this
    if (refusal !== null) throw new ProtocolError(refusal.code, refusal.detail)
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

  /**
   * Resolves once the high watermark is not behind anything that any leader had committed when this was called.
   * @throws ProtocolError NOT_LEADER.
   */
  async upToDate(): Promise<void> {
    if (this.group.membership.isSole) return
    const { refusal } = this
    if (refusal !== null) throw new ProtocolError(refusal.code, refusal.detail)
    await this.group.readBarrier().catch(() => {
      throw new ProtocolError('NOT_LEADER', 'leadership was lost while the answer was looked for')
    })
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
    const group = this.#group
    if (this.closed !== null || this.#log.failure !== null || !this.hasRetention) return
    if (group?.isServing === true && group.mayAppend) proposeLogStart(group, this.#log, this.#state, this.#options)
  }

  /** Takes nothing more: what is pending is refused for this reason, readers are woken to see it. */
  close(reason: Refusal): void {
    if (this.closed !== null) return
    this.closed = reason
    this.#fail(reason)
    for (const follower of this.#followers) follower.onCommit()
  }
}
