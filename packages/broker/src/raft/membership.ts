// Changes of the configuration: one at a time, voters only through a joint configuration, and only by way of learners.
// Source: dissertation, 4.2.1 (learners), 4.2.2 (removing the leader), 4.3 (joint consensus); the bug of single-server changes
// before an entry of the own term is committed is known from the author's note of 2015.
import { isJoint, isVoter } from './configuration.js'
import type { LeaderState } from './leader-state.js'
import type { RaftState } from './raft-state.js'
import type { Configuration, Entry, NodeId } from './raft-types.js'
import { becomeFollower } from './roles.js'
import { abortTransfer, sendTimeoutNow } from './transfer.js'

/** Who is to belong to the group. */
export interface Membership {
  readonly voters: readonly NodeId[]
  readonly learners: readonly NodeId[]
}

export type ConfigurationRefusal =
  | 'notLeader'
  /** No entry of the own term is committed yet. */
  | 'notServing'
  /** The last change is not committed, or still joint. */
  | 'changeUnderWay'
  | 'transferUnderWay'
  | 'noVoters'
  /** A node is named twice. */
  | 'duplicate'
  /** It is the one in force. */
  | 'unchanged'
  /** Only a learner can become a voter. */
  | 'notLearner'
  /** A learner has not caught up. */
  | 'behind'

/** @returns the configuration to append, joint when the voters change, or why it may not be now. */
export function proposeConfiguration<E extends Entry>(
  state: RaftState<E>,
  target: Membership,
): Configuration | ConfigurationRefusal {
  const { leading, configuration } = state
  if (leading === null) return 'notLeader'
  if (!leading.isServing) return 'notServing'
  if (isJoint(configuration) || state.log.configurationIndex > state.commitIndex) return 'changeUnderWay'
  if (leading.transfer !== null) return 'transferUnderWay'
  if (target.voters.length === 0) return 'noVoters'
  const named = [...target.voters, ...target.learners]
  if (new Set(named).size !== named.length) return 'duplicate'
  const sameVoters = isSameSet(target.voters, configuration.voters)
  if (sameVoters && isSameSet(target.learners, configuration.learners)) return 'unchanged'
  for (const nodeId of target.voters) {
    if (configuration.voters.includes(nodeId)) continue
    if (!configuration.learners.includes(nodeId)) return 'notLearner'
    if (!keepsUp(leading, nodeId)) return 'behind'
  }
  const { voters, learners } = target
  return { voters: [...voters], outgoing: sameVoters ? [] : [...configuration.voters], learners: [...learners] }
}

/** It has all that was committed when the last but one heartbeat was sent: a quorum that needs it will not wait. */
function keepsUp(leading: LeaderState, nodeId: NodeId): boolean {
  const progress = leading.find(nodeId)
  if (progress === undefined || progress.mode !== 'replicate' || progress.match === 0) return false
  return progress.match >= leading.previousCommitAtRound
}

/** After anything was committed: the end of a joint change is asked for, and a leader that was taken out steps down. */
export function configurationCommitted<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const { configuration } = state
  if (state.log.configurationIndex > state.commitIndex) return
  if (isJoint(configuration)) {
    if (leading.hasAskedToLeave || !leading.isServing) return
    leading.hasAskedToLeave = true
    state.emit({ kind: 'leaveJoint', configuration: { ...configuration, outgoing: [] } })
    return
  }
  leading.hasAskedToLeave = false
  if (isVoter(configuration, state.nodeId)) return
  handOver(state, leading)
}

/** Rather than let the others wait for a timeout, the one that has most takes over. */
export function handOver<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const heir = mostAdvanced(leading, state.configuration)
  if (heir !== 0) sendTimeoutNow(state, heir)
  abortTransfer(state, leading)
  becomeFollower(state, state.term, 0)
}

function mostAdvanced(leading: LeaderState, configuration: Configuration): NodeId {
  let best = 0
  let bestMatch = 0
  for (const { nodeId, match } of leading.progress) {
    if (match <= bestMatch || !configuration.voters.includes(nodeId)) continue
    best = nodeId
    bestMatch = match
  }
  return best
}

function isSameSet(left: readonly NodeId[], right: readonly NodeId[]): boolean {
  return left.length === right.length && left.every((nodeId) => right.includes(nodeId))
}
