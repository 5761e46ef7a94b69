// SET_BEAT: one heartbeat for all groups at rest that the sender leads and the receiver follows. It names an epoch of that set
// of groups and what has changed since an earlier one, and no group when nothing has.
//
//   fixed  u64 epoch, u64 epoch that the changes begin from (0: from no groups at all), u32 groups that enter, u32 groups that
//          leave
//   tail   entering: group (12 bytes), u32 term, u64 index of the last entry; then leaving: group
import { assert } from '../assert.js'
import { MAX_GROUPS_PER_SET_BEAT } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type RaftGroup, readRaftGroup, writeRaftGroup } from '../raft-group.js'

export const SET_GROUP_BYTES = 12
export const ENTERING_GROUP_BYTES = SET_GROUP_BYTES + 12

export interface SetBeat {
  readonly epoch: number
  readonly base: number
  readonly entering: readonly { readonly group: RaftGroup; readonly term: number; readonly index: number }[]
  readonly leaving: readonly RaftGroup[]
}

export const setBeat: MessageCodec<SetBeat> = {
  kind: 73,
  name: 'SET_BEAT',
  sender: 'peer',
  encode({ epoch, base, entering, leaving }, writer) {
    const most = Math.max(entering.length, leaving.length)
    assert(most <= MAX_GROUPS_PER_SET_BEAT, 'groups within the limit of a frame')
    writer.fixed(() => writer.u64(epoch).u64(base).u32(entering.length).u32(leaving.length))
    for (const { group, term, index } of entering) {
      writeRaftGroup(writer, group)
      writer.u32(term).u64(index)
    }
    for (const group of leaving) writeRaftGroup(writer, group)
  },
  decode(reader) {
    const { epoch, base, enteringCount, leavingCount } = reader.fixed(() => ({
      epoch: reader.u64(),
      base: reader.u64(),
      enteringCount: reader.u32(),
      leavingCount: reader.u32(),
    }))
    const entering = reader.list(enteringCount, ENTERING_GROUP_BYTES, MAX_GROUPS_PER_SET_BEAT, (from) => ({
      group: readRaftGroup(from),
      term: from.u32(),
      index: from.u64(),
    }))
    return {
      epoch,
      base,
      entering,
      leaving: reader.list(leavingCount, SET_GROUP_BYTES, MAX_GROUPS_PER_SET_BEAT, readRaftGroup),
    }
  },
}
