// OFFSETS and OFFSETS_REPLY: where a partition starts, ends, or stood at a time.
//
// OFFSETS        fixed  u16 queries
//                tail   queries of 20 bytes: u32 topic id, u32 partition, u16 lane, u8 kind (1 earliest, 2 latest,
//                       3 timestamp), u8 zero, u64 timestamp
// OFFSETS_REPLY  fixed  u16 answers
//                tail   answers of 36 bytes: u16 code, u16 zero, u64 offset, u64 timestamp (all bits set: none),
//                       u32 term, route
import { ProtocolError } from '../errors.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

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

export interface OffsetAnswer {
  readonly code: number
  /** For kind `latest`, and when no record is as late as the timestamp: the high watermark. */
  readonly offset: number
  /** Timestamp of the record found by kind `timestamp`, else null. */
  readonly timestamp: number | null
  readonly term: number
  readonly route: Route
}

export interface Offsets {
  readonly queries: readonly OffsetQuery[]
}

export interface OffsetsReply {
  readonly answers: readonly OffsetAnswer[]
}

export const offsets: MessageCodec<Offsets> = {
  kind: 40,
  name: 'OFFSETS',
  sender: 'client',
  encode(m, writer) {
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

export const offsetsReply: MessageCodec<OffsetsReply> = {
  kind: 41,
  name: 'OFFSETS_REPLY',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u16(m.answers.length))
    for (const a of m.answers) {
      writer.u16(a.code).u16(0).u64(a.offset).u64OrNull(a.timestamp).u32(a.term)
      writeRoute(writer, a.route)
    }
  },
  decode(reader) {
    const count = reader.count(
      reader.fixed(() => reader.u16()),
      36,
      MAX_ENTRIES_PER_FRAME,
    )
    const answers: OffsetAnswer[] = []
    for (let i = 0; i < count; i++) {
      const code = reader.u16()
      reader.u16()
      const offset = reader.u64()
      const timestamp = reader.u64OrNull()
      answers.push({ code, offset, timestamp, term: reader.u32(), route: readRoute(reader) })
    }
    return { answers }
  },
}
