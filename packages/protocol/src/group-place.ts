// Where a request of a consumer group goes, and of whom it is: the start of the fixed part of each of them. 24 bytes:
// u32 topic id of the coordinators' topic, u32 partition, u16 zero, u16 placement and u32 term of the route the client
// knows, u64 member id.
import type { Reader } from './reader.js'
import type { RouteVersion } from './route.js'
import type { Writer } from './writer.js'

export interface GroupPlace {
  /** Of GROUPS_TOPIC. */
  readonly topicId: number
  /** `partitionOfKey` of the group's name in UTF-8. */
  readonly partition: number
  readonly routeVersion: RouteVersion
  /** 64 bits that the member has drawn at random for this membership. */
  readonly memberId: bigint
}

export function writeGroupPlace(writer: Writer, place: GroupPlace): void {
  const { placement, term } = place.routeVersion
  writer.u32(place.topicId).u32(place.partition).u16(0).u16(placement).u32(term).bits64(place.memberId)
}

export function readGroupPlace(reader: Reader): GroupPlace {
  const topicId = reader.u32()
  const partition = reader.u32()
  reader.u16()
  const placement = reader.u16()
  const term = reader.u32()
  return { topicId, partition, routeVersion: { term, placement }, memberId: reader.bits64() }
}
