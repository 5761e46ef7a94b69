// Names one Raft group, which is one log: 12 bytes on the wire, u32 topic id, u32 partition, u16 lane, u16 zero.
import type { Reader } from './reader.js'
import type { Writer } from './writer.js'

export interface RaftGroup {
  /** 0 is the metadata topic. */
  readonly topicId: number
  readonly partition: number
  readonly lane: number
}

export function writeRaftGroup(writer: Writer, group: RaftGroup): void {
  writer.u32(group.topicId).u32(group.partition).u16(group.lane).u16(0)
}

export function readRaftGroup(reader: Reader): RaftGroup {
  const group = { topicId: reader.u32(), partition: reader.u32(), lane: reader.u16() }
  reader.u16()
  return group
}
