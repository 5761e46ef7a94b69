// Who may have the records of a partition that nobody leads, by what its replicas say.
import { describe, expect, it } from 'vitest'
import { areOthersWhole, asMove, type Leaderless, mayHold, type Testimony } from '#src/cluster/leaderless.js'

const absent: Testimony = {
  topicId: 1,
  partition: 0,
  isHere: false,
  isRepairing: false,
  term: 0,
  index: 0,
  voters: [],
  outgoing: [],
  learners: [],
}
const knows = (voters: number[], more: Partial<Testimony> = {}): Testimony => ({
  ...absent,
  isHere: true,
  term: 1,
  index: 1,
  voters,
  ...more,
})

function leaderless(testimonies: Record<number, Testimony>): Leaderless {
  const places = Object.entries(testimonies).map(([nodeId, testimony]) => [Number(nodeId), testimony] as const)
  return { topicId: 1, partition: 0, target: [7], testimonies: new Map(places) }
}

describe('a partition that nobody leads', () => {
  it('may be on any node that does not answer, as long as nobody knows who has it', () => {
    const partition = leaderless({ 7: knows([]), 8: absent })
    expect([2, 7, 8].map((nodeId) => mayHold(partition, nodeId))).toEqual([true, true, false])
    expect(asMove(partition)).toMatchObject({ hasLeader: false, voters: [], target: [7] })
  })

  it('is where its replicas say, once most of them agree on it', () => {
    const partition = leaderless({ 1: knows([1, 2, 3]), 2: knows([1, 2, 3]) })
    expect([1, 2, 3, 4].map((nodeId) => mayHold(partition, nodeId))).toEqual([true, true, true, false])
  })

  it('may have moved on without the few that answer', () => {
    expect(mayHold(leaderless({ 1: knows([1, 2, 3]) }), 4)).toBe(true)
    // What was lost may have been the change itself.
    expect(mayHold(leaderless({ 1: knows([1, 2, 3]), 2: knows([1, 2, 3], { isRepairing: true }) }), 4)).toBe(true)
    // Those of a change under way count by both of its sides.
    const joint = { outgoing: [1, 2, 3] }
    expect(mayHold(leaderless({ 4: knows([4], joint) }), 5)).toBe(true)
    expect(mayHold(leaderless({ 4: knows([4], joint), 1: knows([1, 2, 3]), 2: knows([1, 2, 3]) }), 5)).toBe(false)
    expect(mayHold(leaderless({ 4: knows([4], joint), 1: knows([1, 2, 3]), 2: knows([1, 2, 3]) }), 3)).toBe(true)
  })

  it('is shown as the replica with the most of the log knows it', () => {
    const newer = knows([3, 4, 5], { term: 2, index: 9 })
    expect(asMove(leaderless({ 1: knows([1, 2, 3], { index: 30 }), 3: newer })).voters).toEqual([3, 4, 5])
  })
})

describe('a replica that is damaged beyond repair', () => {
  const areWhole = (testimonies: Record<number, Testimony>): boolean =>
    areOthersWhole(leaderless(testimonies).testimonies, 1)

  it('may be given up where everybody else of the group is there and has lost nothing', () => {
    const group = [1, 2, 3]
    expect(areWhole({ 2: knows(group), 3: knows(group) })).toBe(true)
    expect(areWhole({ 2: knows([1, 2]) })).toBe(true)
    expect(areWhole({ 2: knows(group) })).toBe(false)
    expect(areWhole({ 2: knows(group), 3: knows(group, { isRepairing: true }) })).toBe(false)
    // What it says of itself counts for nothing.
    expect(areWhole({ 1: knows([2]), 2: knows([]) })).toBe(false)
  })

  it('is kept where the group may be made of it alone, or have gone on with others', () => {
    expect(areWhole({ 2: knows([1]) })).toBe(false)
    expect(areWhole({ 2: absent, 3: knows([]) })).toBe(false)
    expect(areWhole({ 2: knows([1], { outgoing: [1, 2] }) })).toBe(false)
    expect(areWhole({ 2: knows([1, 2]), 3: knows([1, 3, 4]) })).toBe(false)
  })
})
