// A partition of some gigabytes goes from the broker that leads it to one that has nothing of it, while producers go on at a
// fixed rate: how long they wait for each acknowledgement before, meanwhile and afterwards, counted from when a record was due.
// `--gigabytes N`, `--rate RECORDS` a second of 1 KiB, `--replicas N`, `--seconds N` before and afterwards. It says now and then
// how far it is.
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
/** A move that is slower than this has come to a halt. */
const LEAST_MB_PER_SECOND = 4
const LIMIT_SECONDS = 60
/** Each look is a question to every broker, and so not for nothing. */
const POLL_SECONDS = 0.5
const SHOWN_EVERY_SECONDS = 5

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
    const show = options.tiny ? () => {} : (words: string) => console.log(`  ${words}`)
    const filled = await fill(mill, gigabytes * 1e9, show)
    return {
      name,
      rate,
      replicas,
      gigabytes: round(filled / 1e9),
      ...(await measure(mill, { rate, seconds, filled, show })),
    }
  } finally {
    await mill.close()
    await cluster.stop()
  }
}

type Show = (words: string) => void

async function fill(mill: Mill, wantedBytes: number, show: Show): Promise<number> {
  let filled = 0
  let shownAtMs = performance.now()
  while (filled < wantedBytes) {
    const load = { topic: TOPIC, recordBytes: RECORD_BYTES, recordsPerCall: 256, callsInFlight: 32, keys: 1000 }
    const figures = await produceLoad(mill, { ...load, seconds: wantedBytes < 1e8 ? 0.2 : 2, warmUpSeconds: 0 })
    filled += figures.bytes
    if (performance.now() - shownAtMs < SHOWN_EVERY_SECONDS * 1_000) continue
    shownAtMs = performance.now()
    show(`${round(filled / 1e9)} of ${round(wantedBytes / 1e9)} GB written`)
  }
  return filled
}

interface Measured {
  readonly rate: number
  readonly seconds: number
  readonly filled: number
  readonly show: Show
}

async function measure(mill: Mill, { rate, seconds, filled, show }: Measured): Promise<object> {
  const { from, target } = await choice(mill)
  const sends = new SteadySends(mill, { topic: TOPIC, recordBytes: RECORD_BYTES, recordsPerSecond: rate })
  // The first ones find no connection yet.
  await wait(seconds / 4)
  sends.next()
  await wait(seconds)
  const before = sends.next()
  const beganMs = performance.now()
  await admin(mill).movePartition(TOPIC, 0, target)
  const limitSeconds = LIMIT_SECONDS + filled / 1e6 / LEAST_MB_PER_SECOND
  await untilMoved(mill, target, limitSeconds, show)
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
    mbPerSecond: round(filled / 1e6 / moveSeconds, 1),
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

async function untilMoved(mill: Mill, target: readonly number[], limitSeconds: number, show: Show): Promise<void> {
  const beganMs = performance.now()
  let shownAtMs = beganMs
  const wanted = [...target].sort().join()
  while (true) {
    const { leader, replicas } = (await admin(mill).describeTopic(TOPIC)).partitions[0]!
    const voters = replicas.filter(({ isLearner }) => !isLearner).map(({ nodeId }) => nodeId)
    if (target.includes(leader) && voters.length === replicas.length && voters.sort().join() === wanted) return
    const now = performance.now()
    if (now - beganMs > limitSeconds * 1_000) throw new Error(`not moved within ${round(limitSeconds, 0)} s`)
    if (now - shownAtMs >= SHOWN_EVERY_SECONDS * 1_000) {
      shownAtMs = now
      const lacking = replicas.map(({ nodeId, lagBatches }) => `node ${nodeId} lacks ${lagBatches} batches`)
      show(`${round((now - beganMs) / 1_000, 0)} s: led by ${leader}, ${lacking.join(', ')}`)
    }
    await wait(POLL_SECONDS)
  }
}
