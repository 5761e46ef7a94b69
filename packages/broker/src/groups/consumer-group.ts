// One consumer group: its members, who of them has which partition, and how far it is. Fed by GroupsState.
import { MAX_MEMBERS_PER_GROUP_OF_CONSUMERS } from '@millrace/protocol'
import type { CommitCommand, CommitEntry, JoinCommand, ResetCommand } from './group-command.js'
import {
  type GroupImage,
  groupImageBytes,
  type MemberImage,
  memberImageBytes,
  type PartitionImage,
} from './group-image.js'
import { FENCED_IDS_PER_NAME, LAST_JOIN_EPOCH, MAX_GROUP_IMAGE_BYTES } from './group-limits.js'
import type {
  GroupCode,
  GroupDescription,
  GroupPhase,
  GroupRefusal,
  GroupSummary,
  JoinOutcome,
  MemberAssignment,
  MemberId,
  MemberKey,
  TopicSize,
} from './group-types.js'
import { Rebalance } from './rebalance.js'
import { byPlace, type Member, type PartitionState, TopicTable, toOwned } from './topic-table.js'

export class ConsumerGroup {
  /** In the order they joined. */
  readonly #members = new Map<MemberId, Member>()
  readonly #byName = new Map<string, Member>()
  readonly #tables = new Map<number, TopicTable>()
  /** Grows with every command that gives somebody another list; the source of all epochs of this group. */
  #epoch: number
  /** What the command that is being applied has changed. */
  #rebalance: Rebalance

  constructor(
    readonly name: string,
    epoch: number,
  ) {
    this.#epoch = epoch
    this.#rebalance = new Rebalance(epoch)
  }

  get epoch(): number {
    return this.#epoch
  }

  get memberCount(): number {
    return this.#members.size
  }

  get topicIds(): readonly number[] {
    return [...this.#tables.keys()].sort((one, other) => one - other)
  }

  get members(): Iterable<Member> {
    return this.#members.values()
  }

  get hasOffsets(): boolean {
    return this.#some(({ committed }) => committed !== null)
  }

  get phase(): GroupPhase {
    if (this.#members.size === 0) return 'empty'
    return this.#some(({ isRevoking }) => isRevoking) ? 'rebalancing' : 'stable'
  }

  /** Before each command: nothing has changed yet. */
  begin(): void {
    this.#rebalance = new Rebalance(this.#epoch)
  }

  /** After each command. @returns whose list is another one, and who is gone. */
  end(): readonly MemberKey[] {
    this.#epoch = this.#rebalance.epoch
    const touched = [...this.#rebalance.touched].map(({ memberId }) => memberId)
    touched.sort((one, other) => (one < other ? -1 : 1))
    return touched.map((memberId) => ({ group: this.name, memberId }))
  }

  join(command: JoinCommand): JoinOutcome {
    const refusal = this.#refuses(command)
    if (refusal !== null) return { code: refusal }
    const known = this.#members.get(command.memberId)
    const { leaseMs } = command
    if (known !== undefined) {
      this.#update(known, command)
      return { code: 'OK', memberEpoch: known.epoch, leaseMs }
    }
    const former = command.memberName === null ? undefined : this.#byName.get(command.memberName)
    const member = this.#add(command, former)
    const isLarger = this.#openAll(command.topics)
    if (former !== undefined) this.#takeOver(former, member)
    const isHeir = former !== undefined && isSameSet(former.topics, member.topics)
    if (!isHeir || isLarger) this.#settle(!isHeir)
    return { code: 'OK', memberEpoch: member.epoch, leaseMs }
  }

  /** What joining would be answered, but for what it changes. */
  #refuses({ memberId, memberName, clientId, topics }: JoinCommand): GroupRefusal | null {
    const known = this.#members.get(memberId)
    if (known === undefined && this.#isFenced(memberId)) return 'MEMBER_FENCED'
    if (known !== undefined && known.name !== memberName) return 'INVALID_REQUEST'
    const takesOver = memberName !== null && this.#byName.has(memberName)
    const isFull = known === undefined && !takesOver && this.#members.size >= MAX_MEMBERS_PER_GROUP_OF_CONSUMERS
    if (isFull || (known === undefined && this.#epoch >= LAST_JOIN_EPOCH)) return 'OVERLOADED'
    const topicIds = topics.map(({ topicId }) => topicId)
    const extraBytes = memberImageBytes({ name: memberName, clientId, topics: topicIds })
    return this.#canOpen(topics, extraBytes) ? null : 'OVERLOADED'
  }

  /** The same member asks again, or wants other topics. */
  #update(member: Member, { topics, leaseMs, clientId }: JoinCommand): void {
    const wanted = topics.map(({ topicId }) => topicId)
    const isSame = isSameSet(member.topics, wanted)
    const isLarger = this.#openAll(topics)
    member.topics = wanted
    member.leaseMs = leaseMs
    member.clientId = clientId
    if (!isSame || isLarger) this.#settle(!isSame)
  }

  #add({ memberId, memberName, clientId, leaseMs, topics }: JoinCommand, former: Member | undefined): Member {
    const epoch = this.#rebalance.bump()
    const member: Member = {
      memberId,
      epoch,
      name: memberName,
      clientId,
      leaseMs,
      topics: topics.map(({ topicId }) => topicId),
      fenced: former === undefined ? [] : [former.memberId, ...former.fenced].slice(0, FENCED_IDS_PER_NAME),
      version: epoch,
      owned: new Set(),
      place: this.#members.size,
    }
    this.#members.set(memberId, member)
    if (memberName !== null) this.#byName.set(memberName, member)
    return member
  }

  /** Another process uses the name of a member: it has all the member had, at once, and the member is fenced. */
  #takeOver(former: Member, heir: Member): void {
    this.#members.delete(former.memberId)
    this.#rebalance.gone(former)
    for (const { partitions } of this.#tables.values()) {
      for (const state of partitions) {
        if (state.next === former) state.next = heir
        if (state.owner !== former) continue
        // What was being let go of is let go of with it.
        if (state.isRevoking) this.#rebalance.release(state)
        else this.#rebalance.assign(state, heir)
      }
    }
  }

  /** Whoever leaves or is expired: its partitions are others' at once. */
  remove(memberId: MemberId, memberEpoch: number): GroupCode {
    const member = this.#find(memberId, memberEpoch)
    if (typeof member === 'string') return member
    this.#remove(member)
    return 'OK'
  }

  #remove(member: Member): void {
    this.#members.delete(member.memberId)
    if (member.name !== null) this.#byName.delete(member.name)
    this.#rebalance.gone(member)
    for (const state of member.owned) this.#rebalance.vacate(state)
    this.#settle(false)
  }

  commit({ memberId, memberEpoch, entries, leaves }: CommitCommand, atMs: number): [GroupCode, readonly GroupCode[]] {
    const member = this.#find(memberId, memberEpoch)
    if (typeof member === 'string') return [member, []]
    let isFree = false
    const codes = entries.map((entry) => {
      const state = this.#owned(member, entry)
      if (typeof state === 'string') return state
      advance(state, entry, atMs)
      // Whoever leaves lets go of everything below, once.
      if (entry.releases && !leaves) isFree = this.#rebalance.release(state) || isFree
      return 'OK'
    })
    if (leaves) this.#remove(member)
    else if (isFree) this.#settle(false)
    return ['OK', codes]
  }

  /** The partition, if the member has it under the epoch it names. */
  #owned(member: Member, { topicId, partition, lane, epoch }: CommitEntry): PartitionState | GroupRefusal {
    if (lane !== 0) return 'UNKNOWN_LANE'
    const state = this.#tables.get(topicId)?.partitions[partition]
    return state?.owner === member && state.epoch === epoch ? state : 'STALE_ASSIGNMENT'
  }

  topic({ topicId, partitions }: TopicSize): void {
    const table = this.#tables.get(topicId)
    if (table === undefined) return
    if (partitions > 0) {
      if (table.grow(partitions)) this.#settle(false)
      return
    }
    this.#tables.delete(topicId)
    for (const member of this.#members.values()) {
      if (!member.topics.includes(topicId)) continue
      member.topics = member.topics.filter((wanted) => wanted !== topicId)
    }
    for (const state of table.partitions) if (state.owner !== null) this.#rebalance.vacate(state)
    this.#settle(false)
  }

  reset({ topics, offsets }: ResetCommand, atMs: number): GroupCode {
    if (this.#members.size > 0) return 'GROUP_NOT_EMPTY'
    const sizes = new Map(topics.map(({ topicId, partitions }) => [topicId, partitions]))
    for (const { topicId, partition } of offsets) {
      const size = Math.max(sizes.get(topicId) ?? 0, this.#tables.get(topicId)?.partitions.length ?? 0)
      if (size === 0) return 'UNKNOWN_TOPIC'
      if (partition >= size) return 'UNKNOWN_PARTITION'
    }
    if (!this.#canOpen(topics, 0)) return 'OVERLOADED'
    this.#openAll(topics)
    for (const { topicId, partition, offset } of offsets) {
      this.#tables.get(topicId)!.partitions[partition]!.committed = { offset, term: 0, atMs }
    }
    this.#settle(false)
    return 'OK'
  }

  assignment(memberId: MemberId, memberEpoch: number): MemberAssignment {
    const member = this.#find(memberId, memberEpoch)
    if (typeof member === 'string') return { code: member }
    const { version, leaseMs } = member
    return { code: 'OK', version, leaseMs, partitions: [...member.owned].sort(byPlace).map(toOwned) }
  }

  summary(): GroupSummary {
    return { group: this.name, members: this.#members.size, topics: this.topicIds, state: this.phase }
  }

  describe(): GroupDescription {
    const members = [...this.#members.values()].map(({ memberId, name, clientId, epoch, leaseMs, topics, owned }) => ({
      id: memberId,
      name,
      clientId,
      epoch,
      leaseMs,
      topics,
      partitions: [...owned].sort(byPlace).map(toOwned),
    }))
    const offsets = this.topicIds.flatMap((topicId) =>
      this.#tables
        .get(topicId)!
        .partitions.flatMap(({ partition, committed }) =>
          committed === null ? [] : [{ topicId, partition, lane: 0, ...committed }],
        ),
    )
    return { group: this.name, state: this.phase, epoch: this.#epoch, members, offsets }
  }

  image(): GroupImage {
    const members = [...this.#members.values()]
    const places = new Map(members.map((member, place) => [member, place]))
    const placeOf = (member: Member | null): number | null => (member === null ? null : (places.get(member) ?? null))
    return {
      group: this.name,
      epoch: this.#epoch,
      members: members.map(toMemberImage),
      topics: this.topicIds.map((topicId) => ({
        topicId,
        partitions: this.#tables.get(topicId)!.partitions.map(({ owner, epoch, isRevoking, next, committed }) => ({
          owner: placeOf(owner),
          epoch,
          isRevoking,
          next: placeOf(next),
          committed,
        })),
      })),
    }
  }

  static restored({ group, epoch, members, topics }: GroupImage): ConsumerGroup {
    const restored = new ConsumerGroup(group, epoch)
    const places = members.map((member, place) => restored.#restoreMember(member, place))
    for (const { topicId, partitions } of topics) {
      const table = new TopicTable(topicId, partitions.length)
      restored.#tables.set(topicId, table)
      for (const [partition, image] of partitions.entries())
        restorePartition(table.partitions[partition]!, image, places)
    }
    return restored
  }

  #restoreMember(image: MemberImage, place: number): Member {
    const member: Member = { ...image, owned: new Set(), place }
    this.#members.set(member.memberId, member)
    if (member.name !== null) this.#byName.set(member.name, member)
    return member
  }

  #find(memberId: MemberId, memberEpoch: number): Member | GroupRefusal {
    const member = this.#members.get(memberId)
    if (member?.epoch === memberEpoch) return member
    return member === undefined && this.#isFenced(memberId) ? 'MEMBER_FENCED' : 'UNKNOWN_MEMBER'
  }

  #isFenced(memberId: MemberId): boolean {
    for (const { fenced } of this.#byName.values()) if (fenced.includes(memberId)) return true
    return false
  }

  /** Whether the group still fits its place in an image. */
  #canOpen(topics: readonly TopicSize[], extraBytes: number): boolean {
    let partitions = 0
    for (const table of this.#tables.values()) partitions += table.partitions.length
    for (const topic of topics) {
      partitions += Math.max(0, topic.partitions - (this.#tables.get(topic.topicId)?.partitions.length ?? 0))
    }
    let byteLength = extraBytes + groupImageBytes(partitions)
    for (const member of this.#members.values()) byteLength += memberImageBytes(member)
    return byteLength <= MAX_GROUP_IMAGE_BYTES
  }

  /** @returns whether there are partitions that were not known before. */
  #openAll(topics: readonly TopicSize[]): boolean {
    let isLarger = false
    for (const { topicId, partitions } of topics) {
      const table = this.#tables.get(topicId)
      if (table === undefined) this.#tables.set(topicId, new TopicTable(topicId, partitions))
      if (table === undefined || table.grow(partitions)) isLarger = true
    }
    return isLarger
  }

  #settle(levels: boolean): void {
    const tables = this.topicIds.map((topicId) => this.#tables.get(topicId)!)
    const unwanted = this.#rebalance.spread([...this.#members.values()], tables, levels)
    for (const table of unwanted) if (table.isBlank) this.#tables.delete(table.topicId)
  }

  #some(test: (state: PartitionState) => boolean): boolean {
    for (const { partitions } of this.#tables.values()) if (partitions.some(test)) return true
    return false
  }
}

function toMemberImage({ memberId, epoch, version, name, clientId, leaseMs, topics, fenced }: Member): MemberImage {
  return { memberId, epoch, version, name, clientId, leaseMs, topics, fenced }
}

/** Invariant: what is committed never goes back; a commit that came late, or twice, changes nothing. */
function advance(state: PartitionState, { commit }: CommitEntry, atMs: number): void {
  if (commit === null || commit.offset < (state.committed?.offset ?? 0)) return
  state.committed = { ...commit, atMs }
}

function restorePartition(state: PartitionState, image: PartitionImage, members: readonly Member[]): void {
  state.owner = image.owner === null ? null : members[image.owner]!
  state.next = image.next === null ? null : members[image.next]!
  state.epoch = image.epoch
  state.isRevoking = image.isRevoking
  state.committed = image.committed
  state.owner?.owned.add(state)
}

function isSameSet(one: readonly number[], other: readonly number[]): boolean {
  return one.length === other.length && one.every((topicId) => other.includes(topicId))
}
