// Groups that grow, shrink and move: who belongs to a group survives whatever happens to its nodes.
import { describe, expect, it } from 'vitest'
import { ChangingGroup, chance, text } from './changing-group.js'

async function grown(members: readonly number[]): Promise<ChangingGroup> {
  const group = new ChangingGroup([1])
  await group.start(1)
  await group.until('the first one leads', () => group.leader !== undefined)
  for (const nodeId of members) if (nodeId !== 1) await group.start(nodeId)
  await group.moveTo(members)
  return group
}

describe('a group that changes', () => {
  it('grows from one to three to five and shrinks again, and every node knows it after a restart', async () => {
    const group = await grown([1])
    for (const target of [[1, 2, 3], [1, 2, 3, 4, 5], [3, 4, 5], [4]]) {
      for (const nodeId of target) if (!group.running.has(nodeId)) await group.start(nodeId)
      expect(group.append()).toBeGreaterThan(0)
      await group.moveTo(target)
      const index = group.append()
      await group.until('all have it', () =>
        [...group.running.values()].every(({ owner }) => owner.committedIndex >= index),
      )
      for (const nodeId of target) {
        const { group: replica } = await group.restart(nodeId)
        expect(text(replica.configuration)).toBe(`${target}//`)
      }
      await group.until('somebody leads', () => group.isAt(target))
    }
    expect(group.leader!.group.membership.isSole).toBe(true)
  })

  it('writes down in its first batch whom it began with', async () => {
    const group = new ChangingGroup([1, 2])
    for (const nodeId of [1, 2]) await group.start(nodeId)
    await group.until('somebody leads', () => group.leader !== undefined)
    // A node that knows nobody learns from the log alone.
    await group.start(3)
    await group.moveTo([1, 2, 3])
    await group.restart(3)
    expect(text(group.running.get(3)!.group.configuration)).toBe('1,2,3//')
  })

  it('brings a new member to where the log begins, and the log goes on behind it', async () => {
    const group = await grown([1, 2, 3])
    for (let i = 0; i < 5; i++) group.append()
    await group.run(200)
    await group.moveStart()
    await group.start(4)
    await group.moveTo([1, 2, 4])
    const { log, group: replica } = group.running.get(4)!
    expect(log.start.index).toBeGreaterThan(5)
    const before = text(replica.configuration)
    expect(before).toBe('1,2,4//')
    group.running.get(4)!.store.checkpoint()
    const again = await group.restart(4)
    expect(text(again.group.configuration)).toBe(before)
    const index = group.append()
    await group.until('the new one has it', () => group.running.get(4)!.owner.committedIndex >= index)
  })

  it('takes back a change that was never committed', async () => {
    const group = await grown([1, 2, 3])
    const old = group.leader!
    // It can tell nobody of what it begins.
    group.cut(old.nodeId)
    expect(old.group.changeMembership({ voters: [1, 2, 3], learners: [4] })).toBe(null)
    expect(text(old.group.configuration)).toBe('1,2,3//4')
    await group.until('another one leads', () => group.leader !== undefined && group.leader !== old)
    group.append()
    group.heal()
    await group.until('it follows', () => text(old.group.configuration) === '1,2,3//')
    await group.run(500)
    const { group: again } = await group.restart(old.nodeId)
    expect(text(again.configuration)).toBe('1,2,3//')
  })

  it('takes back a change that was never committed also where a checkpoint speaks of it', async () => {
    const group = await grown([1, 2, 3])
    const old = group.leader!
    old.store.checkpoint()
    group.cut(old.nodeId)
    old.group.changeMembership({ voters: [1, 2, 3], learners: [4] })
    await group.settle()
    old.store.checkpoint()
    await group.until('another one leads', () => group.leader !== undefined && group.leader !== old)
    group.append()
    await group.run(200)
    await group.restart(old.nodeId)
    expect(text(group.running.get(old.nodeId)!.group.configuration)).toBe('1,2,3//4')
    group.heal()
    await group.until('it follows', () => text(group.running.get(old.nodeId)!.group.configuration) === '1,2,3//')
  })

  it('goes on without a leader that was taken out, which leads no more and never will', async () => {
    const group = await grown([1, 2, 3])
    const old = group.leader!
    const rest = [1, 2, 3].filter((nodeId) => nodeId !== old.nodeId)
    await group.until('the group does without it', () => {
      group.drive(rest)
      return !old.group.isServing && group.isAt(rest)
    })
    expect(group.leader!.group.membership.doesWithout(old.nodeId)).toBe(true)
    expect(old.group.membership.isMember).toBe(false)
    await group.run(3_000)
    expect(old.group.core.role).toBe('follower')
    expect(group.isAt(rest)).toBe(true)
  })

  it('does not count a learner', async () => {
    const group = await grown([1, 2, 3])
    await group.start(4)
    group.drive([1, 2, 3, 4])
    await group.run(500)
    expect(group.leader!.group.changeMembership({ voters: [1, 2, 3], learners: [] })).toBe(null)
    await group.run(500)
    expect(group.leader!.group.changeMembership({ voters: [1, 2, 3], learners: [4] })).toBe(null)
    await group.run(500)
    const { nodeId } = group.leader!
    for (const other of [1, 2, 3]) if (other !== nodeId) group.cut(other)
    const committed = group.leader!.owner.committedIndex
    group.append()
    await group.run(500)
    expect(group.running.get(nodeId)!.owner.committedIndex).toBe(committed)
  })
})

describe('a group that changes while its nodes crash', () => {
  const SEEDS = 12
  for (let seed = 1; seed <= SEEDS; seed++) {
    it(`keeps what is committed, seed ${seed}`, async () => {
      const random = chance(seed)
      const group = new ChangingGroup([1], random)
      await group.start(1)
      for (const target of [[1, 2, 3], [1, 2, 3, 4, 5], [5, 2, 3], [3], [4, 1, 2], [2]]) {
        for (const nodeId of target) if (!group.running.has(nodeId)) await group.start(nodeId)
        await underFire(group, target, random)
        group.heal()
        for (const nodeId of [1, 2, 3, 4, 5]) if (!group.running.has(nodeId)) await group.start(nodeId)
        await group.moveTo(target)
      }
      const index = group.append()
      await group.until('the last batch is committed', () => group.leader!.owner.committedIndex >= index)
      // Nothing is missing where the group has come to.
      expect(group.committed.size).toBe(index)
    })
  }
})

/** Steps on the way to a target, with crashes, cuts, checkpoints and batches in between. */
async function underFire(group: ChangingGroup, target: readonly number[], random: (bound: number) => number) {
  for (let step = 0; step < 40; step++) {
    group.drive(target)
    if (random(2) === 0) group.append()
    const nodes = [...group.running.keys()]
    const nodeId = nodes[random(nodes.length)]
    switch (nodeId === undefined ? 9 : random(10)) {
      case 0:
        group.crash(nodeId!)
        break
      case 1:
        await group.restart(nodeId!)
        break
      case 2:
        group.cut(nodeId!)
        break
      case 3:
        group.heal()
        break
      case 4:
        if (group.running.get(nodeId!)!.log.flushedIndex === group.running.get(nodeId!)!.log.filled.index) {
          group.running.get(nodeId!)!.store.checkpoint()
        }
        break
      case 5:
        for (const down of [1, 2, 3, 4, 5]) if (!group.running.has(down)) await group.start(down)
        break
    }
    if (random(4) > 0) await group.tick()
    else await group.settle(1 + random(3))
  }
}
