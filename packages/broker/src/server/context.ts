// What handlers and connections of a shard work with.
import { ProtocolError, type Route } from '@millrace/protocol'
import type { ClusterView } from '../cluster/cluster-view.js'
import type { MapPublisher } from '../cluster/map-publisher.js'
import type { MetadataLeader } from '../cluster/metadata-leader.js'
import type { Topics } from '../cluster/topics.js'
import type { Coordination } from '../coordination/coordination.js'
import type { Environment, LogFields } from '../environment.js'
import type { Metrics } from '../metrics.js'
import type { Partition } from '../partition/partition.js'
import type { Shard } from '../shard.js'
import type { FrameMemory } from './frame-memory.js'
import type { PeerAcceptor } from './peer-acceptor.js'

export interface ServerContext {
  readonly environment: Environment
  readonly shard: Shard
  readonly topics: Topics
  readonly map: MapPublisher
  readonly metadata: MetadataLeader
  readonly view: ClusterView
  readonly coordination: Coordination
  readonly metrics: Metrics
  readonly frameMemory: FrameMemory
  /** Takes connections of other brokers; null in a cluster of one. */
  readonly peers: PeerAcceptor | null
  readonly clusterId: string
  readonly nodeId: number
  readonly shardCount: number
  /** Name and version, as HELLO_REPLY tells them. */
  readonly software: string
  /** The answer to `brokerStatus`. */
  status(): Readonly<Record<string, unknown>>
  /** Something was thrown that nobody foresaw: it is logged and counted; a broken assertion stops the broker. */
  reportBug(error: unknown, where: LogFields): void
}

/** What a request addresses. @throws ProtocolError UNKNOWN_TOPIC, TOPIC_DELETED, UNKNOWN_PARTITION, UNKNOWN_LANE. */
export function findPartition(
  context: ServerContext,
  place: { readonly topicId: number; readonly partition: number; readonly lane: number },
): Partition {
  const found = context.shard.partition(place.topicId, place.partition, place.lane)
  if (found !== undefined) return found
  const { code, detail } = context.topics.whyMissing(place.topicId)
  throw new ProtocolError(code, detail)
}

/** Who leads a partition, for an answer that refuses it. */
export function routeOf(
  context: ServerContext,
  place: { readonly topicId: number; readonly partition: number },
): Route {
  return context.shard.routeOf(place.topicId, place.partition)
}
