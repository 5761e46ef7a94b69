// What `subscribe` returns: one object that is an RxJS Observable and an async iterable. Cold: each subscribe, and each
// loop, is a session of its own.
import { Observable, type Subscriber } from 'rxjs'
import type { ClientEnvironment } from '../environment.js'
import type { MillraceError } from '../errors.js'
import type { Inbox } from '../inbox.js'
import { DELIVERY_CLOCK_RECORDS, DELIVERY_TURN_MS, DELIVERY_TURN_RECORDS } from '../limits.js'
import { onlyKnown } from '../options.js'
import type { ConsumerRecord } from '../record.js'
import type { RecordBatch } from '../record-batch.js'
import { RecordIterator } from '../record-iterator.js'
import type { Session, SessionSink } from '../session.js'
import { beginDelivery, endDelivery, isSettled } from '../settlement.js'

/** @param settles whether it is known when a record is finished. */
export type OpenSession<K, V> = (sink: SessionSink, settles: boolean) => Session<K, V>

/** What a stream hands over one by one: records, or batches. */
interface Unit<K, V, T> {
  readonly takeFrom: (inbox: Inbox<K, V>) => T | null
  /** The clock is looked at once in so many. */
  readonly perClock: number
}

export interface BatchesOptions {
  /**
   * A batch, the views and the records made from it are valid until the batch is finished, and what is to be kept longer is
   * copied: its memory then takes the next ones, which spares the collector most of its work. Default false: for ever.
   */
  readonly reuseMemory?: boolean
}

/** An Observable and an async iterable over one subscription, cold. */
export class DeliveryStream<K, V, T> extends Observable<T> implements AsyncIterable<T> {
  readonly #environment: ClientEnvironment
  readonly #open: OpenSession<K, V>
  readonly #unit: Unit<K, V, T>

  /** @internal */
  constructor(environment: ClientEnvironment, open: OpenSession<K, V>, unit: Unit<K, V, T>) {
    super((subscriber) => {
      const pump = new DeliveryPump<K, V, T>(environment, subscriber, open, unit)
      return () => pump.session.stop()
    })
    this.#environment = environment
    this.#open = open
    this.#unit = unit
  }

  /** A session that gives the next when it is asked for it; asking finishes the one before. */
  [Symbol.asyncIterator](): AsyncIterableIterator<T, undefined, undefined> {
    return new RecordIterator(this.#environment, this.#open, this.#unit.takeFrom)
  }
}

export class RecordStream<K, V> extends DeliveryStream<K, V, ConsumerRecord<K, V>> {
  readonly #batches: (open: OpenSession<K, V>) => DeliveryStream<K, V, RecordBatch<K, V>>
  readonly #open: OpenSession<K, V>

  /** @internal */
  constructor(environment: ClientEnvironment, open: OpenSession<K, V>) {
    super(environment, open, { takeFrom: (inbox) => inbox.take(), perClock: DELIVERY_CLOCK_RECORDS })
    this.#open = open
    const unit: Unit<K, V, RecordBatch<K, V>> = { takeFrom: (inbox) => inbox.takeBatch(), perClock: 1 }
    this.#batches = (opening) => new DeliveryStream(environment, opening, unit)
  }

  /**
   * The same subscription in whole batches, as they were sent: no object for each record, and nothing decoded before it is
   * looked at, so `onDecodeError` is not asked and interceptors see nothing. A batch is finished as one, by the same rules as
   * a record: under processEach() and processByPartition() when the work on it is done.
   */
  batches(options: BatchesOptions = {}): DeliveryStream<K, V, RecordBatch<K, V>> {
    onlyKnown('batches()', options, ['reuseMemory'])
    const open = this.#open
    if (options.reuseMemory !== true) return this.#batches(open)
    return this.#batches((sink, settles) => {
      const session = open(sink, settles)
      session.reusable = session.cluster.frames.want()
      return session
    })
  }
}

/** Pushes what is delivered into a subscriber, a turn at a time. */
class DeliveryPump<K, V, T> implements SessionSink {
  readonly session: Session<K, V>
  readonly #environment: ClientEnvironment
  readonly #subscriber: Subscriber<T>
  readonly #unit: Unit<K, V, T>
  #scheduled = false

  constructor(environment: ClientEnvironment, subscriber: Subscriber<T>, open: OpenSession<K, V>, unit: Unit<K, V, T>) {
    this.#environment = environment
    this.#subscriber = subscriber
    this.#unit = unit
    this.session = open(this, isSettled())
    this.session.start()
  }

  onAvailable(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#environment.defer(() => {
      this.#scheduled = false
      this.#deliver()
    })
  }

  onEnd(error: MillraceError | null): void {
    if (error === null) this.#subscriber.complete()
    else this.#subscriber.error(error)
  }

  #deliver(): void {
    const { session } = this
    const { takeFrom, perClock } = this.#unit
    const subscriber = this.#subscriber
    const startMs = this.#environment.monotonicMs()
    const outer = beginDelivery(session)
    try {
      for (let delivered = 1; !subscriber.closed; delivered++) {
        const record = session.take(takeFrom)
        if (record === null) return
        subscriber.next(record)
        if (delivered % perClock !== 0) continue
        if (delivered >= DELIVERY_TURN_RECORDS || this.#environment.monotonicMs() - startMs >= DELIVERY_TURN_MS) {
          session.handedOver()
          this.onAvailable()
          return
        }
      }
    } finally {
      endDelivery(outer)
    }
  }
}
