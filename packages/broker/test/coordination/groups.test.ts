// Consumer groups over the wire, on real brokers: who has which partition, what is committed, and what outlives whom.
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
