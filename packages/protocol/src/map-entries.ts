// What snapshots and deltas of the cluster map are made of.
//
//   node          u32 id, u16 port, u16 shards, string host
//   topic         u32 id, u8 partitioner, u8 durability (0 flushed, 1 buffered), u16 allowed codecs (bit n: codec n),
//                 u32 partitions, string name, routes
//   route change  u32 topic id, u32 partition, route
import { assert } from './assert.js'
import type { NodeInfo, RouteChange, TopicInfo } from './cluster-map.js'
import { ProtocolError } from './errors.js'
import { MAX_PARTITIONS_PER_TOPIC } from './limits.js'
import { PARTITIONER_IDS } from './partitioner.js'
import type { Reader } from './reader.js'
import { CODEC_IDS, type CodecName } from './record-batch.js'
import { ROUTE_BYTES, type Route, readRoute, writeRoute } from './route.js'
import type { Writer } from './writer.js'

/** The shortest encodings: what a count is checked against before anything is allocated. */
export const MIN_NODE_BYTES = 10
export const MIN_TOPIC_BYTES = 14 + ROUTE_BYTES
export const ROUTE_CHANGE_BYTES = 8 + ROUTE_BYTES

export function writeNode(writer: Writer, node: NodeInfo): void {
  writer.u32(node.nodeId).u16(node.port).u16(node.shardCount).string(node.host)
}

export function readNode(reader: Reader): NodeInfo {
  const nodeId = reader.u32()
  const port = reader.u16()
  const shardCount = reader.u16()
  return { nodeId, port, shardCount, host: reader.string() }
}

export function writeTopic(writer: Writer, topic: TopicInfo): void {
  let codecs = 0
  assert(topic.routes.length >= 1 && topic.routes.length <= MAX_PARTITIONS_PER_TOPIC, 'partitions within the limit')
  for (const codec of topic.codecs) codecs |= 1 << CODEC_IDS[codec]
  writer
    .u32(topic.topicId)
    .u8(PARTITIONER_IDS[topic.partitioner])
    .u8(topic.durability === 'flushed' ? 0 : 1)
    .u16(codecs)
  writer.u32(topic.routes.length).string(topic.name)
  for (const route of topic.routes) writeRoute(writer, route)
}

export function readTopic(reader: Reader): TopicInfo {
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
  if (partitions === 0) throw new ProtocolError('CORRUPT_FRAME', `topic ${topicId} has no partitions`)
  const routes: Route[] = []
  for (let i = 0; i < partitions; i++) routes.push(readRoute(reader))
  return { topicId, name, partitioner: 'murmur2', durability, codecs, routes }
}

export function writeRouteChange(writer: Writer, change: RouteChange): void {
  writer.u32(change.topicId).u32(change.partition)
  writeRoute(writer, change.route)
}

export function readRouteChange(reader: Reader): RouteChange {
  return { topicId: reader.u32(), partition: reader.u32(), route: readRoute(reader) }
}
