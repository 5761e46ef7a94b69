// The records of one producer for one partition: batches that fill, batches in flight, and what happens when one is
// refused or lost, so that each record is in the log at most once and in the order it was sent.
//
// Invariant: after a refusal nothing is sent until every batch in flight has an answer, or a newer leader is known;
// then the lowest unresolved one goes first, and the others after it in their order. An epoch ends when a sequence in it
// can no longer be filled, and never while an answer to an attempt is awaited.
import {
  type Acks,
  type BatchIdentity,
  type ErrorName,
  errorName,
  type ProduceResult,
  type Route,
} from '@millrace/protocol'
import type { Backoff } from './backoff.js'
import type { RecordWaiter } from './delivery.js'
import type { ClientTimer } from './environment.js'
import { errorOfCode, MillraceError, protocolName } from './errors.js'
import { InFlightBatches } from './in-flight-batches.js'
import { AT_ONCE_BYTES, LANE } from './limits.js'
import type { Attempt, BatchSource, Outbox } from './outbox.js'
import { PendingBatch } from './pending-batch.js'
import { outcomeError, timedOut } from './produce-errors.js'
import { judgeRefusal, type Verdict } from './produce-verdict.js'
import type { QueueOwner } from './queue-owner.js'

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
  readonly #inFlight = new InFlightBatches()
  #draining = false
  #retryTimer: ClientTimer | null = null
  #retryDelayMs = 0
  #outbox: Outbox | null = null
  /** The route that led to the present outbox. */
  #placed: Route = NO_ROUTE
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

  get routeVersion(): Route {
    return this.#owner.cluster.map.route(this.topicId, this.partition) ?? NO_ROUTE
  }

  /** It has a leader, and nothing waits before the batch that takes records. */
  get flows(): boolean {
    return this.#outbox !== null && !this.#draining && this.#full.length === 0
  }

  /** A batch has been begun, has room for so many bytes more, and leaves as soon as it is its turn. */
  hasRoom(byteLength: number): boolean {
    const open = this.#open
    return open !== null && this.flows && open.builder.byteLength + byteLength <= this.#owner.options.batchBytes
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
    if (this.#outbox === null) this.#owner.cluster.router.awaitLeader()
    else this.#outbox.mark(this)
    if (batch.builder.byteLength >= AT_ONCE_BYTES && this.#inFlight.size === 0) this.#owner.onRipe(this)
    return batch
  }

  /** Nothing of the partition is on its way and its batch is worth a frame: it does not wait for the end of the turn. */
  sendRipe(): void {
    if (this.#inFlight.size === 0) this.#outbox?.sendAtOnce(this)
  }

  #openBatch(): PendingBatch {
    this.#open = null
    const { options, buffers, cluster } = this.#owner
    return new PendingBatch(options.batchBytes, buffers.take(this.#expectedBytes), cluster.environment.monotonicMs())
  }

  /** Batches without an outcome, oldest first. */
  unresolved(): PendingBatch[] {
    return [...this.#inFlight.all, ...this.#full, ...(this.#open === null ? [] : [this.#open])]
  }

  // What the outbox asks.

  get nextBytes(): number {
    if (this.#draining || this.#closed) return 0
    const { again } = this.#inFlight
    if (again !== undefined) return again.frameBytes
    if (this.#inFlight.size >= this.#owner.options.inFlightBatches) return 0
    return (this.#full[0] ?? this.#open)?.frameBytes ?? 0
  }

  take(): PendingBatch {
    const batch = this.#inFlight.again ?? this.#stampNext()
    batch.beginAttempt()
    return batch
  }

  #stampNext(): PendingBatch {
    let batch = this.#full.shift()
    if (batch === undefined) {
      batch = this.#open!
      this.#open = null
    }
    const { cluster, compression, options, producerId } = this.#owner
    const identity: BatchIdentity = {
      topicId: this.topicId,
      partition: this.partition,
      lane: LANE,
      control: false,
      producer: producerId,
      ...this.#inFlight.nextIdentity(),
    }
    this.#expectedBytes = Math.min(batch.builder.byteLength, options.batchBytes)
    batch.stamp(identity, cluster.environment.checksum, compression)
    this.#inFlight.add(batch)
    // Without answers a lost batch would leave a hole that nothing after it gets past: each is an epoch of its own.
    if (options.acks === 'none') this.#inFlight.beginNextEpoch()
    return batch
  }

  // Outcomes.

  onHandedOver(batch: PendingBatch): void {
    this.#acknowledge(batch, null)
  }

  onResult(batch: PendingBatch, attempt: Attempt, result: ProduceResult, throttleMs: number): void {
    const { router } = this.#owner.cluster
    const { route, code } = result
    const { asked, link } = attempt
    // The answer to an attempt that is not waited for any more is news of the partition all the same, and an
    // acknowledgement of the batch: whichever attempt was appended, the batch is.
    const awaited = batch.answered(attempt.number)
    if (code === 0) {
      router.served(this.topicId, this.partition, link, route)
      this.#backoff.reset()
      if (!batch.done) this.#acknowledge(batch, result.baseOffset)
      this.#settleDrain()
      return
    }
    const name = errorName(code)
    const context = { topic: this.#owner.topicName, partition: this.partition }
    if (awaited) this.#refused(batch, errorOfCode(code, result.detail, context), judgeRefusal(name))
    const refused = name === 'NOT_LEADER'
    if (refused) router.refused(this.topicId, this.partition, asked, route)
    const mayGoOn = router.learn(this.topicId, this.partition, route) || refused
    if (awaited) this.#retryAfter(this.#delayMs(batch, name, mayGoOn, throttleMs))
  }

  /** How long to wait after a refusal before the batch is sent again. */
  #delayMs(batch: PendingBatch, name: ErrorName | null, mayGoOn: boolean, throttleMs: number): number {
    // Only batches before this one, which are sent first now, were in the way.
    if (mayGoOn || (batch.missesEarlier && batch.sequence > 0)) return 0
    // The map names the topic: the broker has yet to hear of it, or it was deleted a moment ago.
    if (name === 'UNKNOWN_TOPIC' || name === 'UNKNOWN_PARTITION') this.#owner.cluster.router.suspect()
    return Math.max(this.#backoff.next(), throttleMs)
  }

  onUnanswered(batch: PendingBatch, attempt: Attempt, error: MillraceError, why: 'refused' | 'timeout' | 'lost'): void {
    if (!batch.answered(attempt.number)) return
    if (why === 'refused') {
      this.#refused(batch, error, judgeRefusal(protocolName(error)))
      this.#retryAfter(this.#backoff.next())
      return
    }
    this.#refused(batch, error, { retry: true, ambiguous: true, missesEarlier: false })
    // After a loss the link waits by itself before it is there again; a time-out may mean that the route is stale.
    if (why === 'timeout') this.#owner.cluster.router.suspect()
    this.#retryAfter(why === 'timeout' ? this.#backoff.next() : 0)
  }

  onLinkLost(error: MillraceError): void {
    this.#lastError = error
  }

  /** Takes down what an attempt has come to; nothing more is sent before `#retryAfter`. */
  #refused(batch: PendingBatch, error: MillraceError, { retry, ambiguous, missesEarlier }: Verdict): void {
    // That one before it is missing says nothing to a user: what was in the way of that one does.
    const reason = missesEarlier ? (this.#inFlight.all[0]?.lastError ?? this.#lastError ?? error) : error
    this.#lastError = reason
    this.#draining = true
    batch.missesEarlier = missesEarlier
    if (batch.done) return
    batch.lastError = reason
    if (ambiguous) batch.ambiguous = true
    if (!retry) this.#giveUp(batch, error)
  }

  /** Ends a batch that has a sequence: those after it need another epoch. */
  #giveUp(batch: PendingBatch, error: MillraceError): void {
    this.#inFlight.giveUp(batch)
    this.#fail(batch, error, batch.ambiguous ? 'unknown' : 'failed')
  }

  #acknowledge(batch: PendingBatch, baseOffset: number | null): void {
    batch.onWire = false
    // What was in the way is so no longer.
    this.#lastError = null
    this.#inFlight.remove(batch)
    const buffer = this.acks === 'none' ? null : batch.reusableBuffer
    batch.acknowledge(this.partition, baseOffset)
    if (buffer !== null) this.#owner.buffers.giveBack(buffer)
    this.#owner.onDone(batch, this.partition, null)
    if (!this.#draining && this.nextBytes > 0) this.#outbox?.mark(this)
  }

  #fail(batch: PendingBatch, error: MillraceError, outcome: 'failed' | 'unknown'): void {
    const final = outcomeError(this.#owner.topicName, this.partition, batch, error, outcome)
    batch.fail(this.partition, final)
    this.#owner.onDone(batch, this.partition, final)
  }

  // Draining: nothing is sent until every batch in flight has an answer.

  /** Sends what is unresolved again after `delayMs`, once all answers are there. */
  #retryAfter(delayMs: number): void {
    // A newer route may have been learned with the refusal, and everything be on its way there.
    if (!this.#draining) return
    this.#retryDelayMs = Math.max(this.#retryDelayMs, delayMs)
    this.#settleDrain()
  }

  #settleDrain(): void {
    if (!this.#draining || this.#closed || this.#retryTimer !== null || this.#inFlight.anyOnWire) return
    if (this.#inFlight.epochIsOver) this.#beginEpoch()
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
    const unresolved = this.#inFlight.takeAll()
    this.#inFlight.beginNextEpoch()
    const again: PendingBatch[] = []
    for (const batch of unresolved) {
      // An attempt that may be in the log must not get another sequence: the broker could not tell it is the same.
      if (batch.ambiguous)
        this.#fail(
          batch,
          batch.lastError ?? this.#lastError ?? new MillraceError('ERR_MILLRACE_TIMEOUT', 'no answer'),
          'unknown',
        )
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

  // Where to send.

  /** The map has changed: nothing more goes to an old leader, and nothing that is on its way there is waited for. */
  routeChanged(): void {
    if (this.#closed) return
    const { router } = this.#owner.cluster
    const route = this.routeVersion
    const link = router.linkOf(this.topicId, this.partition)
    const before = this.#placed
    if (link === (this.#outbox?.link ?? null)) {
      if (link === null && this.unresolved().length > 0) router.awaitLeader()
      else if (route.term > before.term) link?.nodeIsUp()
      this.#placed = route
      return
    }
    const sameReign = route.term === before.term && route.nodeId === before.nodeId
    if (sameReign && link !== null && this.#inFlight.anyOnWire) {
      // Another core of the same leader: its answers come, and the batches are not there yet for all they know.
      this.#outbox?.detach(this)
      this.#draining = true
      return
    }
    this.#inFlight.abandonAttempts()
    this.#retryTimer?.cancel()
    this.#retryTimer = null
    this.#retryDelayMs = 0
    this.#draining = true
    this.#settleDrain()
  }

  #place(): void {
    const { router } = this.#owner.cluster
    const link = router.linkOf(this.topicId, this.partition)
    this.#placed = this.routeVersion
    if (link === (this.#outbox?.link ?? null)) {
      if (this.#outbox !== null) this.#outbox.attach(this)
    } else {
      this.#outbox?.detach(this)
      this.#outbox = link === null ? null : this.#owner.outboxOf(link)
      this.#outbox?.attach(this)
    }
    if (link === null && this.unresolved().length > 0) router.awaitLeader()
  }

  // Time.

  /** Ends what is older than `deliveryTimeoutMs`; returns whether anything is still unresolved. */
  sweep(nowMs: number): boolean {
    const latestMs = nowMs - this.#owner.options.deliveryTimeoutMs
    for (const batch of [...this.#inFlight.all]) {
      if (batch.createdMs > latestMs) break
      if (batch.onWire) batch.ambiguous = true
      batch.onWire = false
      this.#draining = true
      this.#giveUp(batch, this.#timedOut(batch))
    }
    this.#settleDrain()
    for (;;) {
      const batch = this.#full[0] ?? this.#open
      if (batch === null || batch.createdMs > latestMs) break
      if (this.#full.shift() === undefined) this.#open = null
      this.#fail(batch, this.#timedOut(batch), 'failed')
    }
    return this.#inFlight.size > 0 || this.#full.length > 0 || this.#open !== null
  }

  #timedOut(batch: PendingBatch): MillraceError {
    return timedOut(this.#owner.options.deliveryTimeoutMs, batch.lastError ?? this.#lastError)
  }

  /** Ends everything at once: what was never sent has failed, what was sent is unknown. */
  close(error: MillraceError): void {
    if (this.#closed) return
    this.#closed = true
    this.#retryTimer?.cancel()
    this.#outbox?.detach(this)
    const sent = this.#inFlight.takeAll()
    const unsent = [...this.#full, ...(this.#open === null ? [] : [this.#open])]
    this.#full.length = 0
    this.#open = null
    for (const batch of sent) this.#fail(batch, error, batch.onWire || batch.ambiguous ? 'unknown' : 'failed')
    for (const batch of unsent) this.#fail(batch, error, 'failed')
  }
}
