// The groups at rest that one other node leads and this one follows: its heartbeat is the sign of life of the leader of each.
import type { RaftGroup } from '@millrace/protocol'
import type { NodeId } from './raft-types.js'
import type { SetGroup, SetHeartbeat, SetHeartbeatReply, SetLimits } from './set-types.js'

export class FollowedSet {
  readonly #members = new Set<SetGroup>()
  /** Groups that have left since the last answer, on a doubt of this node. */
  readonly #left = new Set<SetGroup>()
  /** Of the set as this node has it; 0 while it has none. */
  #epoch = 0
  #silentTicks = 0

  constructor(
    private readonly leader: NodeId,
    private readonly limits: SetLimits,
  ) {}

  get size(): number {
    return this.#members.size
  }

  /**
   * The leader has spoken.
   * @param vouches the disk of this node completed something within an election timeout.
   * @param find the group of a key, if this node has it.
   * @returns the answer; when it cannot be sent the set is `lost`.
   */
  heard(heartbeat: SetHeartbeat, vouches: boolean, find: (key: RaftGroup) => SetGroup | undefined): SetHeartbeatReply {
    const isNext = heartbeat.base === this.#epoch && this.#epoch !== 0
    if (!isNext || !vouches) this.#dissolve(0)
    // A change of a set that this node does not have says nothing of the groups that are in it.
    if ((!isNext && heartbeat.base !== 0) || !vouches) return { epoch: 0, left: [] }
    this.#silentTicks = 0
    this.#epoch = heartbeat.epoch
    for (const key of heartbeat.leaving) {
      const group = find(key)
      if (group === undefined) continue
      this.#left.delete(group)
      if (this.#members.delete(group)) group.wake(this.leader, 0)
    }
    const refused: RaftGroup[] = []
    for (const { group: key, term, index } of heartbeat.entering) {
      const group = find(key)
      // That it left before it came back is no news.
      if (group !== undefined) this.#left.delete(group)
      if (group?.restWith(this.leader, term, index) === true) this.#members.add(group)
      else refused.push(key)
    }
    return { epoch: this.#epoch, left: this.#takeLeft(refused) }
  }

  #takeLeft(refused: RaftGroup[]): readonly RaftGroup[] {
    for (const group of this.#left) {
      if (refused.length >= this.limits.maxGroups) break
      this.#left.delete(group)
      refused.push(group.key)
    }
    return refused
  }

  /** The group is in doubt about its leader, or has something to do. */
  leave(group: SetGroup): void {
    if (this.#members.delete(group)) this.#left.add(group)
  }

  /** A connection between the two is lost. */
  lost(): void {
    this.#dissolve(0)
  }

  /** Nothing was heard of the leader for an election timeout: every group waits on by itself, from there. */
  tick(): void {
    if (this.#members.size > 0 && ++this.#silentTicks >= this.limits.electionMinTicks) this.#dissolve(this.#silentTicks)
  }

  #dissolve(silentTicks: number): void {
    const groups = [...this.#members]
    this.#members.clear()
    this.#left.clear()
    this.#epoch = 0
    this.#silentTicks = 0
    for (const group of groups) group.wake(this.leader, silentTicks)
  }
}
