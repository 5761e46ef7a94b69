// Random schedules over a model cluster: each number is turned into one event, and in the end a healed cluster must work.
import type { Configuration, NodeId } from '#src/raft/raft-types.js'
import { ModelCluster, votersOnly } from './model-cluster.js'
import { type CoreClass, entryAt, lastIndexOf, type ModelNode } from './model-node.js'

export interface ScheduleResult {
  readonly committed: number
  readonly elections: number
  readonly changes: number
  readonly installs: number
  readonly transfers: number
  readonly repairs: number
}

export interface ScheduleOptions {
  readonly seed: number
  readonly voters: number
  /** Nodes that can become members. */
  readonly spares: number
  /** Disks give back less than was flushed, one at a time; members do not change then. */
  readonly isLossy: boolean
  readonly coreClass?: CoreClass
  /** Instead of a mixture drawn from the seed. */
  readonly weights?: Readonly<Partial<Record<EventKind, number>>>
}

/** A small generator of its own, so that a run is its seed. */
export function randomFrom(seed: number): (bound: number) => number {
  let state = seed >>> 0
  return (bound) => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % bound
  }
}

/** What one kind of event is drawn for, out of the sum of all. */
export const WEIGHTS = {
  deliver: 60,
  tick: 22,
  propose: 8,
  timeout: 3,
  drop: 3,
  duplicate: 2,
  crash: 1,
  restart: 3,
  slow: 1,
  fast: 1,
  disk: 8,
  change: 3,
  transfer: 1,
  read: 2,
  compact: 1,
  cut: 1,
  lose: 1,
  heal: 2,
}

export type EventKind = keyof typeof WEIGHTS
export const EVENT_KINDS = Object.keys(WEIGHTS) as EventKind[]

function drawnFrom(weights: Readonly<Partial<Record<EventKind, number>>>): EventKind[] {
  return EVENT_KINDS.flatMap((kind) => Array.from({ length: weights[kind] ?? WEIGHTS[kind] }, () => kind))
}

/** Each run has a mixture of its own: some things do not happen at all, and others all the time. */
function mixture(random: (bound: number) => number): EventKind[] {
  return EVENT_KINDS.flatMap((kind) => {
    const factor = kind === 'deliver' || kind === 'tick' ? 1 : [0, 1, 1, 2, 6][random(5)]!
    return Array.from({ length: WEIGHTS[kind] * factor }, () => kind)
  })
}

export class Schedule {
  readonly cluster: ModelCluster
  private readonly random: (bound: number) => number
  private value = 0
  private elections = 0
  private changes = 0
  private installs = 0
  private transfers = 0
  private repairs = 0
  private readonly isLossy: boolean
  private readonly kinds: readonly EventKind[]
  private readonly reads = new Map<string, number>()

  constructor({ seed, voters, spares, isLossy, coreClass, weights }: ScheduleOptions) {
    this.random = randomFrom(seed)
    this.isLossy = isLossy
    this.kinds = weights === undefined ? mixture(this.random) : drawnFrom(weights)
    const nodes = Array.from({ length: voters + spares }, (_, at) => at + 1)
    this.cluster = new ModelCluster({
      nodes,
      configuration: votersOnly(...nodes.slice(0, voters)),
      random: this.random,
      limits: { windowBytes: 60, windowMessages: 3, maxAppendBytes: 30 },
      ...(coreClass === undefined ? {} : { coreClass }),
    })
    this.cluster.trace = (node, effect) => {
      if (effect.kind === 'role' && effect.role === 'leader') this.elections++
      if (effect.kind === 'install') this.installs++
      if (effect.kind === 'repaired') this.repairs++
      if (effect.kind === 'send' && effect.message.kind === 'timeoutNow') this.transfers++
      if (effect.kind === 'readReady') this.checkRead(node, effect.read, effect.index)
    }
    this.cluster.start()
    const slowNodes = weights === undefined ? this.random(2) * this.random(voters + 1) : 0
    for (const node of this.cluster.nodes.slice(0, slowNodes)) node.isSlow = true
  }

  /** @throws SafetyViolation, or an error when the healed cluster does not work. */
  run(steps: number): ScheduleResult {
    for (let at = 0; at < steps; at++) this.event()
    this.heal()
    return {
      committed: this.cluster.safety.committedCount,
      elections: this.elections,
      changes: this.changes,
      installs: this.installs,
      transfers: this.transfers,
      repairs: this.repairs,
    }
  }

  private event(): void {
    const { cluster } = this
    const kind = this.kinds[this.random(this.kinds.length)]!
    const node = cluster.nodes[this.random(cluster.nodes.length)]!
    if (kind === 'deliver' || kind === 'drop' || kind === 'duplicate') {
      this.messageEvent(kind)
    } else if (kind === 'heal') {
      cluster.cuts.clear()
    } else if (kind === 'restart') {
      if (!node.isUp) node.start()
    } else if (node.isUp) {
      this.nodeEvent(kind, node)
    }
  }

  private messageEvent(kind: 'deliver' | 'drop' | 'duplicate'): void {
    const { network } = this.cluster
    if (network.length === 0) return
    // Mostly in order, as connections do it, and sometimes not.
    const at = this.random(4) === 0 ? this.random(network.length) : 0
    const message = network[at]!
    if (kind === 'duplicate') network.push(message)
    else network.splice(at, 1)
    if (kind === 'deliver') this.cluster.deliver(message)
  }

  private nodeEvent(kind: EventKind, node: ModelNode): void {
    const { cluster } = this
    const { running: core, nodeId } = node
    if (kind === 'tick') cluster.tick(nodeId)
    else if (kind === 'timeout') for (let ticks = 0; ticks < 20; ticks++) cluster.tick(nodeId)
    else if (kind === 'crash') cluster.crash(nodeId, this.random(2) === 0)
    else if (kind === 'lose') this.lose(node)
    else if (kind === 'slow') node.isSlow = true
    else if (kind === 'fast') {
      node.isSlow = false
      node.settle()
    } else if (kind === 'disk') this.diskEvent(node)
    else if (kind === 'propose' && core.mayPropose) node.append([`v${++this.value}`])
    else if (kind === 'change') this.change(node)
    else if (kind === 'transfer') core.transferTo(this.anyone())
    else if (kind === 'read') {
      this.reads.set(`${nodeId}/${node.starts}/${core.requestRead()}`, cluster.safety.committedCount)
    } else if (kind === 'compact') this.compact(node)
    else if (kind === 'cut') cluster.cuts.add(`${nodeId}>${this.anyone()}`)
    node.settle()
  }

  /** As long as one replica at a time has lost something, nothing that was acknowledged may be lost. */
  private lose(node: ModelNode): void {
    if (!this.isLossy || this.cluster.nodes.some(({ isRepairing }) => isRepairing)) return
    this.cluster.crash(node.nodeId, true)
    node.lose(1 + this.random(3))
  }

  private diskEvent(node: ModelNode): void {
    const choice = this.random(3)
    if (choice === 0) node.persist()
    else if (choice === 1) node.write()
    else node.flush()
  }

  private change(node: ModelNode): void {
    const { running: core } = node
    if (this.isLossy || !core.mayPropose) return
    const voters: NodeId[] = []
    const learners: NodeId[] = []
    for (const { nodeId } of this.cluster.nodes) {
      const choice = this.random(4)
      const isVoter = core.configuration.voters.includes(nodeId)
      if (choice === 0) continue
      if (choice === 1 && !isVoter) learners.push(nodeId)
      else if (isVoter || core.configuration.learners.includes(nodeId)) voters.push(nodeId)
    }
    const configuration = core.proposeConfiguration({ voters, learners })
    if (typeof configuration === 'string') return
    this.changes++
    node.appendConfiguration(configuration)
  }

  private compact(node: ModelNode): void {
    const { running: core, log } = node
    const index = Math.min(core.commitIndex, lastIndexOf(log), lastIndexOf(node.durable)) + 1
    const previous = entryAt(log, index - 1)
    if (node.work.length > 0 || previous === undefined || index <= log.start.index) return
    const configuration =
      log.entries.slice(0, index - log.start.index).findLast((entry) => entry.configuration !== null)?.configuration ??
      log.start.configuration
    const start = { index, previousTerm: previous.term, configuration }
    node.log = { start, entries: log.entries.slice(index - log.start.index) }
    node.durable = { start, entries: node.durable.entries.slice(index - node.durable.start.index) }
    core.logStartMoved(start)
  }

  private anyone(): NodeId {
    const { nodes } = this.cluster
    return nodes[this.random(nodes.length)]!.nodeId
  }

  /** What was committed anywhere when a read was asked for is not missing when it is answered (D 6.4). */
  private checkRead(node: ModelNode, read: number, index: number): void {
    const before = this.reads.get(`${node.nodeId}/${node.starts}/${read}`)
    if (before !== undefined && index < before) {
      throw new Error(`stale read: at ${index}, and ${before} were committed when it was asked for`)
    }
  }

  /** Everything works again: a leader is found, takes a proposal and brings every member to its own state. */
  private heal(): void {
    const { cluster } = this
    cluster.cuts.clear()
    for (const node of cluster.nodes) {
      node.isSlow = false
      if (!node.isUp) node.start()
      node.settle()
    }
    const leader = () => cluster.nodes.find(({ running: core }) => core.isServing && core.mayPropose)
    if (!cluster.runUntil(() => leader() !== undefined && !isJoint(leader()!), 600))
      throw new Error('no leader after healing')
    leader()!.append(['last'])
    const isDone = () => {
      const { running: core } = leader() ?? cluster.nodes[0]!
      const members = [...core.configuration.voters, ...core.configuration.learners]
      return members.every((nodeId) => cluster.node(nodeId).running.commitIndex === core.lastIndex)
    }
    if (!cluster.runUntil(isDone, 600)) throw new Error('the healed cluster does not catch up')
  }
}

function isJoint(node: ModelNode): boolean {
  const { outgoing }: Configuration = node.running.configuration
  return outgoing.length > 0
}
