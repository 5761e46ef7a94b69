// CURSOR_CLOSED: the broker ends a cursor, or refuses to open it. With MOVED the route is where to go on.
//
//   fixed  u16 code, u16 zero, u64 log start, u64 high watermark, route
//   tail   string detail
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

export interface CursorClosed {
  readonly code: number
  readonly logStartOffset: number
  readonly highWatermark: number
  readonly route: Route
  readonly detail: string
}

export const cursorClosed: MessageCodec<CursorClosed> = {
  kind: 36,
  name: 'CURSOR_CLOSED',
  sender: 'broker',
  encode(m, writer) {
    writer
      .fixed(() => {
        writer.u16(m.code).u16(0).u64(m.logStartOffset).u64(m.highWatermark)
        writeRoute(writer, m.route)
      })
      .string(m.detail)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const code = reader.u16()
      reader.u16()
      return { code, logStartOffset: reader.u64(), highWatermark: reader.u64(), route: readRoute(reader) }
    })
    return { ...fixed, detail: reader.string() }
  },
}
