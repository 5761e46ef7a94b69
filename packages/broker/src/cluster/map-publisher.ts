// The cluster map as this broker tells it: a snapshot for whoever subscribes, then deltas and a heartbeat.
import type { MapDelta, MapHeartbeat, MapSnapshot, NodeInfo, Route, TopicInfo } from '@millrace/protocol'
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
  readonly #waiters = new Set<{ readonly version: number; readonly resolve: (reached: boolean) => void }>()

  /** @param version position of the metadata log that the map reflects. */
  constructor(clusterId: string, version: number) {
    this.clusterId = clusterId
    this.#version = version
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

  /** Sends a snapshot at once; deltas follow until `unsubscribe`. */
  subscribe(subscriber: MapSubscriber): void {
    this.#subscribers.set(subscriber, 0)
    subscriber.onSnapshot(this.snapshot())
  }

  unsubscribe(subscriber: MapSubscriber): void {
    this.#subscribers.delete(subscriber)
  }

  putNode(node: NodeInfo): void {
    this.#nodes.set(node.nodeId, node)
    this.#publish({ nodes: [node] })
  }

  /** A topic whose partitions are all led by `route`. */
  putTopic(topic: TopicDefinition, route: Route, version: number): void {
    const routes = new Array<Route>(topic.partitions).fill(route)
    const { topicId, name, durability, codecs } = topic
    const info: TopicInfo = { topicId, name, partitioner: 'murmur2', durability, codecs, routes }
    this.#topics.set(topicId, info)
    this.#advanceTo(version)
    this.#publish({ topics: [info] })
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
