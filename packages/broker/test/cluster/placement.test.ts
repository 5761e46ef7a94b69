// Placement: over racks, over nodes, and leaders even; what is drained goes where there is room.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import type { TopicDefinition } from '#src/cluster/metadata-command.js'
import type { NodeRecord } from '#src/cluster/node-registry.js'
import { Load, placeableNodes, placeReplicas, planDrain } from '#src/cluster/placement.js'
import { topicOf } from './topic-of.js'

const node = (nodeId: number, rack: string | null = null, state: NodeRecord['state'] = 'active'): NodeRecord => ({
  nodeId,
  diskId: nodeId.toString(16).padStart(32, '0'),
  host: `10.0.0.${nodeId}`,
  port: 7420,
  rack,
  shards: 1,
  state,
})

const spread = (values: readonly number[]): number => Math.max(...values) - Math.min(...values)

describe('placement', () => {
  it('takes each node once for a partition, and gives every node and every leader its even share', () => {
    const nodes = [node(1), node(2), node(3), node(4), node(5)]
    const load = new Load()
    for (let topicId = 1; topicId <= 20; topicId++) {
      const partitions = 1 + (topicId % 7)
      const lists = placeReplicas({ nodes, load, firstPartition: 0, partitions, factor: 3, topicId })
      expect(lists).toHaveLength(partitions)
      for (const list of lists) expect(new Set(list).size).toBe(3)
      expect(spread(nodes.map(({ nodeId }) => load.replicasOf(nodeId)))).toBeLessThanOrEqual(1)
      expect(spread(nodes.map(({ nodeId }) => load.leadersOf(nodeId)))).toBeLessThanOrEqual(2)
    }
  })

  it('is what it was for nodes that are alike: in turn', () => {
    const nodes = [node(1), node(2), node(3)]
    const request = { nodes, load: new Load(), firstPartition: 0, partitions: 3, factor: 3, topicId: 1 }
    expect(placeReplicas(request)).toEqual([
      [2, 3, 1],
      [3, 1, 2],
      [1, 2, 3],
    ])
  })

  it('spreads over racks first, however uneven they are', () => {
    for (let seed = 0; seed < 100; seed++) {
      const random = new SeededRandom(seed)
      const racks = 2 + random.below(4)
      const nodes = Array.from({ length: racks + random.below(6) }, (_, at) => {
        return node(at + 1, `rack-${at < racks ? at : random.below(racks)}`)
      })
      const factor = 1 + random.below(Math.min(5, nodes.length))
      const load = new Load()
      const lists = placeReplicas({ nodes, load, firstPartition: 0, partitions: 30, factor, topicId: seed })
      for (const list of lists) {
        const used = new Set(list.map((id) => nodes.find(({ nodeId }) => nodeId === id)?.rack))
        expect(used.size).toBe(Math.min(racks, factor))
      }
    }
  })

  it('fills a new node before the others get more', () => {
    const load = Load.of([
      topicOf(
        1,
        Array.from({ length: 6 }, () => [1, 2]),
      ),
    ])
    const lists = placeReplicas({
      nodes: [node(1), node(2), node(3)],
      load,
      firstPartition: 0,
      partitions: 6,
      factor: 1,
      topicId: 2,
    })
    expect(lists).toEqual(Array.from({ length: 6 }, () => [3]))
  })

  it('takes active nodes, and those of the configuration that have not been heard of', () => {
    const nodes = [node(1), node(2, null, 'draining'), node(3, null, 'removed')]
    expect(placeableNodes(nodes, [1, 2, 3, 4]).map(({ nodeId }) => nodeId)).toEqual([1, 4])
  })

  it('refuses more replicas than there are nodes', () => {
    const request = { nodes: [node(1)], load: new Load(), firstPartition: 0, partitions: 1, factor: 2, topicId: 1 }
    expect(() => placeReplicas(request)).toThrow('2 replicas, and there are 1 active brokers')
  })
})

describe('the plan of a drain', () => {
  it('moves what is on the node and nothing else, evenly', () => {
    const nodes = [node(1), node(2), node(3), node(4), node(5)]
    const load = new Load()
    const place = (topicId: number, partitions: number): TopicDefinition =>
      topicOf(topicId, placeReplicas({ nodes, load, firstPartition: 0, partitions, factor: 3, topicId }))
    const topics = [place(1, 10), place(2, 25)]
    const drained = nodes.map((one) => (one.nodeId === 2 ? { ...one, state: 'draining' as const } : one))
    const plan = planDrain(2, topics, drained)
    expect(plan).toHaveLength(topics.flatMap(({ replicas }) => replicas).filter((list) => list.includes(2)).length)
    const after = topics.map((one) => ({ ...one, replicas: one.replicas.slice() }))
    for (const { topicId, partition, replicas } of plan) {
      const before = topics[topicId - 1]!.replicas[partition]!
      expect(replicas).toHaveLength(3)
      expect(replicas).not.toContain(2)
      for (const kept of before) if (kept !== 2) expect(replicas).toContain(kept)
      if (before[0] !== 2) expect(replicas[0]).toBe(before[0])
      after[topicId - 1]!.replicas[partition] = replicas
    }
    const result = Load.of(after)
    const left = [1, 3, 4, 5]
    // Node 1 is in most of the partitions already, and so takes fewest: the others share the rest.
    expect(spread([3, 4, 5].map((nodeId) => result.replicasOf(nodeId)))).toBeLessThanOrEqual(1)
    expect(spread(left.map((nodeId) => result.leadersOf(nodeId)))).toBeLessThanOrEqual(2)
    expect(planDrain(2, after, drained)).toEqual([])
  })

  it('keeps racks apart where it can', () => {
    const nodes = [node(1, 'a'), node(2, 'b'), node(3, 'a'), node(4, 'b')]
    expect(planDrain(2, [topicOf(1, [[1, 2]])], nodes)).toEqual([{ topicId: 1, partition: 0, replicas: [1, 4] }])
  })

  it('does not move to nodes that are draining or gone', () => {
    const nodes = [node(1), node(2, null, 'draining'), node(3, null, 'draining'), node(4, null, 'removed'), node(5)]
    expect(planDrain(2, [topicOf(1, [[1, 2]])], nodes)).toEqual([{ topicId: 1, partition: 0, replicas: [1, 5] }])
  })

  it('is refused where there is nowhere to go', () => {
    const nodes = [node(1), node(2), node(3)]
    expect(() => planDrain(2, [topicOf(1, [[1, 2, 3]])], nodes)).toThrow(
      'topic-1 has 3 replicas, and there are 2 other active brokers: add a broker first',
    )
  })
})
