// The groups at rest that this node leads and one other follows: one heartbeat vouches for all of them, and its answer tells
// that the other still follows. Source: dissertation, 6.2 (a leader steps down when no quorum is heard), for all of them at once.
import type { RaftGroup } from '@millrace/protocol'
import type { NodeId } from './raft-types.js'
import type { SetGroup, SetHeartbeat, SetHeartbeatReply, SetLimits } from './set-types.js'

interface Member {
  readonly term: number
  readonly index: number
  /** Of the heartbeat in which it entered; 0 while it waits for one. */
  epoch: number
}

export class LedSet {
  readonly #members = new Map<SetGroup, Member>()
  /** Members that no heartbeat has named yet. */
  readonly #entering = new Set<SetGroup>()
  /** Members that no answer has come for yet. */
  readonly #unanswered = new Set<SetGroup>()
  readonly #leaving = new Set<SetGroup>()
  #epoch: number
  /** Of the heartbeat with which the set began; null until it is sent. */
  #firstEpoch: number | null = null
  /** The other still holds the set that was before, and has to be told. */
  #owesEnd = false
  #beatTicks = 0
  /** Since the other answered, while there is something to answer. */
  #silentTicks = 0
  /** No group enters until then: whatever has dissolved the set may last. */
  #pauseTicks = 0

  /** @param firstEpoch above every epoch that this node has used before, in this life or an earlier one. */
  constructor(
    private readonly peer: NodeId,
    private readonly limits: SetLimits,
    firstEpoch: number,
  ) {
    this.#epoch = firstEpoch
  }

  /** Groups that rest, agreed or not. */
  get size(): number {
    return this.#members.size
  }

  /** The group may rest: the other has all of it. @returns whether it is taken in. */
  enter(group: SetGroup, term: number, index: number): boolean {
    if (this.#pauseTicks > 0) return false
    if (this.#members.size === 0) this.#silentTicks = 0
    this.#members.set(group, { term, index, epoch: 0 })
    this.#entering.add(group)
    return true
  }

  /** The group uses its own messages again. */
  leave(group: SetGroup): void {
    const member = this.#members.get(group)
    if (member === undefined) return
    this.#forget(group)
    if (member.epoch > 0) this.#leaving.add(group)
  }

  /** The connection is lost, and with it what was said on it. */
  lost(): void {
    this.#dissolve(0)
    this.#owesEnd = false
  }

  /**
   * @param vouches the disk of this node completed something within an election timeout; the shard is the one that ticks.
   * @param send whether the heartbeat was taken by the connection.
   */
  tick(vouches: boolean, send: (heartbeat: SetHeartbeat) => boolean): void {
    if (this.#pauseTicks > 0) this.#pauseTicks--
    if (!vouches) this.#dissolve(0)
    else if (this.#members.size > 0 && ++this.#silentTicks > this.limits.electionMinTicks) {
      this.#dissolve(this.#silentTicks)
    }
    const hasChanged = this.#entering.size > 0 || this.#leaving.size > 0 || this.#owesEnd
    const isDue = this.#members.size > 0 && ++this.#beatTicks >= this.limits.heartbeatTicks
    if (hasChanged || isDue) this.#beat(send)
  }

  /** @param find the group of a key, if this node has it. */
  answered({ epoch, left }: SetHeartbeatReply, find: (key: RaftGroup) => SetGroup | undefined): void {
    // Of a set that is none any more: it says nothing of this one.
    if (this.#firstEpoch === null || (epoch !== 0 && epoch < this.#firstEpoch)) return
    if (epoch === 0) {
      this.#dissolve(0)
      this.#owesEnd = false
      return
    }
    this.#silentTicks = 0
    for (const key of left) {
      const group = find(key)
      const member = group === undefined ? undefined : this.#members.get(group)
      // What it says of an earlier time is not said of a group that has come back since.
      if (group === undefined || member === undefined || member.epoch === 0 || member.epoch > epoch) continue
      this.#forget(group)
      group.wake(this.peer, 0)
    }
    for (const group of this.#unanswered) {
      const member = this.#members.get(group)
      if (member === undefined || member.epoch > epoch) continue
      this.#unanswered.delete(group)
      group.followerRests(this.peer, member.term)
    }
  }

  #beat(send: (heartbeat: SetHeartbeat) => boolean): void {
    const { maxGroups } = this.limits
    const isNew = this.#firstEpoch === null
    const leaving = [...this.#leaving].slice(0, maxGroups)
    // One that has left and come back leaves first.
    const entering = leaving.length < this.#leaving.size ? [] : [...this.#entering].slice(0, maxGroups)
    const isChange = isNew || entering.length > 0 || leaving.length > 0
    const epoch = isChange ? this.#epoch + 1 : this.#epoch
    const isSent = send({
      epoch,
      base: isNew ? 0 : this.#epoch,
      entering: entering.map((group) => ({ group: group.key, ...placeOf(this.#members.get(group)) })),
      leaving: leaving.map((group) => group.key),
    })
    // Whatever has changed is said with the next one.
    if (!isSent) return
    if (isNew) this.#firstEpoch = epoch
    this.#epoch = epoch
    this.#owesEnd = false
    this.#beatTicks = 0
    for (const group of leaving) this.#leaving.delete(group)
    for (const group of entering) {
      this.#entering.delete(group)
      const member = this.#members.get(group)
      if (member === undefined) continue
      member.epoch = epoch
      this.#unanswered.add(group)
    }
  }

  #forget(group: SetGroup): void {
    this.#members.delete(group)
    this.#entering.delete(group)
    this.#unanswered.delete(group)
  }

  /** Every group is on its own again, on both sides. */
  #dissolve(silentTicks: number): void {
    const groups = [...this.#members.keys()]
    this.#members.clear()
    this.#entering.clear()
    this.#unanswered.clear()
    this.#silentTicks = 0
    if (this.#firstEpoch !== null && groups.length + this.#leaving.size > 0) this.#owesEnd = true
    this.#firstEpoch = null
    this.#leaving.clear()
    if (groups.length > 0) this.#pauseTicks = this.limits.electionMinTicks
    for (const group of groups) group.wake(this.peer, silentTicks)
  }
}

function placeOf(member: Member | undefined): { term: number; index: number } {
  return { term: member?.term ?? 0, index: member?.index ?? 0 }
}
