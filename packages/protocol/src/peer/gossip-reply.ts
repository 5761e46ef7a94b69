// GOSSIP_REPLY: what the receiver of a GOSSIP knows; travels on the connection the other way, under the same correlation id.
// A GOSSIP that is not sealed as it should be gets none.
//
//   fixed  (empty)
//   tail   the sealed state, opaque, to the end of the frame
import { payloadMessage } from '../payload-message.js'

export const gossipReply = payloadMessage(76, 'GOSSIP_REPLY', 'peer')
