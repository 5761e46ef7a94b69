// PING and PONG: is the other side still there? Both have an empty fixed part; the id ties them together.
import type { MessageCodec } from '../message.js'

/** No content. */
export type Empty = Readonly<Record<string, never>>

const EMPTY: Empty = {}

function emptyMessage(kind: number, name: string, sender: 'client' | 'broker'): MessageCodec<Empty> {
  return {
    kind,
    name,
    sender,
    encode(_message, writer) {
      writer.fixed(() => {})
    },
    decode(reader) {
      return reader.fixed(() => EMPTY)
    },
  }
}

export const ping = emptyMessage(4, 'PING', 'client')
export const pong = emptyMessage(5, 'PONG', 'broker')
/** CURSOR_CLOSE: the id names the cursor; no answer, and no batch of it is sent after it was read. */
export const cursorClose = emptyMessage(33, 'CURSOR_CLOSE', 'client')
