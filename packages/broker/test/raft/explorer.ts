// Walks through the states that a few real cores can get into, each once, with every choice of what happens next: which
// message arrives or is lost, who times out, who crashes. What is checked is in safety.ts, after every event.
import type { RaftState } from '#src/raft/raft-state.js'
import type { Configuration, NodeId } from '#src/raft/raft-types.js'
import { ModelCluster } from './model-cluster.js'
import type { CoreClass, ModelNode, TestCore, TestEntry, TestMessage } from './model-node.js'
import { describeMessage } from './scenario-text.js'
import { randomFrom } from './schedule.js'

export interface Bounds {
  readonly nodes: readonly NodeId[]
  readonly configuration: Configuration
  /** The change that may be proposed once. */
  readonly change: { readonly voters: readonly NodeId[]; readonly learners: readonly NodeId[] } | null
  readonly proposals: number
  readonly terms: number
  readonly messages: number
  readonly crashes: number
  readonly heartbeats: number
  /** Messages that may arrive twice. */
  readonly duplicates: number
  /** Disks do their part when they are told to, and not before. */
  readonly slowDisks: boolean
  readonly depth: number
}

export interface Exploration {
  readonly states: number
  readonly events: number
  /** Nothing within the bounds is left. */
  readonly isComplete: boolean
  /** What was committed at most, and led. */
  readonly maxCommitted: number
  readonly maxTerm: number
}

/** The bounds of the issue: 3 nodes, 2 entries, 3 terms, one change, 4 messages on their way, 2 crashes. */
export const ISSUE_BOUNDS: Bounds = {
  nodes: [1, 2, 3],
  configuration: { voters: [1, 2, 3], outgoing: [], learners: [] },
  change: { voters: [1, 2], learners: [] },
  proposals: 2,
  terms: 3,
  messages: 4,
  crashes: 2,
  heartbeats: 2,
  duplicates: 1,
  slowDisks: false,
  depth: 40,
}

/** A learner becomes the third voter. */
export const GROWING_BOUNDS: Bounds = {
  ...ISSUE_BOUNDS,
  configuration: { voters: [1, 2], outgoing: [], learners: [3] },
  change: { voters: [1, 2, 3], learners: [] },
}

/** What is used up on the way. */
interface Budget {
  proposals: number
  changes: number
  crashes: number
  heartbeats: number
  duplicates: number
}

interface World {
  readonly cluster: ModelCluster
  readonly budget: Budget
}

type Event =
  | { readonly kind: 'deliver' | 'drop' | 'duplicate'; readonly at: number }
  | {
      readonly kind: 'timeout' | 'crash' | 'restart' | 'propose' | 'change' | 'heartbeat' | 'disk'
      readonly nodeId: NodeId
    }

export class Explorer {
  private readonly bounds: Bounds
  private readonly random: (bound: number) => number
  private readonly coreClass: CoreClass | undefined
  private readonly seen = new Set<number>()
  private events = 0
  private maxCommitted = 0
  private maxTerm = 0
  /** What led to the state that is looked at. */
  readonly path: string[] = []

  constructor(bounds: Bounds, seed: number, coreClass?: CoreClass) {
    this.bounds = bounds
    this.random = randomFrom(seed)
    this.coreClass = coreClass
  }

  /** Everything within the bounds, as far as `maxStates` go. @throws SafetyViolation with `path` telling how. */
  explore(maxStates: number): Exploration {
    return this.report(this.walk(this.begin(), this.bounds.depth, maxStates))
  }

  /** Random walks, and everything near the ends of some of them: deep states come early. */
  sample(maxStates: number): Exploration {
    for (let walks = 0; this.seen.size < maxStates; walks++) {
      const world = this.begin()
      if (this.random(3) > 0) this.elect(world)
      // Some walks are mostly deliveries, others mostly trouble.
      const orderliness = 1 + this.random(8)
      const steps = 5 + this.random(this.bounds.depth - 5)
      let at = 0
      for (; at < steps; at++) {
        const events = this.preferred(this.eventsOf(world), orderliness)
        if (events.length === 0) break
        this.apply(world, events[this.random(events.length)]!)
        this.seen.add(fingerprintOf(world, describeAnew))
      }
      this.maxCommitted = Math.max(this.maxCommitted, world.cluster.safety.committedCount)
      if (walks % 8 === 0) this.walk(world, this.bounds.depth - at, this.seen.size + 20)
    }
    return this.report(false)
  }

  /** The first node leads, and what it has appended so far is on its way or there. */
  private elect({ cluster }: World): void {
    const [node] = cluster.nodes
    this.setSlow(cluster, false)
    for (let at = 0; at < 40 && node?.running.isServing === false; at++) {
      cluster.tick(node.nodeId)
      cluster.deliverAll()
    }
    this.setSlow(cluster, this.bounds.slowDisks)
    this.path.push('the first node leads')
  }

  private setSlow(cluster: ModelCluster, isSlow: boolean): void {
    for (const node of cluster.nodes) {
      node.isSlow = isSlow
      node.settle()
    }
  }

  /** Most of the time what goes on goes on, and messages are rarely lost. */
  private preferred(events: Event[], orderliness: number): Event[] {
    if (this.random(orderliness) > 0) {
      const usual = events.filter(({ kind }) => kind === 'deliver' || kind === 'disk')
      if (usual.length > 0) return usual
    }
    if (this.random(3) === 0) return events
    const others = events.filter((event) => !('at' in event) || event.kind === 'deliver')
    return others.length > 0 ? others : events
  }

  private report(isComplete: boolean): Exploration {
    const { events, maxCommitted, maxTerm } = this
    return { states: this.seen.size, events, isComplete, maxCommitted, maxTerm }
  }

  private begin(): World {
    const { nodes, configuration, change, slowDisks } = this.bounds
    const cluster = new ModelCluster({
      nodes,
      configuration,
      limits: { maxAppendBytes: 10, windowMessages: 2, electionMinTicks: 10, electionMaxTicks: 10 },
      random: () => 0,
      ...(this.coreClass === undefined ? {} : { coreClass: this.coreClass }),
    })
    cluster.start()
    this.setSlow(cluster, slowDisks)
    this.path.length = 0
    const { proposals, crashes, heartbeats, duplicates } = this.bounds
    return { cluster, budget: { proposals, changes: change === null ? 0 : 1, crashes, heartbeats, duplicates } }
  }

  /** Depth first, and a state that was seen is not looked at again. @returns whether nothing was left out. */
  private walk(world: World, depth: number, maxStates: number): boolean {
    const fingerprint = fingerprintOf(world, describeNode)
    if (this.seen.has(fingerprint)) return true
    if (this.seen.size >= maxStates || depth === 0) return false
    this.seen.add(fingerprint)
    this.maxCommitted = Math.max(this.maxCommitted, world.cluster.safety.committedCount)
    let isComplete = true
    for (const event of this.shuffled(this.eventsOf(world))) {
      const next = copyWorld(world, event)
      this.apply(next, event)
      if (!this.walk(next, depth - 1, maxStates)) isComplete = false
      this.path.pop()
      if (this.seen.size >= maxStates) return false
    }
    return isComplete
  }

  private shuffled(events: Event[]): Event[] {
    for (let at = events.length - 1; at > 0; at--) {
      const other = this.random(at + 1)
      const event = events[at]!
      events[at] = events[other]!
      events[other] = event
    }
    return events
  }

  private eventsOf({ cluster, budget }: World): Event[] {
    const events: Event[] = []
    for (const at of cluster.network.keys()) {
      events.push({ kind: 'deliver', at }, { kind: 'drop', at })
      if (budget.duplicates > 0) events.push({ kind: 'duplicate', at })
    }
    for (const node of cluster.nodes) this.addNodeEvents(events, node, budget)
    return events
  }

  private addNodeEvents(events: Event[], node: ModelNode, budget: Budget): void {
    const { nodeId, core } = node
    if (core === null) {
      events.push({ kind: 'restart', nodeId })
      return
    }
    if (budget.crashes > 0) events.push({ kind: 'crash', nodeId })
    if (node.isSlow && node.hasDiskWork) events.push({ kind: 'disk', nodeId })
    if (core.role !== 'leader') {
      if (core.term < this.bounds.terms) events.push({ kind: 'timeout', nodeId })
      return
    }
    if (budget.heartbeats > 0) events.push({ kind: 'heartbeat', nodeId })
    if (!core.mayPropose) return
    if (budget.proposals > 0) events.push({ kind: 'propose', nodeId })
    const { change } = this.bounds
    if (budget.changes > 0 && change !== null && typeof core.proposeConfiguration(change) !== 'string') {
      events.push({ kind: 'change', nodeId })
    }
  }

  private apply(world: World, event: Event): void {
    this.events++
    const { cluster, budget } = world
    if ('at' in event) {
      this.applyToMessage(world, event.kind, event.at)
    } else {
      this.path.push(`${event.kind} ${event.nodeId}`)
      this.applyToNode(cluster.node(event.nodeId), event.kind, world)
    }
    // Whatever is sent beyond the bound is lost, as it may be anyway.
    if (cluster.network.length > this.bounds.messages) cluster.network.length = this.bounds.messages
    for (const { core } of cluster.nodes) this.maxTerm = Math.max(this.maxTerm, core?.term ?? 0)
    if (budget.crashes < 0) throw new Error('more crashes than there may be')
  }

  private applyToMessage({ cluster, budget }: World, kind: 'deliver' | 'drop' | 'duplicate', at: number): void {
    const message = cluster.network[at]!
    this.path.push(`${kind} ${describeMessage(message)}`)
    if (kind === 'duplicate') budget.duplicates--
    else cluster.network.splice(at, 1)
    if (kind === 'drop') return
    silence(cluster.node(message.to))
    cluster.deliver(message)
  }

  private applyToNode(
    node: ModelNode,
    kind: Exclude<Event['kind'], 'deliver' | 'drop' | 'duplicate'>,
    world: World,
  ): void {
    const { cluster, budget } = world
    if (kind === 'timeout') this.timeout(cluster, node)
    else if (kind === 'disk') {
      node.persist()
      node.write()
      node.flush()
    } else if (kind === 'crash') {
      budget.crashes--
      cluster.crash(node.nodeId, false)
    } else if (kind === 'restart') node.start()
    else if (kind === 'propose') {
      budget.proposals--
      node.append([`value ${budget.proposals} of term ${node.running.term}`])
    } else if (kind === 'heartbeat') {
      budget.heartbeats--
      cluster.tick(node.nodeId)
      cluster.tick(node.nodeId)
    } else {
      budget.changes--
      const configuration = node.running.proposeConfiguration(this.bounds.change!)
      if (typeof configuration !== 'string') node.appendConfiguration(configuration)
    }
    cluster.checkLogs()
  }

  /** Pre-votes change nothing where they are answered, so that the whole round is one event. */
  private timeout(cluster: ModelCluster, node: ModelNode): void {
    const before = cluster.network
    cluster.network = []
    const { term } = node.running
    for (let ticks = 0; ticks < 20 && cluster.network.length === 0 && node.running.term === term; ticks++) {
      cluster.tick(node.nodeId)
    }
    for (const other of cluster.nodes) silence(other)
    for (const round of ['preVote', 'preVoteReply']) {
      const messages = cluster.network.filter(({ kind }) => kind === round)
      cluster.network = cluster.network.filter(({ kind }) => kind !== round)
      for (const message of messages) cluster.deliver(message)
    }
    cluster.network = [...before, ...cluster.network.filter(({ kind }) => !kind.startsWith('preVote'))]
  }
}

/** Time is no part of the states: whoever follows a leader may have heard nothing of it for as long as it takes. */
function silence({ core }: ModelNode): void {
  if (core === null) return
  const state: { elapsedTicks: number } = Reflect.get(core, 'state')
  state.elapsedTicks = Math.max(state.elapsedTicks, 10)
}

/** Of nodes as they are in some world; a node is never changed in a world that has been looked at. */
const DESCRIPTIONS = new WeakMap<ModelNode, string>()

/**
 * What makes a difference to what can happen next within the bounds, and to what would be wrong. Clocks and rounds of
 * heartbeats are left out.
 */
function fingerprintOf({ cluster, budget }: World, describe: (node: ModelNode) => string): number {
  const parts: string[] = [Object.values(budget).join()]
  for (const node of cluster.nodes) parts.push(describe(node))
  parts.push(...cluster.network.map(describeInNetwork).sort(), cluster.safety.describe())
  return hash(parts.join('|'))
}

function describeNode(node: ModelNode): string {
  let description = DESCRIPTIONS.get(node)
  if (description === undefined) {
    description = describeAnew(node)
    DESCRIPTIONS.set(node, description)
  }
  return description
}

function describeAnew(node: ModelNode): string {
  const { core, hardState, persists, work, reads, log, durable } = node
  const disk = [
    hardState.term,
    hardState.votedFor,
    log.entries.map(named),
    durable.entries.length,
    persists.map(persisted),
  ]
  const owed = [work.map((item) => (item.kind === 'append' ? item.firstIndex : item.kind)), reads.map(({ to }) => to)]
  return core === null ? disk.join(';') : [disk, owed, describeCore(core)].flat().join(';')
}

function persisted({ hardState }: ModelNode['persists'][number]): string {
  return `${hardState.term}:${hardState.votedFor}`
}

function describeCore(core: TestCore): string {
  const state: RaftState<TestEntry> = Reflect.get(core, 'state')
  const held: { message: TestMessage }[] = Reflect.get(state, 'held')
  const votes: object[] = state.ballot === null ? [] : Reflect.get(state.ballot, 'votes')
  const { log, leading } = state
  return [
    [state.term, state.votedFor, state.role, state.leader, state.commitIndex, log.lastIndex, log.durableIndex],
    [state.verifiedIndex, state.acknowledgedIndex, state.isPersisted, leading?.isServing, leading?.hasAskedToLeave],
    log.configuration.voters,
    leading?.progress.map((progress) => [
      progress.nodeId,
      progress.mode,
      progress.match,
      progress.next,
      progress.readingFrom,
      progress.windowRoom(1000, 2),
    ]),
    votes.map((vote) => JSON.stringify(vote)),
    held.map(({ message }) => describeInNetwork(message)),
  ].join(':')
}

function named(entry: TestEntry): string {
  return `${entry.term}${entry.value}`
}

/** All but the round of heartbeats. */
function describeInNetwork(message: TestMessage): string {
  return describeMessage(message).replace(/ round \d+/, '')
}

/** 53 bits: two states in a million are taken for one with a chance of one in twenty thousand. */
function hash(text: string): number {
  let high = 0xdeadbeef
  let low = 0x41c6ce57
  for (let at = 0; at < text.length; at++) {
    const code = text.charCodeAt(at)
    high = Math.imul(high ^ code, 2654435761)
    low = Math.imul(low ^ code, 1597334677)
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909)
  return 4294967296 * (2097151 & low) + (high >>> 0)
}

/** Only nodes that the event may change are copied; the others stand in both worlds. */
function copyWorld({ cluster, budget }: World, event: Event): World {
  const copy = copyFlat(cluster)
  copy.network = [...cluster.network]
  Reflect.set(copy, 'safety', copyDeep(cluster.safety))
  const nodes = cluster.nodes.map((node) => {
    if (!mayChange(cluster, node.nodeId, event)) return node
    const other = copyDeep(node)
    other.listener = copy
    return other
  })
  Reflect.set(copy, 'nodes', nodes)
  return { cluster: copy, budget: { ...budget } }
}

function mayChange(cluster: ModelCluster, nodeId: NodeId, event: Event): boolean {
  if ('at' in event) return event.kind !== 'drop' && cluster.network[event.at]?.to === nodeId
  return event.kind === 'timeout' || event.nodeId === nodeId
}

function copyFlat<T extends object>(original: T): T {
  return Object.assign(Object.create(Object.getPrototypeOf(original)), original)
}

/** Never written to once they are there, or set by whoever copies. */
const SHARED = new Set(['options', 'limits', 'start', 'installing', 'hardState', 'configuration', 'listener'])

/** A tree of objects; messages, effects and entries stand in both. */
function copyDeep<T extends object>(original: T): T {
  if (original instanceof Map) return Object.assign(new Map(original))
  if (original instanceof Set) return Object.assign(new Set(original))
  const copy: T = Array.isArray(original) ? Object.assign(original.slice()) : copyFlat(original)
  for (const key in copy) {
    const value: unknown = copy[key]
    if (typeof value !== 'object' || value === null || SHARED.has(key)) continue
    if (!('kind' in value) && !('byteLength' in value)) Reflect.set(copy, key, copyDeep(value))
  }
  return copy
}
