// What becomes of records that their serdes cannot decode: the stream fails, or goes on without them, or they go to a
// dead-letter topic first.
import { sendDeadLetters } from './dead-letter.js'
import { decodeError, invalidArgument, MillraceError, reasonOf } from './errors.js'
import type { ConsumerRecord } from './record.js'
import type { ClientServices } from './settlement.js'

/**
 * - `fail`: the subscription ends with ERR_MILLRACE_DESERIALIZATION
 * - `skip`: it goes on behind the record, and says so on `status$`
 * - `deadLetter`: the record goes to `deadLetterTopic`, and when that is acknowledged the subscription goes on
 */
export type DecodeVerdict = 'fail' | 'skip' | 'deadLetter'

/** A record that its serde refused. */
export interface DecodeFailure {
  /** As it came: key and value are bytes. */
  readonly record: ConsumerRecord<Uint8Array, Uint8Array>
  readonly what: 'key' | 'value'
  /** ERR_MILLRACE_DESERIALIZATION; its cause is what the serde threw. */
  readonly error: MillraceError
}

/** A verdict, or what finds one. The partition waits for a promised one; a function that throws ends the subscription. */
export type OnDecodeError = DecodeVerdict | ((failure: DecodeFailure) => DecodeVerdict | Promise<DecodeVerdict>)

const VERDICTS: readonly unknown[] = ['fail', 'skip', 'deadLetter'] satisfies readonly DecodeVerdict[]

/** @throws MillraceError INVALID_ARGUMENT. */
export function checkOnDecodeError(onDecodeError: OnDecodeError, deadLetterTopic: string | null): OnDecodeError {
  if (typeof onDecodeError !== 'function' && !VERDICTS.includes(onDecodeError)) {
    throw invalidArgument(`onDecodeError must be fail, skip, deadLetter or a function, got ${String(onDecodeError)}`)
  }
  if (onDecodeError === 'deadLetter' && deadLetterTopic === null) throw noDeadLetterTopic()
  return onDecodeError
}

const noDeadLetterTopic = (): MillraceError =>
  invalidArgument('onDecodeError is deadLetter and deadLetterTopic does not say where to', { fatal: true })

export class DecodeFailures {
  readonly #client: ClientServices
  readonly #onDecodeError: OnDecodeError
  readonly #deadLetterTopic: string | null

  constructor(client: ClientServices, onDecodeError: OnDecodeError, deadLetterTopic: string | null) {
    this.#client = client
    this.#onDecodeError = onDecodeError
    this.#deadLetterTopic = deadLetterTopic
  }

  /**
   * Null to go on at once; else resolves when the subscription may go on, and rejects with what ends it.
   * @throws MillraceError what ends the subscription.
   */
  judge(record: ConsumerRecord<Uint8Array, Uint8Array>, what: 'key' | 'value', cause: unknown): Promise<void> | null {
    const failure = { record, what, error: decodeError(record, what, cause) }
    if (typeof this.#onDecodeError !== 'function') return this.#act(this.#onDecodeError, failure)
    let verdict: DecodeVerdict | Promise<DecodeVerdict>
    try {
      verdict = this.#onDecodeError(failure)
    } catch (thrown) {
      throw handlerFailed(failure, thrown)
    }
    if (!(verdict instanceof Promise)) return this.#act(verdict, failure)
    return verdict.then(
      (awaited) => this.#act(awaited, failure) ?? undefined,
      (thrown) => {
        throw handlerFailed(failure, thrown)
      },
    )
  }

  #act(verdict: DecodeVerdict, failure: DecodeFailure): Promise<void> | null {
    const { error, record } = failure
    const { topic, partition, offset } = record
    if (verdict === 'skip') {
      this.#client.report('record-skipped', error.detail, { topic, partition, offset, error })
      return null
    }
    if (verdict === 'deadLetter') return this.#bury(failure)
    if (verdict === 'fail') throw fatal(error)
    throw invalidArgument(`onDecodeError returned ${String(verdict)}, not fail, skip or deadLetter`, { fatal: true })
  }

  async #bury({ record, error }: DecodeFailure): Promise<void> {
    if (this.#deadLetterTopic === null) throw noDeadLetterTopic()
    const { topic, partition, offset } = record
    const producer = this.#client.byteProducer(this.#deadLetterTopic)
    await sendDeadLetters(producer, [record], { error, attempts: 0, atMs: this.#client.environment.wallMs() })
    const message = `${topic}/${partition} at offset ${offset} went to ${producer.topic}: ${error.detail}`
    this.#client.report('dead-lettered', message, { topic, partition, offset, error })
  }
}

function fatal({ code, detail, topic, partition, offset, cause }: MillraceError): MillraceError {
  return new MillraceError(code, detail, { topic, partition, offset, cause, fatal: true })
}

function handlerFailed({ error }: DecodeFailure, thrown: unknown): MillraceError {
  const { code, detail, topic, partition, offset } = error
  const context = { topic, partition, offset, cause: thrown, fatal: true }
  return new MillraceError(code, `${detail}; and onDecodeError failed: ${reasonOf(thrown)}`, context)
}
