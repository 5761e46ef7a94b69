// What one producer keeps: its topic, a queue for each partition in use, records that wait for the topic to be known,
// and the count of what failed.
import type { BatchIdentity, TopicInfo } from '@millrace/protocol'
import type { BatchBuffers } from './batch-buffers.js'
import type { BrokerLink } from './broker-link.js'
import type { BufferBudget } from './buffer-budget.js'
import { type Cluster, changedPartitions, type MapChange } from './cluster.js'
import { type Compression, compressionOf } from './codec.js'
import { copyBytes } from './copy-bytes.js'
import type { RecordWaiter } from './delivery.js'
import type { ClientTimer } from './environment.js'
import {
  BufferFullError,
  closedError,
  DeliveryError,
  type DeliveryFailure,
  MillraceError,
  toMillraceError,
} from './errors.js'
import type { Interceptors } from './interceptors.js'
import type { Lifeline } from './lifeline.js'
import { DELIVERY_SWEEP_MS } from './limits.js'
import { Notifier } from './notifier.js'
import type { ResolvedProducerOptions } from './options.js'
import { Outbox } from './outbox.js'
import { PartitionQueue } from './partition-queue.js'
import { nextSticky, partitionFor } from './partitioner.js'
import type { PendingBatch } from './pending-batch.js'
import type { QueueOwner, RipeQueue } from './queue-owner.js'
import { TopicLookup, type TopicSeeker } from './topic-lookup.js'
import type { Warnings } from './warnings.js'

/** What all producers of a client share. */
export interface ProducerSurroundings {
  readonly cluster: Cluster
  readonly budget: BufferBudget
  readonly lifeline: Lifeline
  readonly warnings: Warnings
  readonly buffers: BatchBuffers
  /** One outbox a link, so that the batches of all producers share frames. */
  readonly outboxes: WeakMap<BrokerLink, Outbox>
  /** Null when there are none. */
  readonly interceptors: Interceptors | null
}

/** A record in bytes, not yet in a batch. */
export interface EncodedRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  /** The result of `encodeHeaders`, or null. */
  readonly headers: Uint8Array | null
  readonly timestamp: number
  /** Null to let the key decide. */
  readonly partition: number | null
}

interface HeldRecord extends EncodedRecord {
  readonly waiter: RecordWaiter
  readonly tag: number
  readonly createdMs: number
  readonly heldBytes: number
}

interface TopicWaiter {
  resolve(): void
  reject(error: MillraceError): void
}

/** What a record may take besides its key, value and headers. */
const RECORD_OVERHEAD_BYTES = 32
const MAX_KEPT_FAILURES = 100

const recordBytes = ({ key, value, headers }: EncodedRecord): number =>
  (key?.length ?? 0) + (value?.length ?? 0) + (headers?.length ?? 0) + RECORD_OVERHEAD_BYTES

export class ProducerCore implements QueueOwner, TopicSeeker {
  readonly cluster: Cluster
  readonly producerId: BatchIdentity['producer']
  readonly compression: Compression | null
  readonly interceptors: Interceptors | null
  readonly failures = new Notifier<DeliveryFailure>()
  readonly #surroundings: ProducerSurroundings
  readonly #lookup: TopicLookup
  readonly #stopListening: () => void
  #topic: TopicInfo | null = null
  #queues = new Map<number, PartitionQueue>()
  #sticky: PartitionQueue | null = null
  readonly #ripe = new Set<RipeQueue>()
  #held: HeldRecord[] = []
  #topicWaiters: TopicWaiter[] = []
  #unresolvedRecords = 0
  #sweepTimer: ClientTimer | null = null
  #counts = { failed: 0, unknown: 0 }
  #kept: DeliveryFailure[] = []
  #closed: MillraceError | null = null

  constructor(
    surroundings: ProducerSurroundings,
    readonly topicName: string,
    readonly options: ResolvedProducerOptions,
  ) {
    this.#surroundings = surroundings
    this.cluster = surroundings.cluster
    this.interceptors = surroundings.interceptors
    this.compression = compressionOf(this.cluster.environment.codec, options.codec)
    this.#lookup = new TopicLookup(this.cluster, topicName, this)
    this.producerId = drawProducerId(this.cluster)
    this.#stopListening = this.cluster.changes.listen((change) => this.#mapChanged(change))
  }

  /** No more records are taken from now on. */
  refuseFurther(error: MillraceError): void {
    this.#closed ??= error
  }

  /** @throws MillraceError CLOSED, BUFFER_FULL; then nothing was taken. */
  admit(): void {
    if (this.#closed !== null) throw this.#closed
    const { budget, warnings } = this.#surroundings
    if (!budget.full) return
    const error = new BufferFullError(budget.usedBytes, budget.limitBytes, { topic: this.topicName })
    if (budget.warningDue()) warnings.warn('MILLRACE_BUFFER_FULL', error.message, { topic: this.topicName })
    throw error
  }

  /**
   * Queues a record that was admitted; its bytes are copied.
   * @throws MillraceError UNKNOWN_PARTITION; ProtocolError BATCH_TOO_LARGE. Then nothing was taken.
   */
  put(record: EncodedRecord, waiter: RecordWaiter, tag: number): void {
    if (this.#topic === null) this.#hold(record, waiter, tag)
    else this.#append(this.#topic, record, waiter, tag)
    if (this.#unresolvedRecords++ === 0) this.#surroundings.lifeline.hold()
    if (this.#sweepTimer === null) this.#armSweep()
    // Only now, because the topic may be known at once and the record then moves into a batch.
    if (this.#topic === null) this.#lookup.start()
  }

  /** To be called when a call has put all its records: large batches are on their way while the next call is made. */
  sendRipe(): void {
    if (this.#ripe.size === 0) return
    for (const queue of this.#ripe) queue.sendRipe()
    this.#ripe.clear()
  }

  #append(topic: TopicInfo, record: EncodedRecord, waiter: RecordWaiter, tag: number): void {
    const { key, value, headers, timestamp } = record
    this.#queueFor(topic, record).append(key, value, headers, timestamp, waiter, tag)
  }

  #queueFor(topic: TopicInfo, record: EncodedRecord): PartitionQueue {
    const { key, partition } = record
    const count = topic.routes.length
    if (partition !== null) {
      if (partition < count) return this.#queue(topic, partition)
      const detail = `${topic.name} has partitions 0 to ${count - 1}, not ${partition}`
      throw new MillraceError('ERR_MILLRACE_UNKNOWN_PARTITION', detail, {
        topic: topic.name,
        partition,
        outcome: 'failed',
      })
    }
    if (key !== null) return this.#queue(topic, partitionFor(topic, key, this.options.partitioner))
    if (this.#sticky === null || !this.#sticky.hasRoom(recordBytes(record))) this.#sticky = this.#nextSticky(topic)
    return this.#sticky
  }

  #nextSticky(topic: TopicInfo): PartitionQueue {
    const { routes } = topic
    const current = this.#sticky?.partition ?? Math.floor(this.cluster.environment.random() * routes.length)
    return this.#queue(
      topic,
      nextSticky(routes, current, (partition) => this.#queues.get(partition)?.flows ?? true),
    )
  }

  #queue(topic: TopicInfo, partition: number): PartitionQueue {
    let queue = this.#queues.get(partition)
    if (queue === undefined) {
      queue = new PartitionQueue(this, topic.topicId, partition)
      this.#queues.set(partition, queue)
    }
    return queue
  }

  // What queues ask and tell.

  get buffers(): BatchBuffers {
    return this.#surroundings.buffers
  }

  outboxOf(link: BrokerLink): Outbox {
    const { outboxes } = this.#surroundings
    let outbox = outboxes.get(link)
    if (outbox === undefined) {
      outbox = new Outbox(this.cluster.environment, link)
      outboxes.set(link, outbox)
    }
    return outbox
  }

  onTaken(byteLength: number): void {
    this.#surroundings.budget.take(byteLength)
  }

  onRipe(queue: RipeQueue): void {
    this.#ripe.add(queue)
  }

  onDone(batch: PendingBatch, partition: number, error: MillraceError | null): void {
    if (error !== null) this.#countFailure(partition, batch.recordCount, error)
    this.#surroundings.budget.release(batch.heldBytes)
    this.#resolved(batch.recordCount)
  }

  #resolved(recordCount: number): void {
    this.#unresolvedRecords -= recordCount
    if (this.#unresolvedRecords > 0) return
    // The sweep timer is left to run out: sends one after the other would otherwise set one each.
    this.#surroundings.lifeline.release()
  }

  /** Counts records that failed before they were queued, or after. */
  #countFailure(partition: number, recordCount: number, error: MillraceError): void {
    const outcome = error.outcome ?? 'failed'
    this.#counts[outcome] += recordCount
    const failure = { topic: this.topicName, partition, recordCount, outcome, error }
    if (this.#kept.length < MAX_KEPT_FAILURES) this.#kept.push(failure)
    this.failures.notify(failure)
  }

  /** Records that were refused and never queued. */
  refused(recordCount: number, error: MillraceError): void {
    this.#countFailure(error.partition ?? -1, recordCount, error)
  }

  /** @throws DeliveryError when records have failed since the last call. */
  throwFailures(): void {
    const failures = this.#kept
    const counts = this.#counts
    this.#kept = []
    this.#counts = { failed: 0, unknown: 0 }
    if (counts.failed + counts.unknown > 0) throw new DeliveryError(failures, counts)
  }

  // The topic.

  /** Resolves when the topic is known; rejects when it does not exist or nobody could be asked. */
  whenTopic(): Promise<void> | null {
    if (this.#topic !== null) return null
    return new Promise((resolve, reject) => {
      this.#topicWaiters.push({ resolve, reject })
      if (this.#topicWaiters.length === 1) this.#surroundings.lifeline.hold()
      this.#lookup.start()
    })
  }

  #hold(record: EncodedRecord, waiter: RecordWaiter, tag: number): void {
    const heldBytes = recordBytes(record)
    this.onTaken(heldBytes)
    this.#held.push({
      key: record.key && copyBytes(record.key),
      value: record.value && copyBytes(record.value),
      headers: record.headers,
      timestamp: record.timestamp,
      partition: record.partition,
      waiter,
      tag,
      createdMs: this.cluster.environment.monotonicMs(),
      heldBytes,
    })
  }

  onTopic(topic: TopicInfo): void {
    if (!topic.codecs.includes(this.options.codec)) {
      const detail = `${this.topicName} allows ${topic.codecs.join(', ')}, not ${this.options.codec}`
      this.onNoTopic(this.#error('ERR_MILLRACE_CODEC_NOT_ALLOWED', detail))
      return
    }
    this.#topic = topic
    for (const held of this.#takeHeld()) {
      this.#surroundings.budget.release(held.heldBytes)
      try {
        this.#append(topic, held, held.waiter, held.tag)
      } catch (cause) {
        this.#failHeld(held, toMillraceError(cause, { topic: this.topicName, outcome: 'failed' }))
      }
    }
    for (const waiter of this.#takeTopicWaiters()) waiter.resolve()
  }

  onNoTopic(error: MillraceError): void {
    for (const held of this.#takeHeld()) {
      this.#surroundings.budget.release(held.heldBytes)
      this.#failHeld(held, error)
    }
    for (const waiter of this.#takeTopicWaiters()) waiter.reject(error)
  }

  #failHeld({ waiter, tag }: HeldRecord, error: MillraceError): void {
    waiter.failed(tag, -1, error)
    this.#countFailure(-1, 1, error)
    this.#resolved(1)
  }

  #takeHeld(): HeldRecord[] {
    const held = this.#held
    this.#held = []
    return held
  }

  #takeTopicWaiters(): TopicWaiter[] {
    const waiters = this.#topicWaiters
    this.#topicWaiters = []
    if (waiters.length > 0) this.#surroundings.lifeline.release()
    return waiters
  }

  #error(code: 'ERR_MILLRACE_CODEC_NOT_ALLOWED' | 'ERR_MILLRACE_TOPIC_DELETED', detail: string): MillraceError {
    return new MillraceError(code, detail, { topic: this.topicName, outcome: 'failed' })
  }

  #mapChanged(change: MapChange): void {
    if (this.#topic === null) return
    const { topicId, name } = this.#topic
    const topic = this.cluster.map.topicById(topicId)
    this.#topic = topic ?? null
    if (topic === undefined) this.#dropQueues(this.#error('ERR_MILLRACE_TOPIC_DELETED', `${name} was deleted`))
    // Changes may be told of one inside the other: that the topic is known already says nothing of who was told what.
    for (const at of changedPartitions(change, topicId, this.#queues.keys())) this.#queues.get(at)?.routeChanged()
  }

  #dropQueues(error: MillraceError): void {
    const queues = [...this.#queues.values()]
    this.#queues.clear()
    this.#sticky = null
    for (const queue of queues) queue.close(error)
  }

  // Time and the end.

  #armSweep(): void {
    const { environment } = this.cluster
    this.#sweepTimer = environment.timer(Math.min(DELIVERY_SWEEP_MS, this.options.deliveryTimeoutMs), () => {
      this.#sweepTimer = null
      // Replies that have arrived while the loop was blocked are read first.
      environment.defer(() => this.#sweep())
    })
  }

  #sweep(): void {
    const nowMs = this.cluster.environment.monotonicMs()
    for (const queue of [...this.#queues.values()]) queue.sweep(nowMs)
    const latestMs = nowMs - this.options.deliveryTimeoutMs
    while (this.#held[0] !== undefined && this.#held[0].createdMs <= latestMs) {
      const held = this.#held.shift()!
      const detail = `${this.topicName} was not found within ${this.options.deliveryTimeoutMs} ms`
      const error = new MillraceError('ERR_MILLRACE_DELIVERY_TIMEOUT', detail, {
        topic: this.topicName,
        outcome: 'failed',
      })
      this.#surroundings.budget.release(held.heldBytes)
      this.#failHeld(held, error)
    }
    if (this.#unresolvedRecords > 0 && this.#sweepTimer === null) this.#armSweep()
  }

  /** Resolves when every record taken before this call has an outcome, good or bad. */
  async settled(): Promise<void> {
    if (this.#held.length > 0) await this.whenTopic()?.catch(ignoreTopicError)
    const batches = [...this.#queues.values()].flatMap((queue) => queue.unresolved())
    if (batches.length === 0) return
    await new Promise<void>((resolve) => {
      let left = batches.length
      for (const batch of batches) batch.onDone(() => --left === 0 && resolve())
    })
  }

  /** Ends everything at once; what is unresolved fails or becomes unknown. */
  end(): void {
    const error = closedError('the producer', { topic: this.topicName })
    this.#closed ??= error
    this.#stopListening()
    this.#lookup.cancel()
    this.onNoTopic(error)
    this.#dropQueues(error)
    this.#topic = null
    this.#sweepTimer?.cancel()
  }
}

/** The records held have failed with this error and tell of it themselves. */
const ignoreTopicError = (): void => {}

function drawProducerId({ environment }: Cluster): BatchIdentity['producer'] {
  const bytes = new Uint8Array(16)
  environment.fillRandom(bytes)
  const view = new DataView(bytes.buffer)
  return [view.getUint32(0, true), view.getUint32(4, true), view.getUint32(8, true), view.getUint32(12, true)]
}
