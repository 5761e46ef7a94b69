// The records of one producer for one partition: batches that fill, batches in flight, and what happens when one is
// refused or lost, so that each record is in the log at most once and in the order it was sent.
//
// Invariant: sequences of an epoch are given out in order, one a batch, and a batch keeps its sequence through retries
// unless every attempt was refused before anything was appended. After a refusal nothing is sent until every batch in
// flight has an outcome; then the lowest unresolved one goes first. An epoch ends when a sequence in it can no longer
// be filled, and never while an attempt is on the wire.
import {
  type Acks,
  type BatchIdentity,
  errorName,
  type ProduceResult,
  type Route,
  type RouteVersion,
} from '@millrace/protocol'
import type { Backoff } from './backoff.js'
import type { BatchBuffers } from './batch-buffers.js'
import type { BrokerLink } from './broker-link.js'
import type { Cluster } from './cluster.js'
import type { RecordWaiter } from './delivery.js'
import type { ClientTimer } from './environment.js'
import { errorOfCode, MillraceError, protocolName } from './errors.js'
import { AT_ONCE_BYTES, LANE } from './limits.js'
import type { ProducerOptions } from './options.js'
import type { BatchSource, Outbox } from './outbox.js'
import { PendingBatch } from './pending-batch.js'
import { judgeRefusal, type Verdict } from './produce-verdict.js'

/** What a queue needs of its producer. */
export interface QueueOwner {
  readonly cluster: Cluster
  readonly topicName: string
  readonly options: Required<ProducerOptions>
  readonly producerId: BatchIdentity['producer']
  readonly buffers: BatchBuffers
  outboxOf(link: BrokerLink): Outbox
  onTaken(byteLength: number): void
  /** The queue has something to send that need not wait for the end of the turn. */
  onRipe(queue: PartitionQueue): void
  /** The batch is over; `error` is null when it was acknowledged. */
  onDone(batch: PendingBatch, partition: number, error: MillraceError | null): void
}

const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }

export class PartitionQueue implements BatchSource {
  readonly #owner: QueueOwner
  readonly #backoff: Backoff
  /** Size of the batch before: the next one is likely to be as large. */
  #expectedBytes = 0
  /** The batch that takes records. */
  #open: PendingBatch | null = null
  /** Full batches, oldest first. */
  readonly #full: PendingBatch[] = []
  /** Batches with a sequence of the present epoch and no outcome yet, by sequence. */
  #inFlight: PendingBatch[] = []
  #draining = false
  #sequenceHasGap = false
  #retryTimer: ClientTimer | null = null
  #retryDelayMs = 0
  #epoch = 0
  #nextSequence = 0
  #outbox: Outbox | null = null
  #lastError: MillraceError | null = null
  #closed = false

  constructor(
    owner: QueueOwner,
    readonly topicId: number,
    readonly partition: number,
  ) {
    this.#owner = owner
    this.#backoff = owner.cluster.newBackoff()
    this.#place()
  }

  get acks(): Acks {
    return this.#owner.options.acks
  }

  get #route(): Route {
    return this.#owner.cluster.map.route(this.topicId, this.partition) ?? NO_ROUTE
  }

  get routeVersion(): RouteVersion {
    return this.#route
  }

  /** Takes records that have not been sealed yet. */
  get filling(): boolean {
    return this.#open !== null
  }

  /** Copies a record. @throws ProtocolError BATCH_TOO_LARGE for a record that no batch can hold. */
  append(
    key: Uint8Array | null,
    value: Uint8Array | null,
    headers: Uint8Array | null,
    timestamp: number,
    waiter: RecordWaiter,
    tag: number,
  ): PendingBatch {
    let batch = this.#open ?? this.#openBatch()
    let before = batch.builder.byteLength
    if (!batch.builder.tryAppend(key, value, headers, timestamp)) {
      this.#full.push(batch)
      batch = this.#openBatch()
      before = batch.builder.byteLength
      batch.builder.tryAppend(key, value, headers, timestamp)
    }
    // A batch is remembered only once a record fits it: a record that no batch can hold leaves nothing behind.
    this.#open = batch
    batch.addWaiter(waiter, tag)
    const grownBytes = batch.builder.byteLength - before
    batch.heldBytes += grownBytes
    this.#owner.onTaken(grownBytes)
    this.#outbox?.mark(this)
    if (batch.builder.byteLength >= AT_ONCE_BYTES && this.#inFlight.length === 0) this.#owner.onRipe(this)
    return batch
  }

  /** Nothing of the partition is on its way and its batch is worth a frame: it does not wait for the end of the turn. */
  sendRipe(): void {
    if (this.#inFlight.length === 0) this.#outbox?.sendAtOnce(this)
  }

  #openBatch(): PendingBatch {
    this.#open = null
    const { options, buffers, cluster } = this.#owner
    return new PendingBatch(options.batchBytes, buffers.take(this.#expectedBytes), cluster.environment.monotonicMs())
  }

  /** Batches without an outcome, oldest first. */
  unresolved(): PendingBatch[] {
    return [...this.#inFlight, ...this.#full, ...(this.#open === null ? [] : [this.#open])]
  }

  // What the outbox asks.

  get nextBytes(): number {
    if (this.#draining || this.#closed) return 0
    const again = this.#inFlight.find((batch) => !batch.onWire)
    if (again !== undefined) return again.frameBytes
    if (this.#inFlight.length >= this.#owner.options.inFlightBatches) return 0
    return (this.#full[0] ?? this.#open)?.frameBytes ?? 0
  }

  take(): PendingBatch {
    const batch = this.#inFlight.find((candidate) => !candidate.onWire) ?? this.#stampNext()
    batch.onWire = true
    batch.attempts++
    batch.missesEarlier = false
    return batch
  }

  #stampNext(): PendingBatch {
    let batch = this.#full.shift()
    if (batch === undefined) {
      batch = this.#open!
      this.#open = null
    }
    const { cluster, options, producerId } = this.#owner
    const { environment } = cluster
    const identity: BatchIdentity = {
      topicId: this.topicId,
      partition: this.partition,
      lane: LANE,
      control: false,
      producer: producerId,
      epoch: this.#epoch,
      sequence: this.#nextSequence++,
    }
    this.#expectedBytes = Math.min(batch.builder.byteLength, options.batchBytes)
    batch.stamp(identity, environment.checksum, options.codec, environment.codec.gzip)
    this.#inFlight.push(batch)
    if (options.acks === 'none') this.#beginEpochOfNext()
    return batch
  }

  /** Without answers a lost batch would leave a hole that nothing after it gets past: each is an epoch of its own. */
  #beginEpochOfNext(): void {
    this.#epoch++
    this.#nextSequence = 0
  }

  // Outcomes.

  onHandedOver(batch: PendingBatch): void {
    this.#acknowledge(batch, null)
  }

  onResult(batch: PendingBatch, result: ProduceResult, link: BrokerLink, throttleMs: number): void {
    batch.onWire = false
    const { cluster } = this.#owner
    const { route } = result
    cluster.learnRoute(this.topicId, this.partition, route)
    if (result.code === 0) {
      const moved = route.nodeId !== link.nodeId || route.shard !== link.shard
      if (moved && route.nodeId !== 0) cluster.statistics.misroutes++
      this.#backoff.reset()
      if (!batch.done) this.#acknowledge(batch, result.baseOffset)
      this.#settleDrain()
      return
    }
    const name = errorName(result.code)
    const verdict = judgeRefusal(name)
    const error = errorOfCode(result.code, result.detail, { topic: this.#owner.topicName, partition: this.partition })
    batch.missesEarlier = verdict.missesEarlier
    let atOnce = verdict.missesEarlier && batch.sequence > 0
    if (name === 'NOT_LEADER') {
      cluster.statistics.refusals++
      // Once the route leads elsewhere there is nothing to wait for; of several refusals only the first brings news.
      atOnce = cluster.linkOf(this.#route) !== link
      if (!atOnce) cluster.refresh()
    }
    this.#refused(batch, error, verdict, atOnce ? 0 : Math.max(this.#backoff.next(), throttleMs))
  }

  onUnanswered(batch: PendingBatch, error: MillraceError, why: 'refused' | 'timeout' | 'lost'): void {
    batch.onWire = false
    if (why === 'refused') {
      this.#refused(batch, error, judgeRefusal(protocolName(error)), this.#backoff.next())
      return
    }
    // After a loss the link waits by itself before it is there again; a time-out may mean that the route is stale.
    if (why === 'timeout') this.#owner.cluster.refresh()
    this.#refused(batch, error, { retry: true, ambiguous: true }, why === 'timeout' ? this.#backoff.next() : 0)
  }

  onLinkLost(error: MillraceError): void {
    this.#lastError = error
  }

  #refused(
    batch: PendingBatch,
    error: MillraceError,
    verdict: Pick<Verdict, 'retry' | 'ambiguous'>,
    delayMs: number,
  ): void {
    this.#lastError = error
    this.#beginDrain(delayMs)
    if (!batch.done) {
      batch.lastError = error
      if (verdict.ambiguous) batch.ambiguous = true
      if (!verdict.retry) this.#giveUp(batch, error)
    }
    this.#settleDrain()
  }

  /** Ends a batch that has a sequence: those after it need another epoch. */
  #giveUp(batch: PendingBatch, error: MillraceError): void {
    this.#sequenceHasGap = true
    this.#inFlight = this.#inFlight.filter((other) => other !== batch)
    this.#fail(batch, error, batch.ambiguous ? 'unknown' : 'failed')
  }

  #acknowledge(batch: PendingBatch, baseOffset: number | null): void {
    batch.onWire = false
    if (this.#inFlight[0] === batch) this.#inFlight.shift()
    else this.#inFlight = this.#inFlight.filter((other) => other !== batch)
    const buffer = this.acks === 'none' ? null : batch.reusableBuffer
    batch.acknowledge(this.partition, baseOffset)
    if (buffer !== null) this.#owner.buffers.giveBack(buffer)
    this.#owner.onDone(batch, this.partition, null)
    if (!this.#draining && this.nextBytes > 0) this.#outbox?.mark(this)
  }

  #fail(batch: PendingBatch, error: MillraceError, outcome: 'failed' | 'unknown'): void {
    const context = { topic: this.#owner.topicName, partition: this.partition, outcome, cause: error }
    const detail = `${batch.recordCount} records for ${context.topic}/${context.partition}: ${error.detail}`
    const code = outcome === 'unknown' ? 'ERR_MILLRACE_DELIVERY_UNKNOWN' : error.code
    const final = new MillraceError(code, detail, context)
    batch.fail(this.partition, final)
    this.#owner.onDone(batch, this.partition, final)
  }

  // Draining: nothing is sent until every batch in flight has an outcome.

  #beginDrain(delayMs: number): void {
    this.#retryDelayMs = this.#draining ? Math.max(this.#retryDelayMs, delayMs) : delayMs
    this.#draining = true
  }

  #settleDrain(): void {
    if (!this.#draining || this.#closed || this.#retryTimer !== null) return
    if (this.#inFlight.some((batch) => batch.onWire)) return
    const lowest = this.#inFlight[0]
    // What stood before the lowest was acknowledged, yet the broker misses it: this epoch cannot go on.
    if (this.#sequenceHasGap || lowest?.missesEarlier === true) this.#beginEpoch()
    const delayMs = this.#retryDelayMs
    if (delayMs === 0) {
      this.#resume()
      return
    }
    this.#retryTimer = this.#owner.cluster.environment.timer(delayMs, () => {
      this.#retryTimer = null
      this.#retryDelayMs = 0
      // Time may have run out for a batch meanwhile.
      this.#settleDrain()
    })
  }

  #beginEpoch(): void {
    const unresolved = this.#inFlight
    this.#inFlight = []
    this.#sequenceHasGap = false
    this.#beginEpochOfNext()
    const again: PendingBatch[] = []
    for (const batch of unresolved) {
      // An attempt that may be in the log must not get another sequence: the broker could not tell it is the same.
      if (batch.ambiguous) this.#fail(batch, batch.lastError ?? this.#unknownError(), 'unknown')
      else again.push(batch)
    }
    this.#full.unshift(...again)
  }

  #resume(): void {
    this.#draining = false
    this.#retryDelayMs = 0
    this.#place()
    this.#outbox?.mark(this)
  }

  #unknownError(): MillraceError {
    return this.#lastError ?? new MillraceError('ERR_MILLRACE_TIMEOUT', 'no answer')
  }

  // Where to send.

  /** The map has changed: nothing more goes to an old leader, and what is in flight there is waited for first. */
  routeChanged(): void {
    if (this.#closed) return
    const { cluster } = this.#owner
    const link = cluster.linkOf(this.#route)
    if (link === (this.#outbox?.link ?? null)) return
    if (this.#inFlight.some((batch) => batch.onWire)) {
      this.#outbox?.detach(this)
      this.#beginDrain(0)
    } else if (!this.#draining) this.#resume()
  }

  #place(): void {
    const link = this.#owner.cluster.linkOf(this.#route)
    if (link === (this.#outbox?.link ?? null)) {
      if (this.#outbox !== null) this.#outbox.attach(this)
      return
    }
    this.#outbox?.detach(this)
    this.#outbox = link === null ? null : this.#owner.outboxOf(link)
    this.#outbox?.attach(this)
  }

  // Time.

  /** Ends what is older than `deliveryTimeoutMs`; returns whether anything is still unresolved. */
  sweep(nowMs: number): boolean {
    const latestMs = nowMs - this.#owner.options.deliveryTimeoutMs
    for (const batch of [...this.#inFlight]) {
      if (batch.createdMs > latestMs) break
      if (batch.onWire) batch.ambiguous = true
      batch.onWire = false
      this.#beginDrain(0)
      this.#giveUp(batch, this.#timedOut(batch))
    }
    this.#settleDrain()
    while (this.#full[0] !== undefined && this.#full[0].createdMs <= latestMs) {
      const batch = this.#full.shift()!
      this.#fail(batch, this.#timedOut(batch), 'failed')
    }
    if (this.#open !== null && this.#open.createdMs <= latestMs) {
      const batch = this.#open
      this.#open = null
      this.#fail(batch, this.#timedOut(batch), 'failed')
    }
    return this.#inFlight.length > 0 || this.#full.length > 0 || this.#open !== null
  }

  #timedOut(batch: PendingBatch): MillraceError {
    const detail = `not acknowledged within ${this.#owner.options.deliveryTimeoutMs} ms`
    const cause = batch.lastError ?? this.#lastError ?? undefined
    const why = cause === undefined ? detail : `${detail}: ${cause.detail}`
    return new MillraceError('ERR_MILLRACE_DELIVERY_TIMEOUT', why, { cause })
  }

  /** Ends everything at once: what was never sent has failed, what was sent is unknown. */
  close(error: MillraceError): void {
    if (this.#closed) return
    this.#closed = true
    this.#retryTimer?.cancel()
    this.#outbox?.detach(this)
    const sent = this.#inFlight
    const unsent = [...this.#full, ...(this.#open === null ? [] : [this.#open])]
    this.#inFlight = []
    this.#full.length = 0
    this.#open = null
    for (const batch of sent) this.#fail(batch, error, batch.onWire || batch.ambiguous ? 'unknown' : 'failed')
    for (const batch of unsent) this.#fail(batch, error, 'failed')
  }
}
