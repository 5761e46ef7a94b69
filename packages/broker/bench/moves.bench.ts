// A partition of some gigabytes goes from the broker that leads it to one that has nothing of it, while producers go on at a
// fixed rate: how long they wait for each acknowledgement before, meanwhile and afterwards, counted from when a record was due.
// `--gigabytes N`, `--rate RECORDS` a second of 1 KiB, `--replicas N`, `--seconds N` before and afterwards.
import { parseArgs } from 'node:util'
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { ProcessCluster } from './support/process-cluster.js'
import { produceLoad, wait } from './support/produce-load.js'
import { round } from './support/session.js'
import { SteadySends, type Stretch } from './support/steady-sends.js'

export const name = 'moves'

const TOPIC = 'moved'
const BROKERS = 3
const RECORD_BYTES = 1024
const LIMIT_SECONDS = 900
const POLL_SECONDS = 0.1

export async function run(options: RunOptions): Promise<object> {
  const { prefer, seconds } = benchOptions(options, 20)
  const { values } = parseArgs({
    args: [...options.argv],
    options: { gigabytes: { type: 'string' }, rate: { type: 'string' }, replicas: { type: 'string' } },
    strict: false,
  })
  const gigabytes = Number(values.gigabytes ?? (options.tiny ? 0.005 : 5))
  const rate = Number(values.rate ?? (options.tiny ? 200 : 2_000))
  const replicas = Number(values.replicas ?? 2)
  if (replicas >= BROKERS) throw new Error(`of ${BROKERS} brokers one has nothing of the partition`)
  const flags = ['--log-level=warn']
  const cluster = await ProcessCluster.start({ brokers: BROKERS, prefer, hasProxies: false, memory: '256m', flags })
  const mill = connect({ bootstrap: cluster.bootstrap, bufferBytes: 64 * 1024 * 1024 })
  try {
    await admin(mill).createTopic(TOPIC, { partitions: 1, replicas })
    const filled = await fill(mill, gigabytes * 1e9)
    return { name, rate, replicas, gigabytes: round(filled / 1e9), ...(await measure(mill, rate, seconds, filled)) }
  } finally {
    await mill.close()
    await cluster.stop()
  }
}

async function fill(mill: Mill, wantedBytes: number): Promise<number> {
  let filled = 0
  while (filled < wantedBytes) {
    const load = { topic: TOPIC, recordBytes: RECORD_BYTES, recordsPerCall: 256, callsInFlight: 32, keys: 1000 }
    const figures = await produceLoad(mill, { ...load, seconds: wantedBytes < 1e8 ? 0.2 : 2, warmUpSeconds: 0 })
    filled += figures.bytes
  }
  return filled
}

async function measure(mill: Mill, rate: number, seconds: number, bytes: number): Promise<object> {
  const { from, target } = await choice(mill)
  const sends = new SteadySends(mill, { topic: TOPIC, recordBytes: RECORD_BYTES, recordsPerSecond: rate })
  // The first ones find no connection yet.
  await wait(seconds / 4)
  sends.next()
  await wait(seconds)
  const before = sends.next()
  const beganMs = performance.now()
  await admin(mill).movePartition(TOPIC, 0, target)
  await untilMoved(mill, target)
  const moveSeconds = (performance.now() - beganMs) / 1_000
  const during = sends.next()
  await wait(seconds)
  const after = sends.next()
  await sends.end()
  const failedSends = before.failed + during.failed + after.failed
  return {
    from,
    to: target,
    moveSeconds: round(moveSeconds),
    mbPerSecond: round(bytes / 1e6 / moveSeconds, 1),
    recordsPerSecond: round(during.acknowledged / moveSeconds, 0),
    before: figuresOf(before),
    during: figuresOf(during),
    after: figuresOf(after),
    /** Of the p99 while the partition moved to the one before. */
    ratio: round(during.ms(99) / before.ms(99)),
    failedSends,
    ...(sends.firstFailure === null ? {} : { firstFailure: sends.firstFailure }),
  }
}

const figuresOf = (stretch: Stretch): object => ({
  p50Ms: stretch.ms(50),
  p99Ms: stretch.ms(99),
  p999Ms: stretch.ms(99.9),
  maxMs: stretch.maxMs,
})

/** The leader goes, and a node that has nothing of it comes in its place. */
async function choice(mill: Mill): Promise<{ readonly from: number; readonly target: readonly number[] }> {
  const control = admin(mill)
  const { leader, replicas } = (await control.describeTopic(TOPIC)).partitions[0]!
  const having = replicas.map(({ nodeId }) => nodeId)
  const { nodes } = await control.clusterStatus()
  const free = nodes.map(({ nodeId }) => nodeId).find((nodeId) => !having.includes(nodeId))
  if (free === undefined) throw new Error('every broker has a copy')
  return { from: leader, target: [free, ...having.filter((nodeId) => nodeId !== leader)] }
}

async function untilMoved(mill: Mill, target: readonly number[]): Promise<void> {
  const deadline = performance.now() + LIMIT_SECONDS * 1_000
  const wanted = [...target].sort().join()
  while (true) {
    const { leader, replicas } = (await admin(mill).describeTopic(TOPIC)).partitions[0]!
    const voters = replicas.filter(({ isLearner }) => !isLearner).map(({ nodeId }) => nodeId)
    if (target.includes(leader) && voters.length === replicas.length && voters.sort().join() === wanted) return
    if (performance.now() > deadline) throw new Error(`the partition has not moved within ${LIMIT_SECONDS} s`)
    await wait(POLL_SECONDS)
  }
}
