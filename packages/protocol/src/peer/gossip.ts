// GOSSIP: everything the sender knows of who is in the cluster, sealed with the key of the cluster: for the receiver to
// merge, and to answer with what it knows itself. The header has the correlation id.
//
//   fixed  (empty)
//   tail   the sealed state, opaque, to the end of the frame
import { type Payload, payloadMessage } from '../payload-message.js'

export type Gossip = Payload

export const gossip = payloadMessage(75, 'GOSSIP', 'peer')
