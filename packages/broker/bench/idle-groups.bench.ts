// What many groups cost that nobody uses: three brokers, a topic of 1,000 partitions with three replicas each, no client. CPU
// of each broker over `--seconds`. `--groups N`, `--environment ring|portable|auto`.
import { parseArgs } from 'node:util'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { ProcessCluster } from './support/process-cluster.js'
import { cpuSeconds, rssMb } from './support/process-figures.js'
import { wait } from './support/produce-load.js'
import { round } from './support/session.js'

export const name = 'idle-groups'

const TOPIC = 'idle'
const GROUPS = 1_000
const BROKERS = 3
/** Leaders are elected, slots filled and groups at rest before anything is measured. */
const SETTLE_SECONDS = 5

export async function run(options: RunOptions): Promise<object> {
  const { prefer, seconds } = benchOptions(options, 20)
  const { values } = parseArgs({ args: [...options.argv], options: { groups: { type: 'string' } }, strict: false })
  const groups = Number(values.groups ?? (options.tiny ? 12 : GROUPS))
  const cluster = await ProcessCluster.start({
    brokers: BROKERS,
    prefer,
    hasProxies: false,
    flags: ['--log-level=warn'],
  })
  try {
    await createTopic(cluster, groups)
    await wait(options.tiny ? 0.3 : SETTLE_SECONDS)
    const before = cpuOf(cluster)
    const beganMs = performance.now()
    await wait(seconds)
    const elapsed = (performance.now() - beganMs) / 1000
    return {
      name,
      groups,
      cpuPercent: cpuOf(cluster).map((used, at) => round(((used - before[at]!) / elapsed) * 100)),
      rssMb: cluster.nodes.map(({ pid }) => round(rssMb(pid ?? 0) ?? 0, 0)),
      leaders: await leadersOf(cluster),
    }
  } finally {
    await cluster.stop()
  }
}

async function createTopic(cluster: ProcessCluster, partitions: number): Promise<void> {
  const mill = connect({ bootstrap: cluster.bootstrap, connectTimeoutMs: 60_000 })
  try {
    await admin(mill).createTopic(TOPIC, { partitions })
  } finally {
    await mill.close()
  }
}

/** Seconds of CPU that each broker has used. */
function cpuOf(cluster: ProcessCluster): number[] {
  return cluster.nodes.map(({ pid }) => cpuSeconds(pid ?? 0) ?? 0)
}

/** How many groups each broker leads. */
async function leadersOf(cluster: ProcessCluster): Promise<number[]> {
  const mill = connect({ bootstrap: cluster.bootstrap, connectTimeoutMs: 60_000 })
  try {
    const { partitions } = await admin(mill).describeTopic(TOPIC)
    return cluster.nodes.map(({ nodeId }) => partitions.filter(({ leader }) => leader === nodeId).length)
  } finally {
    await mill.close()
  }
}
