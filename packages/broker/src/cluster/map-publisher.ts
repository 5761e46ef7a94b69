// The cluster map as this broker tells it: a snapshot for whoever subscribes, then deltas and a heartbeat.
import type { MapDelta, MapHeartbeat, MapSnapshot, NodeInfo, Route, RouteChange, TopicInfo } from '@millrace/protocol'
import type { Clock } from '../environment.js'
import type { TopicDefinition } from './metadata-command.js'

export interface MapSubscriber {
  onSnapshot(snapshot: MapSnapshot): void
  onDelta(delta: MapDelta): void
  onHeartbeat(heartbeat: MapHeartbeat): void
}

const NO_CHANGE: Omit<MapDelta, 'version' | 'sequence'> = {
  nodes: [],
  removedNodes: [],
  topics: [],
  removedTopics: [],
  routes: [],
}

export class MapPublisher {
  readonly clusterId: string
  #version: number
  readonly #nodes = new Map<number, NodeInfo>()
  readonly #topics = new Map<number, TopicInfo>()
  /** Deltas sent to each since its snapshot. */
  readonly #subscribers = new Map<MapSubscriber, number>()
  /** Those who came before the map could say anything. */
  readonly #early = new Set<MapSubscriber>()
  #ready: boolean
  readonly #waiters = new Set<{ readonly version: number; readonly resolve: (reached: boolean) => void }>()

  /**
   * @param version position of the metadata log that the map reflects.
   * @param ready whether it does already; else nobody is told anything before `becomeReady`.
   */
  constructor(clusterId: string, version: number, ready = true) {
    this.clusterId = clusterId
    this.#version = version
    this.#ready = ready
  }

  /** The map says from now on what the cluster is like. */
  becomeReady(): void {
    if (this.#ready) return
    this.#ready = true
    const early = [...this.#early]
    this.#early.clear()
    for (const subscriber of early) this.subscribe(subscriber)
  }

  get version(): number {
    return this.#version
  }

  snapshot(): MapSnapshot {
    return {
      version: this.#version,
      clusterId: this.clusterId,
      nodes: [...this.#nodes.values()],
      topics: [...this.#topics.values()],
    }
  }

  /** Sends a snapshot, at once when the map is ready; deltas follow until `unsubscribe`. */
  subscribe(subscriber: MapSubscriber): void {
    if (!this.#ready) {
      this.#early.add(subscriber)
      return
    }
    this.#subscribers.set(subscriber, 0)
    subscriber.onSnapshot(this.snapshot())
  }

  unsubscribe(subscriber: MapSubscriber): void {
    this.#subscribers.delete(subscriber)
    this.#early.delete(subscriber)
  }

  putNode(node: NodeInfo): void {
    this.#nodes.set(node.nodeId, node)
    this.#publish({ nodes: [node] })
  }

  removeNode(nodeId: number): void {
    if (this.#nodes.delete(nodeId)) this.#publish({ removedNodes: [nodeId] })
  }

  /** These are the nodes now, and no others: what is new about them is told. */
  putNodes(nodes: readonly NodeInfo[]): void {
    for (const node of nodes) {
      const known = this.#nodes.get(node.nodeId)
      const isKnown = known?.host === node.host && known.port === node.port && known.shardCount === node.shardCount
      if (!isKnown) this.putNode(node)
    }
    const kept = new Set(nodes.map(({ nodeId }) => nodeId))
    for (const nodeId of [...this.#nodes.keys()]) if (!kept.has(nodeId)) this.removeNode(nodeId)
  }

  putTopic(topic: TopicDefinition, routes: readonly Route[], version: number): void {
    const { topicId, name, durability, codecs } = topic
    const info: TopicInfo = { topicId, name, partitioner: 'murmur2', durability, codecs, routes }
    this.#topics.set(topicId, info)
    this.#advanceTo(version)
    this.#publish({ topics: [info] })
  }

  /** Other nodes lead these partitions now. */
  putRoutes(changes: readonly RouteChange[]): void {
    const known = changes.filter(({ topicId }) => this.#topics.has(topicId))
    // The routes of a topic are copied once: a node that goes takes thousands along.
    for (const topicId of new Set(known.map((change) => change.topicId))) {
      const topic = this.#topics.get(topicId)!
      const routes = topic.routes.slice()
      for (const change of known) if (change.topicId === topicId) routes[change.partition] = change.route
      this.#topics.set(topicId, { ...topic, routes })
    }
    if (known.length > 0) this.#publish({ routes: known })
  }

  removeTopic(topicId: number, version: number): void {
    this.#advanceTo(version)
    if (this.#topics.delete(topicId)) this.#publish({ removedTopics: [topicId] })
  }

  heartbeat(metadataAgeMs: number): void {
    for (const subscriber of this.#subscribers.keys()) {
      subscriber.onHeartbeat({ version: this.#version, metadataAgeMs })
    }
  }

  /** The metadata has moved on without a change that clients see. */
  advanceTo(version: number): void {
    this.#advanceTo(version)
  }

  /** Resolves with true once the map has reached `version`, with false when `timeoutMs` have passed before. */
  reaches(version: number, clock: Clock, timeoutMs: number): Promise<boolean> {
    if (version <= this.#version) return Promise.resolve(true)
    return new Promise((resolve) => {
      const waiter = {
        version,
        resolve: (reached: boolean): void => {
          this.#waiters.delete(waiter)
          timer.cancel()
          resolve(reached)
        },
      }
      const timer = clock.timer(timeoutMs, () => waiter.resolve(false))
      this.#waiters.add(waiter)
    })
  }

  /** Topics become ready in another order than they were written; the version never goes back. */
  #advanceTo(version: number): void {
    if (version > this.#version) this.#version = version
    for (const waiter of this.#waiters) if (waiter.version <= this.#version) waiter.resolve(true)
  }

  #publish(change: Partial<MapDelta>): void {
    for (const [subscriber, sent] of this.#subscribers) {
      this.#subscribers.set(subscriber, sent + 1)
      subscriber.onDelta({ ...NO_CHANGE, ...change, version: this.#version, sequence: sent + 1 })
    }
  }
}
