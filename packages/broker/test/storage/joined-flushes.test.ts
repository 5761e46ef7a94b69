// Flushes that several wait for together: one for all who ask in a turn, another for those who come while it is under way.
import { describe, expect, it } from 'vitest'
import type { DiskFile } from '#src/environment.js'
import { JoinedFlushes } from '#src/storage/joined-flushes.js'
import { turn } from './fixture.js'

interface UnderWay {
  readonly names: readonly string[]
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

function opened() {
  const begun: UnderWay[] = []
  const flushes = new JoinedFlushes((files) => {
    return new Promise((resolve, reject) => begun.push({ names: files.map(({ name }) => name), resolve, reject }))
  })
  const done: string[] = []
  const join = (name: string): Promise<void> => {
    const ended = flushes.join({ name } as DiskFile)
    ended.then(
      () => done.push(name),
      (error: Error) => done.push(`${name}: ${error.message}`),
    )
    return ended
  }
  return { begun, done, join }
}

describe('joined flushes', () => {
  it('are one for all who ask in the same turn, and one more for all who come meanwhile', async () => {
    const { begun, done, join } = opened()
    void join('a')
    void join('b')
    await turn()
    expect(begun.map(({ names }) => names)).toEqual([['a', 'b']])
    void join('c')
    void join('d')
    await turn()
    // What was written after a flush began is not covered by it.
    expect(begun).toHaveLength(1)
    begun[0]!.resolve()
    await turn()
    expect(done).toEqual(['a', 'b'])
    expect(begun.map(({ names }) => names)).toEqual([
      ['a', 'b'],
      ['c', 'd'],
    ])
    begun[1]!.resolve()
    await turn()
    expect(done).toEqual(['a', 'b', 'c', 'd'])
  })

  it('fail for those who were part of one, and go on for the others', async () => {
    const { begun, done, join } = opened()
    void join('a').catch(() => {})
    await turn()
    void join('b')
    begun[0]!.reject(new Error('broken'))
    await turn()
    begun[1]!.resolve()
    await turn()
    expect(done).toEqual(['a: broken', 'b'])
  })
})
