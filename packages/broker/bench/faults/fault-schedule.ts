// What is done to a cluster of processes, drawn from a seed: one fault after the other, some at the same time.
import { setTimeout as sleep } from 'node:timers/promises'
import type { SeededRandom } from '../../sim/random.js'
import type { ClusterNode, ProcessCluster } from '../support/process-cluster.js'

export type FaultKind =
  | 'kill'
  | 'killAll'
  | 'restart'
  | 'freeze'
  | 'isolate'
  | 'cutPair'
  | 'oneWay'
  | 'cannotHear'
  | 'latency'
  | 'fullDisk'

/** How often each is drawn, of the sum of all. */
const WEIGHTS: Readonly<Record<FaultKind, number>> = {
  kill: 8,
  killAll: 1,
  restart: 2,
  freeze: 5,
  isolate: 4,
  cutPair: 3,
  oneWay: 3,
  cannotHear: 2,
  latency: 2,
  fullDisk: 3,
}
/** Those that need links to be cut. */
const OF_LINKS: ReadonlySet<FaultKind> = new Set(['isolate', 'cutPair', 'oneWay', 'cannotHear', 'latency'])
/** The mean of how long a fault lasts, and of the quiet after it. Some outlast election and client timeouts. */
const MEAN_FAULT_MS = 2_000
const MOST_FAULT_MS = 9_000
const MEAN_QUIET_MS = 1_500
const SECOND_FAULT_CHANCE = 0.25

/** Those that take processes away. */
const AWAY: ReadonlySet<FaultKind> = new Set(['kill', 'killAll', 'restart'])

/** Ends a fault; resolves when everything is as it was. */
type Undo = () => Promise<void>

interface Begun {
  readonly kind: FaultKind
  readonly node: number
  readonly undo: Undo
}

export class FaultSchedule {
  readonly counts: Partial<Record<FaultKind, number>> = {}

  /** @param leader of some partition as a client sees it; null when nobody knows. */
  constructor(
    private readonly cluster: ProcessCluster,
    private readonly random: SeededRandom,
    private readonly leader: () => Promise<number | null>,
    private readonly onFault: (words: string) => void,
  ) {}

  /** Until `deadlineMs` of `performance.now`; leaves the cluster whole. @throws Error when a broker does not come back. */
  async run(deadlineMs: number): Promise<void> {
    while (performance.now() < deadlineMs) {
      const begun = [await this.one(new Set())]
      if (this.random.chance(SECOND_FAULT_CHANCE) && this.cluster.nodes.length > 1) {
        begun.push(await this.one(new Set(begun.map(({ node }) => node))))
      }
      await sleep(Math.min(this.random.exponential(MEAN_FAULT_MS), MOST_FAULT_MS))
      // Who is away comes back last: a broker does not start on a disk that is full.
      begun.sort((left, right) => Number(AWAY.has(left.kind)) - Number(AWAY.has(right.kind)))
      for (const { undo } of begun) await undo()
      await sleep(Math.min(this.random.exponential(MEAN_QUIET_MS), MOST_FAULT_MS))
    }
    this.cluster.healLinks()
  }

  private async one(busy: ReadonlySet<number>): Promise<Begun> {
    const kind = this.draw()
    const owner = this.cluster.smallDiskOwner
    const node = kind === 'fullDisk' && owner !== null ? owner : await this.target(busy)
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    this.onFault(`${kind} ${kind === 'killAll' ? '' : node.nodeId}`.trim())
    return { kind, node: node.nodeId, undo: await this.begin(kind, node) }
  }

  private draw(): FaultKind {
    const { nodes, smallDiskOwner } = this.cluster
    const canBe = (kind: FaultKind) =>
      kind === 'fullDisk' ? smallDiskOwner !== null : nodes.length > 1 || !OF_LINKS.has(kind)
    const kinds = (Object.keys(WEIGHTS) as FaultKind[]).filter(canBe)
    let left = this.random.fraction() * kinds.reduce((sum, kind) => sum + WEIGHTS[kind], 0)
    for (const kind of kinds) {
      left -= WEIGHTS[kind]
      if (left < 0) return kind
    }
    return 'kill'
  }

  /** Half of the time the leader of something, if one is known. */
  private async target(busy: ReadonlySet<number>): Promise<ClusterNode> {
    const leader = this.random.chance(0.5) ? await this.leader() : null
    const free = this.cluster.nodes.filter(({ nodeId }) => !busy.has(nodeId))
    return free.find(({ nodeId }) => nodeId === leader) ?? this.random.pick(free)
  }

  private async begin(kind: FaultKind, node: ClusterNode): Promise<Undo> {
    const { cluster } = this
    const others = cluster.nodes.map(({ nodeId }) => nodeId).filter((nodeId) => nodeId !== node.nodeId)
    switch (kind) {
      case 'kill':
        await node.kill()
        return () => startAgain([node])
      case 'killAll': {
        // Those that another fault has taken away come back with it.
        const running = cluster.nodes.filter(({ pid }) => pid !== null)
        await Promise.all(running.map((each) => each.kill()))
        return () => startAgain(running)
      }
      case 'restart':
        await node.stop()
        return () => startAgain([node])
      case 'freeze':
        node.signal('SIGSTOP')
        return async () => node.signal('SIGCONT')
      case 'fullDisk':
        cluster.smallDisk?.fill()
        return async () => cluster.smallDisk?.free()
      case 'latency':
        return this.slow(node.nodeId, others)
      default:
        return this.cut(kind, node.nodeId, others)
    }
  }

  private cut(kind: 'isolate' | 'cutPair' | 'oneWay' | 'cannotHear', node: number, others: readonly number[]): Undo {
    const some = kind === 'isolate' || kind === 'cannotHear' ? others : [this.random.pick(others)]
    const set = (isCut: boolean) => {
      for (const other of some) {
        if (kind !== 'cannotHear') this.cluster.setCut(node, other, isCut)
        if (kind !== 'oneWay') this.cluster.setCut(other, node, isCut)
      }
    }
    set(true)
    return async () => set(false)
  }

  private slow(node: number, others: readonly number[]): Undo {
    const latencyMs = this.random.integer(5, 120)
    const set = (ms: number) => {
      for (const other of others) {
        this.cluster.setLatency(node, other, ms)
        this.cluster.setLatency(other, node, ms)
      }
    }
    set(latencyMs)
    return async () => set(0)
  }
}

/** Another fault may have ended or begun any of them meanwhile, and operators may have taken it out of the cluster. */
async function startAgain(nodes: readonly ClusterNode[]): Promise<void> {
  await Promise.all(nodes.filter(({ pid, isGone }) => pid === null && !isGone).map((node) => node.start()))
}
