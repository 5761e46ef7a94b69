// The checker sees what it is there to see: records lost, doubled, or put out of order.
import { describe, expect, it } from 'vitest'
import { Checker, isClean } from '../dist/checker.js'

function checkerAfter(sends: number, acknowledged: readonly number[], received: readonly number[]): Checker {
  const checker = new Checker()
  for (let number = 0; number < sends; number++) expect(checker.send('a')).toBe(number)
  for (const number of acknowledged) checker.acknowledge('a', number)
  for (const number of received) checker.receive('a', number)
  return checker
}

const all = Array.from({ length: 200 }, (_, number) => number)
const clean = { lost: 0, duplicated: 0, outOfOrder: 0, unresolved: 0 }

describe('the checker', () => {
  it('finds nothing when all is well, whichever comes first', () => {
    const checker = checkerAfter(200, all, all)
    expect(checker.result()).toEqual({ sent: 200, acknowledged: 200, received: 200, ...clean })
    expect(checker.missing).toBe(0)
    checker.send('b')
    checker.receive('b', 0)
    expect(checker.missing).toBe(0)
    checker.acknowledge('b', 0)
    expect(checker.missing).toBe(0)
    expect(isClean(checker.result())).toBe(true)
  })

  it('counts what was acknowledged and never came', () => {
    const checker = checkerAfter(4, [0, 1, 2, 3], [0, 2])
    expect(checker.missing).toBe(2)
    expect(checker.result()).toMatchObject({ ...clean, lost: 2, received: 2 })
    expect(isClean(checker.result())).toBe(false)
  })

  it('counts what came twice', () => {
    const result = checkerAfter(2, [0, 1], [0, 1, 0, 1, 1]).result()
    expect(result).toMatchObject({ ...clean, duplicated: 3, received: 5 })
    expect(isClean(result)).toBe(false)
  })

  it('counts what came after a later one of its key', () => {
    const result = checkerAfter(4, all.slice(0, 4), [1, 0, 3, 2]).result()
    expect(result).toMatchObject({ ...clean, outOfOrder: 2 })
    expect(isClean(result)).toBe(false)
  })

  it('does not call a record lost that was never acknowledged', () => {
    expect(checkerAfter(3, [0], [0, 1]).result()).toMatchObject({
      ...clean,
      acknowledged: 1,
      received: 2,
      unresolved: 1,
    })
  })

  it('refuses what was never sent', () => {
    const checker = checkerAfter(1, [0], [0])
    expect(() => checker.receive('a', 1)).toThrow('a 1 was never sent')
    expect(() => checker.receive('b', 0)).toThrow('b 0 was never sent')
    expect(() => checker.receive('a', Number.NaN)).toThrow('never sent')
  })
})
