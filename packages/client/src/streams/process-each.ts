// processEach: asynchronous work on each record with real back-pressure. A record counts as finished when its work is
// done, so that a slow handler holds back the broker's reads instead of filling memory.
import { Observable, type OperatorFunction, type Subscriber } from 'rxjs'
import { MillraceError } from '../errors.js'
import { integer, onlyKnown } from '../options.js'
import { type Claim, claimCurrent } from '../settlement.js'

export interface ProcessOptions {
  /** Records worked on at once. Default 1: one after the other, in order. */
  readonly concurrency?: number
}

const MAX_CONCURRENCY = 1_000_000

/**
 * Runs `work` for each value and emits its result. Values may be filtered or mapped before, but only synchronously:
 * behind an asynchronous operator the subscription fails with ERR_MILLRACE_NOT_IN_DELIVERY. When `work` throws or
 * rejects, nothing new is begun, work in progress is awaited, and then the error is emitted.
 */
export function processEach<T, R>(
  work: (value: T) => Promise<R> | R,
  options: ProcessOptions = {},
): OperatorFunction<T, R> {
  onlyKnown('processEach()', options, ['concurrency'])
  const concurrency = integer('concurrency', options.concurrency ?? 1, 1, MAX_CONCURRENCY)
  return (source) =>
    new Observable((subscriber) => {
      const worker = new Worker(work, concurrency, subscriber)
      // Added first: a failure while subscribing must be able to stop the source.
      subscriber.add(() => worker.drop())
      worker.follow(source)
    })
}

/** The error of an operator that does not see records while they are delivered. */
export function notInDelivery(operator: string): MillraceError {
  const detail = `${operator} got a value outside of the delivery of a record`
  return new MillraceError('ERR_MILLRACE_NOT_IN_DELIVERY', detail, { fatal: true })
}

class Worker<T, R> {
  readonly #work: (value: T) => Promise<R> | R
  readonly #concurrency: number
  readonly #subscriber: Subscriber<R>
  readonly #source = new Detachable()
  /** Claimed and not begun; `#head` is the first. Bounded by the credit of the subscription. */
  #queue: { readonly value: T; readonly claim: Claim }[] = []
  #head = 0
  #active = 0
  #sourceDone = false
  #failure: { readonly error: unknown } | null = null
  #dropped = false

  constructor(work: (value: T) => Promise<R> | R, concurrency: number, subscriber: Subscriber<R>) {
    this.#work = work
    this.#concurrency = concurrency
    this.#subscriber = subscriber
  }

  follow(source: Observable<T>): void {
    this.#source.hold(
      source.subscribe({
        next: (value) => this.#take(value),
        error: (error) => this.#fail(error),
        complete: () => {
          this.#sourceDone = true
          this.#finishWhenIdle()
        },
      }),
    )
  }

  drop(): void {
    this.#dropped = true
    this.#clearQueue()
    this.#source.detach()
  }

  /** What was not begun will not be: another branch of the pipeline may go on and must not wait for it. */
  #clearQueue(): void {
    const left = this.#queue.slice(this.#head)
    this.#queue = []
    this.#head = 0
    for (const { claim } of left) claim.letGo()
  }

  #take(value: T): void {
    if (this.#failure !== null || this.#dropped) return
    const claim = claimCurrent()
    if (claim === null) {
      this.#fail(notInDelivery('processEach()'))
      return
    }
    claim.onAbandon = () => {
      this.#subscriber.complete()
    }
    if (this.#active >= this.#concurrency) this.#queue.push({ value, claim })
    else this.#begin(value, claim)
  }

  #begin(value: T, claim: Claim): void {
    this.#active++
    let result: Promise<R> | R
    try {
      result = this.#work(value)
    } catch (error) {
      this.#active--
      this.#fail(error)
      return
    }
    if (!isPromise(result)) {
      this.#done(claim, result)
      return
    }
    result.then(
      (awaited) => {
        this.#done(claim, awaited)
        this.#beginNext()
      },
      (error: unknown) => {
        this.#active--
        this.#fail(error)
      },
    )
  }

  #done(claim: Claim, result: R): void {
    this.#active--
    claim.settle()
    if (!this.#dropped) this.#subscriber.next(result)
  }

  #beginNext(): void {
    while (this.#active < this.#concurrency && this.#head < this.#queue.length && this.#failure === null) {
      const { value, claim } = this.#queue[this.#head++]!
      this.#begin(value, claim)
    }
    if (this.#head === this.#queue.length) {
      this.#queue = []
      this.#head = 0
    }
    this.#finishWhenIdle()
  }

  #fail(error: unknown): void {
    if (this.#failure === null) {
      this.#failure = { error }
      this.#clearQueue()
      this.#source.detach()
    }
    this.#finishWhenIdle()
  }

  #finishWhenIdle(): void {
    if (this.#active > 0 || this.#dropped) return
    if (this.#failure !== null) this.#subscriber.error(this.#failure.error)
    else if (this.#sourceDone && this.#queue.length === 0) this.#subscriber.complete()
  }
}

/** A subscription that can be ended before it is known, as when the source emits while it is being subscribed to. */
export class Detachable {
  #subscription: { unsubscribe(): void } | null = null
  #detached = false

  hold(subscription: { unsubscribe(): void }): void {
    this.#subscription = subscription
    if (this.#detached) subscription.unsubscribe()
  }

  detach(): void {
    this.#detached = true
    this.#subscription?.unsubscribe()
  }
}

function isPromise<R>(result: Promise<R> | R): result is Promise<R> {
  return typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
}
