// Coordinators of consumer groups that do what a test tells them: one state behind all fake brokers, as if it were
// replicated, assigned as a real coordinator would.
import {
  ADMIN_OPERATIONS,
  admin,
  adminReply,
  type CommittedPartition,
  ERROR_TABLE,
  type ErrorName,
  type FrameHeader,
  GROUPS_TOPIC,
  type GroupPlace,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
  partitionOfKey,
  Reader,
  type Route,
} from '@millrace/protocol'
import type { FakeBroker, FakeCluster, FakeConnection } from './fake-broker.js'

const codeOf = (name: ErrorName): number => ERROR_TABLE[name].code

export interface FakeMember {
  readonly id: bigint
  readonly name: string
  readonly clientId: string
  readonly epoch: number
  readonly topicIds: readonly number[]
  readonly leaseMs: number
  expiresAtMs: number
  version: number
  shown: string
}

interface Slot {
  owner: FakeMember | null
  /** Who gets it once the owner has released it. */
  next: FakeMember | null
  epoch: number
}

interface HeldBeat {
  readonly connection: FakeConnection
  readonly id: number
  readonly member: FakeMember
  readonly version: number
  readonly untilMs: number
}

export interface SeenCommit {
  readonly nodeId: number
  readonly atMs: number
  readonly leaves: boolean
  readonly entries: readonly CommittedPartition[]
}

export class FakeCoordinator {
  readonly topicPartitions = 4
  readonly members: FakeMember[] = []
  readonly fenced = new Set<bigint>()
  /** By topic id and partition. */
  readonly slots = new Map<string, Slot>()
  readonly committed = new Map<string, { offset: number; term: number }>()
  /** Every commit that reached the leader, whether it was answered or not. */
  readonly commits: SeenCommit[] = []
  /** Offsets that went back: never happens. */
  readonly wentBack: string[] = []
  /** Frames of groups by the kind of connection they came on: those with cursors or batches, or others. */
  readonly joins: string[] = []
  /** Return true to keep the coordinator from handling the frame. */
  intercept: (connection: FakeConnection, header: FrameHeader, payload: Uint8Array) => boolean = () => false
  epoch = 0
  #held: HeldBeat[] = []

  constructor(
    readonly cluster: FakeCluster,
    readonly group: string,
  ) {
    for (const broker of cluster.brokers) {
      broker.intercept = (connection, header, payload) => this.#take(connection, header, payload)
    }
  }

  get topicId(): number {
    return this.cluster.topics.find(({ name }) => name === GROUPS_TOPIC)?.topicId ?? 0
  }

  get partition(): number {
    return partitionOfKey(new TextEncoder().encode(this.group), this.topicPartitions)
  }

  get leader(): FakeBroker {
    const { nodeId } = this.cluster.route(this.topicId, this.partition)
    return this.cluster.brokers.find((broker) => broker.nodeId === nodeId)!
  }

  createTopic(): void {
    if (this.topicId === 0) this.cluster.addTopic(GROUPS_TOPIC, this.topicPartitions)
  }

  /** The coordinator moves; held beats at the old leader are refused, or never answered. */
  move(nodeId: number, { silent = false, tell = true } = {}): void {
    const route = this.cluster.move(this.topicId, this.partition, nodeId, tell)
    const held = this.#held
    this.#held = []
    if (!silent) for (const beat of held) this.#answerBeat(beat, 'NOT_LEADER', route)
    // A new leader grants everybody a whole lease.
    for (const member of this.members) member.expiresAtMs = this.cluster.world.nowMs + member.leaseMs
  }

  partitionsOf(clientId: string): number[] {
    return [...this.slots]
      .filter(([, { owner }]) => owner?.clientId === clientId)
      .map(([key]) => Number(key.split('/')[1]))
      .sort((a, b) => a - b)
  }

  offsetOf(topicId: number, partition: number): number | null {
    return this.committed.get(`${topicId}/${partition}`)?.offset ?? null
  }

  expire(member: FakeMember): void {
    this.members.splice(this.members.indexOf(member), 1)
    for (const slot of this.slots.values()) if (slot.owner === member) slot.owner = null
    this.#rebalance()
  }

  #take(connection: FakeConnection, header: FrameHeader, payload: Uint8Array): boolean {
    const reader = new Reader(payload)
    if (header.kind === admin.kind) {
      if (admin.decode(reader).operation !== ADMIN_OPERATIONS.createGroupsTopic) return false
      this.createTopic()
      const { version } = this.cluster
      connection.send(adminReply, { code: 0, mapVersion: version, detail: '', payload: Uint8Array.of(0x80) }, header.id)
      return true
    }
    if (![groupJoin.kind, groupBeat.kind, groupCommit.kind].includes(header.kind)) return false
    if (this.intercept(connection, header, payload)) return true
    this.handle(connection, header, payload)
    return true
  }

  /** Does what a coordinator does; tests that intercepted a frame may hand it on. */
  handle(connection: FakeConnection, header: FrameHeader, payload: Uint8Array): void {
    const reader = new Reader(payload)
    if (header.kind === groupJoin.kind) this.#join(connection, header.id, groupJoin.decode(reader))
    else if (header.kind === groupBeat.kind) this.#beat(connection, header.id, groupBeat.decode(reader))
    else this.#commit(connection, header.id, groupCommit.decode(reader))
  }

  get #route(): Route {
    return this.cluster.route(this.topicId, this.partition)
  }

  /** Why the request cannot be served here. */
  #refusal(connection: FakeConnection, place: GroupPlace): ErrorName | null {
    if (this.#route.nodeId !== connection.broker.nodeId) return 'NOT_LEADER'
    if (place.partition !== this.partition || place.topicId !== this.topicId) return 'INVALID_REQUEST'
    return null
  }

  #memberOf(place: GroupPlace, epoch: number): FakeMember | ErrorName {
    if (this.fenced.has(place.memberId)) return 'MEMBER_FENCED'
    return this.members.find(({ id, epoch: own }) => id === place.memberId && own === epoch) ?? 'UNKNOWN_MEMBER'
  }

  #join(connection: FakeConnection, id: number, join: ReturnType<typeof groupJoin.decode>): void {
    const { place, leaseMs, memberName: name, clientId, topicIds } = join
    const refusal = this.#refusal(connection, place)
    if (refusal !== null) {
      const refused = { code: codeOf(refusal), route: this.#route, memberEpoch: 0, leaseMs: 0 }
      connection.send(groupJoined, refused, id)
      return
    }
    this.joins.push(clientId)
    let member = this.members.find((one) => one.id === place.memberId)
    if (member === undefined) {
      const expiresAtMs = this.cluster.world.nowMs + leaseMs
      member = {
        id: place.memberId,
        name,
        clientId,
        epoch: ++this.epoch,
        topicIds,
        leaseMs,
        expiresAtMs,
        version: 0,
        shown: '',
      }
      const old = name === '' ? undefined : this.members.find((one) => one.name === name)
      if (old !== undefined) this.#takeOver(old, member)
      else this.members.push(member)
      for (const topicId of topicIds) this.#addSlots(topicId)
      this.#watchLease(member)
      this.#rebalance()
    }
    connection.send(groupJoined, { code: 0, route: this.#route, memberEpoch: member.epoch, leaseMs }, id)
  }

  #takeOver(old: FakeMember, member: FakeMember): void {
    this.fenced.add(old.id)
    this.members[this.members.indexOf(old)] = member
    for (const slot of this.slots.values()) {
      if (slot.next === old) slot.next = member
      if (slot.owner !== old) continue
      slot.owner = member
      slot.epoch = ++this.epoch
    }
  }

  #addSlots(topicId: number): void {
    const topic = this.cluster.topics.find((one) => one.topicId === topicId)
    topic?.routes.forEach((_, partition) => {
      const key = `${topicId}/${partition}`
      if (!this.slots.has(key)) this.slots.set(key, { owner: null, next: null, epoch: 0 })
    })
  }

  #watchLease(member: FakeMember): void {
    const { world } = this.cluster
    world.at(Math.max(1, member.expiresAtMs - world.nowMs), () => {
      if (!this.members.includes(member)) return
      if (world.nowMs >= member.expiresAtMs) this.expire(member)
      else this.#watchLease(member)
    })
  }

  /** Sticky, and as few moves as there need be: whoever has too many gives to whoever has too few. */
  #rebalance(): void {
    const slots = [...this.slots.values()]
    for (const slot of slots) slot.next = null
    const planned = (member: FakeMember): Slot[] => slots.filter((slot) => (slot.next ?? slot.owner) === member)
    for (const slot of slots.filter(({ owner }) => owner === null)) {
      const [fewest] = [...this.members].sort((a, b) => planned(a).length - planned(b).length)
      if (fewest === undefined) break
      slot.owner = fewest
      slot.epoch = ++this.epoch
    }
    for (;;) {
      const byLoad = [...this.members].sort((a, b) => planned(a).length - planned(b).length)
      const [fewest] = byLoad
      const most = byLoad.at(-1)
      if (fewest === undefined || most === undefined || planned(most).length - planned(fewest).length < 2) break
      planned(most)
        .filter(({ owner }) => owner === most)
        .at(-1)!.next = fewest
    }
    this.#answerChanged()
  }

  #assigned(member: FakeMember) {
    return [...this.slots]
      .filter(([, { owner }]) => owner === member)
      .map(([key, { epoch, next }]) => {
        const [topicId = 0, partition = 0] = key.split('/').map(Number)
        const committed = this.committed.get(key)
        const position = { offset: committed?.offset ?? null, term: committed?.term ?? 0 }
        return { topicId, partition, lane: 0, epoch, ...position, isRevoking: next !== null }
      })
  }

  #versionOf(member: FakeMember): number {
    const shown = JSON.stringify(this.#assigned(member).map(({ offset, term, ...rest }) => rest))
    if (shown !== member.shown) {
      member.shown = shown
      member.version++
    }
    return member.version
  }

  #answerChanged(): void {
    const held = this.#held
    this.#held = []
    for (const beat of held) {
      if (this.fenced.has(beat.member.id)) this.#answerBeat(beat, 'MEMBER_FENCED')
      else if (!this.members.includes(beat.member)) this.#answerBeat(beat, 'UNKNOWN_MEMBER')
      else if (this.#versionOf(beat.member) !== beat.version) this.#answerBeat(beat, null)
      else this.#held.push(beat)
    }
  }

  #answerBeat({ connection, id, member }: HeldBeat, refusal: ErrorName | null, route = this.#route): void {
    const isDone = refusal === null
    const reply = {
      code: isDone ? 0 : codeOf(refusal),
      route,
      version: isDone ? this.#versionOf(member) : 0,
      assigned: isDone ? this.#assigned(member) : [],
    }
    connection.send(groupBeatReply, reply, id)
  }

  #beat(connection: FakeConnection, id: number, beat: ReturnType<typeof groupBeat.decode>): void {
    const { place, memberEpoch, version, waitMs } = beat
    const { world } = this.cluster
    const refused = this.#refusal(connection, place)
    const member = refused ?? this.#memberOf(place, memberEpoch)
    if (typeof member === 'string') {
      connection.send(groupBeatReply, { code: codeOf(member), route: this.#route, version: 0, assigned: [] }, id)
      return
    }
    member.expiresAtMs = world.nowMs + member.leaseMs
    const held = { connection, id, member, version, untilMs: world.nowMs + Math.min(waitMs, member.leaseMs / 4) }
    if (this.#versionOf(member) !== version || waitMs === 0) {
      this.#answerBeat(held, null)
      return
    }
    this.#held.push(held)
    world.at(held.untilMs - world.nowMs, () => {
      if (!this.#held.includes(held)) return
      this.#held = this.#held.filter((other) => other !== held)
      this.#answerBeat(held, null)
    })
  }

  #commit(connection: FakeConnection, id: number, commit: ReturnType<typeof groupCommit.decode>): void {
    const { place, memberEpoch, entries, leaves } = commit
    const refused = this.#refusal(connection, place)
    const member = refused ?? this.#memberOf(place, memberEpoch)
    if (typeof member === 'string') {
      connection.send(groupCommitReply, { code: codeOf(member), route: this.#route, codes: [] }, id)
      return
    }
    const { nodeId } = connection.broker
    this.commits.push({ nodeId, atMs: this.cluster.world.nowMs, leaves, entries })
    const codes = entries.map((entry) => this.#commitOne(member, entry))
    if (leaves) this.expire(member)
    else this.#rebalance()
    connection.send(groupCommitReply, { code: 0, route: this.#route, codes }, id)
  }

  #commitOne(member: FakeMember, { topicId, partition, epoch, offset, term, releases }: CommittedPartition): number {
    const key = `${topicId}/${partition}`
    const slot = this.slots.get(key)
    if (slot?.owner !== member || slot.epoch !== epoch) return codeOf('STALE_ASSIGNMENT')
    const before = this.committed.get(key)?.offset ?? 0
    if (offset !== null && offset < before) this.wentBack.push(`${key}: ${before} to ${offset}`)
    if (offset !== null) this.committed.set(key, { offset, term })
    if (releases) {
      slot.owner = slot.next
      slot.next = null
      slot.epoch = ++this.epoch
    }
    return 0
  }
}
