// Which nodes get the replicas of partitions: as many racks as there are, then the nodes that have least.
import { assert, ProtocolError } from '@millrace/protocol'
import type { Assignment, TopicDefinition } from './metadata-command.js'
import type { NodeRecord } from './node-registry.js'

/** Nodes that something can be placed on. */
export type Candidate = Pick<NodeRecord, 'nodeId' | 'rack'>

/** @param members all nodes of the cluster: those that have not registered yet count as well. */
export function placeableNodes(nodes: readonly NodeRecord[], members: readonly number[]): readonly Candidate[] {
  const known = new Set(nodes.map(({ nodeId }) => nodeId))
  const unheard = members.filter((nodeId) => !known.has(nodeId)).map((nodeId) => ({ nodeId, rack: null }))
  return [...nodes.filter(({ state }) => state === 'active'), ...unheard]
}

/** What the nodes have already; it grows with everything that is placed. */
export class Load {
  readonly #replicas = new Map<number, number>()
  readonly #leaders = new Map<number, number>()

  static of(topics: Iterable<Pick<TopicDefinition, 'replicas'>>): Load {
    const load = new Load()
    for (const { replicas } of topics) for (const nodes of replicas) load.add(nodes)
    return load
  }

  add(nodes: readonly number[]): void {
    for (const nodeId of nodes) this.#replicas.set(nodeId, this.replicasOf(nodeId) + 1)
    this.#leaders.set(nodes[0]!, this.leadersOf(nodes[0]!) + 1)
  }

  remove(nodes: readonly number[]): void {
    for (const nodeId of nodes) this.#replicas.set(nodeId, this.replicasOf(nodeId) - 1)
    this.#leaders.set(nodes[0]!, this.leadersOf(nodes[0]!) - 1)
  }

  replicasOf(nodeId: number): number {
    return this.#replicas.get(nodeId) ?? 0
  }

  /** Partitions that the node should lead. */
  leadersOf(nodeId: number): number {
    return this.#leaders.get(nodeId) ?? 0
  }
}

export interface PlacementRequest {
  readonly nodes: readonly Candidate[]
  /** What they have already; what is placed is added. */
  readonly load: Load
  /** The first partition, and how many. */
  readonly firstPartition: number
  readonly partitions: number
  /** Replicas of each partition. */
  readonly factor: number
  readonly topicId: number
}

/** @returns for each partition its nodes, the one that should lead first. @throws ProtocolError INVALID_CONFIG */
export function placeReplicas(request: PlacementRequest): readonly (readonly number[])[] {
  const { nodes, load, firstPartition, partitions, factor, topicId } = request
  if (nodes.length < factor) {
    throw new ProtocolError('INVALID_CONFIG', `${factor} replicas, and there are ${nodes.length} active brokers`)
  }
  // Ten thousand partitions are placed in one go, while nobody else gets a word in.
  const ordered = inOrder(nodes)
  return Array.from({ length: partitions }, (_, at) => {
    const turned = turnedBy(ordered, topicId + firstPartition + at)
    const chosen: Candidate[] = []
    while (chosen.length < factor) chosen.push(leastLoaded(turned, chosen, load))
    const replicas = leaderFirst(chosen, load)
    load.add(replicas)
    return replicas
  })
}

/**
 * Where the replicas of a node go that is to have none any more. The others of a partition stay, and the one that leads.
 * @throws ProtocolError INVALID_CONFIG when there are too few other nodes.
 */
export function planDrain(
  nodeId: number,
  topics: readonly TopicDefinition[],
  nodes: readonly NodeRecord[],
): readonly Assignment[] {
  const records = new Map(nodes.map((node) => [node.nodeId, node]))
  const others = nodes.filter((node) => node.state === 'active' && node.nodeId !== nodeId)
  const load = Load.of(topics)
  const assignments: Assignment[] = []
  for (const { topicId, name, replicas: lists } of topics) {
    for (const [partition, nodesOf] of lists.entries()) {
      if (!nodesOf.includes(nodeId)) continue
      const kept = nodesOf.filter((kept) => kept !== nodeId)
      const free = others.filter((other) => !kept.includes(other.nodeId))
      if (free.length === 0) {
        const detail = `${name} has ${nodesOf.length} replicas, and there are ${others.length} other active brokers`
        throw new ProtocolError('INVALID_CONFIG', `${detail}: add a broker first`)
      }
      const stay = kept.map((kept) => records.get(kept) ?? { nodeId: kept, rack: null })
      const successor = leastLoaded(turnedBy(inOrder(free), topicId + partition), stay, load)
      load.remove(nodesOf)
      const led = nodesOf[0] === nodeId
      const replicas = led ? leaderFirst([...stay, successor], load) : [...kept, successor.nodeId]
      load.add(replicas)
      assignments.push({ topicId, partition, replicas })
    }
  }
  return assignments
}

/**
 * Every partition of a topic gets so many replicas: those it has stay, the one that should lead among them; too many go from
 * the end. @throws ProtocolError INVALID_CONFIG when there are too few nodes.
 */
export function planFactor(
  topic: TopicDefinition,
  factor: number,
  load: Load,
  nodes: readonly Candidate[],
): readonly Assignment[] {
  const { topicId, replicas: lists } = topic
  const rackOf = new Map(nodes.map(({ nodeId, rack }) => [nodeId, rack]))
  return lists.flatMap((has, partition) => {
    if (has.length === factor) return []
    const chosen = has.slice(0, factor).map((nodeId) => ({ nodeId, rack: rackOf.get(nodeId) ?? null }))
    const turned = turnedBy(inOrder(nodes), topicId + partition)
    while (chosen.length < factor) {
      if (turned.every(({ nodeId }) => chosen.some((taken) => taken.nodeId === nodeId))) {
        throw new ProtocolError('INVALID_CONFIG', `${factor} replicas, and there are ${nodes.length} active brokers`)
      }
      chosen.push(leastLoaded(turned, chosen, load))
    }
    const replicas = chosen.map(({ nodeId }) => nodeId)
    load.remove(has)
    load.add(replicas)
    return [{ topicId, partition, replicas }]
  })
}

const inOrder = (nodes: readonly Candidate[]): readonly Candidate[] => [...nodes].sort((a, b) => a.nodeId - b.nodeId)

/** Everybody's turn to be first comes round, so that equals are not taken in the order of their ids. */
function turnedBy(ordered: readonly Candidate[], turns: number): readonly Candidate[] {
  const first = turns % ordered.length
  return [...ordered.slice(first), ...ordered.slice(0, first)]
}

/** The next node: of the rack that has fewest of these replicas, the one with the fewest replicas of all. */
function leastLoaded(nodes: readonly Candidate[], chosen: readonly Candidate[], load: Load): Candidate {
  let best: Candidate | null = null
  let fewestInRack = 0
  for (const node of nodes) {
    const { nodeId, rack } = node
    let inRack = 0
    let isTaken = false
    for (const taken of chosen) {
      if (taken.nodeId === nodeId) isTaken = true
      if (rack !== null && taken.rack === rack) inRack++
    }
    if (isTaken) continue
    const isFewer = inRack === fewestInRack && best !== null && load.replicasOf(nodeId) < load.replicasOf(best.nodeId)
    if (best !== null && inRack >= fewestInRack && !isFewer) continue
    best = node
    fewestInRack = inRack
  }
  assert(best !== null, 'there is a node that has no replica yet')
  return best
}

/** The one that should lead fewest so far leads. */
export function leaderFirst(chosen: readonly Pick<Candidate, 'nodeId'>[], load: Load): readonly number[] {
  const ids = chosen.map(({ nodeId }) => nodeId)
  const leader = ids.reduce((best, id) => (load.leadersOf(id) < load.leadersOf(best) ? id : best))
  return [leader, ...ids.filter((id) => id !== leader)]
}
