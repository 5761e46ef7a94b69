// W8 beside the tail: five tail consumers at a fixed 50 MB/s, alone and then while a cold reader capped at 200 MB/s passes
// through a backlog that is not in memory. What counts is how far their p99 moves.
import { bytes, type Producer, topic } from '@millrace/client'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { Drain } from './support/drain.js'
import { openLoop } from './support/open-loop.js'
import { produceLoad } from './support/produce-load.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w8-tail'

const MEGABYTE = 1e6
const RECORD_BYTES = 1024
const TAIL_BYTES_PER_SECOND = 50 * MEGABYTE
const COLD_BYTES_PER_SECOND = 200 * MEGABYTE

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 6)
  return withSession(bench.prefer, (session) => measure(session, bench, options.tiny))
}

async function measure(session: Session, bench: BenchOptions, tiny: boolean): Promise<object> {
  const { bootstrap } = session.broker
  await session.createTopic('cold', 4, 'buffered')
  await produceLoad(session.mill, {
    topic: 'cold',
    recordBytes: RECORD_BYTES,
    recordsPerCall: 256,
    callsInFlight: 32,
    seconds: tiny ? 0.3 : bench.seconds * 1.5,
    warmUpSeconds: 0,
    keys: 1000,
  })
  await session.broker.restart('SIGTERM')
  await session.createTopic('tail', 1, 'buffered')
  const tail = Drain.start({ bootstrap, topic: 'tail', consumers: 5, from: 'earliest', timed: true, bytesPerSecond: 0 })
  try {
    const producer = session.mill.producer(topic('tail', { key: bytes, value: bytes }))
    await tailFigures(tail, producer, bench.warmUpSeconds, tiny)
    const alone = await tailFigures(tail, producer, bench.seconds, tiny)
    const order = { bootstrap, topic: 'cold', consumers: 1, from: 'earliest', timed: false } as const
    const cold = Drain.start({ ...order, bytesPerSecond: COLD_BYTES_PER_SECOND })
    try {
      const beside = await tailFigures(tail, producer, bench.seconds, tiny)
      const read = await cold.figures()
      return {
        name,
        alone,
        besideColdReader: beside,
        p99Ratio: round(beside.p99Ms / alone.p99Ms),
        coldMbPerSecond: round(read.bytes / 1000 / Math.max(1, read.elapsedMs), 1),
        environment: session.broker.environment,
      }
    } finally {
      await cold.stop()
      await producer.close()
    }
  } finally {
    await tail.stop()
  }
}

async function tailFigures(
  tail: Drain,
  producer: Producer<Uint8Array, Uint8Array>,
  seconds: number,
  tiny: boolean,
): Promise<{ readonly recordsPerSecond: number; readonly p50Ms: number; readonly p99Ms: number }> {
  await tail.restart()
  const rate = tiny ? 1000 : Math.round(TAIL_BYTES_PER_SECOND / RECORD_BYTES)
  const sent = await openLoop(producer, { rate, recordBytes: RECORD_BYTES, seconds })
  const { records, elapsedMs, p50Ms, p99Ms } = await tail.until(sent * 5)
  return {
    recordsPerSecond: Math.round((records * 1000) / Math.max(1, elapsedMs)),
    p50Ms: round(p50Ms),
    p99Ms: round(p99Ms),
  }
}
