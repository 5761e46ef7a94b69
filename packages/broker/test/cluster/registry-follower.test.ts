// Who hears of nodes that come and go, and when: whoever is removed is told of it before its connections are cut.
import { describe, expect, it } from 'vitest'
import { ClusterMembers } from '#src/cluster/cluster-members.js'
import type { NodeRecord } from '#src/cluster/node-registry.js'
import { RegistryFollower } from '#src/cluster/registry-follower.js'
import type { LogFields, Logger } from '#src/environment.js'
import { LEAVE_GRACE_MS } from '#src/limits.js'
import { TestClock } from '../partition/fixture.js'

const SELF = 1

function node(nodeId: number, state: NodeRecord['state'] = 'active'): NodeRecord {
  const diskId = String(nodeId).repeat(32).slice(0, 32)
  return { nodeId, diskId, host: `10.0.0.${nodeId}`, port: 7420, rack: null, shards: 1, state }
}

class ErrorLog implements Logger {
  readonly errors: string[] = []
  error(_fields: LogFields, message: string): void {
    this.errors.push(message)
  }
  warn(): void {}
  info(): void {}
  debug(): void {}
}

function follower() {
  const clock = new TestClock()
  const log = new ErrorLog()
  const members = new ClusterMembers({ nodeId: SELF, configured: [], remembered: [], removed: [], shards: 1 })
  const peers: { readonly nodes: number[]; readonly removed: readonly number[] }[] = []
  const maps: number[][] = []
  let told = 0
  let removals = 0
  const ids = (nodes: readonly { readonly nodeId: number }[]): number[] => nodes.map(({ nodeId }) => nodeId)
  const registry = new RegistryFollower({
    environment: { clock, log },
    nodeId: SELF,
    members,
    map: { putNodes: (nodes) => void maps.push(ids(nodes)) },
    peers: { setMembers: (nodes, removed) => void peers.push({ nodes: ids(nodes), removed }) },
    onMembers: () => void told++,
    onRemoved: () => void removals++,
  })
  let registryVersion = 0
  const follow = (...nodes: NodeRecord[]): void =>
    registry.follow({ registryVersion: ++registryVersion, nodes: () => nodes })
  return { clock, log, peers, maps, registry, follow, told: () => told, removals: () => removals }
}

describe('who belongs to the cluster', () => {
  it('is told to all once it changes, and not again while it stays', () => {
    const { peers, maps, registry, follow, told } = follower()
    registry.reachedAt({ nodeId: SELF, host: '10.0.0.1', port: 7420 })
    follow(node(1), node(2))
    follow(node(1), node(2))
    registry.follow({ registryVersion: 2, nodes: () => [node(3)] })
    expect(maps).toEqual([[1], [1, 2]])
    expect(peers).toEqual([
      { nodes: [1], removed: [] },
      { nodes: [1, 2], removed: [] },
    ])
    expect(told()).toBe(2)
  })

  it('keeps the connections of one that is removed until it has heard so', () => {
    const { clock, log, peers, maps, follow } = follower()
    follow(node(1), node(2), node(3))
    follow(node(1), node(2), node(3, 'removed'))
    expect(maps.at(-1)).toEqual([1, 2])
    expect(peers.at(-1)).toEqual({ nodes: [1, 2, 3], removed: [] })
    clock.advance(LEAVE_GRACE_MS)
    expect(peers.at(-1)).toEqual({ nodes: [1, 2], removed: [3] })
    expect(log.errors).toEqual([])
  })

  it('tells the operator once that this broker was removed', () => {
    const { log, follow } = follower()
    follow(node(1), node(2))
    follow(node(1, 'removed'), node(2))
    follow(node(1, 'removed'), node(2), node(3))
    expect(log.errors).toEqual(['this broker was removed from the cluster for good'])
  })

  it('lets this broker go once it was removed, when those it speaks with have heard of it', () => {
    const { clock, follow, removals } = follower()
    follow(node(1), node(2))
    follow(node(1, 'removed'), node(2))
    clock.advance(LEAVE_GRACE_MS - 1)
    expect(removals()).toBe(0)
    clock.advance(1)
    follow(node(1, 'removed'), node(2), node(3))
    clock.advance(LEAVE_GRACE_MS)
    expect(removals()).toBe(1)
  })

  it('lets it go also when it was away, and is refused for it', () => {
    const { clock, registry, follow, removals, told } = follower()
    follow(node(1), node(2))
    const before = told()
    registry.refusedAsRemoved()
    registry.refusedAsRemoved()
    // What is remembered of the cluster says it from now on.
    expect(told()).toBe(before + 1)
    clock.advance(LEAVE_GRACE_MS)
    expect(removals()).toBe(1)
  })

  it('tells nobody once this broker stops', () => {
    const { clock, peers, registry, follow } = follower()
    follow(node(1), node(2), node(3))
    follow(node(1), node(2), node(3, 'removed'))
    const before = peers.length
    registry.stop()
    expect(clock.waiting).toBe(0)
    clock.advance(LEAVE_GRACE_MS)
    follow(node(1), node(2), node(4))
    expect(peers).toHaveLength(before)
  })
})
