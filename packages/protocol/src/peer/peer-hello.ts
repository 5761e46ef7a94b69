// PEER_HELLO: the first frame of a connection between brokers, from the one that dialled. Frozen for ever: magic and
// versions stand where HELLO has them.
//
//   fixed  u32 magic "MILL", u16 lowest version, u16 highest version, u32 features, 16B cluster id, u32 node id,
//          16B disk id, u32 starts, u32 node id of the one it wants to talk to
//   tail   string software
import { HELLO_MAGIC } from '../client/hello.js'
import { ProtocolError } from '../errors.js'
import type { MessageCodec } from '../message.js'

export interface PeerHello {
  /** Of the protocol between brokers, which counts for itself. */
  readonly minVersion: number
  readonly maxVersion: number
  /** Bits of optional features; none is defined yet. */
  readonly features: number
  /** 32 hexadecimal digits each. */
  readonly clusterId: string
  readonly diskId: string
  /** The sender. */
  readonly nodeId: number
  /** Times a broker has started on that disk: of two connections the one of the later start is the living one. */
  readonly starts: number
  /** Whom the sender means to reach. */
  readonly expectedNodeId: number
  readonly software: string
}

export const peerHello: MessageCodec<PeerHello> = {
  kind: 64,
  name: 'PEER_HELLO',
  sender: 'peer',
  encode(m, writer) {
    writer
      .fixed(() => {
        writer.u32(HELLO_MAGIC).u16(m.minVersion).u16(m.maxVersion).u32(m.features).uuid(m.clusterId).u32(m.nodeId)
        writer.uuid(m.diskId).u32(m.starts).u32(m.expectedNodeId)
      })
      .string(m.software)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      if (reader.u32() !== HELLO_MAGIC) throw new ProtocolError('NOT_MILLRACE', 'PEER_HELLO has no magic')
      return {
        minVersion: reader.u16(),
        maxVersion: reader.u16(),
        features: reader.u32(),
        clusterId: reader.uuid(),
        nodeId: reader.u32(),
        diskId: reader.uuid(),
        starts: reader.u32(),
        expectedNodeId: reader.u32(),
      }
    })
    return { ...fixed, software: reader.string() }
  },
}
