// Brings the groups that this node leads to what the metadata wants of them: members first, then who leads.
import type { Clock, Timer } from '../environment.js'
import {
  GROUPS_PER_TRANSFER,
  LEAST_TRANSFERS_AT_ONCE,
  MAX_MOVES,
  MEMBERSHIP_PARTITIONS_PER_STEP,
  MEMBERSHIP_REST_MS,
  MEMBERSHIP_STEP_MS,
  MOST_TRANSFERS_AT_ONCE,
  PREFERRED_LEADER_AFTER_MS,
  TRANSFER_LAG_BATCHES,
} from '../limits.js'
import type { NodeId } from '../raft/raft-types.js'
import { isAtTarget, nextChange } from '../replication/next-change.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import { StorageError } from '../storage/log-store.js'
import type { NodeState } from './node-registry.js'

type DrivenGroup = 'leader' | 'mayAppend' | 'configuration' | 'replicas' | 'changeMembership' | 'transferTo'

/** What is looked after: a replica whose group may be led here. */
export interface DrivenPartition {
  readonly key: { readonly topicId: number; readonly partition: number }
  readonly leads: boolean
  readonly group: Pick<ReplicaGroup, DrivenGroup>
}

/** A replica whose group may be led here. */
export interface LedPartition extends DrivenPartition {
  readonly group: ReplicaGroup
}

export interface MembershipDriverOptions {
  readonly nodeId: NodeId
  readonly clock: Clock
  /** The replicas of this node. */
  readonly partitions: () => Iterable<DrivenPartition>
  /** Who is to have the replicas, the preferred leader first; undefined for a topic that is gone. */
  readonly targetOf: (topicId: number, partition: number) => readonly NodeId[] | undefined
  readonly stateOf: (nodeId: NodeId) => NodeState
  readonly isConnected: (nodeId: NodeId) => boolean
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

export class MembershipDriver {
  readonly #options: MembershipDriverOptions
  /** Partitions of this round that are still to be looked at. */
  #round: DrivenPartition[] = []
  /** On their way; looked at in each step. */
  readonly #moving = new Set<DrivenPartition>()
  /** Since when, on the monotonic clock, another node could lead what this one leads. */
  readonly #heirSince = new Map<DrivenPartition, { readonly heir: NodeId; readonly sinceMs: number }>()
  /** Somebody of this round is not as the metadata wants it, or cannot be looked at yet. */
  #isUnfinished = false
  /** Handed over, and not led by somebody else yet. */
  readonly #transferring = new Set<DrivenPartition>()
  #timer: Timer | null = null

  constructor(options: MembershipDriverOptions) {
    this.#options = options
  }

  start(): void {
    this.#schedule(MEMBERSHIP_STEP_MS)
  }

  #schedule(afterMs: number): void {
    this.#timer = this.#options.clock.timer(afterMs, () => {
      this.#schedule(MEMBERSHIP_STEP_MS)
      this.#step()
      if (this.#hasNothingToDo) this.#rest()
    })
  }

  /** A round has come by everybody and left nothing behind. */
  get #hasNothingToDo(): boolean {
    return this.#round.length === 0 && this.#moving.size === 0 && this.#heirSince.size === 0 && !this.#isUnfinished
  }

  #rest(): void {
    this.#timer?.cancel()
    this.#schedule(MEMBERSHIP_REST_MS)
  }

  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
  }

  #step(): void {
    for (const one of this.#transferring) if (isOver(one)) this.#transferring.delete(one)
    if (this.#round.length === 0) this.#beginRound()
    const due = new Set([...this.#moving, ...this.#round.splice(-MEMBERSHIP_PARTITIONS_PER_STEP)])
    for (const partition of due) {
      try {
        this.#look(partition)
      } catch (error) {
        // The log fails, and another replica leads soon.
        if (!(error instanceof StorageError)) this.#options.report(error)
      }
    }
  }

  #beginRound(): void {
    const all = [...this.#options.partitions()]
    const there = new Set(all)
    for (const gone of [...this.#heirSince.keys()]) if (!there.has(gone)) this.#heirSince.delete(gone)
    for (const gone of this.#transferring) if (!there.has(gone)) this.#transferring.delete(gone)
    this.#round = all
    this.#isUnfinished = false
  }

  #look(partition: DrivenPartition): void {
    const { key, group, leads } = partition
    this.#moving.delete(partition)
    const target = leads ? this.#options.targetOf(key.topicId, key.partition) : undefined
    if (target === undefined || !group.mayAppend) {
      if (target !== undefined) this.#isUnfinished = true
      this.#heirSince.delete(partition)
      return
    }
    const { configuration } = group
    if (isAtTarget(target, configuration)) {
      this.#balance(partition, target)
      return
    }
    this.#isUnfinished = true
    const mayAdd = configuration.learners.length > 0 || this.#moving.size < MAX_MOVES
    const change = nextChange(target, configuration, mayAdd)
    // What is refused now, while a learner has not caught up or a change is not committed, is asked for in the next step.
    if (change !== null) group.changeMembership(change)
    if (change !== null || group.configuration.learners.length > 0) this.#moving.add(partition)
  }

  // -------------------------------------------------------------- who leads

  #balance(partition: DrivenPartition, target: readonly NodeId[]): void {
    const { nodeId, clock, stateOf } = this.#options
    const heir = this.#heirOf(partition, target)
    if (heir === 0 || heir === nodeId) {
      this.#heirSince.delete(partition)
      return
    }
    const now = clock.monotonicMs()
    const known = this.#heirSince.get(partition)
    const sinceMs = known?.heir === heir ? known.sinceMs : now
    this.#heirSince.set(partition, { heir, sinceMs })
    const isDue = stateOf(nodeId) === 'draining' || now - sinceMs >= PREFERRED_LEADER_AFTER_MS
    if (!isDue || this.#transferring.size >= this.#transfersAtOnce) return
    this.#heirSince.delete(partition)
    if (partition.group.transferTo(heir) === null) this.#transferring.add(partition)
  }

  get #transfersAtOnce(): number {
    const wanted = LEAST_TRANSFERS_AT_ONCE + Math.floor(this.#heirSince.size / GROUPS_PER_TRANSFER)
    return Math.min(MOST_TRANSFERS_AT_ONCE, wanted)
  }

  /** The first in the target's order that could lead, nodes that are being drained last; 0 where nobody else could. */
  #heirOf({ group }: DrivenPartition, target: readonly NodeId[]): NodeId {
    const { nodeId: self, stateOf, isConnected } = this.#options
    const preferred = target.find((nodeId) => stateOf(nodeId) === 'active')
    // As nearly always: then nothing has to be put together to see it.
    if (preferred === self) return self
    const behind = new Map(group.replicas().map(({ nodeId, lagBatches }) => [nodeId, lagBatches]))
    const couldLead = (nodeId: NodeId): boolean =>
      nodeId === self ||
      (isConnected(nodeId) && (behind.get(nodeId) ?? Number.POSITIVE_INFINITY) <= TRANSFER_LAG_BATCHES)
    if (stateOf(self) === 'active') return preferred !== undefined && couldLead(preferred) ? preferred : 0
    return target.find((nodeId) => nodeId !== self && stateOf(nodeId) === 'active' && couldLead(nodeId)) ?? 0
  }
}

/** Somebody leads: another node, or still this one, which takes batches again when a transfer was given up. */
const isOver = ({ leads, group }: DrivenPartition): boolean => group.leader !== 0 && (!leads || group.mayAppend)
