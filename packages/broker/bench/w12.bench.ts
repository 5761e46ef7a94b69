// W12: what each way to take records costs, for each record: a bare subscription, operators of RxJS, the shipped operators,
// `for await`, and whole batches. 100 B, 1 partition, a backlog in the broker's memory, all ways in turns; medians of the rounds.
import {
  bytes,
  processByPartition,
  processEach,
  type RecordBatch,
  type RecordStream,
  type RecordView,
  topic,
} from '@millrace/client'
import { filter, map, type Observable } from 'rxjs'
import { fill } from './support/backlog.js'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w12'

const RECORD_BYTES = 100
const CONCURRENCY = 64
const ROUNDS = 5
const MICROSECONDS_PER_SECOND = 1e6

type Stream = RecordStream<Uint8Array, Uint8Array>

/** Takes records until it has had `count`. */
type Way = (stream: Stream, count: number) => Promise<void>

const WAYS: Readonly<Record<string, Way>> = {
  subscribe: (stream, count) => upTo(stream, count),
  'filter, map': (stream, count) =>
    upTo(
      stream.pipe(
        filter(({ value }) => value !== null),
        map(({ value }) => value!.length),
      ),
      count,
    ),
  processEach: (stream, count) =>
    upTo(stream.pipe(processEach(async ({ value }) => value!.length, { concurrency: CONCURRENCY })), count),
  processByPartition: (stream, count) =>
    upTo(stream.pipe(processByPartition(async ({ value }) => value!.length)), count),
  'for await': async (stream, count) => {
    let received = 0
    for await (const _record of stream) if (++received === count) return
  },
  batches: (stream, count) =>
    byBatches(stream.batches(), count, (view) => {
      bytesSeen += view.valueBytes!.length
    }),
  'batches, reused, in place': (stream, count) =>
    byBatches(stream.batches({ reuseMemory: true }), count, (view) => {
      bytesSeen += view.valueEnd - view.valueStart
    }),
}

let bytesSeen = 0

function byBatches(
  batches: Observable<RecordBatch<Uint8Array, Uint8Array>>,
  count: number,
  look: (view: RecordView<Uint8Array, Uint8Array>) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0
    const subscription = batches.subscribe({
      next: (batch) => {
        for (const view = batch.view(); view.next(); received++) look(view)
        if (received < count) return
        subscription.unsubscribe()
        resolve()
      },
      error: reject,
    })
  })
}

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 1)
  const records = options.tiny ? 5_000 : 300_000
  const rounds = options.tiny ? 1 : ROUNDS
  const results = await withSession(bench.prefer, async (session) => {
    await fill(session, { topic: 'backlog', partitions: 1, recordBytes: RECORD_BYTES, keys: 0 }, records)
    const figures = new Map(Object.keys(WAYS).map((way) => [way, [] as Figures[]]))
    // The first round warms up and does not count.
    for (let turn = 0; turn <= rounds; turn++) {
      for (const [way, take] of Object.entries(WAYS)) {
        const taken = await measure(session, take, records)
        if (turn > 0) figures.get(way)!.push(taken)
      }
    }
    return [...figures].map(([way, all]) => ({
      name,
      way,
      consumedRecordsPerSecond: Math.round(median(all.map(({ seconds }) => records / seconds))),
      cpuSecondsPerMillion: round((median(all.map(({ cpuSeconds }) => cpuSeconds)) * 1e6) / records, 3),
      environment: session.broker.environment,
    }))
  })
  return { name, results, work: bytesSeen }
}

interface Figures {
  readonly seconds: number
  readonly cpuSeconds: number
}

async function measure(session: Session, take: Way, records: number): Promise<Figures> {
  globalThis.gc?.()
  const described = topic('backlog', { key: bytes, value: bytes })
  const cpu = process.cpuUsage()
  const began = performance.now()
  const consumer = session.mill.consumer()
  await take(consumer.subscribe(described, { from: 'earliest' }), records)
  const seconds = (performance.now() - began) / 1000
  const { user, system } = process.cpuUsage(cpu)
  await consumer.close()
  return { seconds, cpuSeconds: (user + system) / MICROSECONDS_PER_SECOND }
}

function upTo(values: Observable<unknown>, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    let received = 0
    const subscription = values.subscribe({
      next: () => {
        if (++received !== count) return
        subscription.unsubscribe()
        resolve()
      },
      error: reject,
    })
  })
}

function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)]!
}
