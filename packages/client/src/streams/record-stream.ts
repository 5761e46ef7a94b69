// What `subscribe` returns: one object that is an RxJS Observable and an async iterable. Cold: each subscribe, and each
// loop, is a session of its own.
import { Observable, type Subscriber } from 'rxjs'
import type { ClientEnvironment } from '../environment.js'
import type { MillraceError } from '../errors.js'
import { DELIVERY_CLOCK_RECORDS, DELIVERY_TURN_MS, DELIVERY_TURN_RECORDS } from '../limits.js'
import type { ConsumerRecord } from '../record.js'
import { RecordIterator } from '../record-iterator.js'
import type { Session, SessionSink } from '../session.js'
import { beginDelivery, endDelivery, isSettled } from '../settlement.js'

/** @param settles whether it is known when a record is finished. */
export type OpenSession<K, V> = (sink: SessionSink, settles: boolean) => Session<K, V>

export class RecordStream<K, V>
  extends Observable<ConsumerRecord<K, V>>
  implements AsyncIterable<ConsumerRecord<K, V>>
{
  readonly #environment: ClientEnvironment
  readonly #open: OpenSession<K, V>

  /** @internal */
  constructor(environment: ClientEnvironment, open: OpenSession<K, V>) {
    super((subscriber) => {
      const pump = new RecordPump<K, V>(environment, subscriber, open)
      return () => pump.session.stop()
    })
    this.#environment = environment
    this.#open = open
  }

  /** A session that gives the next record when it is asked for it; asking finishes the record before. */
  [Symbol.asyncIterator](): AsyncIterableIterator<ConsumerRecord<K, V>, undefined, undefined> {
    return new RecordIterator(this.#environment, this.#open)
  }
}

/** Pushes records into a subscriber, a turn at a time. */
class RecordPump<K, V> implements SessionSink {
  readonly session: Session<K, V>
  readonly #environment: ClientEnvironment
  readonly #subscriber: Subscriber<ConsumerRecord<K, V>>
  #scheduled = false

  constructor(environment: ClientEnvironment, subscriber: Subscriber<ConsumerRecord<K, V>>, open: OpenSession<K, V>) {
    this.#environment = environment
    this.#subscriber = subscriber
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
    const subscriber = this.#subscriber
    const startMs = this.#environment.monotonicMs()
    const outer = beginDelivery(session)
    try {
      for (let delivered = 1; !subscriber.closed; delivered++) {
        const record = session.take()
        if (record === null) return
        subscriber.next(record)
        if (delivered % DELIVERY_CLOCK_RECORDS !== 0) continue
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
