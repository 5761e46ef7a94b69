// FORWARD: an operation for the metadata leader, handed on by the broker that a client asked. The header has the
// correlation id and how long the sender will wait.
//
//   fixed  (empty)
//   tail   the operation, opaque, to the end of the frame
import { type Payload, payloadMessage } from '../payload-message.js'

export type Forward = Payload

export const forward = payloadMessage(71, 'FORWARD', 'peer')
