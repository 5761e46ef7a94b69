// The registry of all messages: what the format page, the golden bytes and the fuzzers are checked against.
import { admin, adminReply } from './client/admin.js'
import {
  cursorBatches,
  cursorClosed,
  cursorCredit,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
} from './client/cursor.js'
import { failure } from './client/failure.js'
import { hello } from './client/hello.js'
import { helloReply } from './client/hello-reply.js'
import { mapDelta, mapHeartbeat, mapSnapshot, mapSubscribe } from './client/map.js'
import { offsets, offsetsReply } from './client/offsets.js'
import { cursorClose, ping, pong } from './client/ping.js'
import { produce } from './client/produce.js'
import { produceReply } from './client/produce-reply.js'
import type { MessageCodec } from './message.js'

/** Message types differ; whoever walks the registry treats contents as unknown. */
const widen = <T>(codec: MessageCodec<T>): MessageCodec<unknown> => ({
  ...codec,
  encode: (message, writer) => codec.encode(message as T, writer),
})

export const MESSAGES: readonly MessageCodec<unknown>[] = [
  widen(hello),
  widen(helloReply),
  widen(failure),
  widen(ping),
  widen(pong),
  widen(mapSubscribe),
  widen(mapSnapshot),
  widen(mapDelta),
  widen(mapHeartbeat),
  widen(produce),
  widen(produceReply),
  widen(cursorOpen),
  widen(cursorOpened),
  widen(cursorCredit),
  widen(cursorClose),
  widen(cursorBatches),
  widen(cursorHeartbeat),
  widen(cursorClosed),
  widen(offsets),
  widen(offsetsReply),
  widen(admin),
  widen(adminReply),
]

const NAMES = new Map(MESSAGES.map((message) => [message.kind, message.name]))

/** The name of a frame kind, or its number for one this version does not know. */
export function messageName(kind: number): string {
  return NAMES.get(kind) ?? `kind ${kind}`
}
