// HELLO: the first frame of every connection, from the client. Frozen for ever: whoever accepts a connection reads
// magic, version and shard at fixed places without taking the bytes.
//
//   fixed  u32 magic "MILL", u16 lowest version, u16 highest version, u16 shard, u16 zero, u32 features,
//          16B cluster id (zeros: any), u32 node id (0: any)
//   tail   string client id, string software, u16 length + authentication message
import { assert } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { MAX_AUTHENTICATION_BYTES } from '../limits.js'
import type { MessageCodec } from '../message.js'

/** "MILL" as the bytes appear on the wire. */
export const HELLO_MAGIC = 0x4c4c494d
export const ANY_CLUSTER = '0'.repeat(32)

export interface Hello {
  readonly minVersion: number
  readonly maxVersion: number
  /** The core the client wants to talk to. */
  readonly shard: number
  /** Bits of optional features; none is defined yet. */
  readonly features: number
  /** 32 hexadecimal digits; ANY_CLUSTER before the first contact. */
  readonly clusterId: string
  /** 0 before the first contact. */
  readonly nodeId: number
  readonly clientId: string
  /** Name and version of the client library. */
  readonly software: string
  readonly authentication: Uint8Array
}

export const hello: MessageCodec<Hello> = {
  kind: 1,
  name: 'HELLO',
  sender: 'client',
  encode(m, writer) {
    assert(m.authentication.length <= MAX_AUTHENTICATION_BYTES, 'an authentication message within the limit')
    writer
      .fixed(() => {
        writer.u32(HELLO_MAGIC).u16(m.minVersion).u16(m.maxVersion).u16(m.shard).u16(0).u32(m.features)
        writer.uuid(m.clusterId).u32(m.nodeId)
      })
      .string(m.clientId)
      .string(m.software)
      .u16(m.authentication.length)
      .bytes(m.authentication)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      if (reader.u32() !== HELLO_MAGIC) throw new ProtocolError('NOT_MILLRACE', 'HELLO does not begin with its magic')
      const minVersion = reader.u16()
      const maxVersion = reader.u16()
      const shard = reader.u16()
      reader.u16()
      return { minVersion, maxVersion, shard, features: reader.u32(), clusterId: reader.uuid(), nodeId: reader.u32() }
    })
    const clientId = reader.string()
    const software = reader.string()
    const length = reader.count(reader.u16(), 1, MAX_AUTHENTICATION_BYTES)
    return { ...fixed, clientId, software, authentication: reader.bytes(length) }
  },
}
