// MAP_DELTA: what changed since the snapshot or the delta before.
//
//   fixed  u64 metadata version, u32 sequence (1, 2, 3 … after the snapshot), u32 nodes, u32 removed nodes,
//          u32 topics, u32 removed topics, u32 routes
//   tail   nodes, u32 ids, topics, u32 ids, route changes
import type { MapDelta } from '../cluster-map.js'
import { MAX_NODES_PER_MAP, MAX_ROUTES_PER_DELTA, MAX_TOPICS_PER_MAP } from '../limits.js'
import {
  MIN_NODE_BYTES,
  MIN_TOPIC_BYTES,
  ROUTE_CHANGE_BYTES,
  readNode,
  readRouteChange,
  readTopic,
  writeNode,
  writeRouteChange,
  writeTopic,
} from '../map-entries.js'
import type { MessageCodec } from '../message.js'
import type { Reader } from '../reader.js'

const readId = (reader: Reader): number => reader.u32()

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
    for (const change of m.routes) writeRouteChange(writer, change)
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
      nodes: reader.list(f.nodes, MIN_NODE_BYTES, MAX_NODES_PER_MAP, readNode),
      removedNodes: reader.list(f.removedNodes, 4, MAX_NODES_PER_MAP, readId),
      topics: reader.list(f.topics, MIN_TOPIC_BYTES, MAX_TOPICS_PER_MAP, readTopic),
      removedTopics: reader.list(f.removedTopics, 4, MAX_TOPICS_PER_MAP, readId),
      routes: reader.list(f.routes, ROUTE_CHANGE_BYTES, MAX_ROUTES_PER_DELTA, readRouteChange),
    }
  },
}
