// CURSOR_OPENED: the broker serves the cursor, and says from where.
//
//   fixed  u64 offset it starts at, u64 log start, u64 high watermark, route
import type { MessageCodec } from '../message.js'
import { type Route, readRoute, writeRoute } from '../route.js'

export interface CursorOpened {
  readonly startOffset: number
  readonly logStartOffset: number
  readonly highWatermark: number
  readonly route: Route
}

export const cursorOpened: MessageCodec<CursorOpened> = {
  kind: 31,
  name: 'CURSOR_OPENED',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => {
      writer.u64(m.startOffset).u64(m.logStartOffset).u64(m.highWatermark)
      writeRoute(writer, m.route)
    })
  },
  decode(reader) {
    return reader.fixed(() => ({
      startOffset: reader.u64(),
      logStartOffset: reader.u64(),
      highWatermark: reader.u64(),
      route: readRoute(reader),
    }))
  },
}
