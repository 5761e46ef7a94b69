// Every error a user of the client can meet: one class with a closed set of codes, three subclasses for what a user
// catches differently, and the table of codes.
import { ERROR_TABLE, type ErrorName, errorName, ProtocolError } from '@millrace/protocol'

interface ClientErrorRow {
  readonly retriable: boolean
  readonly advice: string
}

const row = (retriable: boolean, advice: string): ClientErrorRow => ({ retriable, advice })

/** What can go wrong in the client itself. */
export type ClientErrorName =
  | 'CONNECTION'
  | 'TIMEOUT'
  | 'DELIVERY_TIMEOUT'
  | 'DELIVERY_UNKNOWN'
  | 'DELIVERY'
  | 'BUFFER_FULL'
  | 'CLOSED'
  | 'ABORTED'
  | 'SERIALIZATION'
  | 'DESERIALIZATION'
  | 'CODEC_UNAVAILABLE'
  | 'INVALID_ARGUMENT'
  | 'NOT_IN_DELIVERY'
  | 'ITERATOR_OVERFLOW'
  | 'NOTHING_SETTLES'
  | 'ALREADY_SUBSCRIBED'
  | 'DEAD_LETTER'
  | 'STALLED'

/** Errors that arise in the client itself; those that brokers report stand in the table of the protocol. */
const CLIENT_ERRORS: Readonly<Record<ClientErrorName, ClientErrorRow>> = {
  CONNECTION: row(true, 'Check that a broker runs at the addresses named and that they can be reached from here.'),
  TIMEOUT: row(true, 'Try again; when it stays, the broker is overloaded or the network loses packets.'),
  DELIVERY_TIMEOUT: row(
    true,
    'The record was never sent and may be sent again; see the cause for what was in the way.',
  ),
  DELIVERY_UNKNOWN: row(false, 'The record may be in the log or not; sending it again may duplicate it.'),
  DELIVERY: row(false, 'See `failures` for each; records with the outcome "failed" may be sent again.'),
  BUFFER_FULL: row(true, 'Await `producer.ready()` or the promises of `send` before sending more.'),
  CLOSED: row(false, 'The client, producer or subscription was closed; make a new one.'),
  ABORTED: row(false, 'The signal given was aborted.'),
  SERIALIZATION: row(
    false,
    'Give a key and value that the topic can encode; null stands for none, undefined is refused.',
  ),
  DESERIALIZATION: row(false, 'Read the topic with the serdes it was written with, or set `onDecodeError`.'),
  CODEC_UNAVAILABLE: row(
    false,
    'Run it on a runtime that has the codec (zstd: Node 22.15, 23.8, 24 or newer), or produce with gzip, which all have.',
  ),
  INVALID_ARGUMENT: row(false, 'Correct the argument that the message names.'),
  NOT_IN_DELIVERY: row(
    false,
    'Put processEach() and settle() before every asynchronous operator: they must see a record while it is delivered.',
  ),
  STALLED: row(
    true,
    'Look at the record or partition named; raise `stallTimeoutMs` if that is how long work may take, or subscribe again.',
  ),
  DEAD_LETTER: row(
    false,
    'See the cause; the record is not settled and comes again. Create the dead-letter topic before it is needed.',
  ),
  NOTHING_SETTLES: row(
    false,
    "Put processEach(), processByKey() or settle() into the pipeline, iterate, or give the consumer commit: 'onReturn'.",
  ),
  ALREADY_SUBSCRIBED: row(false, 'Share the one subscription with share(), or make another consumer of the group.'),
  ITERATOR_OVERFLOW: row(false, 'Iterate faster, raise `bufferRecords`, or use processEach() for real back-pressure.'),
}

/** All codes there are. Those named like a row of the protocol's error table come from a broker. */
export type MillraceErrorCode = `ERR_MILLRACE_${ErrorName | ClientErrorName}`

/** One row of the table that `ERROR_CODES` holds. */
export interface ErrorDescription {
  /** The same call may succeed later. */
  readonly retriable: boolean
  /** What to do about it. */
  readonly advice: string
}

const PREFIX = 'ERR_MILLRACE_'

function describeAll(): ReadonlyMap<MillraceErrorCode, ErrorDescription> {
  const all = new Map<MillraceErrorCode, ErrorDescription>()
  for (const [name, { retriable, advice }] of [...Object.entries(CLIENT_ERRORS), ...Object.entries(ERROR_TABLE)]) {
    all.set(`${PREFIX}${name as ErrorName | ClientErrorName}`, { retriable, advice })
  }
  return all
}

/** The whole table: each code with what can be done about it. */
export const ERROR_CODES: ReadonlyMap<MillraceErrorCode, ErrorDescription> = describeAll()

/** What is known about a record whose `send` was rejected: surely not in the log, or nobody can say. */
export type FailedOutcome = 'failed' | 'unknown'

/** Where and how an error arose, as far as it is known. */
export interface ErrorContext {
  readonly topic?: string | undefined
  readonly partition?: number | undefined
  readonly offset?: number | undefined
  readonly logStartOffset?: number | undefined
  readonly outcome?: FailedOutcome | undefined
  readonly fatal?: boolean | undefined
  readonly cause?: unknown
}

const BRAND = Symbol.for('millrace.error')

/**
 * The one base class. Tell errors apart by `code`; use `MillraceError.is(e)` rather than `instanceof`, which breaks
 * when two copies of the package are loaded.
 */
export class MillraceError extends Error {
  override readonly name: string = 'MillraceError'
  readonly code: MillraceErrorCode
  /** What happened; `message` is this and the advice of the table. */
  readonly detail: string
  /** The same call may succeed later. */
  readonly retriable: boolean
  /** The subscription, producer or client that reported it is over. */
  readonly fatal: boolean
  readonly topic: string | undefined
  readonly partition: number | undefined
  readonly offset: number | undefined
  /** For an offset that is out of range: the first one that the partition holds. */
  readonly logStartOffset: number | undefined
  /** For a rejected `send`: `failed` (surely not in the log) or `unknown` (may be in the log). */
  readonly outcome: FailedOutcome | undefined

  /** @param detail what happened; the advice of the table is appended to the message. */
  constructor(code: MillraceErrorCode, detail: string, context: ErrorContext = {}) {
    const { retriable, advice } = ERROR_CODES.get(code) ?? CLIENT_ERRORS.INVALID_ARGUMENT
    super(detail === '' ? advice : `${detail.replace(/\.$/, '')}. ${advice}`, { cause: context.cause })
    this.code = code
    this.detail = detail
    this.retriable = retriable
    this.fatal = context.fatal ?? false
    this.topic = context.topic
    this.partition = context.partition
    this.offset = context.offset
    this.logStartOffset = context.logStartOffset
    this.outcome = context.outcome
    Object.defineProperty(this, BRAND, { value: true })
  }

  static is(value: unknown): value is MillraceError {
    return typeof value === 'object' && value !== null && BRAND in value
  }
}

/** One address that was tried, and why it did not work. */
export interface FailedAttempt {
  readonly address: string
  readonly error: Error
}

/** No broker could be reached. `attempts` names every address with its cause. */
export class ConnectionError extends MillraceError {
  override readonly name = 'ConnectionError'
  readonly attempts: readonly FailedAttempt[]
  readonly #summary: string

  constructor(detail: string, attempts: readonly FailedAttempt[] = [], context: ErrorContext = {}) {
    const named = attempts.map(({ address, error }) => `${address}: ${error.message}`).join('; ')
    super('ERR_MILLRACE_CONNECTION', named === '' ? detail : `${detail} (${named})`, {
      cause: attempts[0]?.error,
      ...context,
    })
    this.attempts = attempts
    this.#summary = detail
  }

  /** The same error as the end of a subscription. */
  asFatal(): ConnectionError {
    return new ConnectionError(this.#summary, this.attempts, { cause: this.cause, fatal: true })
  }
}

/** The client holds as many bytes as `bufferBytes` allows. Nothing was queued. */
export class BufferFullError extends MillraceError {
  override readonly name = 'BufferFullError'

  constructor(usedBytes: number, limitBytes: number, context: ErrorContext = {}) {
    const detail = `${usedBytes} of ${limitBytes} buffer bytes are taken by records waiting to be acknowledged`
    super('ERR_MILLRACE_BUFFER_FULL', detail, { outcome: 'failed', ...context })
  }
}

/** Records of one partition that could not be delivered, with one cause. */
export interface DeliveryFailure {
  readonly topic: string
  /** -1 when the record never got as far as a partition. */
  readonly partition: number
  readonly recordCount: number
  readonly outcome: FailedOutcome
  readonly error: MillraceError
}

const MAX_KEPT_FAILURES = 100

/** Thrown by `flush`, `close` and `sendBatch`: counts the records that were not acknowledged. */
export class DeliveryError extends MillraceError {
  override readonly name = 'DeliveryError'
  /** Records surely not in the log. */
  readonly failedRecords: number
  /** Records that may be in the log or not. */
  readonly unknownRecords: number
  /** The first hundred failures. */
  readonly failures: readonly DeliveryFailure[]

  constructor(failures: readonly DeliveryFailure[], counts: { readonly failed: number; readonly unknown: number }) {
    const detail = `${counts.failed} records failed and ${counts.unknown} have an unknown outcome`
    super('ERR_MILLRACE_DELIVERY', detail, {
      topic: failures[0]?.topic,
      partition: failures[0]?.partition,
      outcome: counts.unknown > 0 ? 'unknown' : 'failed',
      cause: failures[0]?.error,
    })
    this.failedRecords = counts.failed
    this.unknownRecords = counts.unknown
    this.failures = failures.slice(0, MAX_KEPT_FAILURES)
  }
}

/** The row of the protocol's table that an error came from; null when it arose in the client. */
export function protocolName(error: MillraceError): ErrorName | null {
  const name = error.code.slice(PREFIX.length)
  return Object.hasOwn(ERROR_TABLE, name) ? (name as ErrorName) : null
}

/** An error code read from the wire as an error of the client. */
export function errorOfCode(code: number, detail: string, context: ErrorContext = {}): MillraceError {
  const name = errorName(code)
  if (name !== null) return new MillraceError(`${PREFIX}${name}`, detail, context)
  return new MillraceError('ERR_MILLRACE_INTERNAL', `the broker reported error ${code}: ${detail}`, context)
}

/** Anything thrown inside the client as one of its errors. */
export function toMillraceError(cause: unknown, context: ErrorContext = {}): MillraceError {
  if (MillraceError.is(cause)) return cause
  if (cause instanceof ProtocolError) {
    return new MillraceError(`${PREFIX}${cause.code}`, cause.detail, { ...context, cause })
  }
  return new MillraceError('ERR_MILLRACE_INTERNAL', `unexpected in the client: ${reasonOf(cause)}`, {
    ...context,
    cause,
  })
}

/** What to say of anything that was thrown. */
export const reasonOf = (thrown: unknown): string => (thrown instanceof Error ? thrown.message : String(thrown))

/** Of a record whose serde threw `cause`. */
export function decodeError(
  { topic, partition, offset }: { readonly topic: string; readonly partition: number; readonly offset: number },
  what: 'key' | 'value',
  cause: unknown,
): MillraceError {
  const detail = `the ${what} of ${topic}/${partition} at offset ${offset} cannot be decoded: ${reasonOf(cause)}`
  return new MillraceError('ERR_MILLRACE_DESERIALIZATION', detail, { topic, partition, offset, cause })
}

export const closedError = (what: string, context: ErrorContext = {}): MillraceError =>
  new MillraceError('ERR_MILLRACE_CLOSED', `${what} is closed`, { outcome: 'failed', ...context })

export const invalidArgument = (detail: string, context: ErrorContext = {}): MillraceError =>
  new MillraceError('ERR_MILLRACE_INVALID_ARGUMENT', detail, context)
