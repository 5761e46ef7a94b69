// The follower's work: it takes what the leader sends, says how far the logs agree durably, and begins anew where it is told.
// Source: dissertation, 3.5, 3.6; Figure 2 of the paper, "AppendEntries RPC", "InstallSnapshot RPC".
import { assert } from '@millrace/protocol'
import type { RaftState } from './raft-state.js'
import type { AppendRequest, Entry, InstallRequest, NodeId } from './raft-types.js'

/** Any message of the leader counts as a sign of life, also one that is refused. */
export function heardLeader<E extends Entry>(state: RaftState<E>, round: number): void {
  state.elapsedTicks = 0
  state.attempts = 0
  state.heardRound = Math.max(state.heardRound, round)
}

export function receiveAppend<E extends Entry>(state: RaftState<E>, request: AppendRequest<E>): void {
  const { log } = state
  const { previousIndex, previousTerm, entries } = request
  if (!areTermsInOrder(request)) return
  // Whatever is committed here is in the log of every later leader (leader completeness), so only what lies above is compared.
  if (
    previousIndex >= state.commitIndex &&
    !(previousIndex <= log.lastIndex && log.termAt(previousIndex) === previousTerm)
  ) {
    refuse(state, request)
    return
  }
  const lastNew = previousIndex + entries.length
  takeEntries(state, request)
  state.verifiedIndex = Math.max(state.verifiedIndex, lastNew, state.commitIndex)
  // Only what this leader has been found to agree with: what lies above may be another's.
  const commit = Math.min(request.commit, state.verifiedIndex)
  if (commit > state.commitIndex) state.commit(commit)
  if (state.isRepairing) noteRepair(state, request.commit)
  if (entries.length === 0 || log.durableIndex >= lastNew) acknowledge(state)
}

function areTermsInOrder<E extends Entry>(request: AppendRequest<E>): boolean {
  let term = request.previousTerm
  for (const entry of request.entries) {
    if (entry.term < term) return false
    term = entry.term
  }
  return term <= request.term
}

/** Cuts off only at an entry that differs: a message that is shorter or older says nothing about what follows it. */
function takeEntries<E extends Entry>(state: RaftState<E>, request: AppendRequest<E>): void {
  const { log } = state
  const { previousIndex, entries } = request
  let at = Math.max(0, state.commitIndex - previousIndex)
  while (at < entries.length && log.termAt(previousIndex + 1 + at) === entries[at]?.term) at++
  if (at >= entries.length) return
  const firstIndex = previousIndex + 1 + at
  if (firstIndex <= log.lastIndex) {
    assert(firstIndex > state.commitIndex, 'nothing committed is ever cut off')
    assert(firstIndex > state.verifiedIndex, 'nothing that the leader has is cut off for it')
    const sequence = log.truncate(firstIndex - 1)
    state.emit({ kind: 'truncate', lastIndex: firstIndex - 1, sequence })
  }
  const fresh = at === 0 ? entries : entries.slice(at)
  log.append(fresh)
  state.emit({ kind: 'append', firstIndex, entries: fresh })
}

/** Says where to look next: entries of a newer term than the one asked for cannot be what the leader has there. */
function refuse<E extends Entry>(state: RaftState<E>, request: AppendRequest<E>): void {
  const { log } = state
  assert(request.previousIndex > state.commitIndex, 'a leader has everything that is committed')
  const index = Math.max(log.lastIndexOfTerm(request.previousIndex, request.previousTerm), state.commitIndex)
  reply(state, request.from, false, index, log.termAt(index))
}

/** The log agrees with the leader's as far as it is durable. */
export function acknowledge<E extends Entry>(state: RaftState<E>): void {
  const index = Math.min(state.verifiedIndex, state.log.durableIndex)
  state.acknowledgedIndex = index
  reply(state, state.leader, true, index, 0)
}

function reply<E extends Entry>(
  state: RaftState<E>,
  to: NodeId,
  agrees: boolean,
  index: number,
  indexTerm: number,
): void {
  state.send({
    kind: 'appendReply',
    from: state.nodeId,
    to,
    term: state.term,
    round: state.heardRound,
    agrees,
    index,
    indexTerm,
    lastIndex: state.log.lastIndex,
  })
}

/** To a leader of an older term, that it may learn of the newer one (also when it is too busy for anything else). */
export function answerOldLeader<E extends Entry>(state: RaftState<E>, to: NodeId): void {
  const { lastIndex, lastTerm } = state.log
  reply(state, to, false, lastIndex, lastTerm)
}

/** More of the log is durable. */
export function followerDurable<E extends Entry>(state: RaftState<E>): void {
  finishRepair(state)
  if (state.leader === 0 || state.role !== 'follower') return
  if (Math.min(state.verifiedIndex, state.log.durableIndex) > state.acknowledgedIndex) acknowledge(state)
}

export function receiveInstall<E extends Entry>(state: RaftState<E>, request: InstallRequest): void {
  const { log } = state
  const { start } = request
  const lastIndex = start.index - 1
  const hasIt =
    lastIndex <= state.commitIndex || (lastIndex <= log.lastIndex && log.termAt(lastIndex) === start.previousTerm)
  if (hasIt) {
    // An older state never replaces a newer one, and a log that has the entry has everything before it.
    state.verifiedIndex = Math.max(state.verifiedIndex, lastIndex, state.commitIndex)
    if (lastIndex > state.commitIndex) state.commit(lastIndex)
    acknowledge(state)
    return
  }
  log.install(start)
  state.commitIndex = lastIndex
  state.verifiedIndex = lastIndex
  state.acknowledgedIndex = 0
  state.emit({ kind: 'install', start, from: request.from })
}

export function installed<E extends Entry>(state: RaftState<E>): void {
  finishRepair(state)
  if (state.leader !== 0 && state.role === 'follower') acknowledge(state)
}

/**
 * What a replica may have lost was committed by some leader no later than the newest one began to serve: with everything
 * that this one has committed, and something of its own term among it, nothing is missing. The commit must have been sent after
 * this node began, which holds because connections do not outlive a process.
 */
function noteRepair<E extends Entry>(state: RaftState<E>, commit: number): void {
  if (commit > state.verifiedIndex || state.log.termAt(commit) !== state.term) return
  state.repairIndex = Math.max(state.repairIndex, commit)
  finishRepair(state)
}

function finishRepair<E extends Entry>(state: RaftState<E>): void {
  if (!state.isRepairing || state.repairIndex === 0 || state.log.durableIndex < state.repairIndex) return
  state.isRepairing = false
  state.emit({ kind: 'repaired' })
}
