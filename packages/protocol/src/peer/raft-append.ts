// RAFT_APPEND: entries of one group, as they stand in the leader's log.
//
//   fixed  u32 topic id, u32 partition, u16 lane, u16 zero, u32 term, u32 previous term, u32 batches, u64 previous
//          index, u64 commit, u64 round
//   tail   batches to the end of the frame, each log part and client part
import { assert } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { LOG_PART_BYTES } from '../log-part.js'
import type { MessageCodec } from '../message.js'
import { type RaftGroup, readRaftGroup, writeRaftGroup } from '../raft-group.js'
import { BATCH_HEADER_BYTES } from '../record-batch.js'

export interface RaftAppend {
  readonly group: RaftGroup
  readonly term: number
  /** The entry that the batches follow; 0 and term 0 at the beginning of a log. */
  readonly previousIndex: number
  readonly previousTerm: number
  readonly commit: number
  readonly round: number
  /** At least one. */
  readonly batchCount: number
  /**
   * Where the first batch begins in the payload, after decoding; the others follow without gaps to the end. Ignored by
   * encode: the sender writes the batches behind the encoded message.
   */
  readonly batchesStart: number
}

export const raftAppend: MessageCodec<RaftAppend> = {
  kind: 68,
  name: 'RAFT_APPEND',
  sender: 'peer',
  encode(m, writer) {
    assert(m.batchCount >= 1, 'an append frame has batches; without any it is a RAFT message')
    writer.fixed(() => {
      writeRaftGroup(writer, m.group)
      writer.u32(m.term).u32(m.previousTerm).u32(m.batchCount).u64(m.previousIndex).u64(m.commit).u64(m.round)
    })
  },
  decode(reader) {
    const fixed = reader.fixed(() => ({
      group: readRaftGroup(reader),
      term: reader.u32(),
      previousTerm: reader.u32(),
      batchCount: reader.u32(),
      previousIndex: reader.u64(),
      commit: reader.u64(),
      round: reader.u64(),
    }))
    if (fixed.batchCount === 0) throw new ProtocolError('CORRUPT_FRAME', 'an append frame without batches')
    reader.count(fixed.batchCount, LOG_PART_BYTES + BATCH_HEADER_BYTES)
    return { ...fixed, batchesStart: reader.position }
  },
}
