// Merging what is said of a node is commutative, associative and idempotent; and whoever has merged the same things agrees.
import { SeededRandom } from '@millrace/protocol'
import { expect, test } from 'vitest'
import { mergeClaims } from '#src/gossip/claims.js'
import { GOSSIP_LIMITS } from '#src/gossip/gossip-limits.js'
import { suspicionMs } from '#src/gossip/suspicion.js'
import { GossipWorld } from './gossip-world.js'
import { checkMerge } from './merge-properties.js'

test('merge is commutative, associative and idempotent', () => {
  checkMerge(mergeClaims)
})

test.each([1, 2, 3, 4])('after loss, duplicates, deaths, restarts and cuts all agree again (seed %i)', (seed) => {
  const random = new SeededRandom(seed)
  const nodes = Array.from({ length: 12 }, (_, at) => at + 1)
  const world = new GossipWorld({ seed, nodes, lossRate: 0.1, duplicateRate: 0.1, encodes: true, latencyMs: [0.2, 20] })
  world.run(3_000)
  for (let fault = 0; fault < 12; fault++) {
    const nodeId = 1 + random.below(nodes.length)
    const node = world.node(nodeId)
    switch (random.below(4)) {
      case 0:
        world.kill(nodeId)
        break
      case 1:
        world.restart(nodeId)
        break
      case 2:
        world.stall(nodeId, random.below(4_000))
        break
      default:
        world.cuts.add(`${nodeId}>${1 + random.below(nodes.length)}`)
    }
    world.run(random.below(3_000))
    if (!node.isUp && random.oneIn(2)) world.restart(nodeId)
  }
  for (const { nodeId, isUp } of world.nodes) if (!isUp) world.restart(nodeId)
  world.cuts.clear()
  world.lossRate = 0
  world.run(40_000)
  const views = world.nodes.map(({ core }) =>
    JSON.stringify(core.members().sort((left, right) => left.nodeId - right.nodeId)),
  )
  expect(new Set(views).size).toBe(1)
  expect(
    world
      .node(1)
      .core.members()
      .every(({ state }) => state === 'alive'),
  ).toBe(true)
  expect(world.node(1).core.members()).toHaveLength(nodes.length)
})

test('a suspicion is shorter the more have confirmed it, and never shorter than its least', () => {
  for (const members of [2, 3, 4, 10, 50, 500]) {
    const times = [1, 2, 3, 4, 9].map((accusers) => suspicionMs(GOSSIP_LIMITS, members, accusers))
    expect(times).toEqual([...times].sort((left, right) => right - left))
    expect(times.at(-1)).toBeGreaterThanOrEqual(GOSSIP_LIMITS.probePeriodMs * GOSSIP_LIMITS.suspicionMinPeriods)
    if (members > 3) expect(times[0]! / times.at(-1)!).toBeCloseTo(GOSSIP_LIMITS.suspicionMaxFactor)
  }
})
