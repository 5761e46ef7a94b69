// PING: is the other side still there? The PONG has the same id.
//
//   fixed  empty
import { emptyMessage } from '../empty-message.js'

export const ping = emptyMessage(4, 'PING', 'client')
