// W13: kill -9 during durable produce over many partitions with much data, restart, first acknowledgement. Everything
// acknowledged before must be in the logs afterwards.
import { bytes, connect, type Mill, topic } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { keyPool, payloadPool } from './support/payloads.js'
import { produceLoad, wait } from './support/produce-load.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w13'

const RECORD_BYTES = 1024
const PARTITIONS = 1_000
const GIGABYTES = 10
const CALLS = 32
const KEYS = 8_000

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 3)
  return withSession(bench.prefer, (session) => measure(session, bench.seconds, options.tiny))
}

async function measure(session: Session, seconds: number, tiny: boolean): Promise<object> {
  const { broker, mill } = session
  const partitions = tiny ? 10 : PARTITIONS
  await session.createTopic('bulk', partitions, 'buffered')
  await session.createTopic('durable', 16, 'flushed')
  const bulkBytes = await fillTo(session, tiny ? 2e6 : GIGABYTES * 1e9)
  const acknowledged = await loadUntilKilled(session, seconds)
  const spawnedAt = performance.now()
  await broker.restart('SIGKILL')
  const readyMs = performance.now() - spawnedAt
  const firstAckMs = await firstAcknowledgement(session, spawnedAt)
  const missing = await missingOffsets(mill, acknowledged)
  if (missing > 0) throw new Error(`${missing} partitions lost acknowledged records`)
  return {
    name,
    restartToFirstAckMs: round(firstAckMs, 0),
    restartToReadyMs: round(readyMs, 0),
    gigabytes: round(bulkBytes / 1e9),
    partitions,
    recordsPerSecond: acknowledged.recordsPerSecond,
    environment: broker.environment,
  }
}

async function fillTo({ mill }: Session, wantedBytes: number): Promise<number> {
  let filled = 0
  while (filled < wantedBytes) {
    const figures = await produceLoad(mill, {
      topic: 'bulk',
      recordBytes: RECORD_BYTES,
      recordsPerCall: 256,
      callsInFlight: 64,
      seconds: wantedBytes < 1e9 ? 0.2 : 2,
      warmUpSeconds: 0,
      keys: KEYS,
      oneKeyPerCall: true,
    })
    filled += figures.bytes
  }
  return filled
}

interface Acknowledged {
  /** Highest offset acknowledged, by partition. */
  readonly offsets: ReadonlyMap<number, number>
  readonly recordsPerSecond: number
}

/** Durable produce, and SIGKILL for the broker while the calls go on, so that some are under way. */
async function loadUntilKilled({ broker }: Session, seconds: number): Promise<Acknowledged> {
  const mill = connect({ bootstrap: broker.bootstrap })
  const producer = mill.producer(topic('durable', { key: bytes, value: bytes }), { deliveryTimeoutMs: 1_000 })
  const offsets = new Map<number, number>()
  const values = payloadPool(RECORD_BYTES)
  const keys = keyPool(KEYS)
  let turn = 0
  let records = 0
  let stop = false
  const caller = async (): Promise<void> => {
    while (!stop) {
      const key = keys[turn % KEYS]!
      const value = values[turn % values.length]!
      turn++
      // What fails when the broker is killed was not acknowledged, and nothing is owed for it.
      const delivery = await producer.send(key, value).catch(() => null)
      if (delivery === null || delivery.offset === null) continue
      records++
      offsets.set(delivery.partition, Math.max(offsets.get(delivery.partition) ?? -1, delivery.offset))
    }
  }
  const callers = Array.from({ length: CALLS }, caller)
  await wait(seconds)
  const result = { offsets, recordsPerSecond: Math.round(records / seconds) }
  process.kill(broker.pid, 'SIGKILL')
  stop = true
  await Promise.all(callers)
  // It throws for the same sends once more.
  await mill.close({ timeoutMs: 100 }).catch(() => {})
  return result
}

async function firstAcknowledgement({ broker }: Session, spawnedAt: number): Promise<number> {
  const mill = connect({ bootstrap: broker.bootstrap })
  try {
    await mill.producer(topic('durable', { key: bytes, value: bytes })).send(null, payloadPool(RECORD_BYTES)[0]!)
    return performance.now() - spawnedAt
  } finally {
    await mill.close()
  }
}

async function missingOffsets(mill: Mill, { offsets }: Acknowledged): Promise<number> {
  const { partitions } = await admin(mill).describeTopic('durable')
  return partitions.filter(({ partition, highWatermark }) => (highWatermark ?? 0) <= (offsets.get(partition) ?? -1))
    .length
}
