// CURSOR_CLOSE: the client ends the cursor that the id names. No answer; no batch of it is sent after this was read.
//
//   fixed  empty
import { emptyMessage } from '../empty-message.js'

export const cursorClose = emptyMessage(33, 'CURSOR_CLOSE', 'client')
