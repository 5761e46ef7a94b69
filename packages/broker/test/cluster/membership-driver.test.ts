// What leaders do for the groups they lead: the members that the metadata wants, then the leader that it wants.
import { describe, expect, it } from 'vitest'
import { MembershipDriver } from '#src/cluster/membership-driver.js'
import type { NodeState } from '#src/cluster/node-registry.js'
import { partitionMoves } from '#src/cluster/partition-moves.js'
import {
  LEAST_TRANSFERS_AT_ONCE,
  MEMBERSHIP_STEP_MS,
  MOST_TRANSFERS_AT_ONCE,
  PREFERRED_LEADER_AFTER_MS,
} from '#src/limits.js'
import { nextChange } from '#src/replication/next-change.js'
import { ChangingGroup, type Running, text } from '../replication/changing-group.js'

interface Driven {
  readonly group: ChangingGroup
  target: readonly number[]
  readonly states: Map<number, NodeState>
  start(nodeId: number): Promise<void>
}

const ledBy = (node: Running) => ({
  key: { topicId: 1, partition: 0 },
  group: node.group,
  get leads(): boolean {
    return node.group.isServing
  },
})

/** Every node has a driver, as every broker does. */
async function driven(founders: readonly number[]): Promise<Driven> {
  const group = new ChangingGroup(founders)
  const states = new Map<number, NodeState>()
  const result: Driven = {
    group,
    target: founders,
    states,
    async start(nodeId) {
      const led = ledBy(await group.start(nodeId))
      const driver = new MembershipDriver({
        nodeId,
        clock: group.clock,
        partitions: () => (group.running.get(nodeId)?.group === led.group ? [led] : []),
        targetOf: () => result.target,
        stateOf: (node) => states.get(node) ?? 'active',
        isConnected: (node) => group.running.has(node),
        report: (error) => {
          throw error
        },
      })
      driver.start()
    },
  }
  for (const nodeId of founders) await result.start(nodeId)
  await group.until('somebody leads', () => group.leader !== undefined)
  return result
}

describe('the leader of a group', () => {
  it('brings it to its target, and hands over to the one that should lead', async () => {
    const cluster = await driven([1])
    const { group } = cluster
    for (const nodeId of [2, 3, 4]) await cluster.start(nodeId)
    cluster.target = [3, 1, 2]
    await group.until('it is of three', () => group.isAt([1, 2, 3]))
    await group.until('the preferred one leads', () => group.leader?.nodeId === 3, PREFERRED_LEADER_AFTER_MS + 3_000)
    cluster.target = [4]
    await group.until('it has moved', () => group.isAt([4]))
    expect(text(group.leader!.group.configuration)).toBe('4//')
  })

  it('takes back a move that was given up', async () => {
    const cluster = await driven([1, 2, 3])
    const { group } = cluster
    // Nobody is there to catch up.
    cluster.target = [1, 2, 4]
    await group.until('it has a learner', () => group.leader?.group.configuration.learners.includes(4) ?? false)
    const { leader } = group
    expect(partitionMoves([ledBy(leader!)], () => cluster.target)).toMatchObject([
      { topicId: 1, partition: 0, target: [1, 2, 4], voters: [1, 2, 3], learners: [4] },
    ])
    cluster.target = [1, 2, 3]
    await group.until('it is as before', () => group.isAt([1, 2, 3]))
    expect(partitionMoves([ledBy(leader!)], () => cluster.target)).toEqual([])
  })

  it('does not wait to hand over when its node is drained, and gets nothing back', async () => {
    const cluster = await driven([1, 2, 3])
    const { group, states } = cluster
    await group.until('the first one leads', () => group.leader?.nodeId === 1)
    states.set(1, 'draining')
    await group.until('another one leads', () => group.leader !== undefined && group.leader.nodeId !== 1, 2_000)
    await group.run(PREFERRED_LEADER_AFTER_MS + 2_000)
    expect(group.leader?.nodeId).toBe(2)
    states.set(1, 'active')
    await group.until('the first one leads again', () => group.leader?.nodeId === 1, PREFERRED_LEADER_AFTER_MS + 3_000)
  })

  it('keeps leadership from a preferred one that has just come back', async () => {
    const cluster = await driven([1, 2, 3])
    const { group } = cluster
    await group.until('the first one leads', () => group.leader?.nodeId === 1)
    group.crash(1)
    await group.until('another one leads', () => group.leader !== undefined)
    await cluster.start(1)
    await group.run(PREFERRED_LEADER_AFTER_MS - 1_000)
    expect(group.leader?.nodeId).not.toBe(1)
    await group.until('it leads in the end', () => group.leader?.nodeId === 1, 4_000)
  })
})

describe('many groups that another node should lead', () => {
  /** Groups of nodes 1 and 2 that node 1 leads and node 2 should; whoever is handed one leads it after a while. */
  function groups(count: number, world: { nowMs: number }) {
    const configuration = { voters: [1, 2], outgoing: [], learners: [] }
    const transfers: { atMs: number; underWay: number }[] = []
    const all = Array.from({ length: count }, (_, partition) => {
      const group = {
        leader: 1,
        heirAtMs: Number.POSITIVE_INFINITY,
        mayAppend: true,
        configuration,
        asked: 0,
        replicas: () => {
          group.asked++
          return [1, 2].map((nodeId) => ({
            nodeId,
            matchIndex: 1,
            lagBatches: 0,
            isLearner: false,
          }))
        },
        changeMembership: () => null,
        transferTo: () => {
          group.leader = 0
          group.heirAtMs = world.nowMs + 40
          transfers.push({ atMs: world.nowMs, underWay: all.filter(({ group: one }) => one.leader === 0).length })
          return null
        },
      }
      return {
        key: { topicId: 1, partition },
        group,
        get leads(): boolean {
          return group.leader === 1
        },
      }
    })
    return { all, transfers }
  }

  function run(count: number, target: readonly number[], forMs: number) {
    const world = { nowMs: 0 }
    const { all, transfers } = groups(count, world)
    const timers: { atMs: number; callback: () => void }[] = []
    const driver = new MembershipDriver({
      nodeId: 1,
      clock: {
        monotonicMs: () => world.nowMs,
        wallMs: () => world.nowMs,
        defer: (callback) => callback(),
        timer(delayMs, callback) {
          const timer = { atMs: world.nowMs + delayMs, callback }
          timers.push(timer)
          return { cancel: () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1)) }
        },
      },
      partitions: () => all,
      targetOf: () => target,
      stateOf: () => 'active',
      isConnected: () => true,
      report: (error) => {
        throw error
      },
    })
    driver.start()
    for (; world.nowMs < forMs; world.nowMs += MEMBERSHIP_STEP_MS / 2) {
      for (const { group } of all) if (world.nowMs >= group.heirAtMs) group.leader = 2
      const due = timers.findIndex(({ atMs }) => atMs <= world.nowMs)
      if (due >= 0) timers.splice(due, 1)[0]!.callback()
    }
    driver.stop()
    return { all, transfers }
  }

  const mostUnderWay = (transfers: readonly { readonly underWay: number }[]): number =>
    Math.max(...transfers.map(({ underWay }) => underWay))

  it('go to it a few at a time where there are few', () => {
    const { all, transfers } = run(60, [2, 1], PREFERRED_LEADER_AFTER_MS + 8_000)
    expect(all.every(({ group }) => group.leader === 2)).toBe(true)
    expect(mostUnderWay(transfers)).toBe(LEAST_TRANSFERS_AT_ONCE)
    expect(transfers[0]!.atMs).toBeGreaterThanOrEqual(PREFERRED_LEADER_AFTER_MS)
  })

  it('go to it more at a time where there are many, up to a limit, and soon all of them', () => {
    const { all, transfers } = run(2_000, [2, 1], PREFERRED_LEADER_AFTER_MS + 40_000)
    expect(all.every(({ group }) => group.leader === 2)).toBe(true)
    expect(mostUnderWay(transfers)).toBe(MOST_TRANSFERS_AT_ONCE)
    // Two in each step would take a hundred seconds.
    expect(transfers.at(-1)!.atMs - transfers[0]!.atMs).toBeLessThan(35_000)
  })

  it('are not looked into where all is as it should be', () => {
    const { all, transfers } = run(600, [1, 2], 10_000)
    expect(transfers).toEqual([])
    expect(all.every(({ group }) => group.asked === 0)).toBe(true)
  })
})

describe('the next change', () => {
  const of = (voters: number[], learners: number[] = [], outgoing: number[] = []) => ({ voters, outgoing, learners })

  it('brings learners first, all voters at once, and nothing while a change is under way', () => {
    expect(nextChange([1, 2, 3], of([1]), true)).toEqual({ voters: [1], learners: [2, 3] })
    expect(nextChange([1, 2, 3], of([1], [2, 3]), true)).toEqual({ voters: [1, 2, 3], learners: [] })
    expect(nextChange([1, 2, 3], of([1, 2, 3], [], [1]), true)).toBe(null)
    expect(nextChange([3, 1, 2], of([1, 2, 3]), true)).toBe(null)
  })

  it('adds nobody where too many are catching up, but lets go of those not wanted any more', () => {
    expect(nextChange([1, 2, 3], of([1]), false)).toBe(null)
    expect(nextChange([1, 2, 3], of([1], [2, 4]), false)).toEqual({ voters: [1], learners: [2] })
    expect(nextChange([1], of([1, 2, 3], [4]), true)).toEqual({ voters: [1, 2, 3], learners: [] })
    expect(nextChange([1], of([1, 2, 3]), false)).toEqual({ voters: [1], learners: [] })
  })
})
