// Leadership given away on purpose: no new proposals, the target catches up, and is told to stand for election at once.
// Source: dissertation, 3.10.
import type { LeaderState } from './leader-state.js'
import type { RaftState } from './raft-state.js'
import type { Entry, NodeId } from './raft-types.js'

export type TransferRefusal = 'notLeader' | 'self' | 'notVoter' | 'transferUnderWay' | 'behind'

/** @returns null when the transfer has begun. */
export function transferTo<E extends Entry>(state: RaftState<E>, to: NodeId): TransferRefusal | null {
  const { leading } = state
  if (leading === null) return 'notLeader'
  if (to === state.nodeId) return 'self'
  if (!state.configuration.voters.includes(to)) return 'notVoter'
  if (leading.transfer !== null) return 'transferUnderWay'
  // Catching up has to fit in the time of a transfer: only a follower that is being replicated to has a chance.
  if (leading.find(to)?.mode !== 'replicate') return 'behind'
  leading.transfer = { to, ticks: 0 }
  tryTimeoutNow(state, leading)
  return null
}

/** Called whenever a follower has got further, and at each heartbeat, since the message may be lost. */
export function tryTimeoutNow<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const { transfer } = leading
  if (transfer === null || leading.find(transfer.to)?.match !== state.log.lastIndex) return
  sendTimeoutNow(state, transfer.to)
}

export function sendTimeoutNow<E extends Entry>(state: RaftState<E>, to: NodeId): void {
  state.send({ kind: 'timeoutNow', from: state.nodeId, to, term: state.term })
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
