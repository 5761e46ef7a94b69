// How senders learn the fate of their records: one promise per `send`, one result per `sendBatch`.
import { DeliveryError, type DeliveryFailure, type FailedOutcome, type MillraceError } from './errors.js'

/** A record that was acknowledged. */
export interface Delivery {
  readonly topic: string
  readonly partition: number
  /** Null when the broker no longer knows where the original of a retry went, and with acks `none`. */
  readonly offset: number | null
  /** Of the record, in milliseconds since 1970. */
  readonly timestamp: number
}

/** Whoever waits for records; `tag` is its own number for one of them. */
export interface RecordWaiter {
  acknowledged(tag: number, partition: number, offset: number | null): void
  failed(tag: number, partition: number, error: MillraceError): void
}

const ignore = (): void => {}

/** A rejected promise that nobody needs to handle. */
export function rejectQuietly<T>(error: MillraceError): Promise<T> {
  const promise = Promise.reject<T>(error)
  promise.catch(ignore)
  return promise
}

/** One function for all promises of `send`, instead of a closure for each: the hottest allocation of the client. */
const captured: { resolve: (delivery: Delivery) => void; reject: (error: MillraceError) => void } = {
  resolve: ignore,
  reject: ignore,
}
const capture = (resolve: (delivery: Delivery) => void, reject: (error: MillraceError) => void): void => {
  captured.resolve = resolve
  captured.reject = reject
}

/** One `send`. */
export class SingleSend implements RecordWaiter {
  readonly promise: Promise<Delivery>
  readonly #resolve: (delivery: Delivery) => void
  readonly #reject: (error: MillraceError) => void

  constructor(
    readonly topic: string,
    readonly timestamp: number,
  ) {
    this.promise = new Promise(capture)
    this.#resolve = captured.resolve
    this.#reject = captured.reject
  }

  acknowledged(_tag: number, partition: number, offset: number | null): void {
    this.#resolve({ topic: this.topic, partition, offset, timestamp: this.timestamp })
  }

  failed(_tag: number, _partition: number, error: MillraceError): void {
    // The user may not look at the promise; `failures$`, `flush` and `close` tell of it all the same.
    this.promise.catch(ignore)
    this.#reject(error)
  }
}

/** What became of one record of a `sendBatch`. */
export type RecordOutcome =
  | ({ readonly outcome: 'acknowledged' } & Delivery)
  | { readonly outcome: FailedOutcome; readonly partition: number; readonly error: MillraceError }

/** The result of `sendBatch`. */
export interface BatchDelivery {
  readonly topic: string
  readonly recordCount: number
  readonly acknowledgedRecords: number
  /** What became of the record at `index` of the list given. */
  outcome(index: number): RecordOutcome
}

/** Thrown by `sendBatch` when not every record was acknowledged; `result` tells of each. */
export class BatchDeliveryError extends DeliveryError {
  constructor(
    failures: readonly DeliveryFailure[],
    counts: { readonly failed: number; readonly unknown: number },
    readonly result: BatchDelivery,
  ) {
    super(failures, counts)
  }
}

const NO_OFFSET = -1

/** One `sendBatch`: numbers in typed arrays, no promise and no object per record. */
export class BatchSend implements RecordWaiter, BatchDelivery {
  readonly promise: Promise<BatchDelivery>
  readonly #partitions: Int32Array
  readonly #offsets: Float64Array
  readonly #timestamps: Float64Array
  readonly #errors = new Map<number, MillraceError>()
  readonly #failures: DeliveryFailure[] = []
  readonly #counts = { failed: 0, unknown: 0 }
  #left: number
  #resolve!: (result: BatchDelivery) => void
  #reject!: (error: MillraceError) => void

  constructor(
    readonly topic: string,
    readonly recordCount: number,
  ) {
    this.#left = recordCount
    this.#partitions = new Int32Array(recordCount).fill(-1)
    this.#offsets = new Float64Array(recordCount).fill(NO_OFFSET)
    this.#timestamps = new Float64Array(recordCount)
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    if (recordCount === 0) this.#resolve(this)
  }

  setTimestamp(index: number, timestamp: number): void {
    this.#timestamps[index] = timestamp
  }

  get acknowledgedRecords(): number {
    return this.recordCount - this.#left - this.#counts.failed - this.#counts.unknown
  }

  outcome(index: number): RecordOutcome {
    const partition = this.#partitions[index]
    if (partition === undefined) throw new RangeError(`record ${index} of ${this.recordCount}`)
    const error = this.#errors.get(index)
    if (error !== undefined) return { outcome: error.outcome ?? 'failed', partition, error }
    const offset = this.#offsets[index]!
    const timestamp = this.#timestamps[index]!
    return {
      outcome: 'acknowledged',
      topic: this.topic,
      partition,
      offset: offset === NO_OFFSET ? null : offset,
      timestamp,
    }
  }

  acknowledged(tag: number, partition: number, offset: number | null): void {
    this.#partitions[tag] = partition
    if (offset !== null) this.#offsets[tag] = offset
    this.#oneDone()
  }

  failed(tag: number, partition: number, error: MillraceError): void {
    this.#partitions[tag] = partition
    this.#errors.set(tag, error)
    const outcome = error.outcome ?? 'failed'
    this.#counts[outcome]++
    const last = this.#failures.at(-1)
    if (last?.error === error && last.partition === partition) {
      this.#failures[this.#failures.length - 1] = { ...last, recordCount: last.recordCount + 1 }
    } else {
      this.#failures.push({ topic: this.topic, partition, recordCount: 1, outcome, error })
    }
    this.#oneDone()
  }

  #oneDone(): void {
    if (--this.#left > 0) return
    if (this.#errors.size === 0) {
      this.#resolve(this)
      return
    }
    this.promise.catch(ignore)
    this.#reject(new BatchDeliveryError(this.#failures, this.#counts, this))
  }
}
