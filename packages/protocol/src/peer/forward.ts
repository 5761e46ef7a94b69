// FORWARD: an operation for the metadata leader, handed on by the broker that a client asked. The header has the
// correlation id and how long the sender will wait.
//
//   fixed  (empty)
//   tail   the operation, opaque, to the end of the frame
import type { MessageCodec } from '../message.js'

export interface Forward {
  readonly payload: Uint8Array
}

export const forward: MessageCodec<Forward> = {
  kind: 71,
  name: 'FORWARD',
  sender: 'peer',
  encode({ payload }, writer) {
    writer.fixed(() => {}).bytes(payload)
  },
  decode(reader) {
    reader.fixed(() => {})
    return { payload: reader.bytes(reader.remaining) }
  },
}
