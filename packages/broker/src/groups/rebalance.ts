// What one command changes about who has which partition: one epoch for all of it, and whose list is another one then.
import { NOBODY, spread, type TopicSpread } from './spread.js'
import type { Member, PartitionState, TopicTable } from './topic-table.js'

export class Rebalance {
  /** Those whose list has changed, and those who are gone. */
  readonly touched = new Set<Member>()
  #epoch: number
  #isBumped = false

  constructor(epoch: number) {
    this.#epoch = epoch
  }

  get epoch(): number {
    return this.#epoch
  }

  /**
   * The epoch of everything this command assigns, above all before.
   * Invariant: a command assigns a partition at most once, so that an epoch of a partition has one owner.
   */
  bump(): number {
    if (!this.#isBumped) this.#epoch++
    this.#isBumped = true
    return this.#epoch
  }

  assign(state: PartitionState, member: Member): void {
    state.owner?.owned.delete(state)
    state.owner = member
    state.epoch = this.bump()
    state.isRevoking = false
    state.next = null
    member.owned.add(state)
    this.#touch(member)
  }

  /** The owner lets go of it, and whoever waits for it has it. @returns whether nobody has it now. */
  release(state: PartitionState): boolean {
    const { next } = state
    this.vacate(state)
    if (next === null) return true
    this.assign(state, next)
    return false
  }

  /** Nobody has it; who was to have it next is to be spread anew. */
  vacate(state: PartitionState): void {
    const { owner } = state
    if (owner !== null) {
      owner.owned.delete(state)
      this.#touch(owner)
    }
    state.owner = null
    state.isRevoking = false
  }

  gone(member: Member): void {
    member.place = NOBODY
    this.#touch(member)
  }

  /**
   * Gives everything that somebody wants to somebody, at once or as soon as its owner lets go of it.
   * @returns what nobody wants.
   */
  spread(members: readonly Member[], tables: readonly TopicTable[], levels: boolean): readonly TopicTable[] {
    for (const [place, member] of members.entries()) member.place = place
    const wanting = new Map<number, number[]>(tables.map(({ topicId }) => [topicId, []]))
    for (const { place, topics } of members) for (const topicId of topics) wanting.get(topicId)!.push(place)
    const spreads = tables.map((table) => spreadOf(table, wanting.get(table.topicId)!))
    spread(spreads, members.length, levels)
    for (const [at, { partitions }] of tables.entries()) {
      const { future } = spreads[at]!
      for (let partition = 0; partition < partitions.length; partition++) {
        this.#direct(partitions[partition]!, members[future[partition]!] ?? null)
      }
    }
    return tables.filter(({ topicId }) => wanting.get(topicId)!.length === 0)
  }

  /** Revoke first: a partition that somebody has is another's once it was let go of. */
  #direct(state: PartitionState, to: Member | null): void {
    if (state.owner === null) {
      if (to === null) state.next = null
      else this.assign(state, to)
    } else if (state.isRevoking) {
      state.next = to
    } else if (state.owner !== to) {
      state.isRevoking = true
      state.next = to
      this.#touch(state.owner)
    }
  }

  #touch(member: Member): void {
    member.version = this.bump()
    this.touched.add(member)
  }
}

function spreadOf({ partitions }: TopicTable, wanting: readonly number[]): TopicSpread {
  const future = new Int32Array(partitions.length)
  const current = new Int32Array(partitions.length)
  const settled = new Uint8Array(partitions.length)
  for (let partition = 0; partition < partitions.length; partition++) {
    const { owner, next, isRevoking } = partitions[partition]!
    const isWithOwner = owner !== null && !isRevoking
    current[partition] = owner === null ? NOBODY : owner.place
    future[partition] = (isWithOwner ? owner : next)?.place ?? NOBODY
    settled[partition] = isWithOwner ? 1 : 0
  }
  return { wanting, future, current, settled }
}
