// One partition in the messages of consumer groups, assigned or committed. 32 bytes: u32 topic id, u32 partition,
// u16 lane, u16 flags, u32 epoch of the assignment, u64 offset (all bits set: none), u32 term of the last record read
// before that offset (0: none), u32 zero.
import type { Reader } from './reader.js'
import type { Writer } from './writer.js'

export interface GroupPartition {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  /** Of the assignment: the token that fences whoever had the partition before. */
  readonly epoch: number
  /** The next record to read; null: none is named. */
  readonly offset: number | null
  /** Of the last record read before that offset; 0 when none was. */
  readonly term: number
}

export const GROUP_ENTRY_BYTES = 32

export function writeGroupEntry(writer: Writer, entry: GroupPartition, flags: number): void {
  writer.u32(entry.topicId).u32(entry.partition).u16(entry.lane).u16(flags).u32(entry.epoch)
  writer.u64OrNull(entry.offset).u32(entry.term).u32(0)
}

export function readGroupEntry(reader: Reader): { readonly entry: GroupPartition; readonly flags: number } {
  const topicId = reader.u32()
  const partition = reader.u32()
  const lane = reader.u16()
  const flags = reader.u16()
  const epoch = reader.u32()
  const offset = reader.u64OrNull()
  const term = reader.u32()
  reader.u32()
  return { entry: { topicId, partition, lane, epoch, offset, term }, flags }
}
