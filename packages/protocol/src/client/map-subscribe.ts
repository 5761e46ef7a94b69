// MAP_SUBSCRIBE: the client wants the cluster map. All pushes that follow carry the id of this frame.
//
//   fixed  u64 zero
import type { Empty } from '../empty-message.js'
import type { MessageCodec } from '../message.js'

export const mapSubscribe: MessageCodec<Empty> = {
  kind: 10,
  name: 'MAP_SUBSCRIBE',
  sender: 'client',
  encode(_message, writer) {
    writer.fixed(() => writer.u64(0))
  },
  decode(reader) {
    return reader.fixed(() => {
      reader.u64()
      return {}
    })
  },
}
