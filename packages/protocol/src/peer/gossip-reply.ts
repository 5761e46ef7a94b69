// GOSSIP_REPLY: what the receiver of a GOSSIP knows; travels on the connection the other way, under the same correlation id.
// A GOSSIP that is not sealed as it should be gets none.
//
//   fixed  (empty)
//   tail   the sealed state, opaque, to the end of the frame
import type { MessageCodec } from '../message.js'
import { type Gossip, gossip } from './gossip.js'

export const gossipReply: MessageCodec<Gossip> = { ...gossip, kind: 76, name: 'GOSSIP_REPLY' }
