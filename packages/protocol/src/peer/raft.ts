// RAFT: small messages of many groups, gathered over a turn. Sender and receiver are the ends of the connection.
//
//   fixed  u32 messages
//   tail   messages of 44 bytes: u8 kind, u8 flags, u16 lane, u32 topic id, u32 partition, u32 term, three u64 and a
//          u32 that mean by kind:
//
//          1 preVote, 2 vote            last index, 0, 0, last term; flag bit 0: asked for by the leader (transfer)
//          3 preVoteReply, 4 voteReply  0, 0, 0, 0; flag bit 0: granted, bit 1: the voter is being repaired
//          5 append without entries     previous index, commit, round, previous term
//          6 appendReply                index, last index, round, term at the index; flag bit 0: agrees
//          7 timeoutNow                 0, 0, 0, 0
import { assert, unreachable } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { MAX_RAFT_MESSAGES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import type { RaftGroup } from '../raft-group.js'
import type { Reader } from '../reader.js'
import type { Writer } from '../writer.js'

export const RAFT_MESSAGE_BYTES = 44

const KINDS = {
  preVote: 1,
  vote: 2,
  preVoteReply: 3,
  voteReply: 4,
  append: 5,
  appendReply: 6,
  timeoutNow: 7,
} as const

/** What a Raft message says, without who says it to whom: the connection knows. */
export type SmallRaftMessage =
  | {
      readonly kind: 'preVote' | 'vote'
      readonly term: number
      readonly lastIndex: number
      readonly lastTerm: number
      readonly isTransfer: boolean
    }
  | {
      readonly kind: 'preVoteReply' | 'voteReply'
      readonly term: number
      readonly granted: boolean
      readonly isRepairing: boolean
    }
  | {
      readonly kind: 'append'
      readonly term: number
      readonly previousIndex: number
      readonly previousTerm: number
      readonly commit: number
      readonly round: number
    }
  | {
      readonly kind: 'appendReply'
      readonly term: number
      readonly round: number
      readonly agrees: boolean
      readonly index: number
      readonly indexTerm: number
      readonly lastIndex: number
    }
  | { readonly kind: 'timeoutNow'; readonly term: number }

export interface GroupMessage {
  readonly group: RaftGroup
  readonly message: SmallRaftMessage
}

export interface Raft {
  readonly messages: readonly GroupMessage[]
}

export const raft: MessageCodec<Raft> = {
  kind: 67,
  name: 'RAFT',
  sender: 'peer',
  encode({ messages }, writer) {
    assert(messages.length <= MAX_RAFT_MESSAGES_PER_FRAME, 'messages within the limit of a frame')
    writer.fixed(() => writer.u32(messages.length))
    for (const { group, message } of messages) {
      writer.u8(KINDS[message.kind]).u8(flagsOf(message)).u16(group.lane).u32(group.topicId).u32(group.partition)
      writer.u32(message.term)
      writeBody(writer, message)
    }
  },
  decode(reader) {
    const count = reader.fixed(() => reader.u32())
    return { messages: reader.list(count, RAFT_MESSAGE_BYTES, MAX_RAFT_MESSAGES_PER_FRAME, readMessage) }
  },
}

function flagsOf(message: SmallRaftMessage): number {
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      return message.isTransfer ? 1 : 0
    case 'preVoteReply':
    case 'voteReply':
      return (message.granted ? 1 : 0) | (message.isRepairing ? 2 : 0)
    case 'appendReply':
      return message.agrees ? 1 : 0
    case 'append':
    case 'timeoutNow':
      return 0
    default:
      return unreachable(message)
  }
}

function writeBody(writer: Writer, message: SmallRaftMessage): void {
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      writer.u64(message.lastIndex).u64(0).u64(0).u32(message.lastTerm)
      return
    case 'append':
      writer.u64(message.previousIndex).u64(message.commit).u64(message.round).u32(message.previousTerm)
      return
    case 'appendReply':
      writer.u64(message.index).u64(message.lastIndex).u64(message.round).u32(message.indexTerm)
      return
    case 'preVoteReply':
    case 'voteReply':
    case 'timeoutNow':
      writer.u64(0).u64(0).u64(0).u32(0)
      return
    default:
      unreachable(message)
  }
}

function readMessage(reader: Reader): GroupMessage {
  const kind = reader.u8()
  const flags = reader.u8()
  const lane = reader.u16()
  const group = { topicId: reader.u32(), partition: reader.u32(), lane }
  const term = reader.u32()
  const a = reader.u64()
  const b = reader.u64()
  const c = reader.u64()
  const d = reader.u32()
  const first = (flags & 1) !== 0
  const second = (flags & 2) !== 0
  switch (kind) {
    case KINDS.preVote:
    case KINDS.vote: {
      const name = kind === KINDS.vote ? 'vote' : 'preVote'
      return { group, message: { kind: name, term, lastIndex: a, lastTerm: d, isTransfer: first } }
    }
    case KINDS.preVoteReply:
    case KINDS.voteReply: {
      const name = kind === KINDS.voteReply ? 'voteReply' : 'preVoteReply'
      return { group, message: { kind: name, term, granted: first, isRepairing: second } }
    }
    case KINDS.append:
      return { group, message: { kind: 'append', term, previousIndex: a, previousTerm: d, commit: b, round: c } }
    case KINDS.appendReply: {
      const message = { term, round: c, agrees: first, index: a, indexTerm: d, lastIndex: b }
      return { group, message: { kind: 'appendReply', ...message } }
    }
    case KINDS.timeoutNow:
      return { group, message: { kind: 'timeoutNow', term } }
    default:
      throw new ProtocolError('CORRUPT_FRAME', `a Raft message of kind ${kind}`)
  }
}
