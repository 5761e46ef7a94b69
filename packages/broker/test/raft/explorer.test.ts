// The states that three real cores can get into, within small bounds.
import { expect, test } from 'vitest'
import { type Bounds, Explorer, GROWING_BOUNDS, ISSUE_BOUNDS } from './explorer.js'

const STATES = Number(process.env.RAFT_STATES ?? 4000)

const SMALL: Bounds = {
  ...ISSUE_BOUNDS,
  nodes: [1, 2],
  configuration: { voters: [1, 2], outgoing: [], learners: [] },
  change: null,
  proposals: 0,
  terms: 2,
  messages: 2,
  crashes: 1,
  heartbeats: 0,
  duplicates: 0,
}

function explored(bounds: Bounds, states: number) {
  const explorer = new Explorer(bounds, 1)
  try {
    return explorer.sample(states)
  } catch (error) {
    throw new Error(`after\n${explorer.path.join('\n')}`, { cause: error })
  }
}

test('a small space is searched to its end', () => {
  const result = new Explorer(SMALL, 1).explore(100_000)
  expect(result.isComplete).toBe(true)
  expect(result.states).toBeGreaterThan(100)
})

test.each([
  ['a voter leaves', ISSUE_BOUNDS],
  ['a learner becomes a voter', GROWING_BOUNDS],
  ['disks are slow', { ...ISSUE_BOUNDS, slowDisks: true }],
])('no rule is broken: %s', (_, bounds) => {
  const result = explored(bounds, STATES)
  expect(result.states).toBeGreaterThanOrEqual(STATES)
  expect(result.maxTerm).toBe(3)
  expect(result.maxCommitted).toBeGreaterThanOrEqual(4)
})
