// Changes of role that anything may bring about.

import type { RaftState } from './raft-state.js'
import type { Entry, NodeId } from './raft-types.js'
import { wakeAll } from './rest.js'

/** Follow `leader` (0: whoever it may be) in `term`, which is the own one or newer. */
export function becomeFollower<E extends Entry>(state: RaftState<E>, term: number, leader: NodeId): void {
  const { leading, role } = state
  const isChange = term > state.term || role !== 'follower' || leader !== state.leader
  if (term > state.term) enterTerm(state, term, 0)
  state.role = 'follower'
  state.leader = leader
  state.leading = null
  state.ballot = null
  // Without a leader a follower goes on waiting: a term that somebody else has raised is no sign of one.
  if (role !== 'follower' || leader !== 0) state.resetTimer()
  if (isChange) announceRole(state)
  if (leading === null) return
  wakeAll(state, leading)
  for (const { read } of leading.reads) state.emit({ kind: 'readRefused', read })
}

/** What was agreed with the leader of an older term says nothing about the next one. */
export function enterTerm<E extends Entry>(state: RaftState<E>, term: number, votedFor: NodeId): void {
  state.setHardState(term, votedFor)
  state.verifiedIndex = 0
  state.acknowledgedIndex = 0
  state.heardRound = 0
  state.repairIndex = 0
}

export function announceRole<E extends Entry>(state: RaftState<E>): void {
  state.emit({ kind: 'role', role: state.role, term: state.term, leader: state.leader })
}
