// Beats that are held, and leases, on a clock the test moves.
import {
  CODE_OK,
  errorName,
  GROUPS_TOPIC,
  type GroupBeatReply,
  groupBeat,
  groupBeatReply,
  groupJoin,
  groupJoined,
  partitionOfKey,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { MAX_HELD_BEATS_PER_CONNECTION } from '#src/limits.js'
import { type InMemoryServer, startInMemory, type TestStream } from '../server/in-memory-server.js'

const LEASE_MS = 40_000

/** Members of one group, which all say the same of themselves. */
class Members {
  #id = 10
  private constructor(
    readonly server: InMemoryServer,
    readonly stream: TestStream,
    readonly orders: number,
    private readonly groups: number,
  ) {}

  static async begin(): Promise<Members> {
    const server = await startInMemory()
    const { topicId: groups } = await server.admin('createGroupsTopic', {})
    const { topicId: orders } = await server.admin('createTopic', { name: 'orders', partitions: 2 })
    return new Members(server, server.open(), orders as number, groups as number)
  }

  placeOf(group: string, memberId: bigint) {
    const partition = partitionOfKey(new TextEncoder().encode(group), 8)
    return { topicId: this.groups, partition, routeVersion: { term: 0, placement: 0 }, memberId }
  }

  async join(group: string, memberId: bigint): Promise<number> {
    const id = this.#id++
    const fields = { leaseMs: LEASE_MS, group, memberName: '', clientId: '', topicIds: [this.orders] }
    this.stream.send(groupJoin, { place: this.placeOf(group, memberId), ...fields }, id)
    await this.server.settle()
    const [joined] = this.stream.take(groupJoined, id)
    expect(joined?.code).toBe(CODE_OK)
    return joined!.memberEpoch
  }

  /** Sends a beat that waits and does not look for its answer. */
  async hold(group: string, memberId: bigint, memberEpoch: number, waitMs = 5_000, stream = this.stream) {
    const place = this.placeOf(group, memberId)
    const { version } = await this.beat(group, memberId, memberEpoch)
    const id = this.#id++
    stream.send(groupBeat, { place, memberEpoch, version, waitMs, group }, id)
    await this.server.settle()
    return id
  }

  async beat(group: string, memberId: bigint, memberEpoch: number): Promise<GroupBeatReply> {
    const id = this.#id++
    const place = this.placeOf(group, memberId)
    this.stream.send(groupBeat, { place, memberEpoch, version: 0, waitMs: 0, group }, id)
    await this.server.settle()
    return this.stream.take(groupBeatReply, id)[0]!
  }

  async advance(ms: number): Promise<void> {
    this.server.clock.advance(ms)
    await this.server.settle()
  }

  answer(id: number): GroupBeatReply | undefined {
    return this.stream.take(groupBeatReply, id)[0]
  }

  get held(): number {
    return this.server.context.coordination.beats.count
  }
}

describe('a beat', () => {
  it('is held as long as it asks for, and no longer than a quarter of the lease', async () => {
    const members = await Members.begin()
    const epoch = await members.join('g', 1n)
    const short = await members.hold('g', 1n, epoch, 3_000)
    await members.advance(2_999)
    expect(members.answer(short)).toBeUndefined()
    await members.advance(1)
    expect(members.answer(short)).toMatchObject({ code: CODE_OK })
    const long = await members.hold('g', 1n, epoch, 1_000_000)
    await members.advance(LEASE_MS / 4 - 1)
    expect(members.answer(long)).toBeUndefined()
    await members.advance(1)
    expect(members.answer(long)).toMatchObject({ code: CODE_OK })
    expect(members.held).toBe(0)
  })

  it('makes room for a newer one of its member, and for others of its connection', async () => {
    const members = await Members.begin()
    const epoch = await members.join('g', 1n)
    const first = await members.hold('g', 1n, epoch)
    const second = await members.hold('g', 1n, epoch)
    expect(members.answer(first)).toMatchObject({ code: CODE_OK })
    for (let i = 1; i < MAX_HELD_BEATS_PER_CONNECTION; i++) {
      await members.hold(`other-${i}`, 1n, await members.join(`other-${i}`, 1n))
    }
    expect(members.held).toBe(MAX_HELD_BEATS_PER_CONNECTION)
    expect(members.answer(second)).toBeUndefined()
    await members.hold('last', 1n, await members.join('last', 1n))
    expect(members.answer(second)).toMatchObject({ code: CODE_OK })
    expect(members.held).toBe(MAX_HELD_BEATS_PER_CONNECTION)
  })

  it('goes with its connection, from whose end on the lease runs', async () => {
    const members = await Members.begin()
    const epoch = await members.join('g', 1n)
    const other = members.server.open()
    await members.hold('g', 1n, epoch, 10_000, other)
    await members.advance(9_000)
    expect(members.held).toBe(1)
    other.destroy()
    await members.server.settle()
    expect(members.held).toBe(0)
    await members.advance(LEASE_MS - 1)
    expect(await members.beat('g', 1n, epoch)).toMatchObject({ code: CODE_OK })
    expect(members.server.bugs).toEqual([])
  })

  it('is answered when the topic of groups is deleted', async () => {
    const members = await Members.begin()
    const held = await members.hold('g', 1n, await members.join('g', 1n))
    await members.server.admin('deleteTopic', { name: GROUPS_TOPIC })
    await members.server.settle()
    expect(errorName(members.answer(held)!.code)).toBe('TOPIC_DELETED')
  })
})

describe('a lease', () => {
  it('runs out to the millisecond', async () => {
    const members = await Members.begin()
    const [early, late] = [await members.join('g', 1n), await members.join('h', 1n)]
    await members.advance(LEASE_MS - 1)
    expect(await members.beat('h', 1n, late)).toMatchObject({ code: CODE_OK })
    await members.advance(1)
    expect(errorName((await members.beat('g', 1n, early)).code)).toBe('UNKNOWN_MEMBER')
    expect(await members.beat('h', 1n, late)).toMatchObject({ code: CODE_OK })
    expect(members.server.metrics).toMatchObject({ groupExpiries: 1, groupJoins: 2 })
  })

  it('does not run out while the broker itself was away', async () => {
    const members = await Members.begin()
    const epoch = await members.join('g', 1n)
    members.server.clock.nowMs += 3 * LEASE_MS
    await members.advance(0)
    expect(await members.beat('g', 1n, epoch)).toMatchObject({ code: CODE_OK })
    expect(members.server.metrics.groupExpiries).toBe(0)
    // Nor when the beat is read before any timer fires.
    members.server.clock.nowMs += 3 * LEASE_MS
    expect(await members.beat('g', 1n, epoch)).toMatchObject({ code: CODE_OK })
    await members.advance(LEASE_MS)
    expect(members.server.metrics.groupExpiries).toBe(1)
  })
})
