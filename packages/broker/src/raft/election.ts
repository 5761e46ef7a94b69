// Elections: pre-votes, votes, and who may ask for them.
// Source: dissertation, 3.4, 3.6.1, 4.2.3 (a node that hears the leader refuses), 9.6 (pre-vote), 3.10 (transfer).
import { Ballot } from './ballot.js'
import { isSoleVoter, isVoter, votersOf } from './configuration.js'
import type { RaftState } from './raft-state.js'
import type { Entry, NodeId, VoteReply, VoteRequest } from './raft-types.js'
import { becomeLeader } from './replication.js'
import { wakeFollower } from './rest.js'
import { announceRole, becomeFollower, enterTerm } from './roles.js'

/** The first to vote for in a new group is the first of its voters: it waits for a moment only. */
export function startElections<E extends Entry>(state: RaftState<E>): void {
  if (isSoleVoter(state.configuration, state.nodeId)) electionTimeout(state)
  else if (isFirstOfNewGroup(state)) state.timeoutTicks = state.limits.firstElectionTicks
}

function isFirstOfNewGroup<E extends Entry>(state: RaftState<E>): boolean {
  return state.term === 0 && state.log.lastIndex === 0 && state.configuration.voters[0] === state.nodeId
}

export function electionTimeout<E extends Entry>(state: RaftState<E>): void {
  state.resetTimer()
  state.attempts++
  const isSole = isSoleVoter(state.configuration, state.nodeId)
  // One that decides alone may lack the very change by which it ceased to, and there would be nobody to ask.
  const isPatient = state.isRepairing && (isSole || state.attempts < state.limits.repairingTimeouts)
  if (isPatient || !mayCampaign(state)) {
    // Nobody is known to lead any more; a candidate that may not stand again follows whoever does.
    if (state.leader !== 0 || state.role !== 'follower') becomeFollower(state, state.term, 0)
    return
  }
  // Others of a new group may not have heard of it yet: the first one asks again soon, for a while.
  if (isFirstOfNewGroup(state) && state.attempts < state.limits.electionMaxTicks) {
    state.timeoutTicks = state.limits.firstElectionTicks
  }
  campaign(state, 'preVote', false)
}

/**
 * Connections to a process that has died break at once, and the rest of a timeout need not be waited for. One after the other
 * stands for election, the next to the lost leader first: at the same moment they would split the vote.
 */
export function leaderLost<E extends Entry>(state: RaftState<E>): void {
  wakeFollower(state)
  const { voters } = state.configuration
  if (voters.length === 0) return
  const place = voters.indexOf(state.nodeId) - voters.indexOf(state.leader)
  const others = (place + voters.length) % voters.length
  state.hurry(1 + 3 * Math.max(0, others - 1))
}

/**
 * Learners wait, and so does a log that is being replaced. A node that a change has taken out still stands until the change
 * is known to be committed: it may be the only one whose log is complete (4.2.2).
 */
function mayCampaign<E extends Entry>(state: RaftState<E>): boolean {
  const { log, nodeId } = state
  if (log.installing !== null) return false
  if (isVoter(log.configuration, nodeId)) return true
  return log.configurationIndex > state.commitIndex && isVoter(log.previousConfiguration, nodeId)
}

/** The leader has asked this node to take over at once. */
export function receiveTimeoutNow<E extends Entry>(state: RaftState<E>): void {
  if (state.isRepairing || !mayCampaign(state)) return
  state.resetTimer()
  campaign(state, 'vote', true)
}

function campaign<E extends Entry>(state: RaftState<E>, kind: VoteRequest['kind'], isTransfer: boolean): void {
  const { log, nodeId } = state
  const isReal = kind === 'vote'
  const ballot = new Ballot(state.isRepairing)
  const isAgain = !isReal && state.role === 'preCandidate'
  if (isReal) enterTerm(state, state.term + 1, nodeId)
  state.role = isReal ? 'candidate' : 'preCandidate'
  state.isHeir = isTransfer
  state.leader = 0
  state.ballot = ballot
  if (!isAgain) announceRole(state)
  // The own vote counts once it is durable, like any other.
  if (!isReal) ballot.record({ nodeId, granted: true, isRepairing: state.isRepairing })
  const term = isReal ? state.term : state.term + 1
  for (const to of votersOf(state.configuration)) {
    if (to === nodeId) continue
    const { lastIndex, lastTerm } = log
    state.send({ kind, from: nodeId, to, term, lastIndex, lastTerm, isTransfer })
  }
  if (!isReal) countVotes(state)
}

/** Term and vote up to some point are durable; the own vote may be among them. */
export function votePersisted<E extends Entry>(state: RaftState<E>): void {
  const { ballot, nodeId } = state
  if (state.role !== 'candidate' || ballot === null || !state.isPersisted || ballot.has(nodeId)) return
  ballot.record({ nodeId, granted: true, isRepairing: state.isRepairing })
  countVotes(state)
}

function countVotes<E extends Entry>(state: RaftState<E>): void {
  const outcome = state.ballot?.outcome(state.configuration)
  if (outcome === 'won') {
    if (state.role === 'candidate') becomeLeader(state)
    else campaign(state, 'vote', false)
  } else if (outcome === 'lost') {
    becomeFollower(state, state.term, 0)
  }
}

export function receiveVoteReply<E extends Entry>(state: RaftState<E>, reply: VoteReply): void {
  const isPreVote = reply.kind === 'preVoteReply'
  const { ballot } = state
  if (ballot === null || state.role !== (isPreVote ? 'preCandidate' : 'candidate')) return
  // Answers to an older round: a grant names the term that was asked for, and so does a refused vote.
  if (reply.term !== (isPreVote && reply.granted ? state.term + 1 : state.term)) return
  ballot.record({ nodeId: reply.from, granted: reply.granted, isRepairing: reply.isRepairing })
  countVotes(state)
}

/**
 * A leader, and whoever has heard one within the shortest election timeout, keep out of elections. But for one that the leader
 * itself stands for: then it does not lead any more.
 */
export function hearsLeader<E extends Entry>(state: RaftState<E>, candidate: NodeId): boolean {
  if (state.leading !== null) return true
  if (state.leader === 0 || state.leader === candidate) return false
  return state.rest !== null || state.elapsedTicks < state.limits.electionMinTicks
}

/** Of the own term or an older one; a newer one has been entered before. */
export function receiveVote<E extends Entry>(state: RaftState<E>, request: VoteRequest): void {
  const granted = request.term === state.term && isVoteFree(state, request) && isUpToDate(state, request)
  if (granted) {
    if (state.votedFor === 0) state.setHardState(state.term, request.from)
    // Whoever was about to stand for election gives way to the one that it has voted for.
    if (state.role !== 'follower') becomeFollower(state, state.term, 0)
    state.elapsedTicks = 0
    state.bequest = null
  }
  answer(state, request, granted)
}

/** What would be answered in the term asked about; nothing changes here. */
export function receivePreVote<E extends Entry>(state: RaftState<E>, request: VoteRequest): void {
  const isFree = request.term > state.term || (request.term === state.term && isVoteFree(state, request))
  answer(state, request, isFree && !hearsLeader(state, request.from) && isUpToDate(state, request))
}

/** One vote for each term. */
function isVoteFree<E extends Entry>(state: RaftState<E>, request: VoteRequest): boolean {
  return state.votedFor === request.from || (state.votedFor === 0 && state.leader === 0)
}

/** (term, index) of the last entry decide whose log is newer (3.6.1). */
function isUpToDate<E extends Entry>({ log }: RaftState<E>, { lastTerm, lastIndex }: VoteRequest): boolean {
  return lastTerm > log.lastTerm || (lastTerm === log.lastTerm && lastIndex >= log.lastIndex)
}

function answer<E extends Entry>(state: RaftState<E>, request: VoteRequest, granted: boolean): void {
  const isPreVote = request.kind === 'preVote'
  state.send({
    kind: isPreVote ? 'preVoteReply' : 'voteReply',
    from: state.nodeId,
    to: request.from,
    term: isPreVote && granted ? request.term : state.term,
    granted,
    isRepairing: state.isRepairing,
  })
}
