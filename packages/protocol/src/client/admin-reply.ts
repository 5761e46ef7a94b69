// ADMIN_REPLY: the outcome of an ADMIN request.
//
//   fixed  u16 code, u16 zero, u64 map version after the operation
//   tail   string detail, then MessagePack to the end of the frame
import type { MessageCodec } from '../message.js'

export interface AdminReply {
  readonly code: number
  readonly mapVersion: number
  readonly detail: string
  /** MessagePack; empty after an error. */
  readonly payload: Uint8Array
}

export const adminReply: MessageCodec<AdminReply> = {
  kind: 51,
  name: 'ADMIN_REPLY',
  sender: 'broker',
  encode(m, writer) {
    writer
      .fixed(() => writer.u16(m.code).u16(0).u64(m.mapVersion))
      .string(m.detail)
      .bytes(m.payload)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const code = reader.u16()
      reader.u16()
      return { code, mapVersion: reader.u64() }
    })
    return { ...fixed, detail: reader.string(), payload: reader.bytes(reader.remaining) }
  },
}
