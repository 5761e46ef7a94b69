// Fuzzes the connections of a peer: whatever it says, in whatever pieces, is either handed on whole and valid or ends the
// connection with a reason of the table; all memory comes back, and no bug is met.
import {
  ERROR_TABLE,
  encodeFrame,
  errorName,
  failure,
  forward,
  forwardReply,
  gossip,
  gossipReply,
  leaders,
  leadersWanted,
  peerBeat,
  peerHello,
  peerHelloReply,
  ping,
  Reader,
  raft,
  raftAppend,
  raftInstall,
  SeededRandom,
  type SmallRaftMessage,
  setBeat,
  setBeatReply,
} from '@millrace/protocol'
import type { LoggedEntry } from '#src/peers/logged-entry.js'
import { HELLO, HELLO_REPLY, type InMemoryPeers, startPeers } from '../test/peers/in-memory-peers.js'
import { batchesAfter, GROUP } from '../test/peers/logged-batches.js'
import type { TestStream } from '../test/server/in-memory-server.js'
import { concat, mutated } from './bytes.js'

export const name = 'peer-frames'

const FRAME_BYTES = 512 * 1024
const PREVIOUS_INDEX = 10
const LARGE_BATCHES = batchesAfter(PREVIOUS_INDEX, 3, { valueBytes: 60_000 })
const SMALL_BATCHES = batchesAfter(PREVIOUS_INDEX, 4)

function someMessage(random: SeededRandom): SmallRaftMessage {
  const term = random.below(5)
  switch (random.below(4)) {
    case 0:
      return { kind: 'vote', term, lastIndex: random.u32(), lastTerm: random.below(5), isTransfer: random.oneIn(2) }
    case 1:
      return { kind: 'appendReply', term, round: 1, agrees: random.oneIn(2), index: 3, indexTerm: 1, lastIndex: 4 }
    case 2:
      return { kind: 'append', term, previousIndex: random.u32(), previousTerm: 1, commit: 0, round: 7 }
    default:
      return { kind: 'preVoteReply', term, granted: random.oneIn(2), isRepairing: random.oneIn(2) }
  }
}

function someAppend(random: SeededRandom): Uint8Array {
  const batches = (random.oneIn(5) ? LARGE_BATCHES : SMALL_BATCHES).slice(0, 1 + random.below(3))
  const bytes = random.oneIn(3) ? mutated(random, concat(batches)) : concat(batches)
  const message = {
    group: random.oneIn(20) ? { ...GROUP, partition: 1 } : GROUP,
    term: 1 + random.below(3),
    previousIndex: random.oneIn(20) ? random.below(20) : PREVIOUS_INDEX,
    previousTerm: random.oneIn(20) ? 9 : 1,
    commit: 0,
    round: 1,
    batchCount: random.oneIn(20) ? 1 + random.below(5) : batches.length,
    batchesStart: 0,
  }
  return concat([encodeFrame(raftAppend, message, { id: 0, extraPayloadBytes: bytes.length }), bytes])
}

function someFrame(random: SeededRandom): Uint8Array {
  const id = random.below(9)
  switch (random.below(14)) {
    case 0:
      return encodeFrame(peerBeat, { wallMs: random.u32() }, { id: 0 })
    case 1: {
      const messages = Array.from({ length: random.below(6) }, () => ({ group: GROUP, message: someMessage(random) }))
      return encodeFrame(raft, { messages }, { id: 0 })
    }
    case 2: {
      const configuration = { voters: [1, 2, 3], outgoing: random.oneIn(2) ? [] : [1, 4], learners: [] }
      const start = { index: random.below(99), previousTerm: 1, configuration }
      const message = { group: GROUP, term: 2, round: 1, start, state: random.bytes(random.below(70_000)) }
      return encodeFrame(raftInstall, message, { id: 0 })
    }
    case 3: {
      const route = { nodeId: 2, shard: 0, placement: 0, term: random.below(9) }
      return encodeFrame(leaders, { changes: [{ topicId: 1, partition: random.below(9), route }] }, { id: 0 })
    }
    case 4:
      return encodeFrame(forward, { payload: random.bytes(random.below(40)) }, { id, timeMs: random.below(1_000) })
    case 5: {
      const code = random.oneIn(2) ? 0 : ERROR_TABLE.NOT_LEADER.code
      return encodeFrame(forwardReply, { code, detail: 'x', payload: random.bytes(random.below(40)) }, { id })
    }
    case 6:
      return random.oneIn(6) ? encodeFrame(ping, {}, { id }) : encodeFrame(peerBeat, { wallMs: 1 }, { id: 0 })
    case 7: {
      const entering = Array.from({ length: random.below(4) }, () => ({
        group: GROUP,
        term: 1,
        index: random.below(9),
      }))
      const leaving = random.oneIn(3) ? [GROUP] : []
      return encodeFrame(setBeat, { epoch: random.below(9), base: random.below(9), entering, leaving }, { id: 0 })
    }
    case 8:
      return encodeFrame(setBeatReply, { epoch: random.below(9), left: random.oneIn(2) ? [GROUP] : [] }, { id: 0 })
    case 9:
      return encodeFrame(gossip, { payload: random.bytes(random.below(40)) }, { id })
    case 10:
      return encodeFrame(gossipReply, { payload: random.bytes(random.below(40)) }, { id })
    case 11:
      return encodeFrame(leadersWanted, {}, { id: 0 })
    default:
      return someAppend(random)
  }
}

/** What a peer says on a connection of its own. */
function someBytes(random: SeededRandom): Uint8Array {
  const hello = random.oneIn(20) ? { ...HELLO, nodeId: random.below(4), expectedNodeId: random.below(3) } : HELLO
  const pieces = random.oneIn(15) ? [] : [encodeFrame(peerHello, hello, { id: 0 })]
  for (let count = random.below(10); count > 0; count--) pieces.push(someFrame(random))
  const bytes = concat(pieces)
  return random.oneIn(4) ? mutated(random, bytes) : bytes
}

/** What it answers on a connection of ours. */
function someAnswer(random: SeededRandom): Uint8Array {
  const pieces = [encodeFrame(peerHelloReply, HELLO_REPLY, { id: 0 })]
  if (random.oneIn(3)) {
    pieces.push(encodeFrame(failure, { code: random.below(70), answeredKind: 64, detail: 'why' }, { id: 0 }))
  }
  if (random.oneIn(5)) pieces.push(someFrame(random))
  return random.oneIn(3) ? mutated(random, concat(pieces)) : concat(pieces)
}

/** What is handed on is what a leader's log could hold: dense, in terms that rise, each batch where it says it is. */
function checkAppends({ appends }: InMemoryPeers): void {
  for (const { message } of appends) {
    let index = message.previousIndex
    let term = message.previousTerm
    for (const entry of message.entries) {
      if (entry.part.index !== ++index) throw new Error(`index ${entry.part.index} where ${index} is due`)
      if (entry.term < term || entry.term > message.term) throw new Error(`term ${entry.term} after ${term}`)
      term = entry.term
      checkInside(entry)
    }
    if (message.entries.length === 0) throw new Error('an append without entries was handed on as one with them')
  }
}

function checkInside({ block, at, byteLength, header, part, clientAt }: LoggedEntry): void {
  if (at + byteLength > block.byteLength || clientAt + header.length !== at + byteLength) {
    throw new Error('an entry reaches beyond its block')
  }
  if (part.clientLength !== header.length || part.clientChecksum !== header.checksum) {
    throw new Error('an entry is put together from two')
  }
}

/** A peer is answered by its welcome, and by why it has to go. */
function checkAnswers(stream: TestStream): void {
  for (const { header, payload } of stream.frames) {
    if (header.kind === peerHelloReply.kind) peerHelloReply.decode(new Reader(payload))
    else if (header.kind !== failure.kind) throw new Error(`a peer is answered with kind ${header.kind}`)
    else {
      const { code } = failure.decode(new Reader(payload))
      if (errorName(code) === null || errorName(code) === 'INTERNAL') throw new Error(`a peer is refused with ${code}`)
    }
  }
}

/** Gives back what was handed on; a frame that waited for that memory is handed on by it, and given back as well. */
async function releaseAll(peers: InMemoryPeers): Promise<void> {
  do {
    checkAppends(peers)
    for (const append of peers.appends.splice(0)) append.release()
    await peers.server.settle()
  } while (peers.appends.length > 0)
}

async function converse(peers: InMemoryPeers, random: SeededRandom): Promise<void> {
  const { server, appends, dialled } = peers
  const { clock, settle } = server
  peers.answers = !random.oneIn(3)
  const stream = server.dial()
  const bytes = someBytes(random)
  let at = 0
  for (let step = 0; step < 100 && at < bytes.length; step++) {
    const length = random.oneIn(3) ? 1 + random.below(30) : 1 + random.below(bytes.length)
    stream.receive(bytes.subarray(at, at + length), 1 + random.below(40_000))
    at += length
    if (random.oneIn(3)) clock.turn()
    if (random.oneIn(4)) await settle()
    if (random.oneIn(10)) clock.advance(random.oneIn(20) ? 1_500 : random.below(300))
    checkAppends(peers)
    while (appends.length > 0 && !random.oneIn(3)) appends.pop()!.release()
    if (random.oneIn(40)) stream.destroy()
  }
  for (const ours of dialled.splice(0)) {
    ours.receive(someAnswer(random), 1 + random.below(100))
    if (random.oneIn(2)) clock.advance(random.below(300))
    peers.network.send(2, GROUP, { kind: 'timeoutNow', from: 1, to: 2, term: 1 })
    clock.turn()
    if (random.oneIn(3)) ours.destroy()
  }
  await releaseAll(peers)
  stream.end()
  checkAnswers(stream)
  peers.answers = false
  for (const ours of dialled.splice(0)) ours.destroy()
  clock.advance(100)
  await settle()
  if (appends.length > 0) throw new Error('an append was handed on after its connection was over')
}

async function start(): Promise<InMemoryPeers> {
  const peers = await startPeers({ frameBytes: FRAME_BYTES })
  peers.network.start()
  return peers
}

/** Tries `iterations` conversations drawn from `seed`. @returns how many. @throws when one shows a bug. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  let peers = await start()
  for (let tried = 0; tried < iterations; tried++) {
    await converse(peers, random)
    const { bugs, memory, connections } = peers.server
    if (bugs.length > 0) throw bugs[0]
    if (connections.size > 0) throw new Error(`${connections.size} connections are left`)
    if (memory.usedBytes !== 0 || peers.frameMemory.usedBytes !== 0)
      throw new Error(`${memory.usedBytes} bytes are left`)
    if (tried % 50 === 49) peers = await start()
  }
  return iterations
}
