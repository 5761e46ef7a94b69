// PRODUCE_REPLY: one result for each batch of the request, in its order.
//
//   fixed  u16 results
//   tail   results: u16 code, u16 zero, u64 base offset (all bits set: acknowledged, offset unknown),
//          u64 append time, route as known now, string detail
import { assert } from '../assert.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { ROUTE_BYTES, type Route, readRoute, writeRoute } from '../route.js'

export interface ProduceResult {
  /** 0, or a code of the error table. */
  readonly code: number
  /** Offset of the batch's first record; null when the original of a duplicate lies outside the producer window. */
  readonly baseOffset: number | null
  /** Milliseconds since 1970; 0 unless acknowledged. */
  readonly appendTime: number
  readonly route: Route
  readonly detail: string
}

export interface ProduceReply {
  readonly results: readonly ProduceResult[]
}

export const produceReply: MessageCodec<ProduceReply> = {
  kind: 21,
  name: 'PRODUCE_REPLY',
  sender: 'broker',
  encode(m, writer) {
    assert(m.results.length <= MAX_ENTRIES_PER_FRAME, 'at most the limit of results a frame')
    writer.fixed(() => writer.u16(m.results.length))
    for (const r of m.results) {
      writer.u16(r.code).u16(0).u64OrNull(r.baseOffset).u64(r.appendTime)
      writeRoute(writer, r.route)
      writer.string(r.detail)
    }
  },
  decode(reader) {
    const count = reader.fixed(() => reader.u16())
    reader.count(count, 22 + ROUTE_BYTES, MAX_ENTRIES_PER_FRAME)
    const results: ProduceResult[] = []
    for (let i = 0; i < count; i++) {
      const code = reader.u16()
      reader.u16()
      const baseOffset = reader.u64OrNull()
      const appendTime = reader.u64()
      const route = readRoute(reader)
      results.push({ code, baseOffset, appendTime, route, detail: reader.string() })
    }
    return { results }
  },
}
