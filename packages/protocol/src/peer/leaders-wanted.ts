// LEADERS_WANTED: the sender lacks leaders that the receiver knows, and asks for all of them. They come as LEADERS, on the
// connection the other way, at most once in a while.
//
//   fixed  (empty)
import { emptyMessage } from '../empty-message.js'

export const leadersWanted = emptyMessage(77, 'LEADERS_WANTED', 'peer')
