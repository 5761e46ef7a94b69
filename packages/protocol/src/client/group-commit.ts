// GROUP_COMMIT: what a member has finished, and which partitions it gives back. Sent again it does no harm.
//
//   fixed  place, u32 epoch of the member, u16 entries, u16 flags (1: the member leaves the group afterwards)
//   tail   string group, entries of 32 bytes (group-entry.ts); flags: 1 commits the offset, 2 releases the partition
import { assert } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { GROUP_ENTRY_BYTES, type GroupPartition, readGroupEntry, writeGroupEntry } from '../group-entry.js'
import { type GroupPlace, readGroupPlace, writeGroupPlace } from '../group-place.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import type { Reader } from '../reader.js'

const COMMITS = 1
const RELEASES = 2
const LEAVES = 1

/** `offset` is to be committed, with its `term`; null: the offset committed before stays. */
export interface CommittedPartition extends GroupPartition {
  /** The member has stopped working on the partition and gives it back. */
  readonly releases: boolean
}

export interface GroupCommit {
  readonly place: GroupPlace
  readonly memberEpoch: number
  /** The member leaves the group when this is done. */
  readonly leaves: boolean
  readonly group: string
  readonly entries: readonly CommittedPartition[]
}

export const groupCommit: MessageCodec<GroupCommit> = {
  kind: 46,
  name: 'GROUP_COMMIT',
  sender: 'client',
  encode(m, writer) {
    assert(m.entries.length <= MAX_ENTRIES_PER_FRAME, 'at most the limit of entries a frame')
    writer.fixed(() => {
      writeGroupPlace(writer, m.place)
      writer
        .u32(m.memberEpoch)
        .u16(m.entries.length)
        .u16(m.leaves ? LEAVES : 0)
    })
    writer.string(m.group)
    for (const entry of m.entries) {
      writeGroupEntry(writer, entry, (entry.offset === null ? 0 : COMMITS) | (entry.releases ? RELEASES : 0))
    }
  },
  decode(reader) {
    const { count, ...fixed } = reader.fixed(() => {
      const place = readGroupPlace(reader)
      const memberEpoch = reader.u32()
      const count = reader.u16()
      return { place, memberEpoch, count, leaves: (reader.u16() & LEAVES) !== 0 }
    })
    const group = reader.string()
    return { ...fixed, group, entries: reader.list(count, GROUP_ENTRY_BYTES, MAX_ENTRIES_PER_FRAME, readCommitted) }
  },
}

function readCommitted(reader: Reader): CommittedPartition {
  const { entry, flags } = readGroupEntry(reader)
  const commits = (flags & COMMITS) !== 0
  if (commits && entry.offset === null) throw new ProtocolError('CORRUPT_FRAME', 'a commit without an offset')
  return { ...entry, offset: commits ? entry.offset : null, releases: (flags & RELEASES) !== 0 }
}
