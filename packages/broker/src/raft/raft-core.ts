// The consensus of one group on one node: messages, ticks and completions in, effects out. No promise, clock, socket or byte.
// Source: D. Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014; the sections stand at the parts.
import { assert, unreachable } from '@millrace/protocol'
import { isJoint } from './configuration.js'
import {
  electionTimeout,
  hearsLeader,
  leaderLost,
  receivePreVote,
  receiveTimeoutNow,
  receiveVote,
  receiveVoteReply,
  startElections,
  votePersisted,
} from './election.js'
import { answerOldLeader, followerDurable, heardLeader, installed, receiveAppend, receiveInstall } from './following.js'
import { type ConfigurationRefusal, type Membership, proposeConfiguration } from './membership.js'
import { assertRaftLimits } from './raft-limits.js'
import { RaftState } from './raft-state.js'
import type {
  AppendRequest,
  Configuration,
  Effect,
  Entry,
  InstallRequest,
  NodeId,
  RaftMessage,
  RaftOptions,
  RaftStart,
  Role,
} from './raft-types.js'
import { requestRead } from './reads.js'
import {
  entriesRead,
  followerLost,
  installSent,
  leaderDurable,
  proposed,
  readFailed,
  receiveAppendReply,
  tickLeader,
} from './replication.js'
import { checkRest, followerRests, isAtRest, restAsFollower, wakeFrom } from './rest.js'
import { becomeFollower } from './roles.js'
import { heirLost, type TransferRefusal, tickBequest, transferTo } from './transfer.js'

export class RaftCore<E extends Entry> {
  private readonly state: RaftState<E>

  constructor(options: RaftOptions) {
    assertRaftLimits(options.limits)
    this.state = new RaftState(options)
    startElections(this.state)
    this.endStep()
  }

  get nodeId(): NodeId {
    return this.state.nodeId
  }

  get role(): Role {
    return this.state.role
  }

  get term(): number {
    return this.state.term
  }

  /** 0 when none is known. */
  get leader(): NodeId {
    return this.state.leader
  }

  get start(): RaftStart {
    return this.state.log.start
  }

  /** Of the log as it will be once all effects are carried out. */
  get lastIndex(): number {
    return this.state.log.lastIndex
  }

  /** Everything up to here is durable on this node, as far as has been reported. */
  get durableIndex(): number {
    return this.state.log.durableIndex
  }

  get commitIndex(): number {
    return this.state.commitIndex
  }

  /** In force here: the newest in the log, committed or not. */
  get configuration(): Configuration {
    return this.state.configuration
  }

  /** Whether that cannot be cut off any more, and no change is under way. */
  get isConfigurationCommitted(): boolean {
    const { log, commitIndex, configuration } = this.state
    return log.configurationIndex <= commitIndex && !isJoint(configuration)
  }

  /** Indexes of the configurations that are not known to be committed: for the simulator. */
  get uncommittedConfigurations(): readonly number[] {
    return this.state.log.configurationsAbove(this.state.commitIndex)
  }

  get isRepairing(): boolean {
    return this.state.isRepairing
  }

  /** It leads, and an entry of its own term is committed: what it has committed is all there is. */
  get isServing(): boolean {
    return this.state.leading?.isServing ?? false
  }

  /** It leads, and the entry with which its term begins is in its log: others may follow it. */
  get hasBegunTerm(): boolean {
    const { leading, log, term } = this.state
    return leading !== null && log.lastTerm === term
  }

  /** Whether entries may be appended and reported by `proposed`. */
  get mayPropose(): boolean {
    const { leading, limits } = this.state
    return leading !== null && leading.transfer === null && leading.uncommittedBytes < limits.maxUncommittedBytes
  }

  /** For the leader: up to where a follower's log is durable and agrees; 0 when it is not known. */
  matchOf(nodeId: NodeId): number {
    return this.state.leading?.find(nodeId)?.match ?? 0
  }

  /** 0 when nothing is known. */
  termAt(index: number): number {
    return this.state.log.termAt(index)
  }

  /** What to do now, in order. */
  takeEffects(): readonly Effect<E>[] {
    return this.state.takeEffects()
  }

  /**
   * Whether there is anything to do. Whatever a tick changes for others shows in an effect, and most only count: thousands of
   * groups are awake while a broker is away.
   */
  get hasEffects(): boolean {
    return this.state.hasEffects
  }

  /** Ticks change nothing until this node, or a message, wakes the group. */
  get isAtRest(): boolean {
    return isAtRest(this.state)
  }

  tick(): void {
    const { state } = this
    if (state.rest !== null) return
    if (state.leading !== null) tickLeader(state, state.leading)
    else {
      if (state.bequest !== null) tickBequest(state, state.bequest)
      if (++state.elapsedTicks >= state.timeoutTicks) electionTimeout(state)
    }
    this.endStep()
  }

  /** Any message, however old, odd or repeated. */
  step(message: RaftMessage<E>): void {
    const { state } = this
    if (message.to !== state.nodeId || message.from === state.nodeId) return
    if (message.term < state.term) this.stepOlder(message)
    else if (message.term === state.term || this.enterNewer(message)) this.stepCurrent(message)
    this.endStep()
  }

  /** The leader's shell has appended them at `lastIndex + 1`; they are of the current term. */
  proposed(entries: readonly E[]): void {
    const { leading } = this.state
    assert(leading !== null, 'only a leader appends on its own')
    proposed(this.state, leading, entries)
    this.endStep()
  }

  /** @returns the configuration to append, or why it may not be changed so now. */
  proposeConfiguration(target: Membership): Configuration | ConfigurationRefusal {
    return proposeConfiguration(this.state, target)
  }

  /** @returns null when the transfer has begun: `role` or `transferAborted` tells how it ends. */
  transferTo(nodeId: NodeId): TransferRefusal | null {
    const refusal = transferTo(this.state, nodeId)
    this.endStep()
    return refusal
  }

  /** The answer to a `read`. @returns what to send, or null when the read is stale. */
  entriesRead(to: NodeId, term: number, entries: readonly E[]): AppendRequest<E> | null {
    return entriesRead(this.state, to, term, entries)
  }

  readFailed(to: NodeId, term: number): void {
    readFailed(this.state, to, term)
  }

  /** The state of an install has left, or could not. */
  installSent(to: NodeId, ok: boolean): void {
    installSent(this.state, to, ok)
  }

  /** @returns the number by which `readReady` or `readRefused` answers. */
  requestRead(): number {
    return requestRead(this.state)
  }

  hardStatePersisted(sequence: number): void {
    this.state.persisted(sequence)
    votePersisted(this.state)
    this.endStep()
  }

  /** Everything up to `index`, whose entry is of `term`, is durable in the log. */
  durable(index: number, term: number): void {
    const { state } = this
    if (!state.log.durable(index, term)) return
    if (state.leading === null) followerDurable(state)
    else leaderDurable(state, state.leading)
    this.endStep()
  }

  /** The cut of this sequence is carried out, and so is every one before it. */
  truncated(sequence: number): void {
    this.state.log.truncated(sequence)
  }

  /** The log begins durably at `start`. */
  installed(start: RaftStart): void {
    if (this.state.log.installed(start)) installed(this.state)
  }

  /** Retention: entries before `start`, all committed, are gone here. */
  logStartMoved(start: Omit<RaftStart, 'configuration'>): void {
    assert(start.index <= this.state.commitIndex + 1, 'only what is committed is given up')
    this.state.log.moveStart(start)
  }

  /** A connection to the node was lost, and all that was on it. To be called before anything is sent on the next one. */
  unreachable(nodeId: NodeId): void {
    const { state } = this
    if (state.leading !== null) followerLost(state, state.leading, nodeId)
    else if (nodeId !== 0 && nodeId === state.leader) leaderLost(state)
    else if (nodeId === state.bequest?.to) heirLost(state)
    this.endStep()
  }

  /**
   * The leader offers rest at `index`, the end of the log on both sides.
   * @returns whether this node agrees: then it waits for its leader no more until `wake` says so, or something changes.
   */
  restWith(leader: NodeId, term: number, index: number): boolean {
    return restAsFollower(this.state, { leader, term, index })
  }

  /** A follower has agreed to rest. */
  followerRests(nodeId: NodeId, term: number): void {
    followerRests(this.state, nodeId, term)
  }

  /**
   * Nothing vouches for a peer any more. @param silentTicks since it was heard of, where that is why. As a follower this node
   * goes on waiting for its leader from there; as the leader it asks the follower itself, and needs an answer in time.
   */
  wake(peer: NodeId, silentTicks: number): void {
    wakeFrom(this.state, peer, silentTicks)
    this.endStep()
  }

  private endStep(): void {
    checkRest(this.state)
    this.state.endStep()
  }

  /** Of an older term: the sender learns of the newer one where it may wait for an answer. */
  private stepOlder(message: RaftMessage<E>): void {
    const { state } = this
    if (message.kind === 'append' || message.kind === 'install') answerOldLeader(state, message.from)
    else if (message.kind === 'preVote') receivePreVote(state, message)
    else if (message.kind === 'vote') receiveVote(state, message)
  }

  /** @returns whether the message is to be looked at in the term of now. */
  private enterNewer(message: RaftMessage<E>): boolean {
    const { state } = this
    switch (message.kind) {
      case 'preVote':
        return true
      case 'preVoteReply':
        // A grant names a term that nobody has entered yet.
        if (message.granted) return true
        becomeFollower(state, message.term, 0)
        return false
      case 'vote':
        if (!message.isTransfer && hearsLeader(state, message.from)) return false
        becomeFollower(state, message.term, 0)
        return true
      case 'append':
      case 'install':
      case 'timeoutNow':
        becomeFollower(state, message.term, message.from)
        return true
      case 'voteReply':
      case 'appendReply':
        becomeFollower(state, message.term, 0)
        return false
      default:
        return unreachable(message)
    }
  }

  private stepCurrent(message: RaftMessage<E>): void {
    const { state } = this
    switch (message.kind) {
      case 'preVote':
        receivePreVote(state, message)
        break
      case 'vote':
        receiveVote(state, message)
        break
      case 'preVoteReply':
      case 'voteReply':
        receiveVoteReply(state, message)
        break
      case 'append':
        if (this.follows(message)) receiveAppend(state, message)
        break
      case 'install':
        if (this.follows(message)) receiveInstall(state, message)
        break
      case 'appendReply':
        receiveAppendReply(state, message)
        break
      case 'timeoutNow':
        if (state.leader === message.from) receiveTimeoutNow(state)
        break
      default:
        unreachable(message)
    }
  }

  /** The sender leads this term. */
  private follows(message: AppendRequest<E> | InstallRequest): boolean {
    const { state } = this
    // A term has one leader; whatever claims to be a second one is not listened to.
    if (state.leading !== null || (state.leader !== 0 && state.leader !== message.from)) return false
    if (state.leader !== message.from || state.role !== 'follower') becomeFollower(state, state.term, message.from)
    heardLeader(state, message.round)
    return true
  }
}
