// `millrace produce`: the lines of standard input or of a file as records, in order, in bounded memory.
import { createReadStream } from 'node:fs'
import { CODEC_NAMES, MAX_BATCH_BYTES } from '@millrace/protocol'
import { BatchDeliveryError } from '../delivery.js'
import { MillraceError, reasonOf } from '../errors.js'
import { bytes } from '../serde.js'
import { topic } from '../topic.js'
import { readChoice } from './command-line.js'
import { EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { exitCodeOf } from './failure.js'
import { type Line, readLines } from './lines.js'
import { type Session, withClient } from './session.js'

/** How many failures are told one by one. */
const SHOWN_FAILURES = 5

interface LineRecord {
  readonly line: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array
}

/** Counts what became of the lines, and tells of the first failures. */
class Outcome {
  sent = 0
  acknowledged = 0
  failed = 0
  unknown = 0
  #firstError: unknown

  constructor(readonly session: Session) {}

  fail(line: number, error: unknown, outcome: 'failed' | 'unknown' = 'failed'): void {
    this[outcome]++
    this.#firstError ??= error
    if (this.failed + this.unknown > SHOWN_FAILURES) return
    this.session.messages.line(`line ${line}: ${reasonOf(error)}`)
  }

  exitCode(): ExitCode {
    if (this.failed + this.unknown === 0) return EXIT.ok
    return this.acknowledged > 0 ? EXIT.partialFailure : exitCodeOf(this.#firstError)
  }
}

export async function produce(session: Session): Promise<ExitCode> {
  const { line, messages, interrupted } = session
  const acks = readChoice(line, 'acks', ['all', 'leader', 'none'])
  const codec = readChoice(line, 'codec', CODEC_NAMES)
  const separator = line.values['key-separator']
  if (separator === '') throw new UsageError('--key-separator needs at least one character', 'produce')
  const split = separator === undefined ? wholeLine : splitAt(Buffer.from(separator))
  const records = topic(line.topic, { key: bytes, value: bytes })
  const input = line.values.file === undefined ? process.stdin : createReadStream(line.values.file)
  interrupted.addEventListener('abort', () => input.destroy())

  const outcome = new Outcome(session)
  await withClient(session, async (mill) => {
    const producer = mill.producer(records, { ...(acks && { acks }), ...(codec && { codec }) })
    const underWay = new Set<Promise<void>>()
    try {
      for await (const lines of readLines(input, MAX_BATCH_BYTES)) {
        await producer.ready()
        const batch = lines.flatMap((read) => asRecord(read, split, outcome))
        outcome.sent += lines.length
        const sending = settle(producer.sendBatch(batch), batch, outcome).finally(() => underWay.delete(sending))
        underWay.add(sending)
        messages.progress(() => `${outcome.acknowledged} of ${outcome.sent} acknowledged`)
      }
    } catch (error) {
      // A destroyed input is how Ctrl-C ends the reading; what was read is still sent.
      if (!interrupted.aborted) throw error
    }
    await Promise.all(underWay)
    // Every failure has been counted; what `flush` says of them is said, so that closing does not say it again.
    await producer.flush().catch(() => undefined)
  })
  report(session, outcome)
  return interrupted.aborted ? EXIT.interrupted : outcome.exitCode()
}

type Split = (line: Uint8Array) => Pick<LineRecord, 'key' | 'value'> | null

const wholeLine: Split = (line) => ({ key: null, value: line })

function splitAt(separator: Buffer): Split {
  return (line) => {
    const at = Buffer.from(line.buffer, line.byteOffset, line.byteLength).indexOf(separator)
    return at < 0 ? null : { key: line.subarray(0, at), value: line.subarray(at + separator.length) }
  }
}

/** None when the line cannot be a record, and then that is counted. */
function asRecord({ number, bytes: line }: Line, split: Split, outcome: Outcome): LineRecord[] {
  const parts = line === null ? undefined : split(line)
  if (parts === undefined) outcome.fail(number, new Error(`longer than ${MAX_BATCH_BYTES} bytes`))
  else if (parts === null) outcome.fail(number, new Error('has no key separator'))
  else return [{ line: number, ...parts }]
  return []
}

async function settle(sending: Promise<unknown>, batch: readonly LineRecord[], outcome: Outcome): Promise<void> {
  try {
    await sending
    outcome.acknowledged += batch.length
  } catch (error) {
    batch.forEach(({ line }, index) => {
      const record = error instanceof BatchDeliveryError ? error.result.outcome(index) : null
      if (record?.outcome === 'acknowledged') outcome.acknowledged++
      else if (record !== null) outcome.fail(line, record.error, record.outcome)
      else outcome.fail(line, error, MillraceError.is(error) ? error.outcome : 'failed')
    })
  }
}

function report({ line, output, messages }: Session, { sent, acknowledged, failed, unknown }: Outcome): void {
  if (line.json)
    void output.writeText(`${JSON.stringify({ topic: line.topic, sent, acknowledged, failed, unknown })}\n`)
  else {
    const rest = failed + unknown === 0 ? '' : `, ${failed} failed, ${unknown} unknown`
    messages.line(`${sent} lines read, ${acknowledged} acknowledged${rest}`)
  }
}
