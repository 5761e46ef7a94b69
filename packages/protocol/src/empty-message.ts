// Messages whose kind and id say everything: their fixed part is empty.
import type { MessageCodec } from './message.js'

/** No content. */
export type Empty = Readonly<Record<string, never>>

const EMPTY: Empty = {}

export function emptyMessage(kind: number, name: string, sender: MessageCodec<Empty>['sender']): MessageCodec<Empty> {
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
