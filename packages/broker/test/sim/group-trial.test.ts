// The checker of consumer groups on histories made by hand, and one trial of the real client in a simulated cluster.
import { describe, expect, test } from 'vitest'
import { checkGroupWork } from '../../sim/checker/check-group-work.js'
import { checkGroup } from '../../sim/checker/check-groups.js'
import type { GroupDelivery, GroupWork } from '../../sim/checker/group-history.js'
import { runGroupTrial } from '../../sim/group-trial.js'
import { optionsOf } from '../../sim/options.js'
import { runSimulation } from '../../sim/simulation.js'

/** `a 0 @5 since 1`: member a was given offset 0 at 5 ms, of what was its own since 1 ms. */
function deliveriesOf(text: string): GroupDelivery[] {
  return text.split('; ').map((part) => {
    const [, member = '', offset, atMs, assignedAtMs] = /^(\w+) (\d+) @(\d+) since (\d+)$/.exec(part) ?? []
    return { member, partition: 0, offset: Number(offset), atMs: Number(atMs), assignedAtMs: Number(assignedAtMs) }
  })
}

/** Everything that was given was worked on at once. */
function broken(text: string, end: number, committed = end): string[] {
  const deliveries = deliveriesOf(text)
  const work = deliveries.flatMap((delivery): GroupWork[] => [
    { kind: 'begun', key: null, ...delivery },
    { kind: 'ended', key: null, ...delivery },
  ])
  return checkGroup({ deliveries, work, ends: [end], committed: [committed] }).map(({ invariant }) => invariant)
}

/**
 * `a begins 0 x`, `a ends 0 x`: member a works on offset 0 of key x, and `-` is no key; `a gives`: it gives the partition back;
 * `a loses`: it has lost it. A number behind the member's name is when it got the partition.
 */
function workOf(text: string): GroupWork[] {
  const kinds = { begins: 'begun', ends: 'ended', gives: 'released', loses: 'lost' } as const
  return text.split('; ').map((part) => {
    const [who = '', verb = '', offset = '', key = ''] = part.split(' ')
    const [, member = '', sinceMs = ''] = /^([a-z]+)(\d*)$/.exec(who) ?? []
    const life = { member, partition: 0, assignedAtMs: Number(sinceMs) }
    const kind = kinds[verb as keyof typeof kinds]
    if (kind === 'released' || kind === 'lost') return { kind, ...life }
    return { kind, ...life, offset: Number(offset), key: key === '-' ? null : key }
  })
}

function brokenWork(text: string, end: number): string[] {
  return [...checkGroupWork(workOf(text), 0, end)].map(({ invariant }) => invariant)
}

describe('histories that are right', () => {
  test.each([
    ['one member', 'a 0 @5 since 1; a 1 @6 since 1', 2],
    ['one takes over and does again what was not committed', 'a 0 @5 since 1; a 1 @6 since 1; b 1 @9 since 8', 2],
    ['a partition comes back', 'a 0 @5 since 1; b 1 @9 since 8; a 2 @20 since 19', 3],
    ['the same one begins again', 'a 0 @5 since 1; a 1 @6 since 1; a 0 @9 since 8; a 1 @9 since 8', 2],
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
    ['one is left out', 'a 0 @5 since 1; a 2 @6 since 1; b 1 @9 since 8', 3, 3, 'group-skip'],
    ['one comes twice', 'a 0 @5 since 1; a 0 @6 since 1', 1, 1, 'group-repeat'],
    ['they come backwards', 'a 1 @5 since 1; a 0 @6 since 1', 2, 2, 'group-repeat'],
  ])('%s', (_, text, end, committed, invariant) => {
    expect(broken(text, end, committed)).toContain(invariant)
  })
})

test('whoever is replaced under its name hears of it late, and nobody else has that excuse', () => {
  const [first, second, third] = deliveriesOf('a 0 @5 since 1; b 0 @9 since 8; a 1 @10 since 1')
  const finished = [0, 1].map((offset): GroupWork => ({ kind: 'ended', key: null, ...first!, offset }))
  const judged = (last: GroupDelivery): string[] =>
    checkGroup({ deliveries: [first!, second!, last], work: finished, ends: [2], committed: [2] }).map(
      ({ invariant }) => invariant,
    )
  expect(judged({ ...third!, isReplaced: true })).toEqual([])
  expect(judged(third!)).toEqual(['double-owner'])
})

describe('work that is right', () => {
  test.each([
    ['one after the other', 'a begins 0 x; a ends 0 x; a begins 1 x; a ends 1 x', 2],
    ['keys side by side', 'a begins 0 x; a begins 1 y; a ends 1 y; a ends 0 x', 2],
    ['without keys side by side', 'a begins 0 -; a begins 1 -; a ends 1 -; a ends 0 -', 2],
    ['another key overtakes', 'a begins 1 y; a ends 1 y; a begins 0 x; a ends 0 x', 2],
    ['given back when it is done', 'a begins 0 x; a ends 0 x; a gives; b begins 1 x; b ends 1 x', 2],
    ['a life is lost under it, and another does it', 'a begins 0 x; a loses; b begins 0 x; a ends 0 x; b ends 0 x', 1],
    ['it has the partition again', 'a1 begins 0 x; a1 loses; a5 begins 0 x; a1 ends 0 x; a5 ends 0 x', 1],
  ])('%s', (_, text, end) => {
    expect(brokenWork(text, end)).toEqual([])
  })
})

describe('work that is not', () => {
  test.each([
    ['two of a key at once', 'a begins 0 x; a begins 1 x; a ends 0 x; a ends 1 x', 2, 'group-key-order'],
    ['a key backwards', 'a begins 1 x; a ends 1 x; a begins 0 x; a ends 0 x', 2, 'group-key-order'],
    ['given back at work', 'a begins 0 x; a gives; a ends 0 x', 1, 'released-at-work'],
    ['begun when it is gone', 'a begins 0 x; a loses; a begins 1 y; a ends 0 x; a ends 1 y', 2, 'begun-after-loss'],
    ['committed and done by nobody', 'a begins 0 x; a begins 1 y; a ends 1 y', 2, 'group-unfinished'],
  ])('%s', (_, text, end, invariant) => {
    expect(brokenWork(text, end)).toEqual([invariant])
  })
})

test('a group of real clients loses nothing while members and brokers are killed', { timeout: 120_000 }, async () => {
  const { failures, counts } = await runGroupTrial(4)
  expect(failures).toEqual([])
  expect(counts['records given']).toBeGreaterThanOrEqual(400)
  expect(counts['group: member killed'] ?? 0).toBeGreaterThan(0)
})

test('a group rides along in the run of a seed, which repeats exactly', { timeout: 120_000 }, async () => {
  const options = optionsOf(17)
  expect(options.group).not.toBeNull()
  const one = await runSimulation(options)
  const other = await runSimulation(optionsOf(17))
  expect(one.failures).toEqual([])
  expect(one.coverage['group: has committed everything']).toBe(1)
  expect(other.traceHash).toBe(one.traceHash)
})
