// PEER_HELLO_REPLY: the broker that was dialled accepts, and says who it is. The only frame it ever sends on this
// connection, apart from FAILURE. Frozen for ever.
//
//   fixed  u32 magic "MILL", u16 version chosen, u16 zero, u32 features in common, 16B cluster id, u32 node id,
//          16B disk id, u32 starts
//   tail   string software
import { HELLO_MAGIC } from '../client/hello.js'
import { ProtocolError } from '../errors.js'
import type { MessageCodec } from '../message.js'

export interface PeerHelloReply {
  readonly version: number
  readonly features: number
  /** 32 hexadecimal digits each. */
  readonly clusterId: string
  readonly diskId: string
  readonly nodeId: number
  /** Times a broker has started on that disk. */
  readonly starts: number
  readonly software: string
}

export const peerHelloReply: MessageCodec<PeerHelloReply> = {
  kind: 65,
  name: 'PEER_HELLO_REPLY',
  sender: 'peer',
  encode(m, writer) {
    writer
      .fixed(() => {
        writer.u32(HELLO_MAGIC).u16(m.version).u16(0).u32(m.features).uuid(m.clusterId).u32(m.nodeId)
        writer.uuid(m.diskId).u32(m.starts)
      })
      .string(m.software)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      if (reader.u32() !== HELLO_MAGIC) throw new ProtocolError('NOT_MILLRACE', 'the answer to PEER_HELLO has no magic')
      const version = reader.u16()
      reader.u16()
      return {
        version,
        features: reader.u32(),
        clusterId: reader.uuid(),
        nodeId: reader.u32(),
        diskId: reader.uuid(),
        starts: reader.u32(),
      }
    })
    return { ...fixed, software: reader.string() }
  },
}
