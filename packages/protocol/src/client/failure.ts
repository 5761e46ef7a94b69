// FAILURE: a request is refused as a whole, or (id 0) the connection is about to close.
//
//   fixed  u16 error code, u16 kind of the frame it answers (0: none)
//   tail   string detail
import type { MessageCodec } from '../message.js'

export interface Failure {
  /** A code of the error table. */
  readonly code: number
  readonly answeredKind: number
  /** What happened; the advice stands in the table. */
  readonly detail: string
}

export const failure: MessageCodec<Failure> = {
  kind: 3,
  name: 'FAILURE',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u16(m.code).u16(m.answeredKind)).string(m.detail)
  },
  decode(reader) {
    const fixed = reader.fixed(() => ({ code: reader.u16(), answeredKind: reader.u16() }))
    return { ...fixed, detail: reader.string() }
  },
}
