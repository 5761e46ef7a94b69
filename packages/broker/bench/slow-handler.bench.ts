// A handler of 100 ms behind a million records: what the client keeps in memory, and how far the broker reads on. Counted,
// not measured: the run fails when the client takes 100 MB, or when the broker has pushed or read more than what was
// handled, the window, and what it may overdraw.
import { admin } from '@millrace/client/admin'
import { type Backlog, fill } from './support/backlog.js'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { Drain } from './support/drain.js'
import { readBytes, rssMb } from './support/process-figures.js'
import { wait } from './support/produce-load.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'slow-handler'

const RECORD_BYTES = 1024
const RECORDS = 1_000_000
const PARTITIONS = 8
const BACKLOG: Backlog = { topic: 'backlog', partitions: PARTITIONS, recordBytes: RECORD_BYTES, keys: 1000 }
const HANDLER_MS = 100
/**
 * Handlers at once, and the most megabytes the client may take. With many, V8 lets more garbage stand before it collects:
 * about 1.5 KB a record handled, and whole batches.
 */
const CASES = [
  { concurrency: 1, mostClientMb: 100 },
  { concurrency: 64, mostClientMb: 128 },
] as const
/** Of the client, where nothing else is said. */
const WINDOW_BYTES = 8 * 1024 * 1024
/** Each cursor may overdraw its credit by one batch, and a batch counts until its last record is handled. */
const OVERDRAFT_BYTES = PARTITIONS * 2 * 256 * 1024
/** What the broker may have read and not sent: its read-ahead. */
const READ_AHEAD_BYTES = 32 * 1024 * 1024
const RECORD_FRAME_BYTES = 32
const MEGABYTE = 1e6

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 20)
  const records = options.tiny ? 30_000 : RECORDS
  return withSession(bench.prefer, async (session) => {
    await fill(session, BACKLOG, records)
    const results: object[] = []
    for (const one of CASES) results.push(await measure(session, one, Math.max(3, bench.seconds)))
    return {
      name,
      records,
      backlogMb: round((records * RECORD_BYTES) / MEGABYTE, 0),
      environment: session.broker.environment,
      results,
    }
  })
}

interface Moment {
  readonly handledBytes: number
  readonly pushedBytes: number
  readonly readBytes: number | null
}

async function measure(
  session: Session,
  { concurrency, mostClientMb }: (typeof CASES)[number],
  seconds: number,
): Promise<object> {
  // Afterwards the backlog is on the disk alone.
  await session.broker.restart('SIGTERM')
  const { bootstrap } = session.broker
  const readAtStart = readBytes(session.broker.pid)
  const drain = Drain.start({
    bootstrap,
    topic: 'backlog',
    consumers: 1,
    from: 'earliest',
    timed: false,
    bytesPerSecond: 0,
    handler: { ms: HANDLER_MS, concurrency },
  })
  try {
    const clientMb: number[] = []
    const moments: Moment[] = []
    for (let second = 0; second < seconds; second++) {
      await wait(1)
      clientMb.push(rssMb(drain.pid) ?? 0)
      moments.push(await look(session, drain, readAtStart))
    }
    const last = moments.at(-1)!
    const handled = Math.round(last.handledBytes / RECORD_BYTES)
    const allowedBytes = last.handledBytes + handled * RECORD_FRAME_BYTES + WINDOW_BYTES + OVERDRAFT_BYTES
    refuse('the broker has pushed', last.pushedBytes, allowedBytes)
    if (last.readBytes !== null) refuse('the broker has read', last.readBytes, allowedBytes + READ_AHEAD_BYTES)
    refuse('the client has taken', Math.max(...clientMb) * MEGABYTE, mostClientMb * MEGABYTE)
    return {
      concurrency,
      handled,
      recordsPerSecond: round(handled / seconds, 1),
      handledMb: round(last.handledBytes / MEGABYTE, 1),
      pushedMb: round(last.pushedBytes / MEGABYTE, 1),
      allowedMb: round(allowedBytes / MEGABYTE, 1),
      readMb: last.readBytes === null ? null : round(last.readBytes / MEGABYTE, 1),
      clientPeakMb: round(Math.max(...clientMb), 1),
    }
  } finally {
    await drain.stop()
  }
}

/** Pushed and read bytes are asked for before what was handled: what is handled in between is not held against them. */
async function look({ mill, broker }: Session, drain: Drain, readAtStart: number | null): Promise<Moment> {
  const { counters } = await admin(mill).brokerStatus()
  const read = readBytes(broker.pid)
  const { bytes: handledBytes } = await drain.figures()
  return {
    handledBytes,
    pushedBytes: (counters as { readonly pushedBytes: number }).pushedBytes,
    readBytes: read === null || readAtStart === null ? null : read - readAtStart,
  }
}

function refuse(what: string, bytes: number, most: number): void {
  if (bytes <= most) return
  throw new Error(`${what} ${round(bytes / MEGABYTE, 1)} MB, and may have ${round(most / MEGABYTE, 1)} MB`)
}
