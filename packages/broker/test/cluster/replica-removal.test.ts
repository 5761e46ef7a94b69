// Replicas that have moved away: nothing goes before the group itself does without them, and has for a while.
import { describe, expect, it } from 'vitest'
import { type MembershipAnswer, ReplicaRemoval } from '#src/cluster/replica-removal.js'
import { REMOVAL_STEP_MS, REPLICA_QUARANTINE_MS } from '#src/limits.js'
import { ChangingGroup, type Running } from '../replication/changing-group.js'

const KEY = { topicId: 1, partition: 0, lane: 0 }

interface Leaving {
  readonly group: ChangingGroup
  readonly removed: () => boolean
  target: readonly number[]
  ask: (node: Running) => Promise<MembershipAnswer>
}

/** A group of three, of which node 3 looks after its own removal. */
async function leaving(): Promise<Leaving> {
  const group = new ChangingGroup([1, 2, 3])
  for (const nodeId of [1, 2, 3]) await group.start(nodeId)
  await group.until('somebody leads', () => group.leader !== undefined)
  let removed = false
  const own = group.running.get(3)!
  const answerOf = (node: Running) => {
    const doesWithout = node.group.membership.doesWithout(3)
    return { doesWithout, term: node.group.term }
  }
  const result: Leaving = {
    group,
    removed: () => removed,
    target: [1, 2],
    ask: async (node) => answerOf(node),
  }
  new ReplicaRemoval({
    nodeId: 3,
    clock: group.clock,
    partitions: () => (removed ? [] : [replica]),
    targetOf: () => result.target,
    leaderOf: () => group.leader?.nodeId ?? 0,
    ask: (nodeId) => result.ask(group.running.get(nodeId)!),
    remove: async (_key, isUnchanged) => {
      removed = isUnchanged()
    },
    isBug: () => true,
    report: (error) => {
      throw error
    },
  }).start()
  const replica = { key: KEY, leads: false, group: own.group }
  return result
}

const QUIET_MS = REPLICA_QUARANTINE_MS + 2 * REMOVAL_STEP_MS

/** The group changes while somebody else leads than the one that leaves. */
async function moveAway({ group }: Leaving): Promise<void> {
  await group.until('another one leads', () => {
    if (group.leader?.nodeId === 3) group.leader.group.transferTo(1)
    return group.leader !== undefined && group.leader.nodeId !== 3
  })
  await group.until('it has moved', () => {
    group.drive([1, 2])
    return group.isAt([1, 2])
  })
}

describe('a replica that is to move away', () => {
  it('stays while its group counts on it', async () => {
    const cluster = await leaving()
    await cluster.group.run(QUIET_MS)
    expect(cluster.removed()).toBe(false)
  })

  it('goes when its group has done without it for a while', async () => {
    const cluster = await leaving()
    await moveAway(cluster)
    await cluster.group.run(REPLICA_QUARANTINE_MS - REMOVAL_STEP_MS)
    expect(cluster.removed()).toBe(false)
    await cluster.group.until('it is gone', () => cluster.removed(), QUIET_MS)
  })

  it('stays when it is to have a replica again', async () => {
    const cluster = await leaving()
    await moveAway(cluster)
    await cluster.group.run(REPLICA_QUARANTINE_MS / 2)
    cluster.target = [1, 2, 3]
    await cluster.group.run(QUIET_MS)
    expect(cluster.removed()).toBe(false)
  })

  it('believes no leader of an older term', async () => {
    const cluster = await leaving()
    cluster.ask = async (node) => ({ doesWithout: true, term: node.group.term - 1 })
    await cluster.group.run(QUIET_MS)
    expect(cluster.removed()).toBe(false)
  })

  it('believes no answer that entries have overtaken', async () => {
    const cluster = await leaving()
    cluster.ask = async () => {
      cluster.group.append()
      await cluster.group.settle()
      return { doesWithout: true, term: cluster.group.leader!.group.term }
    }
    await cluster.group.run(QUIET_MS)
    expect(cluster.removed()).toBe(false)
  })
})
