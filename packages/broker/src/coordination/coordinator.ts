// The coordinator of the groups of one partition, for as long as this node leads it. What is asked for becomes a command in
// the log, and is answered when that is committed and applied. Nothing is said before everything committed was read.
import { ProtocolError } from '@millrace/protocol'
import type { Environment, Timer } from '../environment.js'
import type { GroupCommand } from '../groups/group-command.js'
import type { GroupResult, MemberAssignment } from '../groups/group-types.js'
import type { GroupsState } from '../groups/groups-state.js'
import { GROUP_RETRY_MS } from '../limits.js'
import type { Metrics } from '../metrics.js'
import type { Follower, Partition } from '../partition/partition.js'
import type { Refusal } from '../partition/pending-batch.js'
import { isBug, refusalOrBug } from '../server/failures.js'
import type { HeldBeats } from './held-beats.js'
import { readGroups } from './logged-groups.js'
import { ServedGroups } from './served-groups.js'

export interface CoordinatorOptions {
  readonly partition: Partition
  readonly environment: Environment
  readonly metrics: Metrics
  readonly beats: HeldBeats
  /** Partitions of a topic as far as is known here: 0 for one that was deleted, null for one that was not heard of yet. */
  readonly topicSize: (topicId: number) => number | null
  /** The partition is not served here any more. */
  readonly onClosed: (coordinator: Coordinator) => void
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

const LOADING: Refusal = { code: 'COORDINATOR_LOADING', detail: 'the coordinator is reading its log' }
const LOST: Refusal = { code: 'NOT_LEADER', detail: 'another node coordinates the group now' }

export class Coordinator implements Follower {
  readonly partition: Partition
  readonly #options: CoordinatorOptions
  /** In which this node leads, 0 while it does not. */
  #term = 0
  /** Null while they are read. */
  #served: ServedGroups | null = null
  /** Why they cannot be read now. */
  #refusal: Refusal = LOADING
  #retry: Timer | null = null

  constructor(options: CoordinatorOptions) {
    this.#options = options
    this.partition = options.partition
  }

  /** Takes part from now on. */
  start(): void {
    this.partition.follow(this)
    this.onCommit()
  }

  /** @throws ProtocolError NOT_LEADER, COORDINATOR_LOADING, and what keeps the log from being read. */
  get #groups(): ServedGroups {
    const { refusal } = this.partition
    if (refusal !== null) throw new ProtocolError(refusal.code, refusal.detail)
    if (this.#served === null) throw new ProtocolError(this.#refusal.code, this.#refusal.detail)
    return this.#served
  }

  /** What is committed and applied, to look into. @throws ProtocolError as every request. */
  get state(): GroupsState {
    return this.#groups.state
  }

  /** Null while this node does not coordinate. */
  get served(): { readonly term: number; readonly state: GroupsState } | null {
    return this.#served === null ? null : { term: this.#term, state: this.#served.state }
  }

  /**
   * Resolves with what came of a command once it is committed and applied.
   * @param expiresAtMs monotonic milliseconds after which it must not be written any more.
   * @throws ProtocolError; after NOT_LEADER it may still happen.
   */
  perform(command: GroupCommand, expiresAtMs: number): Promise<GroupResult> {
    const groups = this.#groups
    return new Promise((resolve, reject) => {
      groups.write(command, expiresAtMs, {
        applied: resolve,
        refused: ({ code, detail }) => reject(new ProtocolError(code, detail)),
      })
    })
  }

  /** A sign of life. @returns what the member has now. @throws ProtocolError; UNKNOWN_MEMBER also when its lease has run out. */
  beat(group: string, memberId: bigint, memberEpoch: number): MemberAssignment & { readonly code: 'OK' } {
    return this.#groups.beat(group, memberId, memberEpoch)
  }

  /** Something was heard of topics. */
  followTopics(): void {
    this.#served?.followTopics()
  }

  // -------------------------------------------------------------- what the partition says

  onCommit(): void {
    const { refusal, route, closed } = this.partition
    const term = refusal === null ? route.term : 0
    if (term !== this.#term) {
      this.#stepDown(closed ?? LOST)
      this.#term = term
      if (term > 0) void this.#load(term)
    }
    if (closed !== null) {
      this.partition.unfollow(this)
      this.#options.onClosed(this)
    }
  }

  /** Answers everybody who waits, and forgets everything. */
  #stepDown(reason: Refusal): void {
    this.#retry?.cancel()
    this.#retry = null
    this.#refusal = LOADING
    const served = this.#served
    this.#served = null
    served?.stop(reason)
    this.#options.beats.answerAllOf(this)
  }

  /** Always resolves. */
  async #load(term: number): Promise<void> {
    const { partition, environment, metrics, report } = this.#options
    try {
      await partition.group.readBarrier()
      if (this.#term !== term) return
      const { state, byteLength } = await readGroups(partition)
      if (this.#term !== term) return
      metrics.groupLoads++
      this.#served = new ServedGroups(state, byteLength, this.#options)
    } catch (cause) {
      if (this.#term !== term) return
      if (isBug(cause)) report(cause)
      const { code, detail } = refusalOrBug(cause)
      this.#refusal = code === 'NOT_LEADER' || code === 'SHUTTING_DOWN' ? LOADING : { code, detail }
      environment.log.warn({ ...partition.key, cause }, 'the log of a coordinator cannot be read; it is tried again')
      this.#retry = environment.clock.timer(GROUP_RETRY_MS, () => void this.#load(term))
    }
  }

  /** The broker stops. */
  stop(reason: Refusal): void {
    this.partition.unfollow(this)
    this.#stepDown(reason)
    this.#refusal = reason
    this.#term = 0
  }
}
