// MAP_SNAPSHOT: the whole cluster map, first of all pushes of a subscription.
//
//   fixed  u64 metadata version, 16B cluster id, u32 nodes, u32 topics
//   tail   nodes, topics
import type { MapSnapshot } from '../cluster-map.js'
import { MAX_NODES_PER_MAP, MAX_TOPICS_PER_MAP } from '../limits.js'
import { MIN_NODE_BYTES, MIN_TOPIC_BYTES, readNode, readTopic, writeNode, writeTopic } from '../map-entries.js'
import type { MessageCodec } from '../message.js'

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
    const nodes = reader.list(fixed.nodes, MIN_NODE_BYTES, MAX_NODES_PER_MAP, readNode)
    const topics = reader.list(fixed.topics, MIN_TOPIC_BYTES, MAX_TOPICS_PER_MAP, readTopic)
    return { version: fixed.version, clusterId: fixed.clusterId, nodes, topics }
  },
}
