// Gossip of brokers that are nothing else, on the simulated network: what they make known, and what comes of what they hear.
import type { Route } from '@millrace/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ClusterGossip, type ClusterGossipOptions } from '#src/cluster/cluster-gossip.js'
import { ClusterMembers } from '#src/cluster/cluster-members.js'
import { LeaderTable } from '#src/cluster/leader-table.js'
import { routeHash } from '#src/cluster/leadership-digest.js'
import { openKey } from '#src/gossip/cluster-keys.js'
import { GOSSIP_LIMITS } from '#src/gossip/gossip-limits.js'
import { type SimulatedWorld, simulatedWorld } from '../peers/peer-world.js'

const CLUSTER_ID = 'c1'.repeat(16)
const PORT = 7420
const hostOf = (nodeId: number): string => `broker-${nodeId}`
const ROUTE: Route = { nodeId: 1, shard: 0, placement: 0, term: 3 }

/** What the rest of a broker would know. */
class Known {
  version = 1
  term = 1
  changes = 0
  routes: readonly Route[] = []
  readonly asked: number[] = []
  readonly woken: number[] = []
  connects = true
}

describe('gossip of brokers', () => {
  let world: SimulatedWorld
  const all = new Map<number, ClusterGossip>()

  beforeEach(() => {
    world = simulatedWorld(7)
  })
  afterEach(async () => {
    await Promise.all([...all.values()].map((gossip) => gossip.close()))
    all.clear()
    await world.close()
  })

  function membersOf(nodeId: number, ids: readonly number[]): ClusterMembers {
    const configured = ids.map((id) => ({ nodeId: id, host: hostOf(id), port: PORT }))
    return new ClusterMembers({ nodeId, configured, remembered: [], removed: [], shards: 1 })
  }

  function start(nodeId: number, changes: Partial<ClusterGossipOptions> = {}) {
    const known = new Known()
    const place = world.place(nodeId)
    const gossip = new ClusterGossip({
      environment: place.environment,
      identity: { clusterId: CLUSTER_ID, diskId: `d${nodeId}`.repeat(16), nodeId, starts: 1 },
      rack: 'a rack with a name that is longer than what a rumour has room for, by far',
      members: membersOf(nodeId, [1, 2, 3]),
      metadata: {
        get version() {
          return known.version
        },
        get digest() {
          return { position: known.version, hash: known.term }
        },
      },
      leaders: {
        get changes() {
          return known.changes
        },
        routes: () => known.routes,
        hashOf: (topicId) => known.routes.reduce((sum, route, at) => (sum + routeHash(topicId, at, route)) >>> 0, 0),
      },
      topics: { list: () => [{ topicId: 1 }] },
      shard: { partitions: () => [] },
      volume: { space: async () => ({ freeBytes: 5_000, totalBytes: 10_000 }) },
      metrics: { producedBytes: 0, pushedBytes: 0 },
      peers: {
        isConnected: () => known.connects,
        askLeaders: (of) => void known.asked.push(of),
        wake: (of) => void known.woken.push(of),
        async exchangeGossip(to, state) {
          const answer = known.connects ? all.get(to)?.answer(state) : null
          if (answer == null) throw new Error('nothing came back')
          return answer
        },
      },
      keys: [openKey(CLUSTER_ID)],
      limits: GOSSIP_LIMITS,
      ...changes,
    })
    all.set(nodeId, gossip)
    const address = { host: hostOf(nodeId), port: PORT }
    gossip.listening(address, address)
    return { gossip, known, lines: place.lines }
  }

  const sees = (by: number, nodeId: number): string => all.get(by)?.lifeOf(nodeId)?.state ?? 'unknown'
  const allSeeAll = (): boolean => [1, 2, 3].every((by) => [1, 2, 3].every((nodeId) => sees(by, nodeId) === 'alive'))

  it('tells how busy each is, and is told who has left', async () => {
    const [one] = [start(1), start(2), start(3)]
    await world.until('all are alive', allSeeAll)
    await world.until('loads are known', () => one.gossip.lifeOf(2)?.load?.freeDiskBytes === 5_000)
    expect(one.known.woken).toEqual(expect.arrayContaining([2, 3]))
    await all.get(3)!.leave()
    await world.until('it has left', () => sees(1, 3) === 'left' && sees(2, 3) === 'left')
    const before = one.gossip.lifeOf(3)!.forMs
    await world.sleep(500)
    expect(one.gossip.lifeOf(3)!.forMs - before).toBeGreaterThan(400)
  })

  it('asks for leaders that only somebody else knows, and no more once they are here', async () => {
    const parties = [start(1), start(2), start(3)]
    const [one, two] = parties as [(typeof parties)[0], (typeof parties)[0]]
    await world.until('all are alive', allSeeAll)
    one.known.routes = [ROUTE]
    one.known.changes++
    await world.until('they are asked for', () => two.known.asked.includes(1))
    expect(one.gossip.knownLeaderships()).toEqual([{ topicId: 1, partition: 0, route: ROUTE }])
    // What was asked for is news of yesterday before it has come, and everybody knows what came after it.
    for (const { known } of parties) {
      known.routes = [{ ...ROUTE, term: ROUTE.term + 1 }]
      known.changes++
    }
    await world.sleep(2_500)
    for (const { known } of parties) known.asked.length = 0
    await world.sleep(5_000)
    expect(parties.map(({ known }) => known.asked)).toEqual([[], [], []])
  })

  it('says that metadata of one version differ, and has links dialled when somebody has more of them', async () => {
    const [one, two] = [start(1), start(2), start(3)]
    await world.until('all are alive', allSeeAll)
    two.known.woken.length = 0
    one.known.version = 5
    await world.until('it is dialled', () => two.known.woken.includes(1))
    two.known.version = 5
    two.known.term = 4
    const message = 'another broker has other metadata of the same version'
    await world.until('it is said', () => two.lines.some((line) => line.level === 'error' && line.message === message))
  })

  it('shuts out who was removed, and begins with the first other broker', async () => {
    const alone = membersOf(1, [1])
    const one = start(1, { members: alone })
    start(2)
    start(3)
    await world.sleep(1_000)
    expect([one.gossip.status(), sees(1, 1), sees(2, 1)]).toEqual([null, 'alive', 'unknown'])
    const record = { rack: null, shards: 1, port: PORT, diskId: 'd0'.repeat(16) }
    const node = (nodeId: number, state: 'active' | 'removed') => ({ ...record, nodeId, host: hostOf(nodeId), state })
    alone.update([node(1, 'active'), node(2, 'active'), node(3, 'active')])
    one.gossip.look()
    await world.until('all are alive', allSeeAll)
    alone.update([node(1, 'active'), node(2, 'active'), node(3, 'removed')])
    one.gossip.look()
    expect(sees(1, 3)).toBe('unknown')
    await world.sleep(2_000)
    expect([sees(1, 3), sees(1, 2)]).toEqual(['unknown', 'alive'])
    expect(one.lines.filter(({ message }) => message === 'gossip is refused')).toHaveLength(1)
  })

  it('takes a broker for alive that is heard on streams alone, and for dead when those break', async () => {
    const parties = [start(1), start(2), start(3)]
    await world.until('all are alive', allSeeAll)
    for (const [from, to] of [
      [1, 3],
      [2, 3],
    ] as const)
      world.split(from, to)
    for (let waited = 0; waited < 60; waited++) {
      await world.sleep(100)
      for (const by of [1, 2]) all.get(by)!.heard(3)
      for (const nodeId of [1, 2]) all.get(3)!.heard(nodeId)
    }
    expect([sees(1, 3), sees(2, 3), sees(3, 1)]).toEqual(['alive', 'alive', 'alive'])
    for (const { known } of parties) known.connects = false
    for (const by of [1, 2]) all.get(by)!.lost(3)
    const lostAtMs = world.nowMs()
    await world.until('it is dead', () => sees(1, 3) === 'dead' && sees(2, 3) === 'dead')
    expect(world.nowMs() - lostAtMs).toBeLessThan(5_000)
  })
})

describe('what is known of leaders', () => {
  const change = (topicId: number, partition: number, route: Partial<Route> = {}) => ({
    topicId,
    partition,
    route: { ...ROUTE, ...route },
  })

  type Known = readonly ReturnType<typeof change>[]

  /** As a table has it that hears of two topics of three partitions, and then of these routes one after the other. */
  function hashOf(known: Known): number {
    const table = new LeaderTable(() => {})
    for (const topicId of [1, 2]) table.addTopic(topicId, 3)
    for (const one of known) table.learn([one])
    return (table.hashOf(1) + table.hashOf(2)) >>> 0
  }

  it('has one hash in any order, and another with any other route', () => {
    const known = [change(1, 0), change(1, 1), change(2, 0)]
    const hash = hashOf(known)
    expect(hashOf(known.toReversed())).toBe(hash)
    expect(hash).toBe(
      known.reduce((sum, { topicId, partition, route }) => (sum + routeHash(topicId, partition, route)) >>> 0, 0),
    )
    const others = [
      [change(1, 0), change(1, 1)],
      [change(1, 0), change(1, 1), change(2, 1)],
      [change(1, 0), change(1, 1), change(2, 0, { term: 4 })],
      [change(1, 0), change(1, 1), change(2, 0, { nodeId: 2 })],
      [change(1, 0), change(1, 1), change(2, 0, { placement: 1 })],
      [change(1, 0), change(1, 1, { term: 4 }), change(2, 0)],
    ].map(hashOf)
    expect(new Set([hash, ...others]).size).toBe(7)
    expect(hashOf([change(1, 0, { term: 0 })])).toBe(0)
  })

  it('keeps the hash up to date with each route that comes, goes by, or came early', () => {
    const older = change(1, 0)
    const newer = change(1, 0, { term: ROUTE.term + 1 })
    const hash = hashOf([newer])
    expect([hashOf([older, newer]), hashOf([newer, older])]).toEqual([hash, hash])
    expect(hashOf([older])).not.toBe(hash)
    const table = new LeaderTable(() => {})
    table.learn([newer])
    table.addTopic(1, 3)
    expect(table.hashOf(1)).toBe(hash)
    table.removeTopic(1)
    expect(table.hashOf(1)).toBe(0)
  })
})
