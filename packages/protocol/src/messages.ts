// The registry of all messages: what the format page, the golden bytes and the fuzzers are checked against.
import { admin } from './client/admin.js'
import { adminReply } from './client/admin-reply.js'
import { cursorBatches } from './client/cursor-batches.js'
import { cursorClose } from './client/cursor-close.js'
import { cursorClosed } from './client/cursor-closed.js'
import { cursorCredit } from './client/cursor-credit.js'
import { cursorHeartbeat } from './client/cursor-heartbeat.js'
import { cursorOpen } from './client/cursor-open.js'
import { cursorOpened } from './client/cursor-opened.js'
import { failure } from './client/failure.js'
import { groupBeat } from './client/group-beat.js'
import { groupBeatReply } from './client/group-beat-reply.js'
import { groupCommit } from './client/group-commit.js'
import { groupCommitReply } from './client/group-commit-reply.js'
import { groupJoin } from './client/group-join.js'
import { groupJoined } from './client/group-joined.js'
import { hello } from './client/hello.js'
import { helloReply } from './client/hello-reply.js'
import { mapDelta } from './client/map-delta.js'
import { mapHeartbeat } from './client/map-heartbeat.js'
import { mapSnapshot } from './client/map-snapshot.js'
import { mapSubscribe } from './client/map-subscribe.js'
import { offsets } from './client/offsets.js'
import { offsetsReply } from './client/offsets-reply.js'
import { ping } from './client/ping.js'
import { pong } from './client/pong.js'
import { produce } from './client/produce.js'
import { produceReply } from './client/produce-reply.js'
import type { MessageCodec } from './message.js'
import { forward } from './peer/forward.js'
import { forwardReply } from './peer/forward-reply.js'
import { gossip } from './peer/gossip.js'
import { gossipReply } from './peer/gossip-reply.js'
import { leaders } from './peer/leaders.js'
import { leadersWanted } from './peer/leaders-wanted.js'
import { peerBeat } from './peer/peer-beat.js'
import { peerHello } from './peer/peer-hello.js'
import { peerHelloReply } from './peer/peer-hello-reply.js'
import { raft } from './peer/raft.js'
import { raftAppend } from './peer/raft-append.js'
import { raftInstall } from './peer/raft-install.js'
import { setBeat } from './peer/set-beat.js'
import { setBeatReply } from './peer/set-beat-reply.js'

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
  widen(groupJoin),
  widen(groupJoined),
  widen(groupBeat),
  widen(groupBeatReply),
  widen(groupCommit),
  widen(groupCommitReply),
  widen(admin),
  widen(adminReply),
  widen(peerHello),
  widen(peerHelloReply),
  widen(peerBeat),
  widen(raft),
  widen(raftAppend),
  widen(raftInstall),
  widen(leaders),
  widen(forward),
  widen(forwardReply),
  widen(setBeat),
  widen(setBeatReply),
  widen(gossip),
  widen(gossipReply),
  widen(leadersWanted),
]

const NAMES = new Map(MESSAGES.map((message) => [message.kind, message.name]))

/** The name of a frame kind, or its number for one this version does not know. */
export function messageName(kind: number): string {
  return NAMES.get(kind) ?? `kind ${kind}`
}
