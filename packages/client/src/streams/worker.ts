// The core of every operator that works on records: claims what it gets, begins as much as may go on at once, settles what
// is done, and ends in good order. How records wait for each other is its scheduling: all in one line, or in lanes, of
// which each has one record being worked on.
import { Observable, type Subscriber } from 'rxjs'
import { closedError, MillraceError } from '../errors.js'
import { integer, onlyKnown } from '../options.js'
import type { ConsumerRecord } from '../record.js'
import { type Claim, claimCurrent, subscribeToSettle } from '../settlement.js'

export interface ProcessOptions {
  /** Records worked on at once. Default 1: one after the other, in order. */
  readonly concurrency?: number
}

/** What work is told besides the value it is given. */
export interface WorkContext {
  readonly topic: string
  readonly partition: number
  /** Of the record that the value came from; of the first one, for a batch. */
  readonly offset: number
  /** The key as bytes; null for a record without a key and for a batch. */
  readonly key: Uint8Array | null
  /** Aborted when the subscription ends without waiting for this work. */
  readonly signal: AbortSignal
  /** The record that the value came from, undecoded; all those of a batch. */
  records(): readonly ConsumerRecord<Uint8Array, Uint8Array>[]
}

/** What work returns to emit nothing. */
export const NO_RESULT: unique symbol = Symbol('no result')
export type NoResult = typeof NO_RESULT

/** Work on one value. */
export type Work<T, R> = (value: T, context: WorkContext) => Promise<R | NoResult> | R | NoResult

/** How the records of an operator wait for each other. */
export interface Scheduling {
  /** For messages. */
  readonly operator: string
  readonly concurrency: number
  /** Those with the same lane are worked on one after the other; null waits for nobody. */
  laneOf(claim: Claim): string | null
  /** Awaited before each beginning, so that nothing overtakes. */
  readonly gate?: () => Promise<void>
}

const MAX_CONCURRENCY = 1_000_000

/** @throws MillraceError INVALID_ARGUMENT. */
export function concurrencyOf(operator: string, options: ProcessOptions): number {
  onlyKnown(`${operator}()`, options, ['concurrency'])
  return integer('concurrency', options.concurrency ?? 1, 1, MAX_CONCURRENCY)
}

/** The results of `work` on each value of `source`, as they come. */
export function workOn<T, R>(source: Observable<T>, work: Work<T, R>, scheduling: Scheduling): Observable<R> {
  return new Observable((subscriber) => {
    const worker = new Worker(work, scheduling, subscriber)
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

/** One value from its claim to its end. */
export class Job<T> implements WorkContext {
  /** Behind it in the line of those that may begin. */
  nextReady: Job<T> | null = null
  /** Behind it in its lane. */
  nextInLane: Job<T> | null = null
  #abort: AbortController | null = null

  constructor(
    readonly value: T,
    readonly claim: Claim,
    readonly lane: Lane<T> | null,
    /** Those of work under way whose signal was asked for. */
    readonly watched: WatchedJobs,
  ) {}

  get topic(): string {
    return this.claim.topic
  }

  get partition(): number {
    return this.claim.partition
  }

  get offset(): number {
    return this.claim.offset
  }

  get key(): Uint8Array | null {
    return this.claim.origin.key
  }

  /** One for each: many that listen to the same are taken for a leak by runtimes. */
  get signal(): AbortSignal {
    if (this.#abort === null) {
      this.#abort = new AbortController()
      this.watched.add(this)
    }
    return this.#abort.signal
  }

  abort(): void {
    this.#abort?.abort(ended())
  }

  records(): readonly ConsumerRecord<Uint8Array, Uint8Array>[] {
    return this.claim.origin.records()
  }
}

class WatchedJobs {
  readonly #jobs = new Set<{ abort(): void }>()
  #isOver = false

  add(job: { abort(): void }): void {
    if (this.#isOver) job.abort()
    else this.#jobs.add(job)
  }

  delete(job: { abort(): void }): void {
    this.#jobs.delete(job)
  }

  abortAll(): void {
    this.#isOver = true
    for (const job of this.#jobs) job.abort()
    this.#jobs.clear()
  }
}

/** Jobs that must not overtake each other: one may begin, or has begun; the others wait. Gone when that one is the last. */
interface Lane<T> {
  readonly name: string
  first: Job<T> | null
  last: Job<T> | null
}

class Worker<T, R> {
  readonly #work: Work<T, R>
  readonly #scheduling: Scheduling
  readonly #subscriber: Subscriber<R>
  readonly #source = new Detachable()
  /** Lanes in use. Everything that waits is claimed, and so bounded by the credit of the subscription. */
  readonly #lanes = new Map<string, Lane<T>>()
  #firstReady: Job<T> | null = null
  #lastReady: Job<T> | null = null
  #active = 0
  #isAtGate = false
  #sourceDone = false
  #failure: { readonly error: unknown } | null = null
  #dropped = false
  readonly #watched = new WatchedJobs()

  constructor(work: Work<T, R>, scheduling: Scheduling, subscriber: Subscriber<R>) {
    this.#work = work
    this.#scheduling = scheduling
    this.#subscriber = subscriber
  }

  follow(source: Observable<T>): void {
    const subscription = subscribeToSettle(() =>
      source.subscribe({
        next: (value) => this.#take(value),
        error: (error) => this.#fail(error),
        complete: () => {
          this.#sourceDone = true
          this.#finishWhenIdle()
        },
      }),
    )
    this.#source.hold(subscription)
  }

  drop(): void {
    if (this.#dropped) return
    this.#dropped = true
    // First, so that what is let go of is not taken for settled.
    this.#source.detach()
    this.#letGoOfWaiting()
    this.#watched.abortAll()
  }

  /** What was not begun will not be: another branch of the pipeline may go on and must not wait for it. */
  #letGoOfWaiting(): void {
    for (let job = this.#firstReady; job !== null; job = job.nextReady) job.claim.letGo()
    for (const lane of this.#lanes.values()) {
      for (let job = lane.first; job !== null; job = job.nextInLane) job.claim.letGo()
    }
    this.#firstReady = null
    this.#lastReady = null
    this.#lanes.clear()
  }

  #take(value: T): void {
    if (this.#dropped) return
    const claim = claimCurrent()
    if (claim === null) {
      this.#fail(notInDelivery(`${this.#scheduling.operator}()`))
      return
    }
    claim.onAbandon = this.#onAbandon
    const job = this.#queue(value, claim)
    if (job === null) return
    if (this.#firstReady === null && this.#mayBegin() && this.#scheduling.gate === undefined) {
      this.#begin(job)
      return
    }
    this.#pushReady(job)
    this.#beginNext()
  }

  /** The job, if it need not wait in a lane. */
  #queue(value: T, claim: Claim): Job<T> | null {
    const name = this.#scheduling.laneOf(claim)
    if (name === null) return new Job(value, claim, null, this.#watched)
    const lane = this.#lanes.get(name)
    if (lane === undefined) {
      const opened: Lane<T> = { name, first: null, last: null }
      this.#lanes.set(name, opened)
      return new Job(value, claim, opened, this.#watched)
    }
    const job = new Job(value, claim, lane, this.#watched)
    if (lane.last === null) lane.first = job
    else lane.last.nextInLane = job
    lane.last = job
    return null
  }

  readonly #onAbandon = (error: MillraceError | null): void => {
    if (error === null) this.#subscriber.complete()
    else this.#subscriber.error(error)
  }

  #mayBegin(): boolean {
    return this.#active < this.#scheduling.concurrency && this.#failure === null && !this.#dropped
  }

  #pushReady(job: Job<T>): void {
    if (this.#lastReady === null) this.#firstReady = job
    else this.#lastReady.nextReady = job
    this.#lastReady = job
  }

  #shiftReady(): Job<T> | null {
    const job = this.#firstReady
    if (job === null) return null
    this.#firstReady = job.nextReady
    if (this.#firstReady === null) this.#lastReady = null
    return job
  }

  #beginNext(): void {
    if (this.#scheduling.gate !== undefined) {
      this.#passGate(this.#scheduling.gate)
      return
    }
    while (this.#mayBegin()) {
      const job = this.#shiftReady()
      if (job === null) break
      this.#begin(job)
    }
    this.#finishWhenIdle()
  }

  #passGate(gate: () => Promise<void>): void {
    if (this.#isAtGate || this.#firstReady === null || !this.#mayBegin()) {
      this.#finishWhenIdle()
      return
    }
    this.#isAtGate = true
    gate().then(
      () => {
        this.#isAtGate = false
        const job = this.#mayBegin() ? this.#shiftReady() : null
        if (job !== null) this.#begin(job)
        this.#beginNext()
      },
      (error: unknown) => {
        this.#isAtGate = false
        this.#fail(error)
      },
    )
  }

  #begin(job: Job<T>): void {
    if (!job.claim.begin()) {
      this.#leaveLane(job)
      return
    }
    this.#active++
    let result: Promise<R | NoResult> | R | NoResult
    try {
      result = this.#work(job.value, job)
    } catch (error) {
      this.#failed(job, error)
      return
    }
    if (!isPromise(result)) {
      this.#done(job, result)
      return
    }
    result.then(
      (awaited) => {
        this.#done(job, awaited)
        this.#beginNext()
      },
      (error: unknown) => this.#failed(job, error),
    )
  }

  #failed(job: Job<T>, error: unknown): void {
    this.#active--
    this.#watched.delete(job)
    this.#fail(error)
  }

  #done(job: Job<T>, result: R | NoResult): void {
    this.#active--
    this.#watched.delete(job)
    job.claim.settle()
    if (this.#dropped) return
    this.#leaveLane(job)
    if (result !== NO_RESULT) this.#subscriber.next(result)
  }

  /** The next of its lane may begin; a lane without a next one is no more. */
  #leaveLane({ lane }: Job<T>): void {
    if (lane === null) return
    const next = lane.first
    if (next === null) {
      this.#lanes.delete(lane.name)
      return
    }
    lane.first = next.nextInLane
    if (lane.first === null) lane.last = null
    this.#pushReady(next)
  }

  /**
   * Nothing is begun any more. What comes until the work in progress is done stays claimed and unsettled, so that it
   * does not count as finished.
   */
  #fail(error: unknown): void {
    this.#failure ??= { error }
    this.#finishWhenIdle()
  }

  #finishWhenIdle(): void {
    if (this.#active > 0 || this.#dropped) return
    if (this.#failure !== null) {
      const { error } = this.#failure
      this.drop()
      this.#subscriber.error(error)
    } else if (this.#sourceDone && this.#firstReady === null) this.#subscriber.complete()
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

const ended = (): MillraceError => closedError('the subscription')

/** Anything with a `then` is awaited. */
export function isPromise<R>(result: Promise<R> | R): result is Promise<R> {
  return typeof result === 'object' && result !== null && 'then' in result && typeof result.then === 'function'
}
