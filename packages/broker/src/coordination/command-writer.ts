// Writes commands into a partition that this node leads: those of a turn as one batch, one batch at a time, so that what is
// committed is applied in the order of the log, and an image stands right behind what it is made of.
import { assert, crc32, RecordBatchBuilder } from '@millrace/protocol'
import type { Environment } from '../environment.js'
import { Fifo } from '../fifo.js'
import { GROUP_BATCH_BYTES, GROUP_COMMAND_TIMEOUT_MS, MAX_GROUP_COMMANDS_WAITING } from '../limits.js'
import type { Partition } from '../partition/partition.js'
import { type BatchSink, PendingBatch, type Refusal } from '../partition/pending-batch.js'
import type { ProducerId } from '../partition/producer-session.js'
import { refusalOrBug } from '../server/failures.js'

/** Where a record stands, once it is committed. */
export interface Committed {
  /** Of its batch. */
  readonly index: number
  /** Of the first record of its batch. */
  readonly baseOffset: number
  /** Milliseconds since 1970. */
  readonly appendTimeMs: number
}

/** A record on its way; it hears of its end once. */
export interface OutgoingRecord {
  /** The command. */
  readonly value: Uint8Array
  /** Monotonic milliseconds after which it must not be written any more; Infinity for never. */
  readonly expiresAtMs: number
  committed(where: Committed): void
  /** After NOT_LEADER it may be committed all the same. */
  refused(refusal: Refusal): void
}

interface WriterOptions {
  readonly partition: Partition
  readonly environment: Pick<Environment, 'clock' | 'memory'>
  /** A batch is committed, its records have heard of it, and none is under way. */
  readonly batchCommitted: (bytes: number) => void
  /** Something was thrown by who hears of a record: a bug. */
  readonly report: (error: unknown) => void
}

const FULL: Refusal = { code: 'OVERLOADED', detail: 'too many requests of consumer groups wait for their log' }
const NO_MEMORY: Refusal = { code: 'OVERLOADED', detail: 'no memory for a batch of commands' }
const LATE: Refusal = { code: 'DEADLINE_EXCEEDED', detail: 'the request waited for its log too long' }

export class CommandWriter implements BatchSink {
  readonly acks = 'all'
  readonly #options: WriterOptions
  readonly #waiting = new Fifo<OutgoingRecord>()
  /** Before all that wait. */
  #first: OutgoingRecord[] = []
  #underWay: readonly OutgoingRecord[] | null = null
  #scheduled = false
  #stopped: Refusal | null = null
  /** Each batch is the first of an epoch: whatever became of those before, it is taken, and no session of it can expire. */
  #epoch = 0
  /** Nobody else has led in this term. */
  readonly #producer: ProducerId

  constructor(options: WriterOptions) {
    this.#options = options
    this.#producer = [0, 0, 0, options.partition.route.term]
  }

  write(record: OutgoingRecord): void {
    if (this.#stopped !== null) record.refused(this.#stopped)
    else if (this.#waiting.length >= MAX_GROUP_COMMANDS_WAITING) record.refused(FULL)
    else {
      this.#waiting.push(record)
      this.#schedule()
    }
  }

  /** These come before all that wait, with nothing between them, or none of those after one that is refused. */
  writeFirst(records: readonly OutgoingRecord[]): void {
    assert(this.#underWay === null && this.#first.length === 0, 'what comes first is written between two batches')
    this.#first.push(...records)
    this.#schedule()
  }

  /** Nothing more is written. What is under way is refused as well: nobody knows what becomes of it. */
  stop(refusal: Refusal): void {
    if (this.#stopped !== null) return
    this.#stopped = refusal
    const records = [...(this.#underWay ?? []), ...this.#first.splice(0), ...this.#waiting.drain()]
    this.#underWay = null
    for (const record of records) record.refused(refusal)
  }

  #schedule(): void {
    if (this.#scheduled || this.#underWay !== null || this.#stopped !== null) return
    if (this.#first.length + this.#waiting.length === 0) return
    this.#scheduled = true
    this.#options.environment.clock.defer(() => {
      this.#scheduled = false
      if (this.#stopped === null && this.#underWay === null) this.#writeBatch()
    })
  }

  #writeBatch(): void {
    const { partition, environment } = this.#options
    const { clock, memory } = environment
    const builder = new RecordBatchBuilder(GROUP_BATCH_BYTES)
    const taken = this.#take(builder, clock.monotonicMs(), clock.wallMs())
    if (taken.length === 0) return
    const { topicId, partition: number, lane } = partition.key
    const place = { topicId, partition: number, lane, control: false }
    const identity = { ...place, producer: this.#producer, epoch: this.#epoch++, sequence: 0 }
    const batch = builder.seal({ identity, checksum: crc32 })
    const block = memory.allocate(batch.length)
    if (block === null) {
      for (const record of [...taken, ...this.#first.splice(0)]) record.refused(NO_MEMORY)
      return
    }
    block.bytes.set(batch)
    this.#underWay = taken
    const expiresAtMs = clock.monotonicMs() + GROUP_COMMAND_TIMEOUT_MS
    partition.append(new PendingBatch(this, 0, block, 0, batch.length, expiresAtMs))
  }

  #take(builder: RecordBatchBuilder, nowMs: number, wallMs: number): readonly OutgoingRecord[] {
    const taken: OutgoingRecord[] = []
    while (true) {
      const record = this.#first[0] ?? this.#waiting.peek()
      if (record === undefined) return taken
      const isLate = record.expiresAtMs < nowMs
      if (!isLate && !builder.tryAppend(null, record.value, null, wallMs)) return taken
      if (this.#first.length > 0) this.#first.shift()
      else this.#waiting.shift()
      if (isLate) record.refused(LATE)
      else taken.push(record)
    }
  }

  // -------------------------------------------------------------- what the partition says

  taken({ block }: PendingBatch): void {
    this.#options.environment.memory.release(block)
  }

  /** Called while a log tells of its progress, which must not stop for what is done here. */
  settled(batch: PendingBatch, refusal: Refusal | null): void {
    const records = this.#underWay
    if (records === null) return
    this.#underWay = null
    const { index, baseOffset, appendTime, length } = batch
    try {
      for (const record of records) {
        if (refusal === null) record.committed({ index, baseOffset: baseOffset ?? 0, appendTimeMs: appendTime })
        else record.refused(refusal)
      }
      if (refusal !== null) for (const record of this.#first.splice(0)) record.refused(refusal)
      if (refusal === null) this.#options.batchCommitted(length)
      this.#schedule()
    } catch (error) {
      this.#options.report(error)
      this.stop(refusalOrBug(error))
    }
  }
}
