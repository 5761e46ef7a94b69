// The batches of one partition between their arrival and their settlement: verified, decoded record by record as they
// are delivered, counted in decoded bytes until everything of them is finished.
import { type ChecksumFunction, loggedBatches, RecordReader, readBatchHeader } from '@millrace/protocol'
import { decompress } from './codec.js'
import type { ClientCodec } from './environment.js'
import { MillraceError, toMillraceError } from './errors.js'
import type { FrameBuffers } from './frame-buffers.js'
import { BYTES_PER_WAITING_RECORD, MIN_WAITING_RECORDS } from './limits.js'
import { PartitionProgress, type Position } from './partition-progress.js'
import { checkReceived, type ReceivedBatch, ReceivedFrame } from './received-batch.js'
import { ConsumerRecord } from './record.js'
import { BatchOrigin, RecordBatch } from './record-batch.js'
import { RecordOrigin } from './record-origin.js'
import type { Serde } from './serde.js'
import type { Origin } from './settlement.js'
import type { Topic } from './topic.js'

export interface InboxOwner<K, V> {
  readonly topic: Topic<K, V>
  readonly codec: ClientCodec
  readonly checksum: ChecksumFunction
  /**
   * Called for a record that cannot be decoded; throws to end the subscription, returns to go on without the record,
   * after holding the inbox if that takes time.
   */
  undecodable(inbox: Inbox<K, V>, what: 'key' | 'value', cause: unknown): void
  /** Decoded bytes each partition may have received and not settled. */
  readonly shareBytes: number
  /** Where the memory of finished batches goes; null to leave it to whoever holds views of it. */
  readonly reusable: FrameBuffers | null
  /** The inbox of `partition` has something to take again. */
  onNews(partition: number): void
}

const NO_END = Number.POSITIVE_INFINITY

export class Inbox<K, V> {
  readonly #owner: InboxOwner<K, V>
  readonly #onSettled: () => void
  readonly #key: Serde<K>
  readonly #value: Serde<V>
  readonly #topicName: string
  #batches: ReceivedBatch[] = []
  #failure: MillraceError | null = null
  #batch: ReceivedBatch | null = null
  #records: RecordReader | null = null
  #recordStart = 0
  #currentStart = 0
  #currentOffset = -1
  /** Set while a batch is delivered as a whole. */
  #whole: RecordBatch<K, V> | null = null
  /** While set, nothing is taken: somebody decides about the record last taken. */
  #held = false
  /** Term of the batch before the current one. */
  #termBeforeBatch = 0
  /** Records delivered and claimed, on which work has not begun. */
  #waitingRecords = 0
  /** So many wait that no more are taken: as bytes of their batch they are smaller than as objects. */
  #isFull = false
  /** Decoded bytes received and not settled. */
  unsettledBytes = 0
  /** Where the broker goes on: behind the last batch received. -1 before the first cursor was opened. */
  fetchOffset = -1
  /** Term of the last batch received; 0 when none was. */
  lastTerm = 0
  /** The offset that ends this partition. */
  endOffset = NO_END
  /** The next record to deliver; those below, at the head of the first batch, are dropped. */
  nextOffset = 0
  /** Term of the last batch of which something was delivered; 0 when none was. */
  deliveredTerm = 0
  readonly progress = new PartitionProgress()

  constructor(
    owner: InboxOwner<K, V>,
    readonly topicId: number,
    readonly partition: number,
    onSettled: () => void,
    /** The claims on its records count for its progress. */
    readonly isTracked = false,
  ) {
    this.#owner = owner
    this.#onSettled = onSettled
    this.#key = owner.topic.key
    this.#value = owner.topic.value
    this.#topicName = owner.topic.name
  }

  /** Something can be taken, or the end or a failure has been reached. */
  get hasNews(): boolean {
    if (this.#held || this.#isFull) return false
    return this.#batch !== null || this.#batches.length > 0 || this.#failure !== null || this.done
  }

  /** Everything up to the end was delivered. */
  get done(): boolean {
    return this.nextOffset >= this.endOffset && !this.#held
  }

  /** Nothing is taken until `goOn`. */
  hold(): void {
    this.#held = true
  }

  goOn(): void {
    this.#held = false
  }

  /** The record last taken waits for its turn. */
  startsWaiting(): void {
    this.#waitingRecords++
  }

  /** A record waits no more, because work on it begins or because nobody will work on it. */
  stopsWaiting(): void {
    this.#waitingRecords--
    if (!this.#isFull || this.#waitingRecords > this.#maxWaitingRecords / 2) return
    this.#isFull = false
    this.#owner.onNews(this.partition)
  }

  get #maxWaitingRecords(): number {
    return Math.max(MIN_WAITING_RECORDS, Math.floor(this.#owner.shareBytes / BYTES_PER_WAITING_RECORD))
  }

  /** The record last taken, or the first of the batch last taken; and their batch. */
  get currentOffset(): number {
    return this.#currentOffset
  }

  get currentBatch(): ReceivedBatch | null {
    return this.#batch
  }

  /** Behind what was taken last. */
  get currentEndOffset(): number {
    return this.#whole?.endOffset ?? this.#currentOffset + 1
  }

  /** What was taken last, as bytes. */
  get currentOrigin(): Origin {
    return this.#whole === null ? this.currentRecord : new BatchOrigin(this.#whole)
  }

  /** The bytes of the record last taken. */
  get currentRecord(): RecordOrigin {
    const { baseTimestamp } = this.#batch!.header
    const reader = this.#records!
    const offset = this.#currentOffset
    return new RecordOrigin(this.#topicName, this.partition, offset, baseTimestamp, reader, this.#currentStart)
  }

  /** Of the record last taken. */
  get currentPosition(): Position {
    const batch = this.#batch
    const isFirst = batch === null || this.#currentOffset <= batch.baseOffset
    return { offset: this.#currentOffset, term: isFirst ? this.#termBeforeBatch : batch.term }
  }

  /** Goes on where somebody else has stopped. */
  resumeAt(offset: number, term: number): void {
    this.startAt(offset)
    this.lastTerm = term
    this.deliveredTerm = term
  }

  /** The first cursor was opened: delivery starts here. */
  startAt(offset: number): void {
    this.fetchOffset = offset
    this.nextOffset = offset
  }

  /**
   * Takes a run of batches. Damage ends the subscription, after what came before it was delivered.
   * @returns the decoded bytes received, whatever becomes of them: what the broker counts against the credit.
   * @throws ProtocolError CORRUPT_BATCH for batches so damaged that they cannot be counted.
   */
  add(batches: Uint8Array): number {
    let receivedBytes = 0
    const { reusable } = this.#owner
    const frame = reusable === null ? null : new ReceivedFrame(batches, reusable)
    for (const logged of loggedBatches(batches, this.#owner.checksum)) {
      const bytes = batches.subarray(logged.clientStart, logged.end)
      const header = readBatchHeader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
      receivedBytes += header.decodedBytes
      checkReceived(this, header, logged, bytes, this.#owner.checksum)
      const end = logged.baseOffset + header.lastOffsetDelta + 1
      if (header.control || end <= this.fetchOffset) continue
      this.fetchOffset = end
      this.lastTerm = logged.term
      this.unsettledBytes += header.decodedBytes
      const { baseOffset, term } = logged
      frame?.holdOne()
      this.#batches.push({ header, bytes, baseOffset, term, unfinished: 1, frame, isReused: false })
    }
    return receivedBytes
  }

  /** Ends the subscription once everything received before was delivered. */
  fail(error: MillraceError): void {
    this.#failure ??= error
  }

  /**
   * The next record, or null at the end of each batch (another may follow) and when there is none. Taking a record
   * finishes the one before, unless it was claimed.
   * @throws MillraceError what ends the subscription.
   */
  take(): ConsumerRecord<K, V> | null {
    if (this.#mustWait()) return null
    if (this.done) {
      this.drop()
      return null
    }
    if (this.#records === null && !this.#openBatch()) return null
    const records = this.#records!
    const { baseOffset, header, term } = this.#batch!
    try {
      while (records.next()) {
        const start = this.#recordStart
        this.#recordStart = records.recordEnd
        const offset = baseOffset + records.offsetDelta
        if (offset < this.nextOffset) continue
        if (offset >= this.endOffset) break
        this.#currentOffset = offset
        this.#currentStart = start
        // A record that ends the subscription is not behind it: it stays the next one.
        const record = this.#decode(records, offset, header.baseTimestamp + records.timestampDelta, start)
        this.nextOffset = offset + 1
        this.deliveredTerm = term
        if (record !== null || this.#held) return record
      }
    } catch (cause) {
      throw this.#damaged(cause, this.nextOffset)
    }
    this.#closeBatch()
    return null
  }

  /** Nothing is taken at the moment, whatever is there. */
  #mustWait(): boolean {
    if (this.#waitingRecords >= this.#maxWaitingRecords) this.#isFull = true
    return this.#held || this.#isFull
  }

  /**
   * The next batch, undecoded, or null between batches and when there is none. Taking a batch finishes the one before,
   * unless it was claimed.
   * @throws MillraceError what ends the subscription.
   */
  takeBatch(): RecordBatch<K, V> | null {
    if (this.#mustWait()) return null
    if (this.#batch !== null) {
      this.#closeBatch()
      return null
    }
    if (this.done) {
      this.drop()
      return null
    }
    if (!this.#openBatch()) return null
    const { header, baseOffset } = this.#batch!
    const { bytes } = this.#records!
    const offset = Math.max(this.nextOffset, baseOffset)
    const endOffset = Math.min(this.endOffset, baseOffset + header.lastOffsetDelta + 1)
    const content = { header, baseOffset, bytes, start: this.#recordStart, received: this.#batch! }
    this.#currentOffset = offset
    this.nextOffset = endOffset
    this.deliveredTerm = this.#batch!.term
    this.#whole = new RecordBatch(this.#owner.topic, this.partition, offset, endOffset, content)
    return this.#whole
  }

  #openBatch(): boolean {
    const batch = this.#batches.shift()
    if (batch === undefined) {
      if (this.#failure !== null) throw this.#failure
      return false
    }
    const { header, bytes } = batch
    const bodyStart = bytes.length - header.bodyBytes
    this.#batch = batch
    this.#termBeforeBatch = this.deliveredTerm
    try {
      const packed = header.codec !== 'none'
      const body = packed ? decompress(this.#owner.codec, bytes.subarray(bodyStart), header) : bytes
      const start = packed ? 0 : bodyStart
      this.#recordStart = start
      this.#records = new RecordReader(body, start, body.length, header.recordCount, header.lastOffsetDelta, header)
    } catch (cause) {
      throw this.#damaged(cause, batch.baseOffset)
    }
    return true
  }

  /** Null for a record that is to be skipped. */
  #decode(records: RecordReader, offset: number, timestamp: number, start: number): ConsumerRecord<K, V> | null {
    let what: 'key' | 'value' = 'key'
    let key: K | null
    let value: V | null
    try {
      const keyBytes = records.key()
      key = keyBytes === null ? null : this.#key.decode(keyBytes)
      what = 'value'
      const valueBytes = records.value()
      value = valueBytes === null ? null : this.#value.decode(valueBytes)
    } catch (cause) {
      this.#owner.undecodable(this, what, cause)
      return null
    }
    const { bytes, offsetDelta, recordEnd: end } = records
    const source = records.hasHeaders ? { bytes, start, end, offsetDelta } : null
    return new ConsumerRecord(this.#topicName, this.partition, offset, timestamp, key, value, source)
  }

  #damaged(cause: unknown, offset: number): MillraceError {
    const context = { topic: this.#topicName, partition: this.partition, offset, fatal: true }
    const plain = toMillraceError(cause, context)
    const error = plain.fatal ? plain : new MillraceError(plain.code, plain.detail, context)
    this.drop()
    this.#failure = error
    return error
  }

  #closeBatch(): void {
    const batch = this.#batch!
    this.#forgetCurrent()
    this.deliveredTerm = batch.term
    this.nextOffset = Math.max(this.nextOffset, batch.baseOffset + batch.header.lastOffsetDelta + 1)
    this.finish(batch)
  }

  #forgetCurrent(): void {
    this.#batch = null
    this.#records = null
    this.#whole = null
  }

  /** One claim on the batch, or its delivery, is over. */
  finish(batch: ReceivedBatch): void {
    if (--batch.unfinished > 0) return
    this.unsettledBytes -= batch.header.decodedBytes
    batch.frame?.finish(batch)
    this.#onSettled()
  }

  /** Forgets what was received and not delivered. */
  drop(): void {
    const batches = this.#batches
    this.#batches = []
    if (this.#batch !== null) {
      batches.push(this.#batch)
      // Whoever was given it may be looking at it.
      this.#batch.frame = null
      this.#forgetCurrent()
    }
    for (const batch of batches) this.finish(batch)
  }
}
