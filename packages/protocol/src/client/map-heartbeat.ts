// MAP_HEARTBEAT: sent each second with the map's version, so that a client notices a node that is cut off.
//
//   fixed  u64 metadata version, u32 age in ms: since this node last heard from the metadata leader
import type { MessageCodec } from '../message.js'

export interface MapHeartbeat {
  readonly version: number
  readonly metadataAgeMs: number
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
