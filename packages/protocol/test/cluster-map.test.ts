// The cluster map only moves forward, whatever order news comes in.
import {
  ClusterMap,
  compareRouteVersions,
  type MapDelta,
  type MapSnapshot,
  type NodeInfo,
  partitionOfKey,
  type Route,
  type RouteChange,
  type TopicInfo,
} from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { codeOf } from './expect-error.js'
import { bytesOf } from './samples.js'

const CLUSTER = '0'.repeat(31).concat('1')

const node = (nodeId: number, port = 7420): NodeInfo => ({ nodeId, host: `host-${nodeId}`, port, shardCount: 1 })
const route = (term: number, placement = 0): Route => ({ nodeId: (term % 5) + 1, shard: placement, placement, term })
const topic = (topicId: number, routes: readonly Route[], name = `topic-${topicId}`): TopicInfo => ({
  topicId,
  name,
  partitioner: 'murmur2',
  durability: 'flushed',
  codecs: ['none'],
  routes,
})
const snapshot = (version: number, topics: readonly TopicInfo[], nodes = [node(1)]): MapSnapshot => ({
  version,
  clusterId: CLUSTER,
  nodes,
  topics,
})
const delta = (sequence: number, version: number, change: Partial<MapDelta>): MapDelta => ({
  nodes: [],
  removedNodes: [],
  topics: [],
  removedTopics: [],
  routes: [],
  ...change,
  version,
  sequence,
})

function mapOf(first: MapSnapshot): ClusterMap {
  const map = new ClusterMap()
  map.applySnapshot(first)
  return map
}

describe('a snapshot', () => {
  it('is what a new map then says', () => {
    const map = new ClusterMap()
    expect([map.version, map.clusterId, map.nodes(), map.topics()]).toEqual([0, null, [], []])
    const given = snapshot(5, [topic(1, [route(1), route(2)]), topic(2, [route(3)])], [node(1), node(2)])
    map.applySnapshot(given)
    expect(map.snapshot()).toEqual(given)
    expect([map.version, map.clusterId]).toEqual([5, CLUSTER])
    expect(map.node(2)).toEqual(node(2))
    expect(map.topic('topic-2')).toBe(map.topicById(2))
    expect(map.route(1, 1)).toEqual(route(2))
    expect([map.route(1, 2), map.route(9, 0), map.topic('none'), map.node(9)]).toEqual(Array(4).fill(undefined))
    expect(map.partitionOf(map.topic('topic-1')!, bytesOf('key'))).toBe(partitionOfKey(bytesOf('key'), 2))
  })

  it('that names a leader where none was known in that term brings it, and never takes one away', () => {
    const none = { nodeId: 0, shard: 0, placement: 0, term: 7 }
    const led = { ...none, nodeId: 2 }
    const map = mapOf(snapshot(5, [topic(1, [route(3)])]))
    expect(map.applyRoute({ topicId: 1, partition: 0, route: none })).toBe(true)
    expect(map.applyRoute({ topicId: 1, partition: 0, route: led })).toBe(true)
    expect(map.applyRoute({ topicId: 1, partition: 0, route: none })).toBe(false)
    expect(map.applyRoute({ topicId: 1, partition: 0, route: { ...led, nodeId: 3 } })).toBe(false)
    map.applySnapshot(snapshot(6, [topic(1, [none])]))
    expect(map.route(1, 0)).toEqual(led)
    const newer = { topicId: 1, partition: 0, route: { ...led, term: led.term + 1 } }
    expect(map.applyRoutes([{ topicId: 1, partition: 0, route: led }, newer, { ...newer, topicId: 9 }])).toEqual([
      newer,
    ])
    expect(map.route(1, 0)).toEqual(newer.route)
  })

  it('of another cluster is refused and changes nothing', () => {
    const map = mapOf(snapshot(5, [topic(1, [route(1)])]))
    const before = map.snapshot()
    expect(codeOf(() => map.applySnapshot({ ...snapshot(9, []), clusterId: 'f'.repeat(32) }))).toBe('WRONG_CLUSTER')
    expect(map.snapshot()).toEqual(before)
  })

  it('that is older changes neither nodes nor topics, but brings newer routes', () => {
    const map = mapOf(snapshot(5, [topic(1, [route(4), route(4)])], [node(1)]))
    map.applySnapshot(snapshot(4, [topic(1, [route(3), route(9)]), topic(2, [route(9)])], [node(7)]))
    expect(map.version).toBe(5)
    expect(map.nodes()).toEqual([node(1)])
    expect(map.topics()).toEqual([topic(1, [route(4), route(9)])])
  })

  it('that is newer removes what it lacks and keeps newer routes', () => {
    const map = mapOf(snapshot(5, [topic(1, [route(8)]), topic(2, [route(1)])], [node(1), node(2)]))
    map.applySnapshot(snapshot(6, [topic(1, [route(7), route(1)])], [node(2)]))
    expect(map.snapshot()).toEqual(snapshot(6, [topic(1, [route(8), route(1)])], [node(2)]))
    expect(map.topic('topic-2')).toBe(undefined)
  })
})

describe('deltas', () => {
  it('are taken one after another, each kind of change', () => {
    const map = mapOf(snapshot(5, [topic(1, [route(1)]), topic(2, [route(1)])], [node(1), node(2)]))
    const changes = {
      nodes: [node(1, 9999), node(3)],
      removedNodes: [2],
      topics: [topic(3, [route(1), route(1)])],
      removedTopics: [2],
      routes: [{ topicId: 3, partition: 1, route: route(2) }],
    }
    expect(map.applyDelta(delta(1, 6, changes))).toBe(true)
    expect(map.snapshot()).toEqual(
      snapshot(6, [topic(1, [route(1)]), topic(3, [route(1), route(2)])], [node(1, 9999), node(3)]),
    )
    expect(map.topic('topic-2')).toBe(undefined)
    expect(map.applyDelta(delta(2, 7, { removedTopics: [3, 99] }))).toBe(true)
    expect(map.topics().map(({ topicId }) => topicId)).toEqual([1])
  })

  it('are refused after a gap, when repeated, and before a snapshot, and change nothing then', () => {
    expect(new ClusterMap().applyDelta(delta(1, 1, { nodes: [node(1)] }))).toBe(false)
    const map = mapOf(snapshot(5, []))
    const news = { nodes: [node(9)] }
    expect(map.applyDelta(delta(2, 6, news))).toBe(false)
    expect(map.applyDelta(delta(0, 6, news))).toBe(false)
    expect(map.applyDelta(delta(1, 6, {}))).toBe(true)
    expect(map.applyDelta(delta(1, 7, news))).toBe(false)
    expect(map.applyDelta(delta(3, 7, news))).toBe(false)
    expect([map.version, map.node(9)]).toEqual([6, undefined])
    map.applySnapshot(snapshot(8, []))
    expect(map.applyDelta(delta(1, 9, news))).toBe(true)
    expect(map.node(9)).toEqual(node(9))
  })

  it('of a node that is behind change only routes until it has caught up', () => {
    const map = mapOf(snapshot(10, [topic(1, [route(1)])], [node(1)]))
    map.applySnapshot(snapshot(6, [topic(2, [route(1)])], [node(2)]))
    const old = delta(1, 8, {
      nodes: [node(3)],
      removedTopics: [1],
      routes: [{ topicId: 1, partition: 0, route: route(5) }],
    })
    expect(map.applyDelta(old)).toBe(true)
    expect(map.snapshot()).toEqual(snapshot(10, [topic(1, [route(5)])], [node(1)]))
    expect(map.applyDelta(delta(2, 12, { topics: [topic(3, [route(1)])] }))).toBe(true)
    expect([map.version, map.topics().length]).toEqual([12, 2])
  })

  it('take a topic under its new name, and a new topic under an old one', () => {
    const map = mapOf(snapshot(1, [topic(1, [route(1)], 'orders'), topic(2, [route(1)], 'payments')]))
    map.applyDelta(delta(1, 2, { topics: [topic(1, [route(1)], 'renamed'), topic(3, [route(1)], 'payments')] }))
    expect(map.topic('orders')).toBe(undefined)
    expect(map.topic('renamed')?.topicId).toBe(1)
    expect(map.topic('payments')?.topicId).toBe(3)
    expect(map.topicById(2)).toBe(undefined)
    map.applyDelta(delta(2, 3, { removedTopics: [2] }))
    expect(map.topic('payments')?.topicId).toBe(3)
  })

  it('change many routes of one topic without touching what was handed out before', () => {
    const map = mapOf(snapshot(1, [topic(1, Array(1000).fill(route(1))), topic(2, [route(5)])]))
    const before = map.topicById(1)!
    const routes = Array.from({ length: 1000 }, (_, partition) => ({ topicId: 1, partition, route: route(2) }))
    const stale = [
      { topicId: 2, partition: 0, route: route(4) },
      { topicId: 2, partition: 7, route: route(9) },
      { topicId: 8, partition: 0, route: route(9) },
    ]
    map.applyDelta(delta(1, 1, { routes: [...routes, ...stale, { topicId: 1, partition: 3, route: route(1) }] }))
    expect(before.routes[0]).toEqual(route(1))
    expect(map.topicById(1)!.routes).toEqual(Array(1000).fill(route(2)))
    expect(map.topicById(2)!.routes).toEqual([route(5)])
  })
})

describe('routes', () => {
  it('are newer by term first, then by placement', () => {
    const ordered = [route(1, 0), route(1, 9), route(2, 0), route(2, 1), route(0xffffffff, 0xffff)]
    ordered.forEach((a, i) => {
      ordered.forEach((b, j) => {
        expect(Math.sign(compareRouteVersions(a, b))).toBe(Math.sign(i - j))
      })
    })
  })

  it('replace only older ones, and say so', () => {
    const map = mapOf(snapshot(1, [topic(1, [route(3, 3)])]))
    const change = (next: Route): RouteChange => ({ topicId: 1, partition: 0, route: next })
    expect(map.applyRoute(change(route(3, 3)))).toBe(false)
    expect(map.applyRoute(change(route(3, 2)))).toBe(false)
    expect(map.applyRoute(change(route(2, 9)))).toBe(false)
    expect(map.applyRoute(change(route(3, 4)))).toBe(true)
    expect(map.applyRoute(change(route(4, 0)))).toBe(true)
    expect(map.applyRoute({ ...change(route(9)), partition: 1 })).toBe(false)
    expect(map.applyRoute({ ...change(route(9)), topicId: 2 })).toBe(false)
    expect(map.route(1, 0)).toEqual(route(4, 0))
  })
})

// A history as the metadata log would have it: what is true at each version, told in any order.
const PARTITIONS = 3
const TOPICS = [1, 2, 3]
const versionOf = fc.record({ term: fc.integer({ min: 1, max: 6 }), placement: fc.nat(2) })
const someRoute = versionOf.map(({ term, placement }) => route(term, placement))
const someTopics = fc
  .subarray(TOPICS)
  .chain((ids) =>
    fc.tuple(
      ...ids.map((id) =>
        fc.array(someRoute, { minLength: PARTITIONS, maxLength: PARTITIONS }).map((routes) => topic(id, routes)),
      ),
    ),
  )

describe('news in any order', () => {
  it('of routes leads to the same map', () => {
    const change = fc.record({ topicId: fc.constantFrom(...TOPICS), partition: fc.nat(PARTITIONS), route: someRoute })
    fc.assert(
      fc.property(fc.array(change, { maxLength: 30 }), fc.infiniteStream(fc.nat(1000)), (changes, ranks) => {
        const start = snapshot(
          1,
          TOPICS.map((id) => topic(id, Array(PARTITIONS).fill(route(0)))),
        )
        const inOrder = mapOf(start)
        for (const one of changes) inOrder.applyRoute(one)
        const shuffled = changes
          .map((one) => ({ one, rank: ranks.next().value as number }))
          .sort((a, b) => a.rank - b.rank)
          .map(({ one }) => one)
        const other = mapOf(start)
        for (const one of shuffled) other.applyRoute(one)
        expect(other.snapshot()).toEqual(inOrder.snapshot())
        const atOnce = mapOf(start)
        atOnce.applyDelta(delta(1, 1, { routes: shuffled }))
        expect(atOnce.snapshot()).toEqual(inOrder.snapshot())
      }),
    )
  })

  it('of snapshots never goes back, in version, routes, nodes or topics', () => {
    const given = fc.array(fc.tuple(fc.integer({ min: 1, max: 5 }), someTopics), { minLength: 1, maxLength: 8 })
    fc.assert(
      fc.property(given, (list) => {
        const map = new ClusterMap()
        // What is true at a version is the same whoever tells it; only its routes may differ.
        const idsAt = new Map<number, number[]>()
        for (const [version, topics] of list) {
          const ids = idsAt.get(version) ?? topics.map(({ topicId }) => topicId)
          idsAt.set(version, ids)
          const before = map.snapshot()
          const told = ids.map(
            (id) => topics.find(({ topicId }) => topicId === id) ?? topic(id, Array(PARTITIONS).fill(route(0))),
          )
          map.applySnapshot(snapshot(version, told, [node(version)]))
          expect(map.version).toBe(Math.max(before.version, version))
          expect(map.topics().map(({ topicId }) => topicId)).toEqual(idsAt.get(map.version))
          expect(map.nodes()).toEqual([node(map.version)])
          for (const old of before.topics) {
            old.routes.forEach((known, partition) => {
              const now = map.route(old.topicId, partition)
              if (now !== undefined) expect(compareRouteVersions(now, known)).toBeGreaterThanOrEqual(0)
            })
          }
        }
      }),
    )
  })
})
