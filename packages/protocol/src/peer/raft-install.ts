// RAFT_INSTALL: the follower is behind the start of the leader's log; this is where it begins instead.
//
//   fixed  u32 topic id, u32 partition, u16 lane, u16 zero, u32 term, u32 previous term, u64 round, u64 start index,
//          u16 voters, u16 outgoing voters, u16 learners, u16 zero
//   tail   u32 node ids of the three in this order, then the state to the end of the frame
import { assert } from '../assert.js'
import { MAX_MEMBERS_PER_GROUP } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type RaftGroup, readRaftGroup, writeRaftGroup } from '../raft-group.js'
import type { Reader } from '../reader.js'

export interface RaftInstall {
  readonly group: RaftGroup
  readonly term: number
  readonly round: number
  readonly start: {
    /** Of the first entry that is kept, and the term of the one before it. */
    readonly index: number
    readonly previousTerm: number
    /** In force before the first entry; node ids. */
    readonly configuration: {
      readonly voters: readonly number[]
      readonly outgoing: readonly number[]
      readonly learners: readonly number[]
    }
  }
  /** What the state machine was before the first entry; opaque. */
  readonly state: Uint8Array
}

const readId = (reader: Reader): number => reader.u32()

export const raftInstall: MessageCodec<RaftInstall> = {
  kind: 69,
  name: 'RAFT_INSTALL',
  sender: 'peer',
  encode({ group, term, round, start, state }, writer) {
    const { voters, outgoing, learners } = start.configuration
    writer.fixed(() => {
      writeRaftGroup(writer, group)
      writer.u32(term).u32(start.previousTerm).u64(round).u64(start.index)
      writer.u16(voters.length).u16(outgoing.length).u16(learners.length).u16(0)
    })
    for (const ids of [voters, outgoing, learners]) {
      assert(ids.length <= MAX_MEMBERS_PER_GROUP, 'members within the limit of a group')
      for (const id of ids) writer.u32(id)
    }
    writer.bytes(state)
  },
  decode(reader) {
    const f = reader.fixed(() => ({
      group: readRaftGroup(reader),
      term: reader.u32(),
      previousTerm: reader.u32(),
      round: reader.u64(),
      index: reader.u64(),
      voters: reader.u16(),
      outgoing: reader.u16(),
      learners: reader.u16(),
      zero: reader.u16(),
    }))
    const configuration = {
      voters: reader.list(f.voters, 4, MAX_MEMBERS_PER_GROUP, readId),
      outgoing: reader.list(f.outgoing, 4, MAX_MEMBERS_PER_GROUP, readId),
      learners: reader.list(f.learners, 4, MAX_MEMBERS_PER_GROUP, readId),
    }
    const start = { index: f.index, previousTerm: f.previousTerm, configuration }
    return { group: f.group, term: f.term, round: f.round, start, state: reader.bytes(reader.remaining) }
  },
}
