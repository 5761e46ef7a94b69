// W8: one consumer catches up on a backlog of 1 KiB records: cold, from the disk after a restart of the broker, and hot,
// again and again from the broker's memory. Beside them the disk's sequential reads and loopback TCP.
import { FRAME_BYTES } from '#src/limits.js'
import type { PoolStatistics } from '#src/memory/page-pool.js'
import { type Backlog, fill } from './support/backlog.js'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { Drain } from './support/drain.js'
import { diskReads, type Limit, loopbackTcp, onBareDisk } from './support/limits.js'
import { pagePoolSince, round, type Session, withSession } from './support/session.js'

export const name = 'w8'

const RECORD_BYTES = 1024
const BACKLOG: Backlog = { topic: 'backlog', partitions: 1, recordBytes: RECORD_BYTES, keys: 1000 }
const MEGABYTE = 1e6
const COLD_RECORDS = 2_000_000
const HOT_RECORDS = 500_000
const HOT_ROUNDS = 5
/** So much that the backlog stays in memory. */
const HOT_FLAGS = ['--memory', '2g']

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 4)
  const cold = await withSession(bench.prefer, (session) => coldFigures(session, bench, options.tiny))
  const hot = await withSession(bench.prefer, (session) => hotFigures(session, bench, options.tiny), HOT_FLAGS)
  return { name, cold, hot }
}

async function coldFigures(session: Session, bench: BenchOptions, tiny: boolean): Promise<object> {
  const records = tiny ? 2_000 : COLD_RECORDS
  await fill(session, BACKLOG, records)
  await session.broker.restart('SIGTERM')
  session.broker.mark()
  const poolBefore = await session.pagePool()
  const consumed = await catchUp(session, records)
  const cpu = session.broker.cpuSinceMark()
  const pool = pagePoolSince(poolBefore, await session.pagePool())
  const limit = await onBareDisk(bench.prefer, (environment, directory) =>
    diskReads(environment, directory, { readBytes: FRAME_BYTES, seconds: bench.seconds / 2 }),
  )
  return figures([consumed], limit, { cpu, pool }, session)
}

async function hotFigures(session: Session, bench: BenchOptions, tiny: boolean): Promise<object> {
  const records = tiny ? 2_000 : HOT_RECORDS
  await fill(session, BACKLOG, records)
  await catchUp(session, records)
  session.broker.mark()
  const poolBefore = await session.pagePool()
  const rounds = []
  for (let i = 0; i < (tiny ? 1 : HOT_ROUNDS); i++) rounds.push(await catchUp(session, records))
  const cpu = session.broker.cpuSinceMark()
  const pool = pagePoolSince(poolBefore, await session.pagePool())
  return figures(rounds, await loopbackTcp(bench.seconds / 2), { cpu, pool }, session)
}

interface Consumed {
  readonly records: number
  readonly bytes: number
  readonly seconds: number
}

interface BrokerCost {
  readonly cpu: number | null
  readonly pool: PoolStatistics
}

function figures(rounds: readonly Consumed[], limit: Limit, { cpu, pool }: BrokerCost, { broker }: Session): object {
  const rates = rounds.map((one) => one.bytes / MEGABYTE / one.seconds).sort((a, b) => a - b)
  const mbPerSecond = rates[rates.length >> 1]!
  const allBytes = rounds.reduce((sum, one) => sum + one.bytes, 0)
  return {
    recordsPerSecond: Math.round((mbPerSecond * MEGABYTE) / RECORD_BYTES),
    mbPerSecond: round(mbPerSecond, 1),
    limit: { name: limit.name, mbPerSecond: round(limit.mbPerSecond, 1) },
    ofLimit: round(mbPerSecond / limit.mbPerSecond),
    brokerCpuSecondsPerGb: cpu === null ? null : round((cpu * 1e9) / allBytes),
    brokerPeakRssMb: round(broker.peakRssMb() ?? 0, 0),
    pagePool: pool,
    environment: broker.environment,
  }
}

async function catchUp({ broker }: Session, records: number): Promise<Consumed> {
  const { bootstrap } = broker
  const order = {
    bootstrap,
    topic: 'backlog',
    consumers: 1,
    from: 'earliest',
    timed: false,
    bytesPerSecond: 0,
  } as const
  const drain = Drain.start(order)
  try {
    const { bytes: consumed, elapsedMs } = await drain.until(records)
    return { records, bytes: consumed, seconds: elapsedMs / 1000 }
  } finally {
    await drain.stop()
  }
}
