// How the client knows that a record is finished. A shipped operator claims the record that is being delivered, at the
// moment it sees it, and releases the claim when its work is done. Whatever nobody claimed is finished when next()
// has returned, or, under iteration, when the next record is asked for. Credit returns to the broker batch by batch,
// when nothing of a batch is unfinished.
import type { ByteProducer } from './dead-letter.js'
import type { ClientEnvironment } from './environment.js'
import type { MillraceError } from './errors.js'
import type { ConsumerRecord } from './record.js'
import type { MillStatus, StatusKind } from './status.js'

/** Whoever delivers records: keeps the claims on them. */
export interface Deliverer {
  /** A claim on what is being delivered now: a record, or a whole batch. */
  claim(): Claim
}

/** What the client that a record came from does for whoever works on it. */
export interface ClientServices {
  readonly environment: ClientEnvironment
  /** Tells on `status$`. */
  report(kind: StatusKind, message: string, fields: Omit<MillStatus, 'kind' | 'timestamp' | 'message'>): void
  /** A producer of bytes for a topic, shared by all who ask, closed with the client. @throws MillraceError CLOSED. */
  byteProducer(topic: string): ByteProducer
}

/** What was delivered, as the bytes it came in. */
export interface Origin {
  /** The record's key, a view into its batch; null for a record without a key and for a batch as a whole. */
  readonly key: Uint8Array | null
  /** The record, or all those of the batch, undecoded: views into the batch. */
  records(): readonly ConsumerRecord<Uint8Array, Uint8Array>[]
}

/** A record, or a whole batch, that somebody has to work on. */
export interface Claim {
  readonly topic: string
  readonly partition: number
  /** Of the record; of the first one, for a batch. */
  readonly offset: number
  readonly origin: Origin
  readonly client: ClientServices
  /**
   * Work is about to begin. False when it must not, since the subscription no longer wants it; then there is nothing to
   * settle. Work that has begun is waited for when the subscription ends in good order, other work is not.
   */
  begin(): boolean
  /** The work is done. Further calls do nothing. */
  settle(): void
  /** The work will not be done by this claimant: others and the end of the subscription do not wait for it. */
  letGo(): void
  /** Set by the claimant: called when the subscription ends without waiting for the work; null is an orderly end. */
  onAbandon: ((error: MillraceError | null) => void) | null
}

/** Invariant: set exactly while next() runs for one record; deliveries may nest, and each restores the one before. */
let delivering: Deliverer | null = null

export function beginDelivery(deliverer: Deliverer): Deliverer | null {
  const outer = delivering
  delivering = deliverer
  return outer
}

export function endDelivery(outer: Deliverer | null): void {
  delivering = outer
}

/** Claims the record being delivered; null outside of a delivery, as behind an asynchronous operator. */
export function claimCurrent(): Claim | null {
  return delivering?.claim() ?? null
}

/** Invariant: above zero exactly while an operator that settles subscribes to what is above it. */
let settlersWaiting = 0

/** Subscribes on behalf of an operator that settles what it gets. */
export function subscribeToSettle<T>(subscribe: () => T): T {
  settlersWaiting++
  try {
    return subscribe()
  } finally {
    settlersWaiting--
  }
}

/** Whether the subscription being made now is made by an operator that settles. */
export function isSettled(): boolean {
  return settlersWaiting > 0
}
