// W7: one producer, five consumers of one partition, records of 1 KiB: latency at 50 MB/s in and 250 out, then as fast as
// it goes. The consumers are five clients in a process of their own.
import { bytes, type Mill, topic } from '@millrace/client'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { Drain } from './support/drain.js'
import { openLoop } from './support/open-loop.js'
import { produceLoad, wait } from './support/produce-load.js'
import { pagePoolSince, round, type Session, withSession } from './support/session.js'

export const name = 'w7'

const CONSUMERS = 5
const RECORD_BYTES = 1024
const MEGABYTE = 1e6
const RATE = Math.round((50 * MEGABYTE) / RECORD_BYTES)

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 6)
  const fixed = await withSession(bench.prefer, (session) => atRate(session, bench, options.tiny ? 1000 : RATE))
  const fastest = await withSession(bench.prefer, (session) => asFastAsItGoes(session, bench))
  return { name, consumers: CONSUMERS, results: [fixed, fastest] }
}

async function drained(session: Session, timed: boolean): Promise<Drain> {
  await session.createTopic('fan-out', 1, 'buffered')
  const { bootstrap } = session.broker
  return Drain.start({ bootstrap, topic: 'fan-out', consumers: CONSUMERS, from: 'earliest', timed, bytesPerSecond: 0 })
}

async function atRate(session: Session, bench: BenchOptions, rate: number): Promise<object> {
  const drain = await drained(session, true)
  try {
    const producer = session.mill.producer(topic('fan-out', { key: bytes, value: bytes }))
    await openLoop(producer, { rate, recordBytes: RECORD_BYTES, seconds: bench.warmUpSeconds })
    await drain.restart()
    session.broker.mark()
    const poolBefore = await session.pagePool()
    const { sent, notTaken, lateMs } = await openLoop(producer, {
      rate,
      recordBytes: RECORD_BYTES,
      seconds: bench.seconds,
    })
    const cpu = session.broker.cpuSinceMark()
    const pool = pagePoolSince(poolBefore, await session.pagePool())
    await producer.close()
    const figures = await drain.until(sent * CONSUMERS)
    return {
      mode: 'fixed rate',
      recordsPerSecond: Math.round((figures.records * 1000) / figures.elapsedMs),
      mbPerSecondIn: round((sent * RECORD_BYTES) / MEGABYTE / bench.seconds, 1),
      mbPerSecondOut: round(figures.bytes / 1000 / figures.elapsedMs, 1),
      p50Ms: round(figures.p50Ms),
      p99Ms: round(figures.p99Ms),
      notTaken,
      lateMs,
      brokerCpuSecondsPerGbOut: cpu === null ? null : round((cpu * 1e9) / figures.bytes),
      pagePool: pool,
      environment: session.broker.environment,
    }
  } finally {
    await drain.stop()
  }
}

async function asFastAsItGoes(session: Session, bench: BenchOptions): Promise<object> {
  const drain = await drained(session, false)
  try {
    await load(session.mill, bench.warmUpSeconds)
    await drain.restart()
    session.broker.mark()
    const poolBefore = await session.pagePool()
    const { bytes: bytesIn, seconds } = await load(session.mill, bench.seconds)
    const cpu = session.broker.cpuSinceMark()
    const figures = await drain.figures()
    const pool = pagePoolSince(poolBefore, await session.pagePool())
    await wait(0.05)
    return {
      mode: 'as fast as it goes',
      recordsPerSecond: Math.round((figures.records * 1000) / figures.elapsedMs),
      mbPerSecondIn: round(bytesIn / MEGABYTE / seconds, 1),
      mbPerSecondOut: round(figures.bytes / 1000 / figures.elapsedMs, 1),
      brokerCpuSecondsPerGbOut: cpu === null ? null : round((cpu * 1e9) / figures.bytes),
      pagePool: pool,
      environment: session.broker.environment,
    }
  } finally {
    await drain.stop()
  }
}

const load = (mill: Mill, seconds: number) =>
  produceLoad(mill, {
    topic: 'fan-out',
    recordBytes: RECORD_BYTES,
    recordsPerCall: 64,
    callsInFlight: 8,
    seconds,
    warmUpSeconds: 0,
    keys: 1,
  })
