// GROUP_JOINED: the member belongs to the group, or why not.
//
//   fixed  u16 code, u16 zero, route, u32 epoch of the member, u32 lease granted in ms
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

export interface GroupJoined {
  readonly code: number
  /** Of the coordinator's partition. */
  readonly route: Route
  /** Every further request of the member names it. 0 unless it has joined. */
  readonly memberEpoch: number
  readonly leaseMs: number
}

export const groupJoined: MessageCodec<GroupJoined> = {
  kind: 43,
  name: 'GROUP_JOINED',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => {
      writer.u16(m.code).u16(0)
      writeRoute(writer, m.route)
      writer.u32(m.memberEpoch).u32(m.leaseMs)
    })
  },
  decode(reader) {
    return reader.fixed(() => {
      const code = reader.u16()
      reader.u16()
      return { code, route: readRoute(reader), memberEpoch: reader.u32(), leaseMs: reader.u32() }
    })
  },
}
