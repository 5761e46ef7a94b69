// Groups at rest: nobody has anything to say, and one heartbeat for the pair of nodes stands for those of all its groups.
// The core says when a follower may rest and leaves on any doubt; which groups rest, and what vouches for them, is decided in
// `led-set.ts` and `followed-set.ts`. Nothing here is about safety: a node at rest votes, refuses and steps down as any other.
import { isJoint } from './configuration.js'
import { sendHeartbeat } from './heartbeats.js'
import type { LeaderState } from './leader-state.js'
import type { Progress } from './progress.js'
import type { RaftState } from './raft-state.js'
import type { Entry, FollowerRest, NodeId } from './raft-types.js'

/** Followers that have everything, and know that it is committed, need no heartbeats of their own. */
export function offerRest<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  // What the round before has told all of them.
  if (leading.commitAtRound !== state.commitIndex || !isQuiet(state, leading)) return
  for (const progress of leading.progress) {
    if (progress.rest !== 'none' || progress.heardRound !== leading.round || !hasAll(state, progress)) continue
    progress.rest = 'offered'
    state.emit({ kind: 'rest', follower: progress.nodeId, term: state.term, index: state.log.lastIndex })
  }
}

/** Nothing is under way that an answer is awaited for. */
function isQuiet<E extends Entry>(state: RaftState<E>, leading: LeaderState): boolean {
  const { log, commitIndex, configuration } = state
  const isDone = commitIndex === log.lastIndex && log.durableIndex === log.lastIndex && state.isPersisted
  return (
    leading.isServing && isDone && !isJoint(configuration) && leading.transfer === null && leading.reads.length === 0
  )
}

function hasAll<E extends Entry>({ log }: RaftState<E>, { mode, match, next, readingFrom }: Progress): boolean {
  return mode === 'replicate' && match === log.lastIndex && next === log.lastIndex + 1 && readingFrom === 0
}

/** After every step: whatever has changed is a doubt. */
export function checkRest<E extends Entry>(state: RaftState<E>): void {
  const { leading, rest } = state
  if (rest !== null && !holds(state, rest)) wakeFollower(state)
  if (leading === null) return
  for (const progress of leading.progress) {
    if (progress.rest !== 'none' && !(isQuiet(state, leading) && hasAll(state, progress))) wakeProgress(state, progress)
  }
}

function holds<E extends Entry>(state: RaftState<E>, { leader, term, index }: FollowerRest): boolean {
  const { log, isRepairing, commitIndex } = state
  const follows = state.role === 'follower' && state.leader === leader && state.term === term && !isRepairing
  const isAt = log.lastIndex === index && log.durableIndex === index && commitIndex === index
  return follows && isAt && log.installing === null && state.isPersisted
}

/** @returns whether this node, as a follower, sees it the same way: then its timer stands still until it is woken. */
export function restAsFollower<E extends Entry>(state: RaftState<E>, rest: FollowerRest): boolean {
  if (!holds(state, rest)) return false
  state.rest = rest
  state.elapsedTicks = 0
  state.attempts = 0
  return true
}

/** The follower rests as well. Of an offer that was taken back nothing comes any more. */
export function followerRests<E extends Entry>(state: RaftState<E>, follower: NodeId, term: number): void {
  const progress = state.leading?.find(follower)
  if (term === state.term && progress?.rest === 'offered') progress.rest = 'resting'
}

/** The follower's own doubt: it leaves the set. */
export function wakeFollower<E extends Entry>(state: RaftState<E>): void {
  if (state.rest === null) return
  const { leader } = state.rest
  state.rest = null
  state.emit({ kind: 'wake', peer: leader, isLed: false })
}

/** Every follower gets its own messages again. */
export function wakeAll<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  for (const progress of leading.progress) if (progress.rest !== 'none') wakeProgress(state, progress)
}

function wakeProgress<E extends Entry>(state: RaftState<E>, progress: Progress): void {
  // What vouched for it until now is as good as an answer.
  if (progress.rest === 'resting') progress.isActive = true
  progress.rest = 'none'
  state.emit({ kind: 'wake', peer: progress.nodeId, isLed: true })
}

/** Whether time means nothing to the group: the heartbeat of the node speaks for all of it, or there is nobody to speak to. */
export function isAtRest<E extends Entry>({ leading, rest }: RaftState<E>): boolean {
  return leading === null ? rest !== null : leading.progress.every((progress) => progress.rest === 'resting')
}

/** Nothing vouches for the peer any more; whoever kept the set knows. */
export function wakeFrom<E extends Entry>(state: RaftState<E>, peer: NodeId, silentTicks: number): void {
  const { leading, rest } = state
  const progress = leading?.find(peer)
  if (leading !== null && progress !== undefined && progress.rest !== 'none') {
    const wasResting = progress.rest === 'resting'
    progress.rest = 'none'
    if (!wasResting) return
    // From its silence on there is an election timeout in which a quorum has to answer.
    progress.isActive = silentTicks === 0
    if (silentTicks > 0) leading.quorumTicks = 0
    sendHeartbeat(state, leading, progress)
  } else if (rest?.leader === peer) {
    state.rest = null
    state.elapsedTicks = silentTicks
  }
}
