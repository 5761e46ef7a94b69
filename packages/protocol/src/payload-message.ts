// Messages that carry bytes which somebody else reads: nothing but a payload, to the end of the frame.
import type { MessageCodec } from './message.js'

export interface Payload {
  readonly payload: Uint8Array
}

export function payloadMessage(
  kind: number,
  name: string,
  sender: MessageCodec<Payload>['sender'],
): MessageCodec<Payload> {
  return {
    kind,
    name,
    sender,
    encode({ payload }, writer) {
      writer.fixed(() => {}).bytes(payload)
    },
    decode(reader) {
      reader.fixed(() => {})
      return { payload: reader.bytes(reader.remaining) }
    },
  }
}
