// Reads that see everything committed before they were asked for, without writing to the log.
// Source: dissertation, 6.4 (ReadIndex). No leases: a stalled event loop is as bad as a wrong clock.
import { quorumValue } from './configuration.js'
import { sendRound } from './heartbeats.js'
import type { LeaderState } from './leader-state.js'
import type { RaftState } from './raft-state.js'
import type { Entry } from './raft-types.js'
import { wakeAll } from './rest.js'

export function requestRead<E extends Entry>(state: RaftState<E>): number {
  const read = ++state.readSequence
  const { leading } = state
  if (leading === null) {
    state.emit({ kind: 'readRefused', read })
  } else {
    // Answers are needed now, and messages that get lost are sent again only to who is awake.
    wakeAll(state, leading)
    leading.reads.push({ read, round: 0, index: 0 })
    advanceReads(state, leading)
  }
  return read
}

/** Called when a round was answered, when an entry of the own term was committed, and when the voters have changed. */
export function advanceReads<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  if (leading.reads.length === 0 || !leading.isServing) return
  answerReads(state, leading)
  if (leading.reads.length === 0 || leading.reads[0]?.round !== 0) return
  // A round that was sent before a read was asked for proves nothing for it; those that wait share the next one.
  sendRound(state, leading)
  for (const waiting of leading.reads) {
    waiting.round = leading.round
    waiting.index = state.commitIndex
  }
  answerReads(state, leading)
}

function answerReads<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const confirmed = quorumValue(state.configuration, (nodeId) =>
    nodeId === state.nodeId ? leading.round : (leading.find(nodeId)?.heardRound ?? 0),
  )
  let first = leading.reads[0]
  while (first !== undefined && first.round !== 0 && first.round <= confirmed) {
    leading.reads.shift()
    state.emit({ kind: 'readReady', read: first.read, index: first.index })
    first = leading.reads[0]
  }
}
