// SET_BEAT_REPLY: the answer to a SET_BEAT, on the connection that the one who answers has dialled.
//
//   fixed  u64 epoch of the set in which the sender follows (0: in none), u32 groups that have left it
//   tail   groups of 12 bytes
import { assert } from '../assert.js'
import { MAX_GROUPS_PER_SET_BEAT } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type RaftGroup, readRaftGroup, writeRaftGroup } from '../raft-group.js'
import { SET_GROUP_BYTES } from './set-beat.js'

export interface SetBeatReply {
  readonly epoch: number
  readonly left: readonly RaftGroup[]
}

export const setBeatReply: MessageCodec<SetBeatReply> = {
  kind: 74,
  name: 'SET_BEAT_REPLY',
  sender: 'peer',
  encode({ epoch, left }, writer) {
    assert(left.length <= MAX_GROUPS_PER_SET_BEAT, 'groups within the limit of a frame')
    writer.fixed(() => writer.u64(epoch).u32(left.length))
    for (const group of left) writeRaftGroup(writer, group)
  },
  decode(reader) {
    const { epoch, count } = reader.fixed(() => ({ epoch: reader.u64(), count: reader.u32() }))
    return { epoch, left: reader.list(count, SET_GROUP_BYTES, MAX_GROUPS_PER_SET_BEAT, readRaftGroup) }
  },
}
