// The cluster map as it is pushed: a snapshot, deltas that follow on it, and a client's map that ends up the same.
import { ClusterMap, type MapDelta, type MapHeartbeat, type MapSnapshot } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { MapPublisher } from '#src/cluster/map-publisher.js'
import { TestClock } from '../partition/fixture.js'

const CLUSTER = 'c'.repeat(32)
const ROUTE = { nodeId: 1, shard: 0, placement: 0, term: 4 }
const ROUTES = [ROUTE, ROUTE]
const topic = (topicId: number, name: string) =>
  ({
    topicId,
    name,
    partitions: 2,
    replicas: [[1], [1]],
    founders: [[1], [1]],
    durability: 'flushed',
    codecs: ['none'],
    retentionMs: null,
    retentionBytes: null,
  }) as const

class Follower {
  readonly map = new ClusterMap()
  readonly beats: MapHeartbeat[] = []
  onSnapshot(snapshot: MapSnapshot): void {
    this.map.applySnapshot(snapshot)
  }
  onDelta(delta: MapDelta): void {
    expect(this.map.applyDelta(delta)).toBe(true)
  }
  onHeartbeat(heartbeat: MapHeartbeat): void {
    this.beats.push(heartbeat)
  }
}

describe('the cluster map', () => {
  it('is the same for whoever came first and whoever came last', () => {
    const publisher = new MapPublisher(CLUSTER, 1)
    const first = new Follower()
    publisher.subscribe(first)
    publisher.putNode({ nodeId: 1, host: 'localhost', port: 7420, shardCount: 1 })
    publisher.putTopic(topic(1, 'a'), ROUTES, 2)
    publisher.putTopic(topic(2, 'b'), ROUTES, 3)
    publisher.putNode({ nodeId: 2, host: 'localhost', port: 7421, shardCount: 1 })
    publisher.removeNode(2)
    publisher.removeNode(9)
    publisher.removeTopic(1, 4)
    publisher.removeTopic(9, 5)
    const last = new Follower()
    publisher.subscribe(last)
    publisher.putTopic(topic(3, 'a'), ROUTES, 6)
    for (const { map } of [first, last]) {
      expect(map.snapshot()).toEqual(publisher.snapshot())
      expect(map.version).toBe(6)
      expect(map.nodes().map(({ nodeId }) => nodeId)).toEqual([1])
      expect(map.topic('a')?.topicId).toBe(3)
      expect(map.route(3, 1)).toEqual(ROUTE)
    }
  })

  it('tells of many new leaders at once, and only of topics it has', () => {
    const publisher = new MapPublisher(CLUSTER, 1)
    const follower = new Follower()
    publisher.subscribe(follower)
    publisher.putTopic(topic(1, 'a'), ROUTES, 2)
    publisher.putTopic(topic(2, 'b'), ROUTES, 3)
    const route = { ...ROUTE, nodeId: 2, term: 5 }
    const changes = [
      [1, 0],
      [2, 1],
      [1, 1],
      [9, 0],
    ].map(([topicId, partition]) => ({ topicId: topicId!, partition: partition!, route }))
    publisher.putRoutes(changes)
    expect(follower.map.topicById(1)?.routes).toEqual([route, route])
    expect(follower.map.topicById(2)?.routes).toEqual([ROUTE, route])
    expect(follower.map.snapshot()).toEqual(publisher.snapshot())
  })

  it('is pushed to nobody who has left', () => {
    const publisher = new MapPublisher(CLUSTER, 1)
    const follower = new Follower()
    publisher.subscribe(follower)
    publisher.heartbeat(7)
    publisher.unsubscribe(follower)
    publisher.heartbeat(8)
    publisher.putTopic(topic(1, 'a'), ROUTES, 2)
    expect(follower.beats).toEqual([{ version: 1, metadataAgeMs: 7 }])
    expect(follower.map.topic('a')).toBeUndefined()
  })

  it('can be waited for', async () => {
    const publisher = new MapPublisher(CLUSTER, 1)
    const clock = new TestClock()
    await expect(publisher.reaches(1, clock, 100)).resolves.toBe(true)
    const soon = publisher.reaches(2, clock, 100)
    const never = publisher.reaches(3, clock, 100)
    publisher.putTopic(topic(1, 'a'), ROUTES, 2)
    await expect(soon).resolves.toBe(true)
    clock.advance(100)
    await expect(never).resolves.toBe(false)
  })
})
