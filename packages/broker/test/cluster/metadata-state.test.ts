// The metadata as a state machine: the same commands give the same state everywhere, twice is once, old ones are still read.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { decodeCommand, encodeCommand, type MetadataCommand } from '#src/cluster/metadata-command.js'
import { decodeImage, imageFields, MetadataState } from '#src/cluster/metadata-state.js'
import { decodeFields, encodeMessagePack } from '#src/message-pack.js'
import { topicOf } from './topic-of.js'

const DISK = 'd'.repeat(32)
const place = { host: '10.0.0.1', port: 7420, rack: null, shards: 4 }

/** A command that may or may not fit the state, as a log of any history could hold it. */
function anyCommand(random: SeededRandom): MetadataCommand {
  const below = (bound: number): number => random.below(bound)
  const nodeId = 1 + below(8)
  const topicId = 1 + below(6)
  const some = (): number[] => [...new Set(Array.from({ length: 1 + below(3) }, () => 1 + below(8)))]
  const lists = (): number[][] => Array.from({ length: 1 + below(3) }, some)
  const where = {
    host: `host-${below(9)}`,
    port: 1 + below(9),
    rack: below(2) === 0 ? null : `r${below(3)}`,
    shards: 1,
  }
  const diskId = below(8).toString(16).repeat(32)
  const kinds: (() => MetadataCommand)[] = [
    () => ({ kind: 'bootstrap', clusterId: diskId }),
    () => ({ kind: 'createTopic', topic: topicOf(topicId, lists(), `name-${below(4)}`) }),
    () => ({ kind: 'deleteTopic', topicId }),
    () => ({ kind: 'topicDropped', topicId }),
    () => ({ kind: 'alterTopic', topicId, retentionMs: below(2) === 0 ? null : below(100), retentionBytes: null }),
    () => ({ kind: 'addPartitions', topicId, partitions: 1 + below(8), replicas: lists() }),
    () => ({
      kind: 'assignReplicas',
      assignments: lists().map((replicas) => ({ topicId, partition: below(4), replicas })),
    }),
    () => ({ kind: 'registerNode', nodeId, diskId, ...(below(2) === 0 && where) }),
    () => ({ kind: 'joinNode', nodeId: 1 + below(20), diskId, ...where }),
    () => ({ kind: 'updateNode', nodeId, ...where }),
    () => ({ kind: 'drainNode', nodeId, drain: below(2) === 0 }),
    () => ({ kind: 'removeNode', nodeId }),
  ]
  return kinds[below(kinds.length)]!()
}

const HISTORIES = Array.from({ length: 200 }, (_, seed) => seed)

describe('any history of commands', () => {
  it('gives the same state from the commands, from their bytes and from a checkpoint in the middle', () => {
    let changes = 0
    for (const seed of HISTORIES) {
      const random = new SeededRandom(seed)
      const [live, read] = [new MetadataState(), new MetadataState()]
      for (let step = 0; step < 60; step++) {
        const before = JSON.stringify(live.image())
        const command = anyCommand(random)
        live.apply(command)
        read.apply(decodeCommand(encodeCommand(command)))
        if (JSON.stringify(live.image()) !== before) changes++
        if (random.below(10) === 0)
          read.restore(decodeImage(decodeFields(encodeMessagePack(imageFields(read.image())))))
        expect(read.image()).toEqual(live.image())
        expect(read.partitionCount).toBe(live.partitionCount)
        expect(read.nextNodeId).toBe(live.nextNodeId)
      }
    }
    expect(changes).toBeGreaterThan(2_000)
  })

  it('knows no difference between a command once and twice', () => {
    for (const seed of HISTORIES) {
      const random = new SeededRandom(seed)
      const state = new MetadataState()
      for (let step = 0; step < 60; step++) {
        const command = anyCommand(random)
        state.apply(command)
        const once = state.image()
        state.apply(command)
        expect(state.image()).toEqual(once)
      }
    }
  })

  it('never uses an id again, names no node that is gone, and keeps gone nodes gone', () => {
    for (const seed of HISTORIES) {
      const random = new SeededRandom(seed)
      const state = new MetadataState()
      const disks = new Map<number, string>()
      const names = new Map<number, string>()
      const gone = new Set<number>()
      for (let step = 0; step < 80; step++) {
        state.apply(anyCommand(random))
        for (const { nodeId, diskId, state: life } of state.nodes()) {
          expect(disks.get(nodeId) ?? diskId).toBe(diskId)
          disks.set(nodeId, diskId)
          if (gone.has(nodeId)) expect(life).toBe('removed')
          if (life === 'removed') gone.add(nodeId)
          expect(nodeId).toBeLessThan(state.nextNodeId)
        }
        for (const { topicId, name, partitions, replicas, founders } of [...state.topics(), ...state.dropping()]) {
          expect(names.get(topicId) ?? name).toBe(name)
          names.set(topicId, name)
          expect([replicas.length, founders.length]).toEqual([partitions, partitions])
        }
        const named = new Set(state.topics().flatMap(({ replicas }) => replicas.flat()))
        for (const nodeId of gone) expect(named).not.toContain(nodeId)
      }
    }
  })
})

describe('nodes', () => {
  const joined = (): MetadataState => {
    const state = new MetadataState()
    state.apply({ kind: 'registerNode', nodeId: 1, diskId: '1'.repeat(32), ...place })
    state.apply({ kind: 'joinNode', nodeId: 2, diskId: '2'.repeat(32), ...place, host: '10.0.0.2', rack: 'b' })
    return state
  }

  it('join once for each disk', () => {
    const state = joined()
    state.apply({ kind: 'joinNode', nodeId: 3, diskId: '2'.repeat(32), ...place })
    expect(state.nodes().map(({ nodeId }) => nodeId)).toEqual([1, 2])
    expect(state.nodeByDisk('2'.repeat(32))).toMatchObject({ nodeId: 2, host: '10.0.0.2', rack: 'b', state: 'active' })
    expect(state.nextNodeId).toBe(3)
  })

  it('move, are drained and taken back', () => {
    const state = joined()
    state.apply({ kind: 'updateNode', nodeId: 2, ...place, port: 7429, shards: 8 })
    state.apply({ kind: 'drainNode', nodeId: 2, drain: true })
    expect(state.node(2)).toMatchObject({ port: 7429, shards: 8, rack: null, state: 'draining' })
    state.apply({ kind: 'drainNode', nodeId: 2, drain: false })
    expect(state.node(2)?.state).toBe('active')
  })

  it('are removed once no partition names them, and for good', () => {
    const state = joined()
    state.apply({ kind: 'createTopic', topic: topicOf(1, [[2], [1]]) })
    state.apply({ kind: 'removeNode', nodeId: 2 })
    expect(state.isRemoved(2)).toBe(false)
    state.apply({ kind: 'assignReplicas', assignments: [{ topicId: 1, partition: 0, replicas: [1] }] })
    state.apply({ kind: 'removeNode', nodeId: 2 })
    expect(state.isRemoved(2)).toBe(true)
    state.apply({ kind: 'assignReplicas', assignments: [{ topicId: 1, partition: 0, replicas: [2] }] })
    state.apply({ kind: 'joinNode', nodeId: 3, diskId: '2'.repeat(32), ...place })
    state.apply({ kind: 'updateNode', nodeId: 2, ...place })
    expect(state.topic(1)?.replicas).toEqual([[1], [1]])
    expect(state.nodes()).toHaveLength(2)
    expect(state.node(2)?.state).toBe('removed')
    expect(state.nextNodeId).toBe(3)
  })
})

describe('partitions', () => {
  it('that move have no founders any more: whoever comes back to one must not take itself for one', () => {
    const state = new MetadataState()
    state.apply({
      kind: 'createTopic',
      topic: topicOf(1, [
        [1, 2],
        [2, 1],
      ]),
    })
    state.apply({ kind: 'assignReplicas', assignments: [{ topicId: 1, partition: 1, replicas: [3, 1] }] })
    expect(state.topic(1)).toMatchObject({
      replicas: [
        [1, 2],
        [3, 1],
      ],
      founders: [[1, 2], []],
    })
    const restored = new MetadataState()
    restored.restore(decodeImage(decodeFields(encodeMessagePack(imageFields(state.image())))))
    expect(restored.topic(1)?.founders).toEqual([[1, 2], []])
  })

  it('are added once', () => {
    const state = new MetadataState()
    state.apply({ kind: 'createTopic', topic: topicOf(1, [[1]]) })
    const add: MetadataCommand = { kind: 'addPartitions', topicId: 1, partitions: 3, replicas: [[2], [1]] }
    state.apply(add)
    state.apply(add)
    expect(state.topic(1)).toMatchObject({ partitions: 3, replicas: [[1], [2], [1]], founders: [[1], [2], [1]] })
    expect(state.partitionCount).toBe(3)
  })
})

describe('what older versions wrote', () => {
  it('is read: commands', () => {
    const old = { kind: 'registerNode', nodeId: 3, diskId: DISK }
    expect(decodeCommand(encodeMessagePack(old))).toEqual(old)
    const { founders, ...before } = topicOf(1, [[1, 2, 3]])
    const command = decodeCommand(encodeMessagePack({ kind: 'createTopic', topic: before }))
    expect(command).toEqual({ kind: 'createTopic', topic: { ...before, founders } })
  })

  it('is read: a checkpoint with disks instead of nodes', () => {
    const { founders: _, ...before } = topicOf(1, [[1, 2, 3]])
    const old = { clusterId: DISK, nextTopicId: 2, topics: [before], dropping: [], disks: [[1, DISK]] }
    const state = new MetadataState()
    state.restore(decodeImage(decodeFields(encodeMessagePack(old))))
    expect(state.diskOf(1)).toBe(DISK)
    expect(state.node(1)).toMatchObject({ host: '', port: 0, rack: null, state: 'active' })
    expect(state.topic(1)?.founders).toEqual([[1, 2, 3]])
    expect(state.nextNodeId).toBe(2)
  })

  it.each([
    [{ clusterId: DISK, topics: [], dropping: [], nodes: [] }, 'cannot read'],
    [{ nextTopicId: 1, topics: [], dropping: [], nodes: [{ nodeId: 1, state: 'active' }] }, 'diskId'],
    [
      { nextTopicId: 1, topics: [], dropping: [], nodes: [{ nodeId: 1, diskId: DISK, ...place, state: 'lost' }] },
      'state',
    ],
    [{ nextTopicId: 1, topics: [], dropping: [], disks: [[1]] }, 'disks'],
  ])('and %j is refused', (fields, message) => {
    expect(() => decodeImage(decodeFields(encodeMessagePack(fields)))).toThrow(message)
  })

  it.each([
    [{ kind: 'assignReplicas', assignments: [{ topicId: 1, partition: 0, replicas: [1, 1] }] }, 'replicas'],
    [{ kind: 'assignReplicas', assignments: [null] }, 'assignments'],
    [{ kind: 'addPartitions', topicId: 1, partitions: 2, replicas: [[]] }, 'replicas'],
    [{ kind: 'drainNode', nodeId: 1, drain: 1 }, 'drain'],
    [{ kind: 'joinNode', nodeId: 1, diskId: DISK, host: 'a', port: 1, rack: 5, shards: 1 }, 'rack'],
  ])('and the command %j too', (fields, message) => {
    expect(() => decodeCommand(encodeMessagePack(fields))).toThrow(message)
  })
})
