// GROUP_BEAT_REPLY: all partitions that the member has. What is not in the list is not the member's any more.
//
//   fixed  u16 code, u16 zero, route, u32 version of the assignment, u16 partitions, u16 zero
//   tail   entries of 32 bytes (group-entry.ts); flags: 1 another member waits for the partition: finish what is begun,
//          commit and release it; offset: the committed one
import { assert } from '../assert.js'
import { GROUP_ENTRY_BYTES, type GroupPartition, readGroupEntry, writeGroupEntry } from '../group-entry.js'
import { MAX_PARTITIONS_PER_CONSUMER } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

const REVOKING = 1

/** `offset` is the committed one, null when nothing was committed; `term` belongs to it. */
export interface AssignedPartition extends GroupPartition {
  /** Another member waits for it. */
  readonly isRevoking: boolean
}

export interface GroupBeatReply {
  readonly code: number
  /** Of the coordinator's partition. */
  readonly route: Route
  /** 0 after an error. */
  readonly version: number
  readonly assigned: readonly AssignedPartition[]
}

export const groupBeatReply: MessageCodec<GroupBeatReply> = {
  kind: 45,
  name: 'GROUP_BEAT_REPLY',
  sender: 'broker',
  encode(m, writer) {
    assert(m.assigned.length <= MAX_PARTITIONS_PER_CONSUMER, 'at most the limit of partitions a member')
    writer.fixed(() => {
      writer.u16(m.code).u16(0)
      writeRoute(writer, m.route)
      writer.u32(m.version).u16(m.assigned.length).u16(0)
    })
    for (const entry of m.assigned) writeGroupEntry(writer, entry, entry.isRevoking ? REVOKING : 0)
  },
  decode(reader) {
    const { count, ...fixed } = reader.fixed(() => {
      const code = reader.u16()
      reader.u16()
      const route = readRoute(reader)
      const version = reader.u32()
      const count = reader.u16()
      reader.u16()
      return { code, route, version, count }
    })
    const assigned = reader.list(count, GROUP_ENTRY_BYTES, MAX_PARTITIONS_PER_CONSUMER, () => {
      const { entry, flags } = readGroupEntry(reader)
      return { ...entry, isRevoking: (flags & REVOKING) !== 0 }
    })
    return { ...fixed, assigned }
  },
}
