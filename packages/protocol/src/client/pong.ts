// PONG: the answer to PING, with its id.
//
//   fixed  empty
import { emptyMessage } from '../empty-message.js'

export const pong = emptyMessage(5, 'PONG', 'broker')
