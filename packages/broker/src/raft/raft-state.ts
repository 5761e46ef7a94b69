// The state of one group on one node, and the two things all parts of the core do with it: give out effects, and hold
// messages until the term and vote they speak of are durable.
import { assert } from '@millrace/protocol'
import type { Ballot } from './ballot.js'
import type { LeaderState } from './leader-state.js'
import { LogShadow } from './log-shadow.js'
import type { RaftLimits } from './raft-limits.js'
import type {
  Configuration,
  Effect,
  Entry,
  FollowerRest,
  NodeId,
  RaftMessage,
  RaftOptions,
  Role,
} from './raft-types.js'

const NOTHING: readonly never[] = []

interface HeldMessage<E extends Entry> {
  readonly sequence: number
  readonly message: RaftMessage<E>
}

export interface Bequest {
  readonly to: NodeId
  readonly term: number
  ticks: number
}

export class RaftState<E extends Entry> {
  readonly nodeId: NodeId
  readonly limits: RaftLimits
  readonly announcesCommits: boolean
  readonly log: LogShadow
  term: number
  votedFor: NodeId
  role: Role = 'follower'
  leader: NodeId = 0
  commitIndex: number
  isRepairing: boolean
  /** While this node leads. */
  leading: LeaderState | null = null
  /** While this node stands for election. */
  ballot: Ballot | null = null
  /** The election that this node stands for, or has won, is one that the leader before has asked for. */
  isHeir = false
  /** As a follower that has just led: who is to lead next, and how long ago it was told so in the term before. */
  bequest: Bequest | null = null
  /** As a follower: the group is at rest, and ticks do not count. */
  rest: FollowerRest | null = null
  /** Since the leader was heard, or a vote was given. */
  elapsedTicks = 0
  timeoutTicks = 0
  /** Election timeouts since a leader was heard. */
  attempts = 0
  /** The log is the same as that of the leader of this term up to here, durable or not. */
  verifiedIndex = 0
  /** Of that, what the leader was told is durable. */
  acknowledgedIndex = 0
  /** Of the newest heartbeat of this term. */
  heardRound = 0
  /** With this durable and verified, a replica under repair is whole again; 0 while nobody has said how far that is. */
  repairIndex = 0
  readSequence = 0
  private readonly random: (bound: number) => number
  private effects: Effect<E>[] = []
  /** Of the newest hard state, and of the newest one that is durable. */
  private hardStateSequence = 0
  private persistedSequence = 0
  private isHardStateNew = false
  private readonly held: HeldMessage<E>[] = []

  constructor(options: RaftOptions) {
    this.nodeId = options.nodeId
    this.limits = options.limits
    this.random = options.random
    this.announcesCommits = options.announcesCommits ?? false
    this.log = new LogShadow(options)
    this.term = options.hardState.term
    this.votedFor = options.hardState.votedFor
    this.commitIndex = options.committed
    this.isRepairing = options.isRepairing
    assert(options.nodeId > 0, 'node ids count from 1')
    assert(options.committed >= options.start.index - 1, 'what is gone was committed')
    assert(options.committed <= options.lastIndex, 'what is committed is in the log')
    // The log may have been flushed and the hard state not. This node said nothing in the newer term, so it has no vote there.
    if (this.log.lastTerm > this.term) this.setHardState(this.log.lastTerm, 0)
    this.resetTimer()
  }

  get configuration(): Configuration {
    return this.log.configuration
  }

  setHardState(term: number, votedFor: NodeId): void {
    assert(term > this.term || (term === this.term && this.votedFor === 0), 'a term goes up, and has one vote')
    this.term = term
    this.votedFor = votedFor
    if (!this.isHardStateNew) this.hardStateSequence++
    this.isHardStateNew = true
  }

  /** Everything said so far stands on durable ground. */
  get isPersisted(): boolean {
    return this.persistedSequence === this.hardStateSequence
  }

  persisted(sequence: number): void {
    assert(sequence <= this.hardStateSequence, 'what is durable was given out before')
    if (sequence <= this.persistedSequence) return
    this.persistedSequence = sequence
    let first = this.held[0]
    while (first !== undefined && first.sequence <= sequence) {
      this.held.shift()
      this.emit({ kind: 'send', message: first.message })
      first = this.held[0]
    }
  }

  emit(effect: Effect<E>): void {
    this.effects.push(effect)
  }

  /** Sent as soon as the term and vote of now are durable (Figure 2: "persistent state, updated before responding"). */
  send(message: RaftMessage<E>): void {
    if (this.isPersisted) {
      this.emit({ kind: 'send', message })
      return
    }
    if (this.held.length >= this.limits.maxHeldMessages) this.held.shift()
    this.held.push({ sequence: this.hardStateSequence, message })
  }

  /** The hard state of a whole step is given out once. */
  endStep(): void {
    if (!this.isHardStateNew) return
    this.isHardStateNew = false
    const hardState = { term: this.term, votedFor: this.votedFor }
    this.emit({ kind: 'persist', sequence: this.hardStateSequence, hardState })
  }

  get hasEffects(): boolean {
    return this.effects.length > 0
  }

  /** Most ticks of most groups have none, and cost no array. */
  takeEffects(): readonly Effect<E>[] {
    const { effects } = this
    if (effects.length === 0) return NOTHING
    this.effects = []
    return effects
  }

  commit(index: number): void {
    assert(index > this.commitIndex && index <= this.log.lastIndex, 'what is committed goes up, and is in the log')
    this.commitIndex = index
    this.emit({ kind: 'commit', index })
  }

  /** A timeout is drawn anew for each attempt (dissertation, 3.4). */
  resetTimer(): void {
    const { electionMinTicks, electionMaxTicks } = this.limits
    this.elapsedTicks = 0
    this.timeoutTicks = electionMinTicks + this.random(electionMaxTicks - electionMinTicks + 1)
  }

  /** The leader is thought to be gone: its silence counts as long enough, and the wait for another ends in `ticks` or one more. */
  hurry(ticks: number): void {
    this.elapsedTicks = Math.max(this.elapsedTicks, this.limits.electionMinTicks)
    this.timeoutTicks = this.elapsedTicks + ticks + this.random(2)
  }
}
