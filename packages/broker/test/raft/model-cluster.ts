// A few model nodes and the messages between them, every event under the caller's hand and every safety property checked.
import { RaftCore } from '#src/raft/raft-core.js'
import type { RaftLimits } from '#src/raft/raft-limits.js'
import type { Configuration, Effect, NodeId } from '#src/raft/raft-types.js'
import {
  type CoreClass,
  ModelNode,
  type NodeListener,
  TEST_LIMITS,
  type TestEntry,
  type TestMessage,
} from './model-node.js'
import { Safety } from './safety.js'

export interface ClusterOptions {
  /** Ids; the nodes beyond the configuration begin with nobody in theirs. */
  readonly nodes: readonly NodeId[]
  readonly configuration: Configuration
  readonly limits?: Partial<RaftLimits>
  readonly random?: (bound: number) => number
  readonly coreClass?: CoreClass
  readonly announcesCommits?: boolean
}

export const NOBODY: Configuration = { voters: [], outgoing: [], learners: [] }

export function votersOnly(...voters: NodeId[]): Configuration {
  return { voters, outgoing: [], learners: [] }
}

export class ModelCluster implements NodeListener {
  readonly nodes: ModelNode[]
  /** On their way, in the order they were sent. */
  network: TestMessage[] = []
  readonly safety = new Safety()
  /** Directed pairs that lose everything. */
  readonly cuts = new Set<string>()
  /** Sees every effect, messages included. */
  trace: (node: ModelNode, effect: Effect<TestEntry>) => void = () => {}

  constructor(options: ClusterOptions) {
    const limits = { ...TEST_LIMITS, ...options.limits }
    this.nodes = options.nodes.map(
      (nodeId) =>
        new ModelNode(
          {
            nodeId,
            configuration: isMember(options.configuration, nodeId) ? options.configuration : NOBODY,
            limits,
            random: options.random ?? ((bound) => nodeId % bound),
            coreClass: options.coreClass ?? RaftCore,
            announcesCommits: options.announcesCommits ?? false,
          },
          this,
        ),
    )
  }

  start(): void {
    for (const node of this.nodes) node.start()
  }

  /** @throws when there is no such node. */
  node(nodeId: NodeId): ModelNode {
    const node = this.nodes.find((candidate) => candidate.nodeId === nodeId)
    if (node === undefined) throw new Error(`no node ${nodeId}`)
    return node
  }

  onEffect(node: ModelNode, effect: Effect<TestEntry>): void {
    this.trace(node, effect)
    if (effect.kind === 'send') {
      const { from, to } = effect.message
      if (!this.cuts.has(`${from}>${to}`)) this.network.push(effect.message)
    } else if (effect.kind === 'role' && effect.role === 'leader') {
      this.safety.becameLeader(node, node.logical())
    } else if (effect.kind === 'commit') {
      this.safety.commit(node, node.logical(), effect.index)
    }
  }

  /** Hand over one message; to a node that is down or unknown it is lost. */
  deliver(message: TestMessage): void {
    const node = this.nodes.find((candidate) => candidate.nodeId === message.to)
    if (node === undefined || node.core === null) return
    node.core.step(message)
    node.settle()
    this.checkLogs()
  }

  /** In the order in which they were sent, until nothing is on its way. */
  deliverAll(): void {
    for (let steps = 0; this.network.length > 0; steps++) {
      if (steps > 10_000) throw new Error('the network does not come to rest')
      this.deliver(this.network.shift()!)
    }
  }

  tick(nodeId: NodeId): void {
    const node = this.node(nodeId)
    node.running.tick()
    node.settle()
  }

  tickAll(): void {
    for (const node of this.nodes) if (node.isUp) this.tick(node.nodeId)
  }

  /** Connections break with the process: nothing from it or to it arrives any more, and the others notice. */
  crash(nodeId: NodeId, breaksConnections: boolean): void {
    this.node(nodeId).crash()
    if (!breaksConnections) return
    this.network = this.network.filter(({ from, to }) => from !== nodeId && to !== nodeId)
    for (const node of this.nodes) {
      node.core?.unreachable(nodeId)
      node.settle()
    }
  }

  checkLogs(): void {
    this.safety.logMatching(this.nodes.map((node) => [node.nodeId, node.logical()] as const))
  }

  /** Deliver and tick until `isDone`, at most `ticks`. @returns whether it was. */
  runUntil(isDone: () => boolean, ticks: number): boolean {
    for (let at = 0; at < ticks; at++) {
      this.deliverAll()
      if (isDone()) return true
      this.tickAll()
    }
    this.deliverAll()
    return isDone()
  }
}

function isMember({ voters, outgoing, learners }: Configuration, nodeId: NodeId): boolean {
  return voters.includes(nodeId) || outgoing.includes(nodeId) || learners.includes(nodeId)
}
