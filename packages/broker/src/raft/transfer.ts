// Leadership given away on purpose: no new proposals, the target catches up, and is told to stand for election at once.
// Source: dissertation, 3.10. Beyond it: the old leader does not wait to be asked for its vote (see `abdicate`).
import type { LeaderState } from './leader-state.js'
import type { Bequest, RaftState } from './raft-state.js'
import type { Entry, NodeId } from './raft-types.js'
import { becomeFollower } from './roles.js'

export type TransferRefusal = 'notLeader' | 'self' | 'notVoter' | 'transferUnderWay' | 'behind'

/** @returns null when the transfer has begun. */
export function transferTo<E extends Entry>(state: RaftState<E>, to: NodeId): TransferRefusal | null {
  const { leading } = state
  if (leading === null) return 'notLeader'
  if (to === state.nodeId) return 'self'
  if (!state.configuration.voters.includes(to)) return 'notVoter'
  if (leading.transfer !== null) return 'transferUnderWay'
  // Catching up has to fit in the time of a transfer: only a follower that is being replicated to has a chance.
  const progress = leading.find(to)
  if (progress === undefined || progress.mode !== 'replicate' || progress.match === 0) return 'behind'
  leading.transfer = { to, ticks: 0 }
  tryTimeoutNow(state, leading)
  return null
}

/**
 * Called whenever something was committed or a follower has got further, and at each heartbeat. Nobody waits for an answer
 * from this leader when all that it has is committed.
 */
export function tryTimeoutNow<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const { transfer } = leading
  const { lastIndex } = state.log
  if (transfer === null || leading.find(transfer.to)?.match !== lastIndex || state.commitIndex !== lastIndex) return
  abdicate(state, transfer.to)
}

/**
 * Has the heir stand for election, and votes for it in the term to come without being asked: that saves the way there and
 * the way back, and both write down their votes at the same time.
 * Invariant: the heir's log is durable and the same as that of this node, which accepts nothing in its own term any more,
 * so that the vote is the one that it would give if it were asked.
 */
function abdicate<E extends Entry>(state: RaftState<E>, to: NodeId): void {
  const bequest = { to, term: state.term, ticks: 0 }
  sendTimeoutNow(state, to)
  becomeFollower(state, state.term + 1, 0)
  state.setHardState(state.term, to)
  state.bequest = bequest
  state.hurry(state.limits.reclaimTicks)
  sendVote(state, to)
}

export function sendTimeoutNow<E extends Entry>(state: RaftState<E>, to: NodeId, term = state.term): void {
  state.send({ kind: 'timeoutNow', from: state.nodeId, to, term })
}

function sendVote<E extends Entry>(state: RaftState<E>, to: NodeId): void {
  const { nodeId: from, term, isRepairing } = state
  state.send({ kind: 'voteReply', from, to, term, granted: true, isRepairing })
}

/** Nothing is heard of the heir yet, and what it was sent may be lost. In the term that it enters it is sent in vain. */
export function tickBequest<E extends Entry>(state: RaftState<E>, bequest: Bequest): void {
  if (state.term !== bequest.term + 1 || state.role !== 'follower' || state.leader !== 0) state.bequest = null
  else if (++bequest.ticks % state.limits.heirTicks === 0) {
    sendTimeoutNow(state, bequest.to, bequest.term)
    sendVote(state, bequest.to)
  }
}

/** The heir is gone, or what it was sent is lost: it is told once more, should it be there. */
export function heirLost<E extends Entry>(state: RaftState<E>): void {
  state.hurry(state.limits.heirTicks)
}

export function tickTransfer<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  if (leading.transfer !== null && ++leading.transfer.ticks >= state.limits.transferTicks) abortTransfer(state, leading)
}

export function abortTransfer<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  if (leading.transfer === null) return
  const { to } = leading.transfer
  leading.transfer = null
  state.emit({ kind: 'transferAborted', to })
}
