// OFFSETS: asks where partitions start, end, or stood at a time.
//
//   fixed  u16 queries
//   tail   queries of 20 bytes: u32 topic id, u32 partition, u16 lane, u8 kind (1 earliest, 2 latest, 3 timestamp),
//          u8 zero, u64 timestamp
import { assert } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'

const KIND_IDS = { earliest: 1, latest: 2, timestamp: 3 } as const
export type OffsetQueryKind = keyof typeof KIND_IDS
const KIND_NAMES: readonly (OffsetQueryKind | undefined)[] = [undefined, 'earliest', 'latest', 'timestamp']

export interface OffsetQuery {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  readonly kind: OffsetQueryKind
  /** Milliseconds since 1970 for kind `timestamp`, else 0: asks for the first record at or after it. */
  readonly timestamp: number
}

export interface Offsets {
  readonly queries: readonly OffsetQuery[]
}

export const offsets: MessageCodec<Offsets> = {
  kind: 40,
  name: 'OFFSETS',
  sender: 'client',
  encode(m, writer) {
    assert(m.queries.length <= MAX_ENTRIES_PER_FRAME, 'at most the limit of queries a frame')
    writer.fixed(() => writer.u16(m.queries.length))
    for (const q of m.queries) {
      writer.u32(q.topicId).u32(q.partition).u16(q.lane).u8(KIND_IDS[q.kind]).u8(0).u64(q.timestamp)
    }
  },
  decode(reader) {
    const count = reader.count(
      reader.fixed(() => reader.u16()),
      20,
      MAX_ENTRIES_PER_FRAME,
    )
    const queries: OffsetQuery[] = []
    for (let i = 0; i < count; i++) {
      const topicId = reader.u32()
      const partition = reader.u32()
      const lane = reader.u16()
      const kind = KIND_NAMES[reader.u8()]
      if (kind === undefined) throw new ProtocolError('CORRUPT_FRAME', 'an unknown kind of offset query')
      reader.u8()
      queries.push({ topicId, partition, lane, kind, timestamp: reader.u64() })
    }
    return { queries }
  },
}
