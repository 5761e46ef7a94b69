// Consumer groups over the wire, on real brokers: who has which partition, what is committed, and what outlives whom.
import { errorName, type GroupJoin, groupBeat, groupBeatReply, groupJoin, groupJoined } from '@millrace/protocol'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { ENVIRONMENTS } from '../broker/environments.js'
import { GroupsClient, RawMember } from './group-client.js'

let cluster: TestCluster | null = null
let groups: GroupsClient | null = null
afterEach(async () => {
  await groups?.close()
  await cluster?.stop()
  cluster = groups = null
})

async function start(
  brokers: number,
  environment: 'portable' | 'ring' = 'portable',
): Promise<{ cluster: TestCluster; groups: GroupsClient; topicId: number }> {
  const running = await startTestCluster({ environment, brokers })
  cluster = running
  const client = new GroupsClient(running)
  groups = client
  await vi.waitFor(() => client.begin(), { timeout: 10_000, interval: 100 })
  const topicId = await (await client.to(1)).createTopic('orders', { partitions: 4 })
  return { cluster: running, groups: client, topicId }
}

describe.each(ENVIRONMENTS)('a group on %s', { timeout: 60_000 }, (environment) => {
  it.each([1, 3])('shares partitions, commits and is described, with %i brokers', async (brokers) => {
    const { groups, topicId } = await start(brokers, environment)
    const one = new RawMember(groups, 'billing', 11n, { topicIds: [topicId] })
    const two = new RawMember(groups, 'billing', 12n, { topicIds: [topicId] })
    expect(await one.join()).toMatchObject({ error: null, leaseMs: 30_000 })
    expect(await one.beat()).toBeNull()
    expect(one.partitions).toEqual(['0', '1', '2', '3'])
    expect((await one.commit({ 0: 10, 1: 11 })).errors).toEqual([null, null])

    // The beat that waits hears of the other one at once.
    const waiting = one.beat(5_000)
    await two.join()
    await waiting
    const revoked = one.assigned.filter(({ isRevoking }) => isRevoking)
    expect(revoked).toHaveLength(2)
    await two.beat()
    expect(two.partitions).toEqual([])
    const news = two.beat(5_000)
    const given = Object.fromEntries(revoked.map(({ partition }) => [partition, 20 + partition]))
    expect((await one.commit(given, { releases: true })).errors).toEqual([null, null])
    await news
    expect(two.assigned.map(({ partition, offset, term }) => ({ partition, offset, term }))).toEqual(
      revoked.map(({ partition }) => ({ partition, offset: 20 + partition, term: 1 })),
    )
    // The old owner comes late.
    expect((await one.commit(given)).errors).toEqual(['STALE_ASSIGNMENT', 'STALE_ASSIGNMENT'])

    const { fields } = await groups.admin('groupDescribe', { group: 'billing' })
    expect(fields).toMatchObject({ group: 'billing', state: 'stable' })
    expect((fields.members as { id: string }[]).map(({ id }) => id)).toEqual(['000000000000000b', '000000000000000c'])
    const committed = new Set([0, 1, ...revoked.map(({ partition }) => partition)])
    expect(fields.offsets).toHaveLength(committed.size)
    await one.commit({}, { leaves: true })
    expect(await one.beat()).toBe('UNKNOWN_MEMBER')
  })
})

describe('members of a group', { timeout: 60_000 }, () => {
  it('keep their partitions while they beat, and lose them a lease after their last one', async () => {
    const { groups, topicId } = await start(1)
    const quiet = new RawMember(groups, 'leases', 1n, { topicIds: [topicId], leaseMs: 1_000 })
    const lively = new RawMember(groups, 'leases', 2n, { topicIds: [topicId], leaseMs: 1_000 })
    await quiet.join()
    await quiet.beat()
    await quiet.commit({ 0: 5 })
    await lively.join()
    await lively.beat()
    const began = Date.now()
    while (lively.assigned.length < 4 && Date.now() - began < 10_000) expect(await lively.beat(500)).toBeNull()
    expect(lively.partitions).toEqual(['0', '1', '2', '3'])
    expect(Date.now() - began).toBeGreaterThan(500)
    expect(lively.assigned[0]).toMatchObject({ offset: 5 })
    expect(await quiet.beat()).toBe('UNKNOWN_MEMBER')
    expect((await quiet.commit({ 0: 6 })).error).toBe('UNKNOWN_MEMBER')
    for (let i = 0; i < 12; i++) expect(await lively.beat(250)).toBeNull()
    expect(lively.partitions).toHaveLength(4)
  })

  it('are fenced by another process of their name, which takes over at once', async () => {
    const { groups, topicId } = await start(1)
    const first = new RawMember(groups, 'static', 1n, { topicIds: [topicId], memberName: 'pod-1' })
    const other = new RawMember(groups, 'static', 2n, { topicIds: [topicId], memberName: 'pod-2' })
    await first.join()
    await first.beat()
    await first.commit({ 0: 7 })
    await other.join()
    await first.beat()
    await first.commit({ 2: null, 3: null }, { releases: true })
    await first.beat()
    const had = first.partitions
    const waiting = first.beat(5_000)
    const heir = new RawMember(groups, 'static', 3n, { topicIds: [topicId], memberName: 'pod-1' })
    expect((await heir.join()).error).toBeNull()
    expect(await waiting).toBe('MEMBER_FENCED')
    await heir.beat()
    expect(heir.partitions).toEqual(had)
    expect((await first.commit({ 0: 8 })).error).toBe('MEMBER_FENCED')
    expect((await first.join()).error).toBe('MEMBER_FENCED')
    await other.beat()
    expect(other.partitions).toHaveLength(4 - had.length)
  })

  it('hear of partitions that are added, and of a topic that is deleted', async () => {
    const { groups, topicId } = await start(1)
    const member = new RawMember(groups, 'growing', 1n, { topicIds: [topicId] })
    await member.join()
    await member.beat()
    await member.commit({ 1: 4 })
    const grown = member.beat(5_000)
    const raw = await groups.to(1)
    await raw.admin('alterTopic', { name: 'orders', partitions: 6, breakKeyOrder: true })
    await grown
    expect(member.partitions).toEqual(['0', '1', '2', '3', '4', '5'])
    const gone = member.beat(5_000)
    await raw.admin('deleteTopic', { name: 'orders' })
    expect(await gone).toBeNull()
    expect(member.partitions).toEqual([])
    expect((await groups.admin('groupDescribe', { group: 'growing' })).fields.offsets).toEqual([])
    expect((await member.join()).error).toBe('TOPIC_DELETED')
  })

  it('are refused by name for what nobody could mean', async () => {
    const { groups, topicId } = await start(1)
    const raw = await groups.to(1)
    const member = new RawMember(groups, 'strict', 1n, { topicIds: [topicId], leaseMs: 5 })
    expect((await member.join()).leaseMs).toBe(1_000)
    const place = groups.placeOf('strict', 1n)
    const codeOf = async (changes: Partial<GroupJoin>): Promise<string | null> => {
      const usual = { place, leaseMs: 9_000, group: 'strict', memberName: '', clientId: '', topicIds: [topicId] }
      return errorName((await raw.request(groupJoin, { ...usual, ...changes }, groupJoined)).code)
    }
    expect(await codeOf({ place: { ...place, partition: (place.partition + 1) % 8 } })).toBe('INVALID_REQUEST')
    expect(await codeOf({ place: { ...place, topicId } })).toBe('INVALID_REQUEST')
    expect(await codeOf({ place: { ...place, topicId: 99 } })).toBe('UNKNOWN_TOPIC')
    expect(await codeOf({ place: { ...place, memberId: 0n } })).toBe('INVALID_REQUEST')
    expect(await codeOf({ group: 'no/name' })).toBe('INVALID_REQUEST')
    expect(await codeOf({ memberName: 'no/name' })).toBe('INVALID_REQUEST')
    expect(await codeOf({ topicIds: [topicId, topicId] })).toBe('INVALID_REQUEST')
    expect(await codeOf({ topicIds: [99] })).toBe('COORDINATOR_LOADING')
    expect(await codeOf({ clientId: 'x'.repeat(500) })).toBeNull()
    expect(await codeOf({})).toBeNull()
  })
})

describe('a group without members', { timeout: 60_000 }, () => {
  it('is reset and deleted, which one with members is not', async () => {
    const { groups, topicId } = await start(1)
    const member = new RawMember(groups, 'batch', 1n, { topicIds: [topicId] })
    const reset = { group: 'batch', offsets: [{ topicId, partition: 3, offset: 2 }] }
    expect((await groups.admin('groupReset', reset)).code).toBe('UNKNOWN_GROUP')
    await member.join()
    await member.beat()
    await member.commit({ 3: 50 })
    expect((await groups.admin('groupReset', reset)).code).toBe('GROUP_NOT_EMPTY')
    expect((await groups.admin('groupDelete', { group: 'batch' })).code).toBe('GROUP_NOT_EMPTY')
    await member.commit({}, { leaves: true })
    expect((await groups.admin('groupReset', reset)).code).toBeNull()
    const { partition } = groups.placeOf('batch', 1n)
    const { fields } = await groups.admin('groupList', { partition })
    expect(fields.groups).toEqual([{ group: 'batch', members: 0, topics: [topicId], state: 'empty' }])
    const again = new RawMember(groups, 'batch', 2n, { topicIds: [topicId] })
    await again.join()
    await again.beat()
    expect(again.assigned.map(({ offset }) => offset)).toEqual([null, null, null, 2])
    await again.commit({}, { leaves: true })
    expect((await groups.admin('groupDelete', { group: 'batch' })).code).toBeNull()
    expect((await groups.admin('groupDescribe', { group: 'batch' })).code).toBe('UNKNOWN_GROUP')
  })
})

describe('what is committed', { timeout: 120_000 }, () => {
  it('never goes back, whoever is killed while it is committed', async () => {
    const { cluster, groups, topicId } = await start(3)
    const member = new RawMember(groups, 'steady', 1n, { topicIds: [topicId] })
    await member.join()
    await member.beat()
    let isOver = false
    let acknowledged = 0
    const committing = (async () => {
      for (let offset = 1; !isOver; offset++) {
        const { error, errors } = await member.commit({ 0: offset, 1: offset, 2: offset, 3: offset })
        expect([error, ...errors]).toEqual([null, null, null, null, null])
        acknowledged = offset
      }
    })()
    for (let round = 0; round < 2; round++) {
      await new Promise((resolve) => setTimeout(resolve, 500))
      const killed = await groups.coordinatorOf('steady')
      const before = acknowledged
      await cluster.kill(killed)
      await vi.waitFor(() => expect(acknowledged).toBeGreaterThan(before + 10), { timeout: 20_000, interval: 50 })
      await member.beat()
      for (const { offset } of member.assigned) expect(offset).toBeGreaterThanOrEqual(before)
      await cluster.restart(killed)
    }
    isOver = true
    await committing
    expect(await member.beat()).toBeNull()
    member.version = 0
    await member.beat()
    expect(member.assigned.map(({ offset }) => offset)).toEqual([
      acknowledged,
      acknowledged,
      acknowledged,
      acknowledged,
    ])
  })

  it.each(ENVIRONMENTS)('is read again from an image and what follows it, on %s', async (environment) => {
    const { cluster, groups, topicId } = await start(1, environment)
    const member = new RawMember(groups, 'images', 1n, { topicIds: [topicId] })
    await member.join()
    await member.beat()
    await member.commit({ 0: 1, 1: 2 }, { leaves: true })
    const offsets = Array.from({ length: 5_000 }, (_, at) => ({ topicId, partition: at % 4, offset: 2 ** 40 + at }))
    for (let i = 0; i < 24; i++)
      expect((await groups.admin('groupReset', { group: 'images', offsets })).code).toBeNull()
    expect(cluster.broker(1).status().counters).toMatchObject({ groupImages: 1 })
    const describe = async () => (await groups.admin('groupDescribe', { group: 'images' })).fields
    const before = await describe()
    const startOf = async () => {
      const { fields } = await (await groups.to(1)).admin('describeTopic', { name: '__groups' })
      const { partition } = groups.placeOf('images', 1n)
      return (fields.partitions as { logStartOffset: number }[])[partition]!.logStartOffset
    }
    const start_ = await startOf()
    expect(start_).toBeGreaterThan(10)
    await cluster.restart(1)
    expect(await startOf()).toBe(start_)
    expect(await describe()).toEqual(before)
    const late = new RawMember(groups, 'images', 2n, { topicIds: [topicId] })
    await late.join()
    await late.beat()
    await late.commit({ 2: 2 ** 41 })
    await cluster.kill(1)
    await cluster.restart(1)
    late.version = 0
    expect(await late.beat()).toBeNull()
    expect(late.assigned[2]).toMatchObject({ offset: 2 ** 41 })
  })
})

describe('a broker that stops', { timeout: 60_000 }, () => {
  it('does not wait for beats that are held', async () => {
    const { cluster, groups, topicId } = await start(1)
    const member = new RawMember(groups, 'patient', 1n, { topicIds: [topicId], leaseMs: 600_000 })
    await member.join()
    await member.beat()
    const raw = await groups.to(1)
    const { id, epoch: memberEpoch, version } = member
    const place = groups.placeOf('patient', id)
    const message = { place, memberEpoch, version, waitMs: 100_000, group: 'patient' }
    const held = raw.request(groupBeat, message, groupBeatReply)
    await new Promise((resolve) => setTimeout(resolve, 200))
    const began = Date.now()
    await cluster.broker(1).stop()
    expect(Date.now() - began).toBeLessThan(1_500)
    expect(errorName((await held).code)).toBe('SHUTTING_DOWN')
  })
})
