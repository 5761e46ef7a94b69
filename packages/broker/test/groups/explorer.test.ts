// Every state of small groups holds what must be true, and accepts no token but those that are valid in it.
import { expect, test } from 'vitest'
import { type Bounds, explore } from './explorer.js'

const WHOLE: readonly (readonly [title: string, bounds: Bounds, states: number])[] = [
  ['two members, three partitions', { members: 2, partitions: 3, names: false, offsets: 0, depth: 100 }, 209],
  ['two members that commit', { members: 2, partitions: 2, names: false, offsets: 1, depth: 100 }, 210],
  ['three members', { members: 3, partitions: 2, names: false, offsets: 0, depth: 100 }, 325],
  ['two lives of a member and another one', { members: 3, partitions: 2, names: true, offsets: 0, depth: 100 }, 185],
]

test.each(WHOLE)('%s: nothing is left', (_, bounds, states) => {
  const explored = explore(bounds)
  expect(explored.isComplete).toBe(true)
  expect(explored.states).toBe(states)
})

test('three members and three partitions, four commands deep', () => {
  expect(explore({ members: 3, partitions: 3, names: false, offsets: 1, depth: 4 }).states).toBeGreaterThan(500)
})
