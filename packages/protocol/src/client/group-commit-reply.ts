// GROUP_COMMIT_REPLY: what became of each entry of a GROUP_COMMIT, in their order.
//
//   fixed  u16 code, u16 entries, route
//   tail   entries x u16 code (0: done), and a u16 zero when their number is odd
import { assert } from '../assert.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

export interface GroupCommitReply {
  /** Of the whole: when it is not 0, nothing was done, and there are no entries. */
  readonly code: number
  /** Of the coordinator's partition. */
  readonly route: Route
  /** 0: done. STALE_ASSIGNMENT: the partition is another member's now, and nothing was done with it. */
  readonly codes: readonly number[]
}

export const groupCommitReply: MessageCodec<GroupCommitReply> = {
  kind: 47,
  name: 'GROUP_COMMIT_REPLY',
  sender: 'broker',
  encode(m, writer) {
    assert(m.codes.length <= MAX_ENTRIES_PER_FRAME, 'at most the limit of entries a frame')
    writer.fixed(() => {
      writer.u16(m.code).u16(m.codes.length)
      writeRoute(writer, m.route)
    })
    for (const code of m.codes) writer.u16(code)
    if (m.codes.length % 2 === 1) writer.u16(0)
  },
  decode(reader) {
    const { count, ...fixed } = reader.fixed(() => {
      const code = reader.u16()
      const count = reader.u16()
      return { code, count, route: readRoute(reader) }
    })
    const codes = reader.list(count, 2, MAX_ENTRIES_PER_FRAME, () => reader.u16())
    if (count % 2 === 1) reader.u16()
    return { ...fixed, codes }
  },
}
