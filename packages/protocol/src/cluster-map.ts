// The cluster map: nodes, topics and routes, as a client or broker knows them. It only moves forward.
import { ProtocolError } from './errors.js'
import { type PartitionerName, partitionOfKey } from './partitioner.js'
import type { CodecName } from './record-batch.js'
import { type Route, supersedes } from './route.js'

/** What a replica does before it counts: `flushed` survives power loss, `buffered` survives the end of the process. */
export type Durability = 'flushed' | 'buffered'

export interface NodeInfo {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  readonly shardCount: number
}

export interface TopicInfo {
  readonly topicId: number
  readonly name: string
  readonly partitioner: PartitionerName
  readonly durability: Durability
  /** Codecs a producer may use for this topic. */
  readonly codecs: readonly CodecName[]
  /** Indexed by partition. */
  readonly routes: readonly Route[]
}

export interface MapSnapshot {
  /** Position in the metadata log that this map reflects. */
  readonly version: number
  readonly clusterId: string
  readonly nodes: readonly NodeInfo[]
  readonly topics: readonly TopicInfo[]
}

export interface RouteChange {
  readonly topicId: number
  readonly partition: number
  readonly route: Route
}

export interface MapDelta {
  readonly version: number
  /** 1 for the first delta after a snapshot, then one more each. */
  readonly sequence: number
  readonly nodes: readonly NodeInfo[]
  readonly removedNodes: readonly number[]
  /** New topics, and changed ones whole. */
  readonly topics: readonly TopicInfo[]
  readonly removedTopics: readonly number[]
  readonly routes: readonly RouteChange[]
}

export class ClusterMap {
  #version = 0
  #sequence = 0
  #clusterId: string | null = null
  #nodes = new Map<number, NodeInfo>()
  #byId = new Map<number, TopicInfo>()
  #byName = new Map<string, TopicInfo>()

  get version(): number {
    return this.#version
  }

  /** Null before the first snapshot. */
  get clusterId(): string | null {
    return this.#clusterId
  }

  nodes(): readonly NodeInfo[] {
    return [...this.#nodes.values()]
  }

  topics(): readonly TopicInfo[] {
    return [...this.#byId.values()]
  }

  node(id: number): NodeInfo | undefined {
    return this.#nodes.get(id)
  }

  topic(name: string): TopicInfo | undefined {
    return this.#byName.get(name)
  }

  topicById(id: number): TopicInfo | undefined {
    return this.#byId.get(id)
  }

  route(topicId: number, partition: number): Route | undefined {
    return this.#byId.get(topicId)?.routes[partition]
  }

  /** The partition of a key in a topic of this map. */
  partitionOf(topic: TopicInfo, key: Uint8Array): number {
    return partitionOfKey(key, topic.routes.length)
  }

  /**
   * Takes a snapshot. Nodes and topics are taken over only when the snapshot is not older than what is known; routes
   * never go back to an older version.
   * @throws ProtocolError WRONG_CLUSTER when it belongs to another cluster.
   */
  applySnapshot(snapshot: MapSnapshot): void {
    if (this.#clusterId !== null && this.#clusterId !== snapshot.clusterId) {
      throw new ProtocolError('WRONG_CLUSTER', `the map is of cluster ${snapshot.clusterId}, not ${this.#clusterId}`)
    }
    this.#clusterId = snapshot.clusterId
    this.#sequence = 0
    if (snapshot.version < this.#version) {
      for (const topic of snapshot.topics) this.#mergeRoutes(topic)
      return
    }
    const known = this.#byId
    this.#version = snapshot.version
    this.#nodes = new Map(snapshot.nodes.map((node) => [node.nodeId, node]))
    this.#byId = new Map()
    this.#byName = new Map()
    for (const topic of snapshot.topics) this.#put(newerRoutes(topic, known.get(topic.topicId)))
  }

  /** Takes a delta; false when it does not follow what was applied before, and then a new snapshot is needed. */
  applyDelta(delta: MapDelta): boolean {
    if (this.#clusterId === null || delta.sequence !== this.#sequence + 1) return false
    this.#sequence = delta.sequence
    if (delta.version >= this.#version) {
      this.#version = delta.version
      for (const id of delta.removedNodes) this.#nodes.delete(id)
      for (const node of delta.nodes) this.#nodes.set(node.nodeId, node)
      for (const id of delta.removedTopics) this.#remove(id)
      for (const topic of delta.topics) this.#put(newerRoutes(topic, this.#byId.get(topic.topicId)))
    }
    this.applyRoutes(delta.routes)
    return true
  }

  /** Takes one route, from a push, a reply or a refusal; true when it was newer than what was known. */
  applyRoute({ topicId, partition, route }: RouteChange): boolean {
    const topic = this.#byId.get(topicId)
    const known = topic?.routes[partition]
    if (topic === undefined || known === undefined || !supersedes(route, known)) return false
    const routes = topic.routes.slice()
    routes[partition] = route
    this.#put({ ...topic, routes })
    return true
  }

  /** What a new subscriber gets. */
  snapshot(): MapSnapshot {
    return { version: this.#version, clusterId: this.#clusterId ?? '', nodes: this.nodes(), topics: this.topics() }
  }

  /**
   * Like `applyRoute` for each, but copies the routes of a topic once: a node that goes takes thousands along.
   * @returns those that were newer than what was known.
   */
  applyRoutes(changes: readonly RouteChange[]): readonly RouteChange[] {
    const copies = new Map<number, Route[]>()
    const news: RouteChange[] = []
    for (const change of changes) {
      const { topicId, partition, route } = change
      const routes = copies.get(topicId) ?? this.#byId.get(topicId)?.routes
      const known = routes?.[partition]
      if (routes === undefined || known === undefined || !supersedes(route, known)) continue
      const copy = copies.get(topicId) ?? routes.slice()
      copy[partition] = route
      copies.set(topicId, copy)
      news.push(change)
    }
    for (const [topicId, routes] of copies) {
      const topic = this.#byId.get(topicId)
      if (topic !== undefined) this.#put({ ...topic, routes })
    }
    return news
  }

  #mergeRoutes(topic: TopicInfo): void {
    const known = this.#byId.get(topic.topicId)
    if (known !== undefined) this.#put({ ...known, routes: newerRoutes(known, topic).routes })
  }

  #put(topic: TopicInfo): void {
    const namesake = this.#byName.get(topic.name)
    if (namesake !== undefined && namesake.topicId !== topic.topicId) this.#byId.delete(namesake.topicId)
    const before = this.#byId.get(topic.topicId)
    if (before !== undefined && before.name !== topic.name) this.#remove(topic.topicId)
    this.#byId.set(topic.topicId, topic)
    this.#byName.set(topic.name, topic)
  }

  #remove(id: number): void {
    const topic = this.#byId.get(id)
    if (topic === undefined) return
    this.#byId.delete(id)
    if (this.#byName.get(topic.name)?.topicId === id) this.#byName.delete(topic.name)
  }
}

function newerRoutes(topic: TopicInfo, known: TopicInfo | undefined): TopicInfo {
  if (known === undefined) return topic
  const routes = topic.routes.map((route, partition) => {
    const old = known.routes[partition]
    return old !== undefined && !supersedes(route, old) ? old : route
  })
  return { ...topic, routes }
}
