// Gossip of 50 and 500 nodes in virtual time: how long until all know of a death and of new metadata, how many are taken for
// dead that are not, and what it costs. `--nodes N`, `--minutes M` (of virtual time for false deaths), `--loss RATE`,
// `--kills K`, `--changes C`, `--seed S`, and `--checkers 0` for SWIM without those who look for themselves when they hear of a
// suspicion.
import { parseArgs } from 'node:util'
import { retransmitLimit } from '#src/gossip/broadcast-queue.js'
import { GOSSIP_LIMITS } from '#src/gossip/gossip-limits.js'
import type { NodeId } from '#src/gossip/gossip-types.js'
import { GossipWorld, recordOf } from '../test/gossip/gossip-world.js'
import type { RunOptions } from './support/bench-options.js'
import { round } from './support/session.js'

export const name = 'gossip'

/** One way between two brokers of a data centre. */
const LATENCY_MS = [0.2, 0.3] as const
/** A request and its reply on a stream that stands, and applying what it brought. */
const PULL_TRIPS = 3
const MOST_WAIT_MS = 60_000

interface Plan {
  readonly nodes: number
  readonly minutes: number
  readonly loss: number
  readonly kills: number
  readonly changes: number
  readonly seed: number
  readonly checkers: number
}

export async function run(options: RunOptions): Promise<object> {
  const { values } = parseArgs({
    args: [...options.argv],
    options: {
      nodes: { type: 'string' },
      minutes: { type: 'string' },
      loss: { type: 'string' },
      kills: { type: 'string' },
      changes: { type: 'string' },
      seed: { type: 'string' },
      checkers: { type: 'string' },
    },
    strict: false,
  })
  const sizes = values.nodes !== undefined ? [Number(values.nodes)] : options.tiny ? [5] : [50, 500]
  const results: object[] = []
  for (const nodes of sizes) {
    const isLarge = nodes > 100
    const plan: Plan = {
      nodes,
      minutes: options.tiny ? 0.1 : Number(values.minutes ?? (isLarge ? 2 : 20)),
      loss: Number(values.loss ?? 0.01),
      kills: options.tiny ? 1 : Number(values.kills ?? (isLarge ? 10 : 100)),
      changes: options.tiny ? 2 : Number(values.changes ?? (isLarge ? 30 : 300)),
      seed: Number(values.seed ?? 1),
      checkers: Number(values.checkers ?? GOSSIP_LIMITS.suspicionCheckers),
    }
    results.push(measure(plan))
  }
  return { name, clusters: results }
}

function measure(plan: Plan): object {
  const nodes = Array.from({ length: plan.nodes }, (_, at) => at + 1)
  const beganMs = performance.now()
  const world = new GossipWorld({
    seed: plan.seed,
    nodes,
    latencyMs: LATENCY_MS,
    lossRate: plan.loss,
    limits: { suspicionCheckers: plan.checkers },
  })
  world.introduce()
  world.run(5_000)
  const deaths = killInTurn(world, plan)
  const changes = changeInTurn(world, plan)
  const quiet = stayAlive(world, plan)
  const ranMs = performance.now() - beganMs
  return {
    nodes: plan.nodes,
    lossRate: plan.loss,
    retransmits: retransmitLimit(GOSSIP_LIMITS.retransmitFactor, plan.nodes),
    ...deaths,
    ...changes,
    ...quiet,
    virtualSeconds: round(world.nowMs / 1_000, 0),
    virtualSecondsPerSecond: round(world.nowMs / ranMs, 1),
  }
}

/** One after the other is killed and started again; from the kill until the first one, and the last one, knows it dead. */
function killInTurn(world: GossipWorld, { nodes, kills }: Plan): object {
  const firstMs: number[] = []
  const allMs: number[] = []
  let late = 0
  let isFalse = 0
  for (let kill = 0; kill < kills; kill++) {
    const victim: NodeId = 1 + ((kill * 7) % nodes)
    const killedAtMs = world.nowMs
    const knowing = new Set<NodeId>()
    world.onEvent = ({ nodeId }, event) => {
      if (event.kind !== 'member' || event.change !== 'dead') return
      if (event.member.nodeId !== victim) isFalse++
      else {
        if (knowing.size === 0) firstMs.push(world.nowMs - killedAtMs)
        knowing.add(nodeId)
      }
    }
    world.kill(victim)
    const isKnown = world.run(MOST_WAIT_MS, () => knowing.size === nodes - 1)
    if (!isKnown) throw new Error(`the death of ${victim} was not known to all after ${MOST_WAIT_MS} ms`)
    allMs.push(world.nowMs - killedAtMs)
    if (world.nowMs - killedAtMs > 5_000) late++
    world.restart(victim)
    world.run(3_000)
  }
  return {
    kills,
    firstKnowsDeadP50Ms: percentile(firstMs, 50),
    allKnowDeadP50Ms: percentile(allMs, 50),
    allKnowDeadP99Ms: percentile(allMs, 99),
    allKnowDeadMaxMs: percentile(allMs, 100),
    laterThan5s: late,
    falseDeathsMeanwhile: isFalse,
  }
}

/** The metadata change at one node, and all others pull them when they are told; no stream pushes anything. */
function changeInTurn(world: GossipWorld, { nodes, changes }: Plan): object {
  const eachMs: number[] = []
  const allMs: number[] = []
  let position = 0
  let knowing = 0
  let changedAtMs = 0
  world.onEvent = (node, event) => {
    if (event.kind !== 'pullMetadata') return
    const source = world.node(event.from)
    world.schedule(world.latency() * PULL_TRIPS, () => {
      if (!node.isUp || node.core.metadata.position >= source.core.metadata.position) return
      node.core.setMetadata(source.core.metadata)
      world.carryOut(node)
      knowing++
      eachMs.push(world.nowMs - changedAtMs)
    })
  }
  for (let change = 0; change < changes; change++) {
    const origin = world.node(1 + ((change * 11) % nodes))
    position++
    knowing = 1
    changedAtMs = world.nowMs
    origin.core.setMetadata({ position, hash: position })
    world.carryOut(origin)
    const isKnown = world.run(MOST_WAIT_MS, () => knowing === nodes)
    if (!isKnown) throw new Error(`metadata ${position} have reached ${knowing} of ${nodes}`)
    allMs.push(world.nowMs - changedAtMs)
    world.run(1_000)
  }
  return {
    changes,
    changeReachesNodeP50Ms: percentile(eachMs, 50),
    changeReachesNodeP99Ms: percentile(eachMs, 99),
    changeReachesAllP50Ms: percentile(allMs, 50),
    changeReachesAllP99Ms: percentile(allMs, 99),
    changeReachesAllMaxMs: percentile(allMs, 100),
  }
}

/** Nothing happens but loss, and loads that change; whoever is suspected or taken for dead is so wrongly. */
function stayAlive(world: GossipWorld, { minutes }: Plan): object {
  const accused = new Set<string>()
  let deaths = 0
  world.onEvent = (_, event) => {
    if (event.kind !== 'member') return
    const { nodeId, bootId, incarnation } = event.member
    if (event.change === 'suspect') accused.add(`${nodeId} ${bootId} ${incarnation}`)
    if (event.change === 'dead') deaths++
  }
  const before = world.nodes.map(({ sentBytes, sentDatagrams, streamBytes }) => [sentBytes, sentDatagrams, streamBytes])
  const seconds = minutes * 60
  for (let done = 0; done < seconds; done += 10) {
    for (const node of world.nodes) {
      const load = { bytesPerSecond: done, freeDiskBytes: 1e12 - done, partitionsLed: node.nodeId }
      node.core.setRecord(recordOf(node.nodeId, { load }))
      world.carryOut(node)
    }
    world.run(Math.min(10, seconds - done) * 1_000)
  }
  const perSecond = (of: (node: GossipWorld['nodes'][number]) => number, column: number): number => {
    const total = world.nodes.reduce((sum, node, at) => sum + of(node) - before[at]![column]!, 0)
    return round(total / world.nodes.length / seconds, 1)
  }
  return {
    quietMinutes: minutes,
    falseDeaths: deaths,
    falseSuspicions: accused.size,
    datagramsPerNodeAndSecond: perSecond(({ sentDatagrams }) => sentDatagrams, 1),
    datagramBytesPerNodeAndSecond: perSecond(({ sentBytes }) => sentBytes, 0),
    streamBytesPerNodeAndSecond: perSecond(({ streamBytes }) => streamBytes, 2),
  }
}

/** The smallest of the values that so many percent are at most. */
function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((left, right) => left - right)
  return round(sorted[Math.max(0, Math.ceil((sorted.length * percent) / 100) - 1)] ?? 0, 1)
}
