// Messages of a leader that carry no entries: heartbeats, and probes for the place where the logs agree.
import type { LeaderState } from './leader-state.js'
import type { Progress } from './progress.js'
import type { RaftState } from './raft-state.js'
import type { Entry } from './raft-types.js'

/** To every follower that is not at rest; the answers tell that this node still led when they were given. */
export function sendRound<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  leading.round++
  leading.previousCommitAtRound = leading.commitAtRound
  leading.commitAtRound = state.commitIndex
  for (const progress of leading.progress) if (progress.rest !== 'resting') sendHeartbeat(state, leading, progress)
}

/**
 * Claims no more than the follower should have by now: lost entries show by its refusal, and the commit goes with it. One
 * behind the start of the log is asked about the start, which is all that is left to ask about.
 */
export function sendHeartbeat<E extends Entry>(state: RaftState<E>, leading: LeaderState, progress: Progress): void {
  const { log } = state
  const previousIndex = Math.max(progress.next, log.start.index) - 1
  state.send({
    kind: 'append',
    from: state.nodeId,
    to: progress.nodeId,
    term: state.term,
    previousIndex,
    previousTerm: log.termAt(previousIndex),
    commit: state.commitIndex,
    round: leading.round,
    entries: [],
  })
}
