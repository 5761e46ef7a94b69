// GROUP_BEAT: a member is alive, and waits for news of its assignment. The answer comes at once when the assignment is
// not of the version named, else when it changes or after the time named (at most a quarter of the lease).
//
//   fixed  place, u32 epoch of the member, u32 version of the assignment it knows (0: none), u32 wait in ms, u32 zero
//   tail   string group
import { type GroupPlace, readGroupPlace, writeGroupPlace } from '../group-place.js'
import type { MessageCodec } from '../message.js'

export interface GroupBeat {
  readonly place: GroupPlace
  readonly memberEpoch: number
  /** 0 when none is known. */
  readonly version: number
  readonly waitMs: number
  readonly group: string
}

export const groupBeat: MessageCodec<GroupBeat> = {
  kind: 44,
  name: 'GROUP_BEAT',
  sender: 'client',
  encode(m, writer) {
    writer
      .fixed(() => {
        writeGroupPlace(writer, m.place)
        writer.u32(m.memberEpoch).u32(m.version).u32(m.waitMs).u32(0)
      })
      .string(m.group)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const place = readGroupPlace(reader)
      const memberEpoch = reader.u32()
      const version = reader.u32()
      const waitMs = reader.u32()
      reader.u32()
      return { place, memberEpoch, version, waitMs }
    })
    return { ...fixed, group: reader.string() }
  },
}
