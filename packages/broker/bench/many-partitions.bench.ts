// Three brokers and 10,000 partitions with three replicas each: how long they take to be made, what they cost when nobody uses
// them, and what clients notice when one broker is restarted in order under a light load. `--partitions N`, `--rate RECORDS` a
// second over all partitions in turn, `--seconds N` of idling, `--limit N` seconds for everything together, closing apart: what
// has not come about by then is null.
import { parseArgs } from 'node:util'
import { type ClusterMapView, connect, type Mill, MillraceError } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { type ClusterNode, ProcessCluster } from './support/process-cluster.js'
import { cpuSeconds, rssMb } from './support/process-figures.js'
import { wait } from './support/produce-load.js'
import { round } from './support/session.js'
import { SteadySends } from './support/steady-sends.js'

export const name = 'many-partitions'

const TOPIC = 'many'
const BROKERS = 3
const PARTITIONS = 10_000
const LIMIT_SECONDS = 540
/** A broker closes a log after the other. */
const STOP_LIMIT_MS = 60_000
const RECORD_BYTES = 100
const POLL_SECONDS = 0.05
const SETTLE_SECONDS = 5
const MOST_ATTEMPTS = 5
/** Leaders are balanced when no broker leads more than this share above its part. */
const EVEN_SHARE = 0.02

interface Settings {
  readonly partitions: number
  readonly rate: number
  readonly seconds: number
  readonly settleSeconds: number
  /** On the clock of this process. */
  readonly deadlineMs: number
}

export async function run(options: RunOptions): Promise<object> {
  const { prefer, seconds } = benchOptions(options, 20)
  const { values } = parseArgs({
    args: [...options.argv],
    options: {
      partitions: { type: 'string' },
      rate: { type: 'string' },
      limit: { type: 'string' },
      memory: { type: 'string' },
    },
    strict: false,
  })
  const limitSeconds = Number(values.limit ?? LIMIT_SECONDS)
  const settings: Settings = {
    partitions: Number(values.partitions ?? (options.tiny ? 12 : PARTITIONS)),
    rate: Number(values.rate ?? 200),
    seconds,
    settleSeconds: options.tiny ? 0.3 : SETTLE_SECONDS,
    deadlineMs: performance.now() + limitSeconds * 1_000,
  }
  const memory = typeof values.memory === 'string' ? values.memory : '256m'
  const flags = ['--log-level=warn']
  const cluster = await ProcessCluster.start({ brokers: BROKERS, prefer, hasProxies: false, memory, flags })
  const mill = connect({ bootstrap: cluster.bootstrap, requestTimeoutMs: (limitSeconds * 1_000) / 2 })
  const map = new MapWatch(mill)
  try {
    return { name, partitions: settings.partitions, ...(await measure(cluster, mill, map, settings)) }
  } finally {
    map.close()
    await mill.close()
    await cluster.stop()
  }
}

async function measure(cluster: ProcessCluster, mill: Mill, map: MapWatch, settings: Settings): Promise<object> {
  const { partitions, rate, seconds, settleSeconds, deadlineMs } = settings
  const even = (): boolean => map.isEven(partitions)
  // Brokers that have just been started elect and register still.
  await wait(settleSeconds)
  const beganMs = performance.now()
  const createAttempts = await createTopic(mill, partitions, deadlineMs)
  const createSeconds = await until(() => map.isLed(partitions), beganMs, deadlineMs)
  if (createSeconds === null) {
    const leaders = map.leaders()
    return {
      createSeconds,
      createAttempts,
      leaders,
      recordsPerSecond: rate,
      failed: 'not every partition has a leader',
    }
  }
  const balancedSeconds = await until(even, beganMs, deadlineMs)
  await wait(settleSeconds)
  const idle = await idleFigures(cluster, seconds)
  const sends = new SteadySends(mill, {
    topic: TOPIC,
    recordBytes: RECORD_BYTES,
    recordsPerSecond: rate,
    partitionOf: (number) => number % partitions,
  })
  await wait(settleSeconds)
  const before = sends.next()
  const restart = await restarted(cluster.node(2), map, settings)
  const during = sends.next()
  await wait(settleSeconds)
  const after = sends.next()
  await sends.end()
  return {
    createSeconds,
    createAttempts,
    balancedAfterCreateSeconds: balancedSeconds,
    idle,
    restart: {
      ...restart,
      failedSends: during.failed + after.failed,
      sendP50Ms: { before: before.ms(50), during: during.ms(50), after: after.ms(50) },
      sendP99Ms: { before: before.ms(99), during: during.ms(99), after: after.ms(99) },
      longestSendMs: during.maxMs,
      ...(sends.firstFailure === null ? {} : { firstFailure: sends.firstFailure }),
    },
    leaders: map.leaders(),
    rssMb: cluster.nodes.map(({ pid }) => round(rssMb(pid ?? 0) ?? 0, 0)),
    misroutes: mill.statistics().misroutes,
    recordsPerSecond: rate,
  }
}

/** Where a broker that led goes away meanwhile, what became of the wish is unknown: it is asked for until it is there. */
async function createTopic(mill: Mill, partitions: number, deadlineMs: number): Promise<number> {
  for (let attempt = 1; ; attempt++) {
    try {
      await admin(mill).createTopic(TOPIC, { partitions })
      return attempt
    } catch (error) {
      if (!MillraceError.is(error)) throw error
      // Its leaders are waited for in any case.
      if (error.code === 'ERR_MILLRACE_TOPIC_EXISTS' || error.code === 'ERR_MILLRACE_TIMEOUT') return attempt
      if (error.outcome !== 'unknown' || attempt === MOST_ATTEMPTS || performance.now() > deadlineMs) throw error
    }
  }
}

/** Seconds since the broker was told to stop; null for what has not come about in time. */
async function restarted(node: ClusterNode, map: MapWatch, settings: Settings): Promise<object> {
  const { partitions, deadlineMs } = settings
  const beganMs = performance.now()
  await node.stop(STOP_LIMIT_MS)
  const stoppedSeconds = secondsSince(beganMs)
  await node.start()
  const readySeconds = secondsSince(beganMs)
  const allLedSeconds = await until(() => map.isLed(partitions), beganMs, deadlineMs)
  const balancedSeconds = await until(() => map.isEven(partitions), beganMs, deadlineMs)
  return { stoppedSeconds, readySeconds, allLedSeconds, balancedSeconds }
}

async function idleFigures(cluster: ProcessCluster, seconds: number): Promise<object> {
  const cpu = (): number[] => cluster.nodes.map(({ pid }) => cpuSeconds(pid ?? 0) ?? 0)
  const before = cpu()
  const beganMs = performance.now()
  await wait(seconds)
  const elapsed = (performance.now() - beganMs) / 1_000
  return {
    cpuPercent: cpu().map((used, at) => round(((used - before[at]!) / elapsed) * 100)),
    rssMb: cluster.nodes.map(({ pid }) => round(rssMb(pid ?? 0) ?? 0, 0)),
  }
}

const secondsSince = (beganMs: number): number => round((performance.now() - beganMs) / 1_000)

/** Seconds since `beganMs` when it came to hold; null when it did not in time. */
async function until(holds: () => boolean, beganMs: number, deadlineMs: number): Promise<number | null> {
  while (!holds()) {
    if (performance.now() > deadlineMs) return null
    await wait(POLL_SECONDS)
  }
  return secondsSince(beganMs)
}

/** What the client's map says of the topic. */
class MapWatch {
  private map: ClusterMapView | null = null
  private readonly subscription: { unsubscribe(): void }

  constructor(mill: Mill) {
    this.subscription = mill.cluster.map$.subscribe((map) => {
      this.map = map
    })
  }

  close(): void {
    this.subscription.unsubscribe()
  }

  /** Partitions led, by node in order of their ids. */
  leaders(): readonly number[] {
    const counts = new Map<number, number>()
    for (const { nodeId } of this.map?.nodes ?? []) counts.set(nodeId, 0)
    for (const { nodeId } of this.partitions) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1)
    counts.delete(0)
    return [...counts].sort(([left], [right]) => left - right).map(([, count]) => count)
  }

  isLed(partitions: number): boolean {
    const known = this.partitions
    return known.length === partitions && known.every(({ nodeId }) => nodeId !== 0)
  }

  isEven(partitions: number): boolean {
    const most = Math.ceil((partitions / BROKERS) * (1 + EVEN_SHARE))
    return this.isLed(partitions) && this.leaders().every((led) => led <= most)
  }

  private get partitions() {
    return this.map?.topics.find((topic) => topic.name === TOPIC)?.partitions ?? []
  }
}
