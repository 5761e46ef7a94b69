// PING: answered at once.
import { ping, pong, Reader } from '@millrace/protocol'
import type { Handler } from '../peer.js'

export const handlePing: Handler = (peer, request, { payload }) => {
  peer.answer(request, pong, ping.decode(new Reader(payload)))
}
