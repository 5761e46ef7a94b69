// PEER_BEAT: a sign of life, several a second, whether there is anything else to say or not.
//
//   fixed  u64 wall clock of the sender, milliseconds since 1970
import type { MessageCodec } from '../message.js'

export interface PeerBeat {
  /** Milliseconds since 1970, so that clocks which differ are noticed. */
  readonly wallMs: number
}

export const peerBeat: MessageCodec<PeerBeat> = {
  kind: 66,
  name: 'PEER_BEAT',
  sender: 'peer',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.wallMs))
  },
  decode(reader) {
    return reader.fixed(() => ({ wallMs: reader.u64() }))
  },
}
