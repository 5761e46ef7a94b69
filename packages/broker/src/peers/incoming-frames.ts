// What a peer's frames say, as the rest of the broker knows it: the ends of the connection are added to each message.
import {
  assert,
  leaders,
  Reader,
  raft,
  raftAppend,
  raftInstall,
  type SmallRaftMessage,
  unreachable,
} from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { AppendRequest, RaftMessage } from '../raft/raft-types.js'
import type { LogKey } from '../storage/log-store.js'
import { type LoggedEntry, readEntries } from './logged-entry.js'
import type { PeerServices } from './peer-services.js'

const NO_ENTRIES: readonly LoggedEntry[] = []

/** @throws ProtocolError, and nothing has been handed on. */
export function takeRaft({ self, handlers }: PeerServices, from: number, payload: Reader): void {
  const { messages } = raft.decode(payload)
  for (const { group, message } of messages) handlers.onRaft(from, group, withEnds(message, from, self.nodeId))
}

/** Field by field: there are tens of thousands a second, and copying an object with a spread costs more than the rest. */
function withEnds(message: SmallRaftMessage, from: number, to: number): RaftMessage<LoggedEntry> {
  const { term } = message
  switch (message.kind) {
    case 'append': {
      const { previousIndex, previousTerm, commit, round } = message
      return { kind: 'append', from, to, term, previousIndex, previousTerm, commit, round, entries: NO_ENTRIES }
    }
    case 'appendReply': {
      const { round, agrees, index, indexTerm, lastIndex } = message
      return { kind: 'appendReply', from, to, term, round, agrees, index, indexTerm, lastIndex }
    }
    case 'preVote':
    case 'vote': {
      const { lastIndex, lastTerm, isTransfer } = message
      return { kind: message.kind, from, to, term, lastIndex, lastTerm, isTransfer }
    }
    case 'preVoteReply':
    case 'voteReply':
      return { kind: message.kind, from, to, term, granted: message.granted, isRepairing: message.isRepairing }
    case 'timeoutNow':
      return { kind: 'timeoutNow', from, to, term }
    default:
      return unreachable(message)
  }
}

/**
 * @param block holds the payload from its first byte on, and is given back by whoever handles the entries.
 * @throws ProtocolError, and the block has been given back.
 */
export function takeAppend(services: PeerServices, from: number, payload: Uint8Array, block: Block): void {
  const { environment, self, frameMemory, handlers } = services
  let group: LogKey
  let message: AppendRequest<LoggedEntry>
  try {
    const frame = raftAppend.decode(new Reader(payload))
    const { term, previousIndex, previousTerm, commit, round } = frame
    const entries = readEntries(environment.memory, block, payload.length, frame, services.decodeConfiguration)
    group = frame.group
    message = { kind: 'append', from, to: self.nodeId, term, previousIndex, previousTerm, commit, round, entries }
  } catch (error) {
    frameMemory.give(block)
    throw error
  }
  let isReleased = false
  const release = (): void => {
    assert(!isReleased, 'entries from a peer are released once')
    isReleased = true
    frameMemory.give(block)
  }
  handlers.onAppend(from, group, { message, release })
}

/** @throws ProtocolError */
export function takeInstall({ self, handlers }: PeerServices, from: number, payload: Reader): void {
  const { group, term, round, start, state } = raftInstall.decode(payload)
  handlers.onInstall(from, group, { kind: 'install', from, to: self.nodeId, term, round, start }, new Uint8Array(state))
}

/** @throws ProtocolError */
export function takeLeaders({ handlers }: PeerServices, from: number, payload: Reader): void {
  handlers.onLeaders(from, leaders.decode(payload).changes)
}
