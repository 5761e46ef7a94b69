// `for await` over a subscription: a record, or a batch, is finished when the next one is asked for.
import type { ClientEnvironment } from './environment.js'
import type { MillraceError } from './errors.js'
import type { Inbox } from './inbox.js'
import { DELIVERY_TURN_RECORDS } from './limits.js'
import type { Session, SessionSink } from './session.js'
import type { Claim } from './settlement.js'

type Result<T> = IteratorResult<T, undefined>

interface Waiter<T> {
  resolve(result: Result<T>): void
  reject(error: MillraceError): void
}

const DONE = { value: undefined, done: true } as const

export class RecordIterator<K, V, T> implements AsyncIterableIterator<T, undefined, undefined>, SessionSink {
  readonly #environment: ClientEnvironment
  readonly #session: Session<K, V>
  readonly #takeFrom: (inbox: Inbox<K, V>) => T | null
  readonly #waiters: Waiter<T>[] = []
  #started = false
  #ended = false
  #error: MillraceError | null = null
  #takenInTurn = 0
  /** On the record handed out last, where somebody waits for it to be finished. */
  #claim: Claim | null = null

  /** @param takeFrom what is taken each time. */
  constructor(
    environment: ClientEnvironment,
    open: (sink: SessionSink, settles: boolean) => Session<K, V>,
    takeFrom: (inbox: Inbox<K, V>) => T | null,
  ) {
    this.#environment = environment
    this.#takeFrom = takeFrom
    this.#session = open(this, true)
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<Result<T>> {
    this.#claim?.settle()
    this.#claim = null
    if (!this.#started) {
      this.#started = true
      this.#session.start()
    }
    if (this.#waiters.length === 0 && this.#takenInTurn < DELIVERY_TURN_RECORDS) {
      const record = this.#take()
      if (record !== null) {
        return Promise.resolve({ value: record, done: false })
      }
      if (this.#ended) return this.#last()
    }
    return new Promise((resolve, reject) => {
      this.#waiters.push({ resolve, reject })
      if (this.#takenInTurn >= DELIVERY_TURN_RECORDS) this.#letTheLoopTurn()
    })
  }

  return(): Promise<Result<T>> {
    this.#ended = true
    this.#session.stop()
    this.#settleWaiters()
    return Promise.resolve(DONE)
  }

  onAvailable(): void {
    if (this.#takenInTurn < DELIVERY_TURN_RECORDS) this.#serve()
  }

  onEnd(error: MillraceError | null): void {
    this.#ended = true
    this.#error = error
    this.#settleWaiters()
  }

  #take(): T | null {
    const record = this.#session.take(this.#takeFrom)
    if (record === null) return null
    this.#takenInTurn++
    if (this.#session.source !== null) {
      this.#claim = this.#session.claim()
      this.#claim.begin()
    }
    return record
  }

  /** A loop over records that are there already must not keep the process from reading more. */
  #letTheLoopTurn(): void {
    this.#environment.defer(() => {
      this.#takenInTurn = 0
      this.#serve()
      if (this.#ended) this.#settleWaiters()
    })
  }

  #serve(): void {
    while (this.#waiters.length > 0) {
      const record = this.#take()
      if (record === null) return
      this.#waiters.shift()?.resolve({ value: record, done: false })
    }
    this.#takenInTurn = 0
  }

  #last(): Promise<Result<T>> {
    const error = this.#error
    this.#error = null
    return error === null ? Promise.resolve(DONE) : Promise.reject(error)
  }

  #settleWaiters(): void {
    for (const waiter of this.#waiters.splice(0)) this.#last().then(waiter.resolve, waiter.reject)
  }
}
