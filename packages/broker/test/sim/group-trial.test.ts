// The checker of consumer groups on histories made by hand, and one trial of the real client in a simulated cluster.
import { describe, expect, test } from 'vitest'
import { checkGroup, type GroupDelivery } from '../../sim/checker/check-groups.js'
import { runGroupTrial } from '../../sim/group-trial.js'

/** `a 0 @5 since 1`: member a was given offset 0 at 5 ms, of what was its own since 1 ms. */
function deliveriesOf(text: string): GroupDelivery[] {
  return text.split('; ').map((part) => {
    const [, member = '', offset, atMs, assignedAtMs] = /^(\w+) (\d+) @(\d+) since (\d+)$/.exec(part) ?? []
    return { member, partition: 0, offset: Number(offset), atMs: Number(atMs), assignedAtMs: Number(assignedAtMs) }
  })
}

function broken(text: string, end: number, committed = end): string[] {
  const history = { deliveries: deliveriesOf(text), ends: [end], committed: [committed] }
  return checkGroup(history).map(({ invariant }) => invariant)
}

describe('histories that are right', () => {
  test.each([
    ['one member', 'a 0 @5 since 1; a 1 @6 since 1', 2],
    ['one takes over and does again what was not committed', 'a 0 @5 since 1; a 1 @6 since 1; b 1 @9 since 8', 2],
    ['a partition comes back', 'a 0 @5 since 1; b 1 @9 since 8; a 2 @20 since 19', 3],
  ])('%s', (_, text, end) => {
    expect(broken(text, end)).toEqual([])
  })
})

describe('histories that are not', () => {
  test.each([
    ['a record that nobody was given', 'a 0 @5 since 1; a 2 @6 since 1', 3, 3, 'group-unseen'],
    ['the end was never given', 'a 0 @5 since 1', 2, 2, 'group-unseen'],
    ['two at a time', 'a 0 @5 since 1; b 1 @9 since 8; a 1 @10 since 1', 2, 2, 'double-owner'],
    [
      'one more after another began',
      'a 0 @5 since 1; b 0 @6 since 6; a 1 @7 since 1; b 1 @8 since 6',
      2,
      2,
      'double-owner',
    ],
    ['the next one begins before the last', 'a 0 @1 since 1; b 1 @2 since 2; c 0 @9 since 8', 2, 2, 'commit-regress'],
    ['more committed than there is', 'a 0 @5 since 1', 1, 4, 'commit-ahead'],
  ])('%s', (_, text, end, committed, invariant) => {
    expect(broken(text, end, committed)).toContain(invariant)
  })
})

test('a group of real clients loses nothing while members and brokers are killed', { timeout: 120_000 }, async () => {
  const { failures, counts } = await runGroupTrial(4)
  expect(failures).toEqual([])
  expect(counts['records given']).toBeGreaterThanOrEqual(400)
  expect(counts['member killed'] ?? 0).toBeGreaterThan(0)
})
