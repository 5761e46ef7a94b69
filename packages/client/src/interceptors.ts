// Interceptors see every record that is sent or consumed, and may add headers: what tracing needs. They look on: none of
// them can hold back, change or lose a record, whatever it throws.
import { MAX_BATCH_BYTES, type RecordHeader } from '@millrace/protocol'
import type { Delivery, RecordWaiter } from './delivery.js'
import { type MillraceError, reasonOf } from './errors.js'
import { encodeRecordHeaders } from './headers.js'
import { INTERCEPTOR_WARNING_MS } from './limits.js'
import type { ConsumerRecord } from './record.js'
import type { Warnings } from './warnings.js'

/** A record on its way out. One and the same object is given to all hooks: it can be the key of a WeakMap of spans. */
export interface OutgoingRecord {
  readonly topic: string
  /** As given to `send`, before the serde. */
  readonly key: unknown
  readonly value: unknown
  /** Milliseconds since 1970. */
  readonly timestamp: number
  /** As given to `send`; null where the key decides. */
  readonly partition: number | null
  /** A list of the interceptors' own, beginning with what was given to `send`; `onSend` may change it. */
  readonly headers: RecordHeader[]
}

/**
 * What looks on while records pass. Each hook is called once a record, however often it is sent again, and in the order
 * of the list. What a hook throws is a warning (MILLRACE_INTERCEPTOR, at most once a minute), and the record goes on as
 * if the hook had done nothing; headers that cannot be sent are left out the same way.
 */
export interface Interceptor {
  /** Within `send` and `sendBatch`, before key and value are encoded. */
  onSend?(record: OutgoingRecord): void
  /** It was acknowledged. For each record of `onSend`, this or `onFailed` is called once. */
  onAcknowledged?(record: OutgoingRecord, delivery: Delivery): void
  /** It was refused, has failed, or its outcome is unknown: `error.outcome` tells. */
  onFailed?(record: OutgoingRecord, error: MillraceError): void
  /** Just before a subscription hands it to the application, within the same turn. */
  onConsume?(record: ConsumerRecord<unknown, unknown>): void
}

type Hook = keyof Interceptor

/** More than a record takes besides its key, value and headers. */
const RECORD_FRAME_BYTES = 128
const RESOLVED = Promise.resolve()

export class Interceptors {
  readonly #list: readonly Interceptor[]
  readonly #warnings: Warnings
  #warnAgainAtMs = Number.NEGATIVE_INFINITY

  constructor(list: readonly Interceptor[], warnings: Warnings) {
    this.#list = list
    this.#warnings = warnings
  }

  /** Calls `onSend` of all. */
  sending(record: OutgoingRecord): void {
    const { headers } = record
    for (const interceptor of this.#list) {
      if (interceptor.onSend === undefined) continue
      const before = [...headers]
      if (!this.#call('onSend', () => interceptor.onSend?.(record))) headers.splice(0, headers.length, ...before)
    }
  }

  /**
   * The headers of a record after `sending`; those it had before when the ones added cannot be sent.
   * @param otherBytes of its key and value.
   * @throws MillraceError SERIALIZATION, ProtocolError BATCH_TOO_LARGE for what the application gave.
   */
  headersOf(record: OutgoingRecord, given: readonly RecordHeader[] | undefined, otherBytes: number): Uint8Array | null {
    const isAsGiven =
      record.headers.length === (given?.length ?? 0) && record.headers.every((one, i) => one === given?.[i])
    if (isAsGiven) return encodeRecordHeaders(given)
    let why: unknown = 'the record has no room for more headers'
    try {
      const encoded = encodeRecordHeaders(record.headers)
      if ((encoded?.length ?? 0) + otherBytes <= MAX_BATCH_BYTES - RECORD_FRAME_BYTES) return encoded
    } catch (cause) {
      why = cause
    }
    const own = encodeRecordHeaders(given)
    this.#warn('onSend', why)
    return own
  }

  /** Whoever waits for a record, with the interceptors told as well. */
  watch(record: OutgoingRecord, waiter: RecordWaiter): RecordWaiter {
    return {
      acknowledged: (tag, partition, offset) => {
        waiter.acknowledged(tag, partition, offset)
        const { topic, timestamp } = record
        this.#soon('onAcknowledged', (one) => one.onAcknowledged?.(record, { topic, partition, offset, timestamp }))
      },
      failed: (tag, partition, error) => {
        waiter.failed(tag, partition, error)
        this.failed(record, error)
      },
    }
  }

  failed(record: OutgoingRecord, error: MillraceError): void {
    this.#soon('onFailed', (one) => one.onFailed?.(record, error))
  }

  consuming(record: ConsumerRecord<unknown, unknown>): void {
    for (const one of this.#list) {
      if (one.onConsume !== undefined) this.#call('onConsume', () => one.onConsume?.(record))
    }
  }

  /** Not in the midst of an answer being handled: a hook may send. */
  #soon(hook: Hook, call: (interceptor: Interceptor) => unknown): void {
    for (const one of this.#list) {
      if (one[hook] !== undefined) void RESOLVED.then(() => this.#call(hook, () => call(one)))
    }
  }

  /** @returns whether it went well, as far as that is known when it returns. */
  #call(hook: Hook, call: () => unknown): boolean {
    try {
      const result = call()
      // A hook that is asynchronous is not awaited; its failure must not end the process.
      if (result instanceof Promise) result.catch((cause) => this.#warn(hook, cause))
      return true
    } catch (cause) {
      this.#warn(hook, cause)
      return false
    }
  }

  #warn(hook: Hook, cause: unknown): void {
    const nowMs = this.#warnings.environment.monotonicMs()
    if (nowMs < this.#warnAgainAtMs) return
    this.#warnAgainAtMs = nowMs + INTERCEPTOR_WARNING_MS
    const message = `${hook} of an interceptor failed: ${reasonOf(cause)}. The record goes on without it.`
    this.#warnings.warn('MILLRACE_INTERCEPTOR', message, { error: cause })
  }
}
