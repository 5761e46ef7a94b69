// The producer as users see it: encodes what they send and hands it on.
import type { RecordHeader } from '@millrace/protocol'
import { abortable, abortError } from './abort.js'
import type { BufferBudget } from './buffer-budget.js'
import { Deadline } from './deadline.js'
import {
  type BatchDelivery,
  BatchSend,
  type Delivery,
  type RecordWaiter,
  rejectQuietly,
  SingleSend,
} from './delivery.js'
import type { ClientEnvironment } from './environment.js'
import {
  closedError,
  type DeliveryFailure,
  invalidArgument,
  MillraceError,
  reasonOf,
  toMillraceError,
} from './errors.js'
import { encodeRecordHeaders } from './headers.js'
import type { Interceptors, OutgoingRecord } from './interceptors.js'
import { MAX_PARTITION, MAX_TIMER_MS } from './limits.js'
import { integer, onlyKnown } from './options.js'
import type { EncodedRecord, ProducerCore } from './producer-core.js'
import { Scratch } from './scratch.js'
import type { Serde } from './serde.js'
import { type Observable, observe } from './streams/observe.js'
import type { Topic } from './topic.js'

export interface SendOptions {
  /** In order; names may repeat. */
  readonly headers?: readonly RecordHeader[]
  /** Milliseconds since 1970. Default: now. */
  readonly timestamp?: number
  /** Default: the key decides; records without a key go to one partition after the other, a batch's worth each. */
  readonly partition?: number
  /** Aborting rejects the promise at once; a record that was queued may still be delivered. */
  readonly signal?: AbortSignal
}

/** One record of a `sendBatch`. */
export interface SendRecord<K, V> extends Omit<SendOptions, 'signal'> {
  readonly key: K | null
  readonly value: V | null
}

export interface CloseOptions {
  /** How long to wait for work that is under way. Default 10,000 ms. */
  readonly timeoutMs?: number
}

const MAX_TIMESTAMP = Number.MAX_SAFE_INTEGER
const DEFAULT_CLOSE_TIMEOUT_MS = 10_000

export class Producer<K, V> {
  readonly topic: string
  /** Records that were not acknowledged, as they fail. Never errors; completes when the producer is closed. */
  readonly failures$: Observable<DeliveryFailure>
  readonly #core: ProducerCore
  readonly #budget: BufferBudget
  readonly #environment: ClientEnvironment
  readonly #key: Serde<K>
  readonly #value: Serde<V>
  readonly #interceptors: Interceptors | null
  readonly #scratch = new Scratch()
  readonly #endFailures: () => void
  readonly #onClosed: () => void
  readonly #deadline: Deadline
  #closing: Promise<void> | null = null

  /** @internal */
  constructor(core: ProducerCore, budget: BufferBudget, topic: Topic<K, V>, onClosed: () => void) {
    this.topic = topic.name
    this.#core = core
    this.#budget = budget
    this.#environment = core.cluster.environment
    this.#interceptors = core.interceptors
    this.#deadline = new Deadline(this.#environment)
    this.#key = topic.key
    this.#value = topic.value
    this.#onClosed = onClosed
    const { stream, end } = observe(core.failures)
    this.failures$ = stream
    this.#endFailures = end
  }

  /**
   * Sends one record; key and value are encoded and copied before this returns. Resolves when it is acknowledged.
   * Rejects with a MillraceError whose `outcome` is `failed` (surely not in the log) or `unknown`:
   * ERR_MILLRACE_BUFFER_FULL at once when the buffer is full, DELIVERY_TIMEOUT, DISK_FULL when the broker's disk was full
   * all that time, DELIVERY_UNKNOWN, CONNECTION before the first contact, UNKNOWN_TOPIC, SERIALIZATION, CLOSED, and what
   * the broker refuses with. A rejection that nobody handles does not end the process; it appears on `failures$` and in
   * `flush` and `close` all the same.
   */
  send(key: K | null, value: V | null, options: SendOptions = NO_OPTIONS): Promise<Delivery> {
    let send: SingleSend
    let outgoing: OutgoingRecord | null = null
    try {
      if (options !== NO_OPTIONS) this.#check(options)
      const nowMs = this.#environment.wallMs()
      if (this.#interceptors !== null) outgoing = this.#intercept(key, value, options, nowMs)
      this.#scratch.reset()
      const record = this.#encode(key, value, options, nowMs, outgoing)
      this.#core.admit()
      send = new SingleSend(this.topic, record.timestamp)
      this.#core.put(record, this.#watched(send, outgoing), 0)
      this.#core.sendRipe()
    } catch (cause) {
      const error = this.#refuse(cause, 1)
      if (outgoing !== null) this.#interceptors?.failed(outgoing, error)
      return rejectQuietly(error)
    }
    const { signal } = options
    if (signal === undefined) return send.promise
    return abortable(send.promise, signal, () => abortError(signal, { topic: this.topic, outcome: 'unknown' }))
  }

  /**
   * Sends many records with one result and no promise for each. Either all are queued or none: BUFFER_FULL and
   * SERIALIZATION refuse the whole list. Rejects with a BatchDeliveryError when not every record was acknowledged; its
   * `result` tells the outcome of each.
   */
  sendBatch(records: readonly SendRecord<K, V>[]): Promise<BatchDelivery> {
    const encoded: EncodedRecord[] = []
    const outgoing: OutgoingRecord[] = []
    try {
      if (!Array.isArray(records)) throw invalidArgument('sendBatch() takes an array of records')
      const nowMs = this.#environment.wallMs()
      for (const record of records) {
        checkRecord(record)
        if (this.#interceptors !== null) outgoing.push(this.#intercept(record.key, record.value, record, nowMs))
      }
      this.#scratch.reset()
      records.forEach((record: SendRecord<K, V>, index) => {
        encoded.push(this.#encode(record.key, record.value, record, nowMs, outgoing[index] ?? null))
      })
      this.#core.admit()
    } catch (cause) {
      const error = this.#refuse(cause, Array.isArray(records) ? records.length : 0)
      for (const record of outgoing) this.#interceptors?.failed(record, error)
      return rejectQuietly(error)
    }
    const batch = new BatchSend(this.topic, encoded.length)
    encoded.forEach((record, index) => {
      batch.setTimestamp(index, record.timestamp)
      const waiter = this.#watched(batch, outgoing[index] ?? null)
      try {
        this.#core.put(record, waiter, index)
      } catch (cause) {
        waiter.failed(index, -1, this.#refuse(cause, 1))
      }
    })
    this.#core.sendRipe()
    return batch.promise
  }

  /**
   * Resolves when the topic is known and there is room for another batch; lets the event loop turn now and then. After
   * it, one call of `send` or `sendBatch` is taken whatever its size.
   * @throws MillraceError CONNECTION, UNKNOWN_TOPIC, CODEC_NOT_ALLOWED, CLOSED.
   */
  ready(): Promise<void> {
    if (this.#closing !== null) return rejectQuietly(closedError('the producer', { topic: this.topic }))
    const reserveBytes = this.#core.options.batchBytes
    const topicKnown = this.#core.whenTopic()
    if (topicKnown === null) return this.#budget.whenRoom(reserveBytes)
    const ready = topicKnown.then(() => this.#budget.whenRoom(reserveBytes))
    // As with every promise of a producer: whoever does not look at it must not end the process.
    ready.catch(() => {})
    return ready
  }

  /**
   * Resolves when every record sent before this call has an outcome.
   * @throws DeliveryError that counts the records which have failed since the last `flush`.
   */
  async flush(): Promise<void> {
    await this.#core.settled()
    this.#core.throwFailures()
  }

  /**
   * Takes no more records, waits up to `timeoutMs` for those on their way, and lets go of everything. Calling it again
   * returns the same promise, and may shorten the time.
   * @throws DeliveryError that counts the records which have failed since the last `flush`.
   */
  close(options: CloseOptions = {}): Promise<void> {
    this.#deadline.within(closeTimeout(options))
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    this.#core.refuseFurther(closedError('the producer', { topic: this.topic }))
    await this.#deadline.wait(this.#core.settled())
    this.#core.end()
    this.#onClosed()
    this.#endFailures()
    this.#core.throwFailures()
  }

  #check(options: SendOptions): void {
    onlyKnown('send()', options, SEND_KEYS)
    if (options.signal?.aborted) throw abortError(options.signal, { topic: this.topic, outcome: 'failed' })
  }

  /** The record as interceptors see it, after `onSend`. */
  #intercept(key: K | null, value: V | null, options: SendOptions, nowMs: number): OutgoingRecord {
    const { headers, timestamp = nowMs, partition = null } = options
    const outgoing = { topic: this.topic, key, value, timestamp, partition, headers: [...(headers ?? [])] }
    this.#interceptors?.sending(outgoing)
    return outgoing
  }

  #watched(waiter: RecordWaiter, outgoing: OutgoingRecord | null): RecordWaiter {
    return outgoing === null || this.#interceptors === null ? waiter : this.#interceptors.watch(outgoing, waiter)
  }

  #encode(
    key: K | null,
    value: V | null,
    options: SendOptions,
    nowMs: number,
    outgoing: OutgoingRecord | null,
  ): EncodedRecord {
    const { headers, timestamp, partition } = options
    const keyBytes = this.#bytes(this.#key, key, 'key')
    const valueBytes = this.#bytes(this.#value, value, 'value')
    const otherBytes = (keyBytes?.length ?? 0) + (valueBytes?.length ?? 0)
    return {
      key: keyBytes,
      value: valueBytes,
      headers:
        outgoing === null || this.#interceptors === null
          ? encodeRecordHeaders(headers)
          : this.#interceptors.headersOf(outgoing, headers, otherBytes),
      timestamp: timestamp === undefined ? nowMs : integer('timestamp', timestamp, 0, MAX_TIMESTAMP),
      partition: partition === undefined ? null : integer('partition', partition, 0, MAX_PARTITION),
    }
  }

  #bytes<T>(serde: Serde<T>, value: T | null, what: string): Uint8Array | null {
    if (value === null) return null
    if (value === undefined) throw this.#notEncoded(`the ${what} is undefined`)
    let encoded: Uint8Array
    try {
      encoded = serde.encode(value, this.#scratch)
    } catch (cause) {
      throw this.#notEncoded(`the ${what} cannot be encoded: ${reasonOf(cause)}`, cause)
    }
    if (!(encoded instanceof Uint8Array)) throw this.#notEncoded(`the serde of the ${what} did not return a Uint8Array`)
    return encoded
  }

  #notEncoded(detail: string, cause?: unknown): MillraceError {
    return new MillraceError('ERR_MILLRACE_SERIALIZATION', detail, { topic: this.topic, outcome: 'failed', cause })
  }

  #refuse(cause: unknown, recordCount: number): MillraceError {
    const plain = toMillraceError(cause, { topic: this.topic, outcome: 'failed' })
    const error =
      plain.outcome !== undefined
        ? plain
        : new MillraceError(plain.code, plain.detail, { topic: this.topic, outcome: 'failed', cause })
    this.#core.refused(recordCount, error)
    return error
  }
}

const NO_OPTIONS: SendOptions = {}
const SEND_KEYS = ['headers', 'timestamp', 'partition', 'signal'] as const satisfies readonly (keyof SendOptions)[]

function checkRecord(record: unknown): void {
  if (typeof record !== 'object' || record === null)
    throw invalidArgument('a record must be an object with key and value')
}

export function closeTimeout(options: CloseOptions): number {
  onlyKnown('close()', options, ['timeoutMs'])
  return integer('timeoutMs', options.timeoutMs ?? DEFAULT_CLOSE_TIMEOUT_MS, 0, MAX_TIMER_MS)
}

/** Waits for `work`, but no longer than `timeoutMs`. Keeps the process alive meanwhile. */
export async function withinTime(
  environment: ClientEnvironment,
  work: Promise<void>,
  timeoutMs: number,
): Promise<void> {
  const deadline = new Deadline(environment)
  deadline.within(timeoutMs)
  await deadline.wait(work)
}
