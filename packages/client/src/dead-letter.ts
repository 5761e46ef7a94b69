// Dead letters: records that could not be processed or decoded, sent elsewhere as the bytes they are, with headers that
// tell where they come from and what went wrong.
import type { RecordHeader } from '@millrace/protocol'
import { MillraceError, reasonOf } from './errors.js'
import type { ConsumerRecord } from './record.js'

/** What dead letters are sent with: a producer of bytes has this shape. */
export interface ByteProducer {
  readonly topic: string
  /** Resolves when there is room for another record. */
  ready(): Promise<void>
  /** Resolves when the record is acknowledged. */
  send(
    key: Uint8Array | null,
    value: Uint8Array | null,
    options: { readonly headers: readonly RecordHeader[]; readonly timestamp: number },
  ): Promise<unknown>
}

/** Where a dead letter comes from and why, as its headers tell. */
export interface DeadLetter {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** `name` of the error, or its `code` when it has one. */
  readonly errorName: string
  /** Its message, cut after 1,000 characters. */
  readonly errorMessage: string
  /** How often the record was tried. 0 for one that could not be decoded. */
  readonly attempts: number
  /** When it was given up, in milliseconds since 1970. */
  readonly atMs: number
}

const PREFIX = 'millrace.dead-letter.'
const MAX_MESSAGE_CHARACTERS = 1_000
const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** What went wrong with a record. */
export interface Failure {
  readonly error: unknown
  readonly attempts: number
  readonly atMs: number
}

/**
 * Sends records in order. Key, value, timestamp and headers stay; headers of an earlier life as a dead letter are replaced.
 * Resolves when all are acknowledged.
 * @throws MillraceError DEAD_LETTER, fatal: a record would be lost if its stream went on.
 */
export async function sendDeadLetters(
  producer: ByteProducer,
  records: readonly ConsumerRecord<Uint8Array, Uint8Array>[],
  failure: Failure,
): Promise<void> {
  const sent: Promise<void>[] = []
  for (const record of records) {
    const { key, value, timestamp } = record
    const headers = deadLetterHeaders(record, failure)
    // One after the other: calls of `ready` that wait together may overtake each other.
    await named(producer, record, () => producer.ready())
    const sending = named(producer, record, () => producer.send(key, value, { headers, timestamp }))
    // Awaited below; until then a failure must not end the process.
    sending.catch(() => {})
    sent.push(sending)
  }
  await Promise.all(sent)
}

/** Takes a step; what it throws becomes an error that names the record. */
async function named(
  producer: ByteProducer,
  { topic, partition, offset }: ConsumerRecord<Uint8Array, Uint8Array>,
  step: () => Promise<unknown>,
): Promise<void> {
  try {
    await step()
  } catch (cause) {
    const detail = `${topic}/${partition} at offset ${offset} could not be put into ${producer.topic}: ${reasonOf(cause)}`
    throw new MillraceError('ERR_MILLRACE_DEAD_LETTER', detail, { topic, partition, offset, cause, fatal: true })
  }
}

function deadLetterHeaders(
  { topic, partition, offset, headers }: ConsumerRecord<Uint8Array, Uint8Array>,
  { error, attempts, atMs }: Failure,
): RecordHeader[] {
  const { name, message } = describeError(error)
  const story: Readonly<Record<string, string | number>> = {
    topic,
    partition,
    offset,
    error: name,
    message: message.slice(0, MAX_MESSAGE_CHARACTERS),
    attempts,
    time: atMs,
  }
  return [
    ...headers.filter(([header]) => !header.startsWith(PREFIX)),
    ...Object.entries(story).map(([field, value]): RecordHeader => [PREFIX + field, encoder.encode(String(value))]),
  ]
}

/** Anything may be thrown. */
function describeError(error: unknown): { readonly name: string; readonly message: string } {
  if (MillraceError.is(error)) return { name: error.code, message: error.message }
  if (error instanceof Error) return { name: error.name, message: error.message }
  return { name: typeof error, message: String(error) }
}

/** What the headers of a dead letter tell; null for a record that is none. */
export function deadLetterOf(record: { header(name: string): Uint8Array | null | undefined }): DeadLetter | null {
  const text = (field: string): string | null => {
    const bytes = record.header(PREFIX + field)
    return bytes == null ? null : decoder.decode(bytes)
  }
  const topic = text('topic')
  if (topic === null) return null
  return {
    topic,
    partition: Number(text('partition')),
    offset: Number(text('offset')),
    errorName: text('error') ?? '',
    errorMessage: text('message') ?? '',
    attempts: Number(text('attempts')),
    atMs: Number(text('time')),
  }
}
