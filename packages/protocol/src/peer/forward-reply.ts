// FORWARD_REPLY: what came of a FORWARD; travels on the connection the other way, under the same correlation id.
//
//   fixed  u16 code: 0, or an error; u16 zero
//   tail   string detail, then the answer, opaque, to the end of the frame
import type { MessageCodec } from '../message.js'

export interface ForwardReply {
  /** CODE_OK, or a code of the error table. */
  readonly code: number
  readonly detail: string
  readonly payload: Uint8Array
}

export const forwardReply: MessageCodec<ForwardReply> = {
  kind: 72,
  name: 'FORWARD_REPLY',
  sender: 'peer',
  encode(m, writer) {
    writer
      .fixed(() => writer.u16(m.code).u16(0))
      .string(m.detail)
      .bytes(m.payload)
  },
  decode(reader) {
    const code = reader.fixed(() => {
      const value = reader.u16()
      reader.u16()
      return value
    })
    return { code, detail: reader.string(), payload: reader.bytes(reader.remaining) }
  },
}
