// The cluster map on the wire: subscribe, snapshot, deltas, heartbeat. All pushes carry the id of the subscription.
//
// MAP_SUBSCRIBE  fixed  u64 zero
// MAP_SNAPSHOT   fixed  u64 metadata version, 16B cluster id, u32 nodes, u32 topics
//                tail   nodes, topics
// MAP_DELTA      fixed  u64 metadata version, u32 sequence (1, 2, 3 … after the snapshot), u32 nodes, u32 removed nodes,
//                       u32 topics, u32 removed topics, u32 routes
//                tail   nodes, u32 ids, topics, u32 ids, routes (u32 topic id, u32 partition, route)
// MAP_HEARTBEAT  fixed  u64 metadata version, u32 age in ms: since this node last heard from the metadata leader
//
// node   u32 id, u16 port, u16 shards, string host
// topic  u32 id, u8 partitioner, u8 durability (0 flushed, 1 buffered), u16 allowed codecs (bit n: codec n),
//        u32 partitions, string name, routes
import type { MapDelta, MapSnapshot, NodeInfo, TopicInfo } from '../cluster-map.js'
import { ProtocolError } from '../errors.js'
import { MAX_PARTITIONS_PER_TOPIC } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { PARTITIONER_IDS } from '../partitioner.js'
import type { Reader } from '../reader.js'
import { CODEC_IDS, type CodecName } from '../record-batch.js'
import { ROUTE_BYTES, readRoute, writeRoute } from '../route.js'
import type { Writer } from '../writer.js'
import type { Empty } from './ping.js'

const MAX_NODES = 10_000
const MAX_TOPICS = 1_000_000

export interface MapHeartbeat {
  readonly version: number
  readonly metadataAgeMs: number
}

function writeNode(writer: Writer, node: NodeInfo): void {
  writer.u32(node.nodeId).u16(node.port).u16(node.shardCount).string(node.host)
}

function readNode(reader: Reader): NodeInfo {
  const nodeId = reader.u32()
  const port = reader.u16()
  const shardCount = reader.u16()
  return { nodeId, port, shardCount, host: reader.string() }
}

function writeTopic(writer: Writer, topic: TopicInfo): void {
  let codecs = 0
  for (const codec of topic.codecs) codecs |= 1 << CODEC_IDS[codec]
  writer
    .u32(topic.topicId)
    .u8(PARTITIONER_IDS[topic.partitioner])
    .u8(topic.durability === 'flushed' ? 0 : 1)
    .u16(codecs)
  writer.u32(topic.routes.length).string(topic.name)
  for (const route of topic.routes) writeRoute(writer, route)
}

function readTopic(reader: Reader): TopicInfo {
  const topicId = reader.u32()
  const partitioner = reader.u8()
  if (partitioner !== PARTITIONER_IDS.murmur2) {
    throw new ProtocolError('UNSUPPORTED_FEATURE', `partitioner ${partitioner} is unknown`)
  }
  const durability = reader.u8() === 0 ? 'flushed' : 'buffered'
  const bits = reader.u16()
  const codecs = (Object.keys(CODEC_IDS) as CodecName[]).filter((name) => (bits & (1 << CODEC_IDS[name])) !== 0)
  const announced = reader.u32()
  const name = reader.string()
  const partitions = reader.count(announced, ROUTE_BYTES, MAX_PARTITIONS_PER_TOPIC)
  const routes = Array.from({ length: partitions }, () => readRoute(reader))
  return { topicId, name, partitioner: 'murmur2', durability, codecs, routes }
}

const list = <T>(reader: Reader, count: number, minBytes: number, limit: number, read: (r: Reader) => T): T[] =>
  Array.from({ length: reader.count(count, minBytes, limit) }, () => read(reader))

export const mapSubscribe: MessageCodec<Empty> = {
  kind: 10,
  name: 'MAP_SUBSCRIBE',
  sender: 'client',
  encode(_message, writer) {
    writer.fixed(() => writer.u64(0))
  },
  decode(reader) {
    return reader.fixed(() => {
      reader.u64()
      return {}
    })
  },
}

export const mapSnapshot: MessageCodec<MapSnapshot> = {
  kind: 11,
  name: 'MAP_SNAPSHOT',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.version).uuid(m.clusterId).u32(m.nodes.length).u32(m.topics.length))
    for (const node of m.nodes) writeNode(writer, node)
    for (const topic of m.topics) writeTopic(writer, topic)
  },
  decode(reader) {
    const fixed = reader.fixed(() => ({
      version: reader.u64(),
      clusterId: reader.uuid(),
      nodes: reader.u32(),
      topics: reader.u32(),
    }))
    const nodes = list(reader, fixed.nodes, 10, MAX_NODES, readNode)
    const topics = list(reader, fixed.topics, 14, MAX_TOPICS, readTopic)
    return { version: fixed.version, clusterId: fixed.clusterId, nodes, topics }
  },
}

export const mapDelta: MessageCodec<MapDelta> = {
  kind: 12,
  name: 'MAP_DELTA',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => {
      writer.u64(m.version).u32(m.sequence).u32(m.nodes.length).u32(m.removedNodes.length)
      writer.u32(m.topics.length).u32(m.removedTopics.length).u32(m.routes.length)
    })
    for (const node of m.nodes) writeNode(writer, node)
    for (const id of m.removedNodes) writer.u32(id)
    for (const topic of m.topics) writeTopic(writer, topic)
    for (const id of m.removedTopics) writer.u32(id)
    for (const change of m.routes) {
      writer.u32(change.topicId).u32(change.partition)
      writeRoute(writer, change.route)
    }
  },
  decode(reader) {
    const f = reader.fixed(() => ({
      version: reader.u64(),
      sequence: reader.u32(),
      nodes: reader.u32(),
      removedNodes: reader.u32(),
      topics: reader.u32(),
      removedTopics: reader.u32(),
      routes: reader.u32(),
    }))
    return {
      version: f.version,
      sequence: f.sequence,
      nodes: list(reader, f.nodes, 10, MAX_NODES, readNode),
      removedNodes: list(reader, f.removedNodes, 4, MAX_NODES, (r) => r.u32()),
      topics: list(reader, f.topics, 14, MAX_TOPICS, readTopic),
      removedTopics: list(reader, f.removedTopics, 4, MAX_TOPICS, (r) => r.u32()),
      routes: list(reader, f.routes, 8 + ROUTE_BYTES, MAX_TOPICS, (r) => ({
        topicId: r.u32(),
        partition: r.u32(),
        route: readRoute(r),
      })),
    }
  },
}

export const mapHeartbeat: MessageCodec<MapHeartbeat> = {
  kind: 13,
  name: 'MAP_HEARTBEAT',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.version).u32(m.metadataAgeMs))
  },
  decode(reader) {
    return reader.fixed(() => ({ version: reader.u64(), metadataAgeMs: reader.u32() }))
  },
}
