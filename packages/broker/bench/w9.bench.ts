// W9: many partitions. Produce of 1 KiB records over 1 to 10,000 partitions, with the same batch for one partition in each
// call, and with keys spread over all of them, where the batches are as large as they happen to become.
import { bytes, topic } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { payloadPool } from './support/payloads.js'
import { produceLoad } from './support/produce-load.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w9'

const RECORD_BYTES = 1024
const MEGABYTE = 1e6
const PARTITIONS = [1, 100, 1_000, 10_000]
const RECORDS_PER_CALL = 64
/** Room for the records of one call and not of two: every batch is one call. */
const SAME_BATCH_BYTES = RECORDS_PER_CALL * (RECORD_BYTES + 64)
/** Enough keys that every partition has some. */
const KEYS_PER_PARTITION = 8

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 6)
  const results: Figures[] = []
  for (const partitions of options.tiny ? [1, 20] : PARTITIONS) {
    results.push(await withSession(bench.prefer, (session) => measure(session, partitions, bench)))
  }
  const one = results[0]!.sameBatch.mbPerSecond
  return {
    name,
    results: results.map((row) => ({ ...row, ofOnePartition: round(row.sameBatch.mbPerSecond / one) })),
  }
}

interface LoadFigures {
  readonly recordsPerSecond: number
  readonly mbPerSecond: number
  readonly batchBytes: number
  readonly brokerCpuSecondsPerGb: number | null
}

interface Figures {
  readonly partitions: number
  /** How long the first record of every partition took together: each log gets its first segment. */
  readonly firstTouchSeconds: number
  readonly sameBatch: LoadFigures
  readonly natural: LoadFigures
  readonly brokerRssMb: number
  readonly environment: string
}

async function measure(session: Session, partitions: number, bench: BenchOptions): Promise<Figures> {
  await session.createTopic('many', partitions, 'buffered')
  const firstTouchSeconds = await touchAll(session, partitions)
  const sameBatch = await load(session, partitions, bench, true)
  const natural = await load(session, partitions, bench, false)
  return {
    partitions,
    firstTouchSeconds,
    sameBatch,
    natural,
    brokerRssMb: round(session.broker.rssMb() ?? 0, 0),
    environment: session.broker.environment,
  }
}

async function touchAll({ mill }: Session, partitions: number): Promise<number> {
  const producer = mill.producer(topic('many', { key: bytes, value: bytes }), { deliveryTimeoutMs: 300_000 })
  const value = payloadPool(RECORD_BYTES)[0]!
  const began = performance.now()
  await producer.sendBatch(Array.from({ length: partitions }, (_, partition) => ({ key: null, value, partition })))
  await producer.close()
  return round((performance.now() - began) / 1000, 1)
}

async function load(
  session: Session,
  partitions: number,
  bench: BenchOptions,
  oneKeyPerCall: boolean,
): Promise<LoadFigures> {
  const { broker, mill } = session
  const before = await counters(session)
  let cpu: number | null = null
  const figures = await produceLoad(mill, {
    topic: 'many',
    recordBytes: RECORD_BYTES,
    recordsPerCall: RECORDS_PER_CALL,
    callsInFlight: 128,
    seconds: bench.seconds,
    warmUpSeconds: bench.warmUpSeconds,
    keys: partitions * KEYS_PER_PARTITION,
    oneKeyPerCall,
    ...(oneKeyPerCall && { options: { batchBytes: SAME_BATCH_BYTES } }),
    onMeasure: () => broker.mark(),
    onMeasured: () => {
      cpu = broker.cpuSinceMark()
    },
  })
  const after = await counters(session)
  return {
    recordsPerSecond: Math.round(figures.records / figures.seconds),
    mbPerSecond: round(figures.bytes / MEGABYTE / figures.seconds, 1),
    batchBytes: Math.round((after.bytes - before.bytes) / Math.max(1, after.batches - before.batches)),
    brokerCpuSecondsPerGb: cpu === null ? null : round((cpu * 1e9) / figures.bytes),
  }
}

async function counters({ mill }: Session): Promise<{ readonly bytes: number; readonly batches: number }> {
  const { counters: all } = await admin(mill).brokerStatus()
  const { producedBytes, producedBatches } = all as { readonly producedBytes: number; readonly producedBatches: number }
  return { bytes: producedBytes, batches: producedBatches }
}
