// How long until all others know that a broker is dead: real processes, killed again and again without load. Each of the others
// is asked for what it knows many times a second. The same for the good-bye of one that is stopped in order, and for the return
// of one that is started again, from when it accepts connections. `--kills N`, `--stops N`, `--brokers N`, `--environment
// ring|portable|auto`.
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { callAdmin } from '#src/joining/admin-call.js'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { type ClusterNode, ProcessCluster } from './support/process-cluster.js'
import { round } from './support/session.js'

export const name = 'detection'

const KILLS = 30
const STOPS = 5
const POLL_MS = 25
const MOST_WAIT_MS = 30_000
/** A broker that has just come back has been probed by everybody by then. */
const SETTLE_MS = 1_000

export async function run(options: RunOptions): Promise<object> {
  const { prefer } = benchOptions(options, 1)
  const { values } = parseArgs({
    args: [...options.argv],
    options: { kills: { type: 'string' }, stops: { type: 'string' }, brokers: { type: 'string' } },
    strict: false,
  })
  const kills = Number(values.kills ?? (options.tiny ? 1 : KILLS))
  const stops = Number(values.stops ?? (options.tiny ? 1 : STOPS))
  const brokers = Number(values.brokers ?? 3)
  if (!(brokers > 1)) throw new Error('--brokers takes a number above one: somebody has to notice')
  const cluster = await ProcessCluster.start({ brokers, prefer, hasProxies: false, flags: ['--log-level=warn'] })
  const watch = new Watch()
  try {
    await watch.untilAll(cluster.nodes, cluster.nodes, ['alive'])
    const deaths: number[] = []
    const goodbyes: number[] = []
    const returns: number[] = []
    for (let at = 0; at < kills + stops; at++) {
      const node = cluster.nodes[at % brokers]!
      const others = cluster.nodes.filter((other) => other !== node)
      await sleep(SETTLE_MS)
      if (at < kills) deaths.push(await watch.time(() => node.kill(), others, node, ['dead']))
      else {
        let stopped = Promise.resolve()
        const stop = async (): Promise<void> => {
          stopped = node.stop()
        }
        goodbyes.push(await watch.time(stop, others, node, ['left', 'dead']))
        await stopped
      }
      returns.push(await watch.time(() => node.start(), others, node, ['alive'], 'after'))
      await watch.untilAll(cluster.nodes, cluster.nodes, ['alive'])
    }
    return {
      name,
      brokers,
      kills: figuresOf(deaths),
      stops: figuresOf(goodbyes),
      returns: figuresOf(returns),
      ...watch.done,
    }
  } finally {
    await watch.close()
    await cluster.stop()
  }
}

function figuresOf(times: readonly number[]): object {
  const sorted = [...times].sort((left, right) => left - right)
  const at = (share: number): number =>
    round(sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0, 0)
  return { count: sorted.length, p50Ms: at(0.5), p99Ms: at(0.99), maxMs: at(1) }
}

class Watch {
  private readonly environment = createPortableEnvironment({
    memoryBytes: 1024 * 1024,
    logger: createConsoleLogger({ level: 'silent', format: 'text' }),
  })
  private asked = 0
  private askedForMs = 0

  /** How much was asked, and how often a second: the resolution of the figures. */
  get done(): object {
    return { questions: this.asked, recordsPerSecond: round((this.asked / this.askedForMs) * 1_000, 0) }
  }

  /** Milliseconds from when `act` was begun, or from when it was done, until all `others` see the node so. */
  async time(
    act: () => Promise<void>,
    others: readonly ClusterNode[],
    node: ClusterNode,
    states: readonly string[],
    since: 'before' | 'after' = 'before',
  ): Promise<number> {
    const beganMs = performance.now()
    await act()
    const actedMs = performance.now()
    await this.untilAll(others, [node], states)
    return performance.now() - (since === 'before' ? beganMs : actedMs)
  }

  async untilAll(
    askers: readonly ClusterNode[],
    seen: readonly ClusterNode[],
    states: readonly string[],
  ): Promise<void> {
    const beganMs = performance.now()
    const wanted = seen.map(({ nodeId }) => nodeId)
    await Promise.all(askers.map((asker) => this.until(asker, wanted, states)))
    this.askedForMs += performance.now() - beganMs
  }

  private async until(asker: ClusterNode, nodeIds: readonly number[], states: readonly string[]): Promise<void> {
    const beganMs = performance.now()
    for (;;) {
      const known = await this.ask(asker)
      if (nodeIds.every((nodeId) => states.includes(known.get(nodeId) ?? 'unknown'))) return
      if (performance.now() - beganMs > MOST_WAIT_MS) {
        throw new Error(`node ${asker.nodeId} never saw ${nodeIds.join(', ')} ${states.join(' or ')}`)
      }
      await sleep(POLL_MS)
    }
  }

  /** How the broker sees the others, by node. */
  private async ask(asker: ClusterNode): Promise<ReadonlyMap<number, string>> {
    const [host = '', port = ''] = asker.address.split(':')
    const call = { host, port: Number(port), operation: 'brokerStatus', fields: {}, timeoutMs: 5_000 } as const
    const { gossip } = await callAdmin(this.environment, call)
    this.asked++
    const { members = [] } = (gossip ?? {}) as { members?: readonly { nodeId: number; state: string }[] }
    return new Map(members.map(({ nodeId, state }) => [nodeId, state]))
  }

  close(): Promise<void> {
    return this.environment.close()
  }
}
