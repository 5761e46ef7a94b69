// HELLO_REPLY: the broker accepts the connection and says who it is. Frozen for ever.
//
//   fixed  u32 magic "MILL", u16 version chosen, u16 shard, u32 features in common, 16B cluster id, u32 node id,
//          u16 shard count, u16 zero, u32 largest frame, u32 largest batch
//   tail   string software
import { ProtocolError } from '../errors.js'
import type { MessageCodec } from '../message.js'
import { HELLO_MAGIC } from './hello.js'

export interface HelloReply {
  readonly version: number
  readonly shard: number
  readonly features: number
  readonly clusterId: string
  readonly nodeId: number
  readonly shardCount: number
  /** Payload bytes of one frame. */
  readonly maxFrameBytes: number
  readonly maxBatchBytes: number
  readonly software: string
}

export const helloReply: MessageCodec<HelloReply> = {
  kind: 2,
  name: 'HELLO_REPLY',
  sender: 'broker',
  encode(m, writer) {
    writer
      .fixed(() => {
        writer.u32(HELLO_MAGIC).u16(m.version).u16(m.shard).u32(m.features).uuid(m.clusterId).u32(m.nodeId)
        writer.u16(m.shardCount).u16(0).u32(m.maxFrameBytes).u32(m.maxBatchBytes)
      })
      .string(m.software)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      if (reader.u32() !== HELLO_MAGIC) throw new ProtocolError('NOT_MILLRACE', 'the answer to HELLO has no magic')
      const version = reader.u16()
      const shard = reader.u16()
      const features = reader.u32()
      const clusterId = reader.uuid()
      const nodeId = reader.u32()
      const shardCount = reader.u16()
      reader.u16()
      return {
        version,
        shard,
        features,
        clusterId,
        nodeId,
        shardCount,
        maxFrameBytes: reader.u32(),
        maxBatchBytes: reader.u32(),
      }
    })
    return { ...fixed, software: reader.string() }
  },
}
