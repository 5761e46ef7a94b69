// Replicas that are to move away go when the group itself does without them, which only its leader knows, and when that has
// been so for a while.
// Invariant: data goes only when both the committed metadata and the group's own committed configuration do without it.
import type { Clock } from '../environment.js'
import { REMOVAL_STEP_MS, REMOVALS_AT_ONCE, REPLICA_QUARANTINE_MS } from '../limits.js'
import type { NodeId } from '../raft/raft-types.js'
import type { LogKey } from '../storage/log-store.js'
import type { LedPartition } from './membership-driver.js'
import { RepeatedStep } from './repeated-step.js'

/** What a node says of a group that another node asks about. */
export interface MembershipAnswer {
  /** It leads the group, and has committed that the group does without the one who asks. */
  readonly doesWithout: boolean
  readonly term: number
}

export interface MovedReplica extends LedPartition {
  readonly key: LogKey
}

export interface ReplicaRemovalOptions {
  readonly nodeId: NodeId
  readonly clock: Clock
  readonly partitions: () => Iterable<MovedReplica>
  readonly targetOf: (topicId: number, partition: number) => readonly NodeId[] | undefined
  /** 0 while none is known. */
  readonly leaderOf: (key: LogKey) => NodeId
  /** @throws ProtocolError when the node does not answer. */
  readonly ask: (nodeId: NodeId, key: LogKey) => Promise<MembershipAnswer>
  /** Closes the replica and drops its log, if nothing has changed when that can be done. */
  readonly remove: (key: LogKey, isUnchanged: () => boolean) => Promise<void>
  /** Whether what was thrown is no refusal: such are told by `report`. */
  readonly isBug: (error: unknown) => boolean
  readonly report: (error: unknown) => void
}

export class ReplicaRemoval {
  readonly #options: ReplicaRemovalOptions
  /** Since when, on the monotonic clock, the groups of these replicas are known to do without them. */
  readonly #outSince = new Map<MovedReplica, number>()
  readonly #repeated: RepeatedStep

  constructor(options: ReplicaRemovalOptions) {
    this.#options = options
    const { clock, report } = options
    this.#repeated = new RepeatedStep({ clock, everyMs: REMOVAL_STEP_MS, step: () => this.#step(), report })
  }

  start(): void {
    this.#repeated.start()
  }

  stop(): void {
    this.#repeated.stop()
  }

  async #step(): Promise<void> {
    const away = new Set([...this.#options.partitions()].filter((replica) => this.#isToGo(replica)))
    for (const known of [...this.#outSince.keys()]) if (!away.has(known)) this.#outSince.delete(known)
    // Those that have waited longest are asked about first, and others after them.
    const due = [
      ...[...away].filter((replica) => this.#outSince.has(replica)),
      ...[...away].filter((replica) => !this.#outSince.has(replica)),
    ]
    await Promise.all(due.slice(0, REMOVALS_AT_ONCE).map((replica) => this.#look(replica)))
  }

  #isToGo({ key }: MovedReplica): boolean {
    const target = this.#options.targetOf(key.topicId, key.partition)
    return target !== undefined && !target.includes(this.#options.nodeId)
  }

  async #look(replica: MovedReplica): Promise<void> {
    const { clock, remove } = this.#options
    // What is asked is overtaken by entries that come before the answer: the node may belong to the group again.
    const { lastIndex, term } = replica.group.core
    const isUnchanged = (): boolean => {
      const { core } = replica.group
      return core.lastIndex === lastIndex && core.term === term && this.#isToGo(replica)
    }
    const isOut = (await this.#isOut(replica, term)) && isUnchanged()
    if (this.#repeated.isStopped) return
    if (!isOut) {
      this.#outSince.delete(replica)
      return
    }
    const sinceMs = this.#outSince.get(replica) ?? clock.monotonicMs()
    this.#outSince.set(replica, sinceMs)
    if (clock.monotonicMs() - sinceMs < REPLICA_QUARANTINE_MS) return
    this.#outSince.delete(replica)
    await remove(replica.key, isUnchanged)
  }

  /** The answer of a leader of an older term says nothing: the node may have been taken in again since. */
  async #isOut({ key }: MovedReplica, term: number): Promise<boolean> {
    const { nodeId, leaderOf, ask, isBug, report } = this.#options
    const leader = leaderOf(key)
    if (leader === 0 || leader === nodeId) return false
    try {
      const answer = await ask(leader, key)
      return answer.doesWithout && answer.term >= term
    } catch (error) {
      if (isBug(error)) report(error)
      return false
    }
  }
}
