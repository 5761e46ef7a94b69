// CURSOR_CREDIT: how far the broker may send. The latest one counts, so that repeating it is harmless.
//
//   fixed  u64 credit: position in decoded bytes, counted from 0 when the cursor was opened, up to which the broker
//          may send; a batch is sent whenever the position reached is below it
import type { MessageCodec } from '../message.js'

export interface CursorCredit {
  readonly credit: number
}

export const cursorCredit: MessageCodec<CursorCredit> = {
  kind: 32,
  name: 'CURSOR_CREDIT',
  sender: 'client',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.credit))
  },
  decode(reader) {
    return reader.fixed(() => ({ credit: reader.u64() }))
  },
}
