// Who decides in the metadata group: 1, 3 and 5 as nodes come and go, by way of learners and one joint change each.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { believedFounders, nextMetadataChange, voterCount } from '#src/cluster/metadata-membership.js'
import type { NodeRecord, NodeState } from '#src/cluster/node-registry.js'
import type { Membership } from '#src/raft/membership.js'
import type { Configuration } from '#src/raft/raft-types.js'

class Group {
  readonly registry = new Map<number, NodeRecord>()
  configuration: Configuration = { voters: [1], outgoing: [], learners: [] }
  readonly slow = new Set<number>()
  /** Removed, and still connected with the leader. */
  readonly leaving = new Set<number>()
  /** Configurations that were in force, one after the other. */
  readonly history: Configuration[] = []

  constructor(private readonly random: SeededRandom | null = null) {
    this.put(1)
  }

  put(nodeId: number, state: NodeState = 'active', rack: string | null = null): void {
    const host = `10.0.0.${nodeId}`
    this.registry.set(nodeId, { nodeId, diskId: `${nodeId}`, host, port: 7420, rack, shards: 1, state })
  }

  next(): Membership | 'wait' | null {
    const { voters } = this.configuration
    return nextMetadataChange({
      registry: [...this.registry.values()],
      members: [...this.registry.values()].filter(({ state }) => state !== 'removed').map(({ nodeId }) => nodeId),
      configuration: this.configuration,
      nodeId: voters[this.random?.below(voters.length) ?? 0]!,
      keepsUp: (nodeId) => !this.slow.has(nodeId),
      isConnected: (nodeId) => this.registry.get(nodeId)?.state !== 'removed' || this.leaving.has(nodeId),
    })
  }

  /** Carries out every change, as the core would. */
  settle(): void {
    for (let change = this.next(); change !== null && change !== 'wait'; change = this.next()) {
      expect(this.history.length).toBeLessThan(10_000)
      const { voters, learners } = this.configuration
      // New voters have listened first.
      for (const nodeId of change.voters) expect([...voters, ...learners]).toContain(nodeId)
      expect(new Set([...change.voters, ...change.learners]).size).toBe(change.voters.length + change.learners.length)
      this.configuration = { ...change, outgoing: [] }
      this.history.push(this.configuration)
    }
  }

  get shape(): readonly [readonly number[], readonly number[]] {
    const sorted = (ids: readonly number[]): number[] => [...ids].sort((a, b) => a - b)
    return [sorted(this.configuration.voters), sorted(this.configuration.learners)]
  }
}

describe('the metadata group', () => {
  it('tells whoever is removed, which hears of it until its connections are cut', () => {
    const group = new Group()
    for (const nodeId of [2, 3, 4, 5]) group.put(nodeId)
    group.put(4, 'draining')
    group.settle()
    expect(group.shape).toEqual([
      [1, 2, 3],
      [4, 5],
    ])
    group.put(4, 'removed')
    group.leaving.add(4)
    expect(group.next()).toBe('wait')
    // Whoever comes meanwhile belongs to it at once.
    group.put(6)
    group.settle()
    expect(group.configuration.learners).toContain(4)
    group.leaving.delete(4)
    group.settle()
    expect(group.configuration.learners).not.toContain(4)
    expect(group.next()).toBeNull()
  })

  it('is not begun anew by the node that began it, once there are others who decide', () => {
    expect(believedFounders([1], 1, 0)).toEqual([1])
    expect(believedFounders([1], 1, 1)).toEqual([1])
    expect(believedFounders([1], 1, 2)).toEqual([])
    expect(believedFounders([1, 2, 3], 1, 2)).toEqual([1, 2, 3])
    expect(believedFounders([], 2, 2)).toEqual([])
  })

  it('grows from one to three and five that decide, and everybody else listens', () => {
    const group = new Group()
    const shapes = [2, 3, 4, 5, 6].map((nodeId) => {
      group.put(nodeId)
      group.settle()
      return group.shape
    })
    expect(shapes).toEqual([
      [[1], [2]],
      [[1, 2, 3], []],
      [[1, 2, 3], [4]],
      [[1, 2, 3, 4, 5], []],
      [[1, 2, 3, 4, 5], [6]],
    ])
  })

  it('goes from one to three by one change, once both keep up', () => {
    const group = new Group()
    group.put(2)
    group.put(3)
    group.slow.add(3)
    group.settle()
    expect(group.shape).toEqual([[1], [2, 3]])
    expect(group.next()).toBe('wait')
    group.slow.clear()
    group.settle()
    expect(group.history).toHaveLength(2)
    expect(group.shape).toEqual([[1, 2, 3], []])
  })

  it('takes another for one that is drained, which goes on listening until it is removed', () => {
    const group = new Group()
    for (const nodeId of [2, 3, 4]) group.put(nodeId)
    group.settle()
    group.put(1, 'draining')
    group.settle()
    expect(group.shape).toEqual([[2, 3, 4], [1]])
    group.put(1, 'removed')
    group.settle()
    expect(group.shape).toEqual([[2, 3, 4], []])
  })

  it('shrinks as nodes are removed, and keeps the one that leads', () => {
    const group = new Group()
    for (const nodeId of [2, 3]) group.put(nodeId)
    group.settle()
    group.put(3, 'removed')
    group.settle()
    expect(group.shape).toEqual([[1], [2]])
  })

  it('leaves nodes of the configuration alone that have not registered', () => {
    const configuration = { voters: [1, 2, 3], outgoing: [], learners: [] }
    const change = nextMetadataChange({
      registry: [],
      members: [1, 2, 3],
      configuration,
      nodeId: 1,
      isConnected: () => true,
      keepsUp: () => true,
    })
    expect(change).toBeNull()
  })

  it('spreads who decides over racks', () => {
    const group = new Group()
    group.put(1, 'active', 'a')
    for (const [nodeId, rack] of [
      [2, 'a'],
      [3, 'a'],
      [4, 'b'],
    ] as const) {
      group.slow.add(nodeId)
      group.put(nodeId, 'active', rack)
    }
    group.settle()
    group.slow.clear()
    group.settle()
    expect(group.shape).toEqual([[1, 2, 4], [3]])
  })

  it('comes to rest whatever happens, with as many that decide as there should be', () => {
    for (let seed = 0; seed < 200; seed++) {
      const random = new SeededRandom(seed)
      const group = new Group(random)
      for (let step = 0; step < 30; step++) {
        const nodeId = 1 + random.below(9)
        const states: NodeState[] = ['active', 'draining', 'removed']
        const state = states[random.below(3)]!
        const active = [...group.registry.values()].filter((node) => node.state === 'active')
        const isLast = active.length === 1 && active[0]?.nodeId === nodeId
        if (group.registry.get(nodeId)?.state !== 'removed' && !isLast) group.put(nodeId, state)
        if (random.oneIn(3)) group.slow.add(1 + random.below(9))
        group.settle()
      }
      group.slow.clear()
      group.settle()
      expect(group.next()).toBeNull()
      const of = (state: NodeState): number[] =>
        [...group.registry.values()].filter((node) => node.state === state).map(({ nodeId }) => nodeId)
      const { voters, learners } = group.configuration
      expect(voters).toHaveLength(voterCount(of('active').length))
      for (const nodeId of voters) expect(of('active')).toContain(nodeId)
      expect([...voters, ...learners].sort()).toEqual([...of('active'), ...of('draining')].sort())
    }
  })
})
