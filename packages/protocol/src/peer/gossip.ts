// GOSSIP: everything the sender knows of who is in the cluster, sealed with the key of the cluster: for the receiver to
// merge, and to answer with what it knows itself. The header has the correlation id.
//
//   fixed  (empty)
//   tail   the sealed state, opaque, to the end of the frame
import type { MessageCodec } from '../message.js'

export interface Gossip {
  readonly payload: Uint8Array
}

export const gossip: MessageCodec<Gossip> = {
  kind: 75,
  name: 'GOSSIP',
  sender: 'peer',
  encode({ payload }, writer) {
    writer.fixed(() => {}).bytes(payload)
  },
  decode(reader) {
    reader.fixed(() => {})
    return { payload: reader.bytes(reader.remaining) }
  },
}
