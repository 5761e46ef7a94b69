// The page table's own operations in every order of their atomic accesses, and mistakes planted to see them found.
import { describe, expect, it } from 'vitest'
import { TableLayout } from '#src/memory/table-layout.js'
import { type ExploreOptions, explore } from './explorer.js'
import { PLANTED_TABLES, torn, versionless } from './planted.js'
import { drop, evict, fail, type ReaderOptions, read, readersWorld } from './table-readers.js'

const ONE_FRAME = { frames: 1, entries: 1, window: 1, resident: [1] }
const TWO_FRAMES = { frames: 2, entries: 2, window: 2 }

/** A read is find or publish, load or wait, look, unpin; an eviction claim and free; a drop doom, wait and free. */
const TWO_WORKERS: Readonly<Record<string, ReaderOptions>> = {
  'two want a page that is not there': { ...TWO_FRAMES, actions: [[read(1)], [read(1)]] },
  'the one who loads fails': { ...TWO_FRAMES, actions: [[fail(1)], [read(1)]] },
  'both have missed, and one gives the slot up afterwards': {
    ...TWO_FRAMES,
    missed: true,
    actions: [[read(1)], [read(1), drop]],
  },
  'a page is evicted and dropped while it is read': {
    ...TWO_FRAMES,
    resident: [1],
    actions: [
      [read(1), evict],
      [read(1), drop],
    ],
  },
  'a page gives way to another while it is read': {
    ...TWO_FRAMES,
    resident: [1],
    actions: [
      [read(1), read(1)],
      [evict, read(2)],
    ],
  },
  'a page is dropped while it is loaded anew': {
    ...TWO_FRAMES,
    resident: [1],
    actions: [
      [read(1), drop],
      [evict, read(1)],
    ],
  },
  'two pages take turns in one frame': {
    ...ONE_FRAME,
    actions: [
      [read(1), read(1)],
      [read(2), read(1)],
    ],
  },
}

const THREE_WORKERS: Readonly<Record<string, ReaderOptions>> = {
  'one reads, one evicts, one drops': { ...TWO_FRAMES, resident: [1], actions: [[read(1)], [evict], [drop]] },
  'three want one frame for two pages': { ...ONE_FRAME, actions: [[read(1)], [read(2)], [read(1)]] },
  'two read while the slot is dropped': { ...ONE_FRAME, actions: [[read(1)], [read(1)], [drop]] },
  'two want one frame while the slot is dropped': { ...ONE_FRAME, actions: [[read(1)], [read(2)], [drop]] },
}

const ALL = { ...TWO_WORKERS, ...THREE_WORKERS }

describe('the page table', () => {
  it.each(Object.keys(TWO_WORKERS))('keeps its rules in every order of two workers: %s', (name) => {
    const { violation, states, ends } = explore(readersWorld(TWO_WORKERS[name]!), { mostStates: 400_000 })
    expect(violation).toBeNull()
    expect(states).toBeGreaterThan(1_000)
    expect(ends).toBeGreaterThan(1)
  })

  it.each(Object.keys(THREE_WORKERS))('keeps its rules in every order of three workers: %s', (name) => {
    const { violation, states } = explore(readersWorld(THREE_WORKERS[name]!), { hashed: true, mostStates: 400_000 })
    expect(violation).toBeNull()
    expect(states).toBeGreaterThan(10_000)
  })

  it('is the same each time', () => {
    const [first, second] = [0, 1].map(() =>
      explore(readersWorld(ALL['two pages take turns in one frame']!), { mostStates: 400_000 }),
    )
    expect(first).toEqual(second)
  })
})

/** The scenario that shows the mistake, and what is seen of it. */
const FOUND: Readonly<Record<string, readonly [scenario: string, seen: RegExp]>> = {
  'looks not around': ['two want a page that is not there', /page 1 is in two frames/],
  'ignores the undecided': ['both have missed, and one gives the slot up afterwards', /page 1 is in two frames/],
  'pins unseen': ['a page gives way to another while it is read', /./],
  'wakes too early': ['two want a page that is not there', /never woken/],
  'tells the length too late': ['two want a page that is not there', /page 1 is said to have/],
  'claims too late': ['two pages take turns in one frame', /owned while it is pinned/],
  'unpins in two steps': ['two read while the slot is dropped', /./],
}

function seenIn(scenario: string, change: Partial<ReaderOptions>, atomics?: ExploreOptions['atomics']): string {
  const world = readersWorld({ ...ALL[scenario]!, ...change })
  const options = { mostStates: 400_000, hashed: true, ...(atomics === undefined ? {} : { atomics }) }
  const { violation } = explore(world, options)
  expect(violation?.trace.length).toBeGreaterThan(1)
  return violation!.what
}

describe('the explorer finds a table that', () => {
  it.each(Object.keys(PLANTED_TABLES))('%s', (name) => {
    const [scenario, seen] = FOUND[name]!
    expect(seenIn(scenario, { table: PLANTED_TABLES[name]! })).toMatch(seen)
  })

  it('swaps in two steps', () => {
    expect(seenIn('two pages take turns in one frame', {}, torn)).toMatch(/./)
  })

  it('does not look at versions', () => {
    const layout = new TableLayout({ frames: 1, entries: 1, window: 1, ghosts: 1 })
    expect(seenIn('two pages take turns in one frame', {}, versionless(layout))).toMatch(/another page|asked for/)
  })

  it('looks before it listens', () => {
    const change = { looksBeforeItListens: true }
    expect(seenIn('two want a page that is not there', change)).toMatch(/never woken/)
  })
})
