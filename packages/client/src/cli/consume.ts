// `millrace consume`: records to standard output, no faster than the reader of the pipe takes them.
import { lastValueFrom, take } from 'rxjs'
import type { ConsumerRecord } from '../record.js'
import { bytes } from '../serde.js'
import { processEach } from '../streams/process-each.js'
import { topic } from '../topic.js'
import { readChoice, readInteger } from './command-line.js'
import { EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { compileFormat, DEFAULT_FORMAT, formatJson, type RecordFormatter } from './record-format.js'
import { type Session, withClient } from './session.js'

export async function consume(session: Session): Promise<ExitCode> {
  const { line, output, messages, interrupted } = session
  const format = chooseFormat(session)
  const count = readInteger(line, 'count', 1) ?? Number.POSITIVE_INFINITY
  const until = readChoice(line, 'until', ['end'])
  const { group } = line.values
  if (group !== undefined && until !== undefined)
    throw new UsageError('a group has no end: leave --until out', 'consume')
  const from = readStart(line.values.from ?? (group === undefined ? 'latest' : 'earliest'), 'from', 'consume')
  const records = topic(line.topic, { key: bytes, value: bytes })

  let printed = 0
  const print = (record: ConsumerRecord<Uint8Array, Uint8Array>): Promise<void> | null => {
    const pipeIsFull = output.writeLatin1(format(record))
    printed++
    if (!output.isTerminal) messages.progress(() => `${printed} records`)
    return pipeIsFull
  }
  await withClient(session, async (mill) => {
    const consumer = mill.consumer(group === undefined ? {} : { group })
    interrupted.addEventListener('abort', () => void consumer.close())
    // A record is finished once it is printed, the last one too. While the pipe is full nothing more is, which holds the
    // broker back, and with it everything between.
    const done = consumer.subscribe(records, { from, ...(until && { until }) }).pipe(processEach(print), take(count))
    await lastValueFrom(done, { defaultValue: undefined })
  })
  return interrupted.aborted ? EXIT.interrupted : EXIT.ok
}

function chooseFormat({ line }: Session): RecordFormatter {
  const isJson = readChoice(line, 'output', ['json']) === 'json' || line.json
  if (!isJson) return compileFormat(line.values.format ?? DEFAULT_FORMAT)
  if (line.values.format !== undefined) throw new UsageError('use either --format or JSON', 'consume')
  return formatJson
}

type Start = 'earliest' | 'latest' | { readonly offset: number } | { readonly timestamp: number }

/** Where to begin: a word, an offset, `@` with milliseconds since 1970, or a time in ISO 8601. @throws UsageError. */
export function readStart(text: string, option: string, command: string): Start {
  if (text === 'earliest' || text === 'latest') return text
  if (/^\d+$/.test(text) && Number.isSafeInteger(Number(text))) return { offset: Number(text) }
  const timestamp = /^@\d+$/.test(text) ? Number(text.slice(1)) : readTime(text)
  if (Number.isSafeInteger(timestamp)) return { timestamp }
  throw new UsageError(
    `--${option} is earliest, latest, an offset, @milliseconds or a time like 2026-11-23T12:00:00Z, not ${text}`,
    command,
  )
}

/** Only ISO 8601: what else Date.parse understands differs between machines. */
function readTime(text: string): number {
  return /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d{1,3})?)?(Z|[+-]\d{2}:\d{2})?)?$/.test(text)
    ? Date.parse(text)
    : Number.NaN
}
