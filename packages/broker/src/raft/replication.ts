// The leader's work: entries to the followers, their answers, and what is committed by them.
// Source: dissertation, 3.5, 3.6.2 (only entries of the own term are committed by counting), 10.2.1 (the leader's own write
// runs beside the sending, and it counts itself only for what it has made durable).
import { assert } from '@millrace/protocol'
import { hasQuorum, membersOf, quorumValue } from './configuration.js'
import { sendHeartbeat, sendRound } from './heartbeats.js'
import { LeaderState } from './leader-state.js'
import { configurationCommitted, handOver } from './membership.js'
import type { Progress } from './progress.js'
import type { RaftState } from './raft-state.js'
import type { AppendReply, AppendRequest, Entry, NodeId } from './raft-types.js'
import { advanceReads } from './reads.js'
import { isAtRest, offerRest } from './rest.js'
import { announceRole, becomeFollower } from './roles.js'
import { abortTransfer, tickTransfer, tryTimeoutNow } from './transfer.js'

export function becomeLeader<E extends Entry>(state: RaftState<E>): void {
  assert(state.isPersisted, 'a leader has voted durably')
  const leading = new LeaderState()
  state.role = 'leader'
  state.leader = state.nodeId
  state.leading = leading
  state.ballot = null
  state.attempts = 0
  const followers = leading.reconfigure(state.nodeId, state.configuration, state.log)
  // Logs are likely to agree with that of an heir: the entry that begins the term goes there at once. One that does not says so.
  if (state.isHeir) for (const progress of followers) progress.becomeReplicate(progress.next)
  announceRole(state)
  sendRound(state, leading)
}

export function tickLeader<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const { electionMinTicks, heartbeatTicks } = state.limits
  if (isAtRest(state)) return
  if (++leading.quorumTicks >= electionMinTicks && !keepsQuorum(state, leading)) {
    becomeFollower(state, state.term, 0)
    return
  }
  if (isStalled(state, leading)) {
    handOver(state, leading)
    return
  }
  tickTransfer(state, leading)
  if (++leading.heartbeatTicks < heartbeatTicks) return
  leading.heartbeatTicks = 0
  for (const progress of leading.progress) tickInstall(progress, heartbeatTicks)
  offerRest(state, leading)
  sendRound(state, leading)
  tryTimeoutNow(state, leading)
}

/** A leader that no quorum has answered for an election timeout may be the only one who takes it for one (6.2). */
function keepsQuorum<E extends Entry>(state: RaftState<E>, leading: LeaderState): boolean {
  leading.quorumTicks = 0
  const isKept = hasQuorum(state.configuration, (nodeId) => nodeId === state.nodeId || isHeardOf(leading.find(nodeId)))
  for (const progress of leading.progress) progress.isActive = false
  return isKept
}

function isHeardOf(progress: Progress | undefined): boolean {
  return progress?.isActive === true || progress?.rest === 'resting'
}

/** Others have made durable, and committed, what the own disk still has not, and it does not move. */
function isStalled<E extends Entry>(state: RaftState<E>, leading: LeaderState): boolean {
  const { durableIndex } = state.log
  if (durableIndex < state.commitIndex && durableIndex === leading.stalledIndex) {
    return ++leading.stalledTicks >= state.limits.stallTicks
  }
  leading.stalledIndex = durableIndex
  leading.stalledTicks = 0
  return false
}

/** An install without an answer counts as lost in the end: the next answer to a heartbeat starts it again. */
function tickInstall(progress: Progress, ticks: number): void {
  if (progress.mode !== 'install' || progress.installTicks === 0) return
  progress.installTicks -= ticks
  if (progress.installTicks <= 0) progress.becomeProbe(progress.next)
}

export function proposed<E extends Entry>(state: RaftState<E>, leading: LeaderState, entries: readonly E[]): void {
  let hasConfiguration = false
  for (const entry of entries) {
    assert(entry.term === state.term, 'a leader appends entries of its own term')
    if (entry.configuration !== null) hasConfiguration = true
  }
  state.log.append(entries)
  leading.proposed(state.log.lastIndex, entries)
  if (hasConfiguration) reconfigured(state, leading)
  if (state.leading !== leading) return
  for (const progress of leading.progress) readOn(state, progress)
}

function reconfigured<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const members = membersOf(state.configuration)
  if (leading.transfer !== null && !members.includes(leading.transfer.to)) abortTransfer(state, leading)
  for (const progress of leading.reconfigure(state.nodeId, state.configuration, state.log)) {
    sendHeartbeat(state, leading, progress)
  }
  // Whoever is new has not kept up before it has what is committed now.
  leading.commitAtRound = state.commitIndex
  leading.previousCommitAtRound = state.commitIndex
  advanceCommit(state, leading)
}

/** Ask for the next entries for a follower, if there are any and its window has room. */
function readOn<E extends Entry>(state: RaftState<E>, progress: Progress): void {
  const { limits, log } = state
  if (progress.mode !== 'replicate' || progress.readingFrom !== 0 || progress.next > log.lastIndex) return
  if (progress.next < log.start.index) {
    startInstall(state, progress)
    return
  }
  const room = progress.windowRoom(limits.windowBytes, limits.windowMessages)
  if (room === 0) return
  progress.readingFrom = progress.next
  const maxBytes = Math.min(room, limits.maxAppendBytes)
  state.emit({ kind: 'read', to: progress.nodeId, term: state.term, nextIndex: progress.next, maxBytes })
}

export function entriesRead<E extends Entry>(
  state: RaftState<E>,
  to: NodeId,
  term: number,
  entries: readonly E[],
): AppendRequest<E> | null {
  const { leading, log } = state
  if (leading === null || term !== state.term) return null
  const progress = leading.find(to)
  if (progress === undefined) {
    leading.foreignReadDone(to)
    return null
  }
  const from = progress.readingFrom
  progress.readingFrom = 0
  const isStale = progress.mode !== 'replicate' || progress.next !== from || from < log.start.index
  if (isStale || entries.length === 0) {
    readOn(state, progress)
    return null
  }
  const lastIndex = from + entries.length - 1
  assert(lastIndex <= log.lastIndex, 'entries are proposed before they are sent')
  let byteLength = 0
  for (const entry of entries) byteLength += entry.byteLength
  progress.sent(lastIndex, byteLength)
  readOn(state, progress)
  return {
    kind: 'append',
    from: state.nodeId,
    to,
    term,
    previousIndex: from - 1,
    previousTerm: log.termAt(from - 1),
    commit: state.commitIndex,
    round: leading.round,
    entries,
  }
}

export function readFailed<E extends Entry>(state: RaftState<E>, to: NodeId, term: number): void {
  const { leading, log } = state
  if (leading === null || term !== state.term) return
  const progress = leading.find(to)
  if (progress === undefined) {
    leading.foreignReadDone(to)
    return
  }
  progress.readingFrom = 0
  if (progress.mode !== 'replicate') return
  if (progress.next < log.start.index) startInstall(state, progress)
  // Not at once: a disk that fails would be asked without end. The answer to the next heartbeat goes on.
  else progress.becomeProbe(progress.next)
}

function startInstall<E extends Entry>(state: RaftState<E>, progress: Progress): void {
  const { leading, log } = state
  assert(leading !== null, 'only a leader sends its state')
  progress.becomeInstall(log.start.index)
  state.send({
    kind: 'install',
    from: state.nodeId,
    to: progress.nodeId,
    term: state.term,
    round: leading.round,
    start: log.start,
  })
}

export function installSent<E extends Entry>(state: RaftState<E>, to: NodeId, ok: boolean): void {
  const progress = state.leading?.find(to)
  if (progress === undefined || progress.mode !== 'install') return
  progress.installTicks = ok ? state.limits.electionMaxTicks * 2 : state.limits.heartbeatTicks
}

/** What was on its way is lost, and so may be what it had acknowledged: it comes back with what it has kept. */
export function followerLost<E extends Entry>(state: RaftState<E>, leading: LeaderState, nodeId: NodeId): void {
  const progress = leading.find(nodeId)
  if (progress === undefined) return
  progress.match = 0
  progress.becomeProbe(progress.next)
  if (leading.transfer?.to === nodeId) abortTransfer(state, leading)
}

export function receiveAppendReply<E extends Entry>(state: RaftState<E>, reply: AppendReply): void {
  const { leading } = state
  const progress = leading?.find(reply.from)
  if (leading === null || progress === undefined) return
  progress.isActive = true
  // A replica that has less than it once acknowledged has lost it.
  progress.match = Math.min(progress.match, reply.lastIndex)
  if (reply.agrees) agreed(state, leading, progress, reply)
  else refused(state, leading, progress, reply)
  if (state.leading !== leading || reply.round <= progress.heardRound) return
  progress.heardRound = Math.min(reply.round, leading.round)
  advanceReads(state, leading)
}

function agreed<E extends Entry>(
  state: RaftState<E>,
  leading: LeaderState,
  progress: Progress,
  reply: AppendReply,
): void {
  const { log } = state
  if (reply.index > log.lastIndex) return
  progress.matched(reply.index)
  if (progress.mode === 'install' && reply.index < progress.installIndex - 1) return
  if (progress.mode !== 'replicate') progress.becomeReplicate(Math.max(progress.next, log.start.index))
  advanceCommit(state, leading)
  if (state.leading !== leading) return
  readOn(state, progress)
  tryTimeoutNow(state, leading)
}

/** Looks lower, a term at a time (5.3 of the paper, and the hint of etcd for both sides). */
function refused<E extends Entry>(
  state: RaftState<E>,
  leading: LeaderState,
  progress: Progress,
  reply: AppendReply,
): void {
  const { log } = state
  if (progress.mode === 'install') return
  const index = Math.min(reply.index, log.lastIndex)
  const isOlder = reply.indexTerm < log.termAt(index)
  const next = (isOlder ? log.lastIndexOfTerm(index, reply.indexTerm) : index) + 1
  progress.match = Math.min(progress.match, index)
  if (next < log.start.index) {
    progress.becomeProbe(next)
    startInstall(state, progress)
    return
  }
  // An answer to something older: what is being asked about now is as low.
  if (next >= progress.next) return
  progress.becomeProbe(next)
  sendHeartbeat(state, leading, progress)
}

/** The leader's own disk has got further. */
export function leaderDurable<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  advanceCommit(state, leading)
  if (state.leading === leading) tryTimeoutNow(state, leading)
}

/** Counts the members; called whenever one has more, or there are others to count. */
export function advanceCommit<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  const { log, nodeId: self } = state
  const index = quorumValue(state.configuration, (nodeId) =>
    nodeId === self ? log.durableIndex : (leading.find(nodeId)?.match ?? 0),
  )
  if (index <= state.commitIndex || log.termAt(index) !== state.term) return
  state.commit(index)
  leading.committed(index)
  leading.isServing = true
  if (state.isRepairing) {
    state.isRepairing = false
    state.emit({ kind: 'repaired' })
  }
  if (state.announcesCommits) announceCommit(state, leading)
  advanceReads(state, leading)
  configurationCommitted(state, leading)
}

function announceCommit<E extends Entry>(state: RaftState<E>, leading: LeaderState): void {
  for (const progress of leading.progress) {
    const hasAll = progress.mode === 'replicate' && progress.next > state.log.lastIndex
    if (hasAll) sendHeartbeat(state, leading, progress)
  }
}
