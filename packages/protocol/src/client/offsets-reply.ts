// OFFSETS_REPLY: one answer for each query, in its order.
//
//   fixed  u16 answers
//   tail   answers of 36 bytes: u16 code, u16 zero, u64 offset, u64 timestamp (all bits set: none), u32 term, route
import { assert } from '../assert.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

export interface OffsetAnswer {
  readonly code: number
  /** For kind `latest`, and when no record is as late as the timestamp: the high watermark. */
  readonly offset: number
  /** Timestamp of the record found by kind `timestamp`, else null. */
  readonly timestamp: number | null
  readonly term: number
  readonly route: Route
}

export interface OffsetsReply {
  readonly answers: readonly OffsetAnswer[]
}

export const offsetsReply: MessageCodec<OffsetsReply> = {
  kind: 41,
  name: 'OFFSETS_REPLY',
  sender: 'broker',
  encode(m, writer) {
    assert(m.answers.length <= MAX_ENTRIES_PER_FRAME, 'at most the limit of answers a frame')
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
