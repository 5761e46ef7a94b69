// GROUP_JOIN: a consumer wants a share of the partitions of some topics. Sent again with the same member id it changes
// nothing but the topics and the lease.
//
//   fixed  place, u32 lease in ms, u16 topics, u16 zero
//   tail   string group, string member name (empty: none), string client id, topics x u32 topic id
import { assert } from '../assert.js'
import { type GroupPlace, readGroupPlace, writeGroupPlace } from '../group-place.js'
import { MAX_TOPICS_PER_MEMBER } from '../limits.js'
import type { MessageCodec } from '../message.js'

export interface GroupJoin {
  readonly place: GroupPlace
  /** How long the member may be silent before its partitions are given to others. */
  readonly leaseMs: number
  readonly group: string
  /** Who comes back under this name takes its partitions over at once; empty for a member without one. */
  readonly memberName: string
  readonly clientId: string
  readonly topicIds: readonly number[]
}

export const groupJoin: MessageCodec<GroupJoin> = {
  kind: 42,
  name: 'GROUP_JOIN',
  sender: 'client',
  encode(m, writer) {
    assert(m.topicIds.length <= MAX_TOPICS_PER_MEMBER, 'at most the limit of topics a member')
    writer.fixed(() => {
      writeGroupPlace(writer, m.place)
      writer.u32(m.leaseMs).u16(m.topicIds.length).u16(0)
    })
    writer.string(m.group).string(m.memberName).string(m.clientId)
    for (const topicId of m.topicIds) writer.u32(topicId)
  },
  decode(reader) {
    const { topics, ...fixed } = reader.fixed(() => {
      const place = readGroupPlace(reader)
      const leaseMs = reader.u32()
      const topics = reader.u16()
      reader.u16()
      return { place, leaseMs, topics }
    })
    const names = { group: reader.string(), memberName: reader.string(), clientId: reader.string() }
    return { ...fixed, ...names, topicIds: reader.list(topics, 4, MAX_TOPICS_PER_MEMBER, () => reader.u32()) }
  },
}
