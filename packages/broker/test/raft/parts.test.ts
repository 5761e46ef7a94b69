// The parts of the core: quorums, ballots, the shadow of the log, the window of a follower, limits. D is the dissertation, P the paper.
import { describe, expect, test } from 'vitest'
import { Ballot } from '#src/raft/ballot.js'
import { hasQuorum, isVoter, membersOf, quorumValue, votersOf } from '#src/raft/configuration.js'
import { LogShadow } from '#src/raft/log-shadow.js'
import { Progress } from '#src/raft/progress.js'
import { assertRaftLimits, RAFT_LIMITS } from '#src/raft/raft-limits.js'
import type { Configuration, Entry } from '#src/raft/raft-types.js'

const THREE: Configuration = { voters: [1, 2, 3], outgoing: [], learners: [] }
const TWO: Configuration = { voters: [1, 2], outgoing: [], learners: [] }
const JOINT: Configuration = { voters: [1, 4, 5], outgoing: [1, 2, 3], learners: [6] }

function entriesOf(...terms: number[]): Entry[] {
  return terms.map((term) => ({ term, configuration: null, byteLength: 10 }))
}

function shadow(terms: number[], start = { index: 1, previousTerm: 0, configuration: THREE }): LogShadow {
  const runs = terms
    .map((term, at) => ({ term, firstIndex: start.index + at }))
    .filter(({ term }, at) => term !== terms[at - 1])
  const lastIndex = start.index + terms.length - 1
  return new LogShadow({ start, terms: runs, lastIndex, durableIndex: lastIndex, configurations: [] })
}

describe('quorums (D 3.4, 4.3)', () => {
  test.each([
    [1, [5], 5],
    [2, [5, 9], 5],
    [3, [5, 9, 1], 5],
    [4, [5, 9, 1, 7], 5],
    [5, [5, 9, 1, 7, 3], 5],
    [3, [4, 4, 4], 4],
    [3, [0, 0, 8], 0],
  ])('of %i voters, the highest value that a majority of %j has reached is %i', (count, values, expected) => {
    const voters = Array.from({ length: count }, (_, at) => at + 1)
    expect(quorumValue({ voters, outgoing: [], learners: [] }, (nodeId) => values[nodeId - 1] ?? 0)).toBe(expected)
  })

  test('a joint configuration is as far as the slower of its sets', () => {
    const reached = (nodeId: number) => [0, 9, 3, 2, 8, 7][nodeId] ?? 0
    expect(quorumValue(JOINT, reached)).toBe(3)
    expect(quorumValue({ ...JOINT, outgoing: [] }, reached)).toBe(8)
  })

  test('a joint configuration needs a majority of both sets', () => {
    expect(hasQuorum(JOINT, (nodeId) => [4, 5].includes(nodeId))).toBe(false)
    expect(hasQuorum(JOINT, (nodeId) => [2, 3].includes(nodeId))).toBe(false)
    expect(hasQuorum(JOINT, (nodeId) => [1, 2, 4].includes(nodeId))).toBe(true)
  })

  test('nobody is no quorum', () => {
    const nobody: Configuration = { voters: [], outgoing: [], learners: [1] }
    expect(hasQuorum(nobody, () => true)).toBe(false)
    expect(quorumValue(nobody, () => 9)).toBe(0)
  })

  test('members are named once, and learners are no voters (D 4.2.1)', () => {
    expect(membersOf(JOINT)).toEqual([1, 4, 5, 2, 3, 6])
    expect(votersOf(JOINT)).toEqual([1, 4, 5, 2, 3])
    expect([2, 5, 6].map((nodeId) => isVoter(JOINT, nodeId))).toEqual([true, true, false])
  })
})

describe('a ballot (P 5.2)', () => {
  const full = (nodeId: number) => ({ nodeId, granted: true, isRepairing: false })
  const repairing = (nodeId: number) => ({ nodeId, granted: true, isRepairing: true })
  const refusal = (nodeId: number) => ({ nodeId, granted: false, isRepairing: false })

  function outcomeOf(votes: readonly Parameters<Ballot['record']>[0][], needsAll = false) {
    const ballot = new Ballot(needsAll)
    for (const vote of votes) ballot.record(vote)
    return ballot.outcome(THREE)
  }

  test('a majority wins, a majority of refusals loses', () => {
    expect(outcomeOf([full(1)])).toBe('open')
    expect(outcomeOf([full(1), full(3)])).toBe('won')
    expect(outcomeOf([full(1), refusal(3)])).toBe('open')
    expect(outcomeOf([refusal(2), refusal(3)])).toBe('lost')
  })

  test('the first answer of a node stands', () => {
    expect(outcomeOf([refusal(2), full(2), full(1)])).toBe('open')
  })

  test('the grants of replicas under repair count when all have granted', () => {
    expect(outcomeOf([full(1), repairing(2)])).toBe('open')
    expect(outcomeOf([full(1), repairing(2), full(3)])).toBe('won')
    expect(outcomeOf([full(1), full(3), repairing(2)])).toBe('won')
  })

  test('a candidate under repair needs them all', () => {
    expect(outcomeOf([repairing(1), full(2)], true)).toBe('open')
    expect(outcomeOf([repairing(1), full(2), full(3)], true)).toBe('won')
  })
})

describe('the shadow of the log', () => {
  test('knows the term of each entry, and of the one before the first', () => {
    const log = shadow([4, 4, 7], { index: 10, previousTerm: 3, configuration: THREE })
    expect([8, 9, 10, 11, 12, 13].map((index) => log.termAt(index))).toEqual([0, 3, 4, 4, 7, 0])
    expect(log.lastTerm).toBe(7)
  })

  test('finds where a log with an older term may agree (P 5.3)', () => {
    const log = shadow([1, 1, 3, 3, 5])
    expect([5, 4, 3, 2, 1, 0].map((term) => log.lastIndexOfTerm(5, term))).toEqual([5, 4, 4, 2, 2, 0])
    expect(log.lastIndexOfTerm(3, 4)).toBe(3)
    expect(log.lastIndexOfTerm(99, 9)).toBe(5)
  })

  test('says that nothing kept agrees when even the entry before the start is too new', () => {
    const log = shadow([5], { index: 10, previousTerm: 4, configuration: THREE })
    expect(log.lastIndexOfTerm(10, 4)).toBe(9)
    expect(log.lastIndexOfTerm(10, 3)).toBe(8)
  })

  test('a configuration holds from when it is appended until it is cut off (D 4.1)', () => {
    const log = shadow([1])
    log.append([{ term: 1, configuration: JOINT, byteLength: 1 }])
    expect([log.configuration, log.configurationIndex, log.previousConfiguration]).toEqual([JOINT, 2, THREE])
    log.truncate(1)
    expect([log.configuration, log.configurationIndex]).toEqual([THREE, 0])
  })

  test('what is reported durable counts for the entry that is there', () => {
    const log = shadow([1])
    log.append(entriesOf(1, 1))
    expect(log.durable(3, 2)).toBe(false)
    expect(log.durable(4, 1)).toBe(false)
    expect(log.durable(2, 1)).toBe(true)
    expect(log.durable(2, 1)).toBe(false)
    expect(log.durableIndex).toBe(2)
  })

  test('of two cuts that wait the lower one holds back', () => {
    const log = shadow([1, 1, 1, 1])
    const first = log.truncate(2)
    log.append(entriesOf(2, 2, 2))
    const second = log.truncate(3)
    log.append(entriesOf(3, 3))
    log.durable(5, 3)
    expect(log.durableIndex).toBe(2)
    log.truncated(first)
    log.durable(5, 3)
    expect(log.durableIndex).toBe(3)
    log.truncated(second)
    log.durable(5, 3)
    expect(log.durableIndex).toBe(5)
  })

  test('its start moves on, and never back', () => {
    const log = shadow([1, 1, 2, 2])
    log.moveStart({ index: 4, previousTerm: 2 })
    log.moveStart({ index: 2, previousTerm: 1 })
    expect([log.start.index, log.lastIndex, log.configuration]).toEqual([4, 4, THREE])
    expect([2, 3, 4].map((index) => log.termAt(index))).toEqual([0, 2, 2])
    log.moveStart({ index: 5, previousTerm: 2 })
    log.append(entriesOf(3))
    expect([4, 5].map((index) => log.termAt(index))).toEqual([2, 3])
  })

  test('what its start leaves behind stays in force, and what stands behind it is no part of it', () => {
    const log = shadow([1])
    log.append([{ term: 1, configuration: JOINT, byteLength: 1 }])
    log.append([{ term: 1, configuration: TWO, byteLength: 1 }])
    log.moveStart({ index: 3, previousTerm: 1 })
    expect([log.start.configuration, log.configuration]).toEqual([JOINT, TWO])
    log.truncate(2)
    expect(log.configuration).toEqual(JOINT)
  })

  test('an install takes everything away, and counts once it is durable (P figure 2)', () => {
    const log = shadow([1, 1, 2])
    const start = { index: 10, previousTerm: 4, configuration: JOINT }
    log.install(start)
    log.append(entriesOf(4))
    expect([log.lastIndex, log.durableIndex, log.durable(10, 4), log.configuration]).toEqual([10, 0, false, JOINT])
    expect(log.installed({ ...start, index: 9 })).toBe(false)
    expect(log.installed(start)).toBe(true)
    expect(log.durableIndex).toBe(9)
  })

  test('what recovery hands over must hang together', () => {
    const start = { index: 1, previousTerm: 0, configuration: THREE }
    const found = { start, terms: [], lastIndex: 0, durableIndex: 0, configurations: [] }
    const one = [{ term: 1, firstIndex: 1 }]
    expect(() => new LogShadow({ ...found, durableIndex: 1 })).toThrow('nothing is durable above')
    expect(() => new LogShadow({ ...found, lastIndex: 1 })).toThrow('begin at its start')
    expect(() => new LogShadow({ ...found, terms: one })).toThrow('an empty log has no terms')
    expect(() => new LogShadow({ ...found, lastIndex: 2, terms: [...one, { term: 0, firstIndex: 2 }] })).toThrow(
      'go down',
    )
    expect(() => new LogShadow({ ...found, lastIndex: 1, terms: [...one, { term: 2, firstIndex: 2 }] })).toThrow(
      'within',
    )
  })
})

describe('the window of a follower (D 10.2)', () => {
  test('is full by messages or by bytes, and opens by what has arrived', () => {
    const progress = new Progress(2, 5, false)
    progress.becomeReplicate(5)
    progress.sent(6, 30)
    progress.sent(9, 50)
    expect([
      progress.next,
      progress.windowRoom(100, 3),
      progress.windowRoom(100, 2),
      progress.windowRoom(60, 3),
    ]).toEqual([10, 20, 0, 0])
    progress.matched(8)
    expect([progress.match, progress.next, progress.windowRoom(100, 3)]).toEqual([8, 10, 50])
    progress.matched(12)
    expect([progress.match, progress.next, progress.windowRoom(100, 3)]).toEqual([12, 13, 100])
  })

  test('is empty after the place is looked for anew', () => {
    const progress = new Progress(2, 1, false)
    progress.becomeReplicate(1)
    progress.sent(4, 90)
    progress.becomeProbe(3)
    expect([progress.mode, progress.next, progress.windowRoom(100, 1)]).toEqual(['probe', 3, 100])
  })
})

describe('limits', () => {
  test.each([
    [{ heartbeatTicks: 0 }, 'a tick apart'],
    [{ electionMinTicks: 2 }, 'longer than a heartbeat'],
    [{ electionMaxTicks: 9 }, 'not below the shortest'],
    [{ windowMessages: 0 }, 'has room'],
    [{ maxAppendBytes: 0 }, 'proposed and sent'],
    [{ transferTicks: 0 }, 'get their time'],
    [{ stallTicks: 1 }, 'longer than a heartbeat'],
    [{ maxHeldMessages: 0 }, 'may be held'],
  ])('%j contradict each other', (changed, message) => {
    expect(() => assertRaftLimits({ ...RAFT_LIMITS, ...changed })).toThrow(message)
  })
})
