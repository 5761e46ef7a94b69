// Brings iteration back to the end of a pipeline, which is a plain Observable.
import type { Observable, Subscription } from 'rxjs'
import { MillraceError } from '../errors.js'
import { integer, onlyKnown } from '../options.js'
import { type Claim, claimCurrent, subscribeToSettle } from '../settlement.js'

export interface ToAsyncIterableOptions {
  /** Values held that nothing holds back. Default 1,000. */
  readonly bufferRecords?: number
}

/**
 * Iterates over an observable. Values that arrive while a record of a subscription is delivered hold that record back,
 * and with it the broker, until the value after them is asked for. Values behind an asynchronous operator cannot be
 * held back: when more than `bufferRecords` of them wait, iteration fails with ERR_MILLRACE_ITERATOR_OVERFLOW.
 */
export function toAsyncIterable<T>(source: Observable<T>, options: ToAsyncIterableOptions = {}): AsyncIterable<T> {
  onlyKnown('toAsyncIterable()', options, ['bufferRecords'])
  const bufferRecords = integer('bufferRecords', options.bufferRecords ?? 1_000, 1, 2 ** 31 - 1)
  return { [Symbol.asyncIterator]: () => new ObservableIterator(source, bufferRecords) }
}

/** An iterator over either: what iterates by itself does so. */
export function iteratorOf<T>(
  source: Observable<T> | AsyncIterable<T>,
  options: ToAsyncIterableOptions,
): AsyncIterator<T> {
  const iterable = Symbol.asyncIterator in source ? source : toAsyncIterable(source, options)
  return iterable[Symbol.asyncIterator]()
}

interface Waiter<T> {
  resolve(result: IteratorResult<T, undefined>): void
  reject(error: unknown): void
}

/** A value nobody asked for yet; without a claim it could not be held back. */
interface Held<T> {
  readonly value: T
  readonly claim: Claim | null
}

const DONE = { value: undefined, done: true } as const

class ObservableIterator<T> implements AsyncIterableIterator<T, undefined, undefined> {
  readonly #source: Observable<T>
  readonly #bufferRecords: number
  #subscription: Subscription | null = null
  #values: Held<T>[] = []
  #head = 0
  #unclaimed = 0
  #handedOut: Claim | null = null
  readonly #waiters: Waiter<T>[] = []
  #end: { readonly error: unknown } | 'completed' | null = null

  constructor(source: Observable<T>, bufferRecords: number) {
    this.#source = source
    this.#bufferRecords = bufferRecords
  }

  [Symbol.asyncIterator](): this {
    return this
  }

  next(): Promise<IteratorResult<T, undefined>> {
    this.#subscription ??= subscribeToSettle(() => this.#subscribe())
    this.#handedOut?.settle()
    this.#handedOut = null
    for (let item = this.#shift(); item !== null; item = this.#shift()) {
      const { value, claim } = item
      // The subscription may have ended in good order meanwhile; then the value is for another time.
      if (claim === null || claim.begin()) return Promise.resolve(this.#handOut(value, claim))
    }
    return this.#end === null ? this.#wait() : this.#last()
  }

  #subscribe(): Subscription {
    return this.#source.subscribe({
      next: (value) => this.#take(value),
      error: (error: unknown) => this.#finish({ error }),
      complete: () => this.#finish('completed'),
    })
  }

  #shift(): Held<T> | null {
    const item = this.#values[this.#head]
    if (item === undefined) return null
    this.#head++
    if (this.#head === this.#values.length) {
      this.#values = []
      this.#head = 0
    }
    return item
  }

  return(): Promise<IteratorResult<T, undefined>> {
    this.#subscription?.unsubscribe()
    this.#end ??= 'completed'
    this.#letGo()
    for (const waiter of this.#waiters.splice(0)) waiter.resolve(DONE)
    return Promise.resolve(DONE)
  }

  /** Nobody will ask for what is held. */
  #letGo(): void {
    const held = this.#values.slice(this.#head)
    this.#values = []
    this.#head = 0
    for (const { claim } of held) claim?.letGo()
    this.#handedOut?.letGo()
    this.#handedOut = null
  }

  #wait(): Promise<IteratorResult<T, undefined>> {
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }

  #handOut(value: T, claim: Claim | null): IteratorResult<T, undefined> {
    this.#handedOut = claim
    if (claim === null) this.#unclaimed--
    return { value, done: false }
  }

  #take(value: T): void {
    if (this.#end !== null) return
    const claim = claimCurrent()
    if (claim === null) this.#unclaimed++
    const waiter = this.#waiters.shift()
    if (waiter !== undefined) {
      claim?.begin()
      waiter.resolve(this.#handOut(value, claim))
      return
    }
    this.#values.push({ value, claim })
    if (this.#unclaimed <= this.#bufferRecords) return
    const detail = `${this.#unclaimed} values wait to be iterated over`
    this.#finish({ error: new MillraceError('ERR_MILLRACE_ITERATOR_OVERFLOW', detail, { fatal: true }) })
    this.#subscription?.unsubscribe()
    this.#letGo()
  }

  #finish(end: { readonly error: unknown } | 'completed'): void {
    this.#end ??= end
    for (const waiter of this.#waiters.splice(0)) this.#last().then(waiter.resolve, waiter.reject)
  }

  #last(): Promise<IteratorResult<T, undefined>> {
    const end = this.#end
    this.#end = 'completed'
    return end === null || end === 'completed' ? Promise.resolve(DONE) : Promise.reject(end.error)
  }
}
