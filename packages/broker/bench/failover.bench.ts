// Failover: the leader of partitions under load is killed again and again, and the time from the last good
// acknowledgement of each of its partitions to the next one is what its clients have noticed. The same for leaders that
// are stopped without a word (`--freezes N`), which is a black hole, and for those that are restarted in order, which
// hand over before they go (`--restarts N`). A second client that only watches tells how long it takes from each election
// until clients have heard of it. `--kills N`, `--partitions N`, `--brokers N`, `--environment ring|portable|auto`.
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { connect, type Mill, MillraceError } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { LeaderNews, NEWS_FLAGS } from './support/leader-news.js'
import { PacedSends, type Verdict } from './support/paced-sends.js'
import { type ClusterNode, ProcessCluster } from './support/process-cluster.js'
import { round } from './support/session.js'

export const name = 'failover'

const TOPIC = 'failover'
const PARTITIONS = 12
const KILLS = 50
/** Between a broker's return and the next fault, besides that everything is acknowledged again. */
const SETTLE_MS = 1_500
/** A fault after which there is no acknowledgement for so long is a failure of the bench. */
const MOST_STALL_MS = 60_000
/** Under load a follower is always a little behind. */
const LAG_BATCHES = 50

interface Stall {
  /** Of the partition that waited longest. */
  readonly worstMs: number
  readonly partitions: readonly number[]
}

export async function run(options: RunOptions): Promise<object> {
  const { prefer } = benchOptions(options, 1)
  const { values } = parseArgs({
    args: [...options.argv],
    options: {
      kills: { type: 'string' },
      freezes: { type: 'string' },
      restarts: { type: 'string' },
      partitions: { type: 'string' },
      brokers: { type: 'string' },
    },
    strict: false,
  })
  const kills = Number(values.kills ?? (options.tiny ? 1 : KILLS))
  const freezes = Number(values.freezes ?? 0)
  const restarts = Number(values.restarts ?? 0)
  const partitions = Number(values.partitions ?? PARTITIONS)
  const brokers = Number(values.brokers ?? 3)
  if (brokers === 1 && freezes > 0) throw new Error('one broker that is stopped has nobody to take over')
  let onLine = (_line: string): void => {}
  const flags = NEWS_FLAGS
  const cluster = await ProcessCluster.start({
    brokers,
    prefer,
    hasProxies: false,
    flags,
    onLine: (line) => onLine(line),
  })
  const client = { bootstrap: cluster.bootstrap, retry: { initialMs: 20, maxMs: 200 } }
  const mill = connect(client)
  const watcher = connect(client)
  const news = new LeaderNews(watcher, TOPIC)
  onLine = (line) => news.onLine(line)
  try {
    return await new Failover(cluster, mill, partitions, news).measure({ kills, freezes, restarts })
  } finally {
    news.end()
    await Promise.all([mill.close(), watcher.close()])
    await cluster.stop()
  }
}

class Failover {
  private readonly sends: PacedSends

  constructor(
    private readonly cluster: ProcessCluster,
    private readonly mill: Mill,
    private readonly partitions: number,
    private readonly news: LeaderNews,
  ) {
    this.sends = new PacedSends(mill, TOPIC, partitions)
  }

  async measure(counts: { kills: number; freezes: number; restarts: number }): Promise<object> {
    await admin(this.mill).createTopic(TOPIC, { partitions: this.partitions })
    this.sends.begin()
    await this.untilSteady()
    const before = this.sends.acknowledged
    const beganMs = performance.now()
    await sleep(500)
    const recordsPerSecond = (this.sends.acknowledged - before) / ((performance.now() - beganMs) / 1000)
    this.news.begin()
    const killed: Stall[] = []
    for (let i = 0; i < counts.kills; i++) killed.push(await this.kill())
    const frozen: Stall[] = []
    for (let i = 0; i < counts.freezes; i++) frozen.push(await this.freeze())
    const failedBefore = this.sends.failed
    const restarted: Stall[] = []
    for (let i = 0; i < counts.restarts; i++) restarted.push(await this.restart())
    const planned = { ...stallsOf('restart', restarted), failedInRestarts: this.sends.failed - failedBefore }
    await this.sends.end()
    const verdict = await this.sends.verify()
    return {
      name,
      ...killsOf(killed),
      ...stallsOf('blackHole', frozen),
      ...planned,
      ...pushesOf(this.news.delaysMs()),
      ...verdictOf(verdict),
      recordsPerSecond: round(recordsPerSecond, 0),
    }
  }

  private async kill(): Promise<Stall> {
    const { node, partitions } = await this.leader()
    const atMs = performance.now()
    await node.kill()
    const isAlone = this.cluster.nodes.length === 1
    if (isAlone) await node.start()
    const stall = await this.stallOf(partitions, atMs)
    if (!isAlone) await node.start()
    await this.untilSteady()
    return stall
  }

  private async freeze(): Promise<Stall> {
    const { node, partitions } = await this.leader()
    const atMs = performance.now()
    node.signal('SIGSTOP')
    try {
      return await this.stallOf(partitions, atMs)
    } finally {
      node.signal('SIGCONT')
      await this.untilSteady()
    }
  }

  private async restart(): Promise<Stall> {
    const { node, partitions } = await this.leader()
    const atMs = performance.now()
    await node.stop()
    const stall = await this.stallOf(partitions, atMs)
    await node.start()
    await this.untilSteady()
    return stall
  }

  /** The node that leads most, and what it leads. */
  private async leader(): Promise<{ readonly node: ClusterNode; readonly partitions: readonly number[] }> {
    const { partitions } = await admin(this.mill).describeTopic(TOPIC)
    const byNode = new Map<number, number[]>()
    for (const { partition, leader } of partitions) {
      const led = byNode.get(leader)
      if (led === undefined) byNode.set(leader, [partition])
      else led.push(partition)
    }
    const [nodeId, led] = [...byNode].sort(([, left], [, right]) => right.length - left.length)[0]!
    return { node: this.cluster.node(nodeId), partitions: led }
  }

  /** From the last acknowledgement before the fault, or while it came, to the next one: the longest of all partitions. */
  private async stallOf(partitions: readonly number[], faultAtMs: number): Promise<Stall> {
    const stalls = await Promise.all(
      partitions.map((partition) => this.sends.stallAround(partition, faultAtMs, MOST_STALL_MS)),
    )
    return { worstMs: Math.max(...stalls), partitions: stalls }
  }

  private async untilSteady(): Promise<void> {
    const deadlineMs = performance.now() + MOST_STALL_MS
    for (;;) {
      await sleep(SETTLE_MS)
      const sinceMs = this.sends.longestSilenceMs()
      if (sinceMs < SETTLE_MS / 2 && (await this.isWhole())) return
      if (performance.now() > deadlineMs) throw new Error(`the cluster is not steady: silent for ${sinceMs} ms`)
    }
  }

  /** Every partition has its leader, and everyone who belongs to it has come as far, or is about to. */
  private async isWhole(): Promise<boolean> {
    try {
      const { partitions } = await admin(this.mill).describeTopic(TOPIC)
      return partitions.every(
        ({ leader, replicas }) =>
          leader !== 0 && replicas.every(({ lagBatches }) => lagBatches !== null && lagBatches < LAG_BATCHES),
      )
    } catch (error) {
      if (MillraceError.is(error)) return false
      throw error
    }
  }
}

function killsOf(stalls: readonly Stall[]): object {
  const worst = stalls.map(({ worstMs }) => worstMs)
  const each = stalls.flatMap(({ partitions }) => partitions)
  return {
    kills: stalls.length,
    p50Ms: percentile(worst, 50),
    p99Ms: percentile(worst, 99),
    maxMs: percentile(worst, 100),
    partitionStalls: each.length,
    partitionP50Ms: percentile(each, 50),
    partitionP99Ms: percentile(each, 99),
  }
}

/** Nothing when there were none of the kind. */
function stallsOf(kind: string, stalls: readonly Stall[]): object {
  if (stalls.length === 0) return {}
  const worst = stalls.map(({ worstMs }) => worstMs)
  const each = stalls.flatMap(({ partitions }) => partitions)
  return {
    [`${kind}s`]: stalls.length,
    [`${kind}P50Ms`]: percentile(worst, 50),
    [`${kind}P99Ms`]: percentile(worst, 99),
    [`${kind}PartitionP50Ms`]: percentile(each, 50),
    [`${kind}PartitionP99Ms`]: percentile(each, 99),
  }
}

/** From an election until a client knows of it by push. */
function pushesOf(delaysMs: readonly number[]): object {
  return { pushes: delaysMs.length, pushP50Ms: percentile(delaysMs, 50), pushP99Ms: percentile(delaysMs, 99) }
}

function verdictOf({ acknowledged, lost, duplicated, failed, statistics }: Verdict): object {
  const { misroutes, refusals, refreshes, reconnects } = statistics
  return { acknowledged, lost, duplicated, failedSends: failed, misroutes, refusals, refreshes, reconnects }
}

/** The smallest of the values that so many percent are at most; 0 of none. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((left, right) => left - right)
  return round(sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0, 1)
}
