// The latch: after the first failed write or flush nothing more is written to the volume, and nothing is tried again.
import { describe, expect, it } from 'vitest'
import type { PartitionLog } from '#src/storage/log-store.js'
import { batchOf, KEY, TestStore, turn } from './fixture.js'

async function twoLogs(): Promise<{ test: TestStore; logs: PartitionLog[]; advances: number[] }> {
  const test = await TestStore.open()
  const logs = [await test.open(), await test.open({ ...KEY, topicId: 2 })]
  for (const log of logs) await test.fill(log, 5)
  const advances = [0, 0]
  for (const [i, log] of logs.entries()) {
    log.onAdvance = () => {
      if (log.failure !== null) advances[i]!++
    }
  }
  return { test, logs, advances }
}

describe.each([
  ['write', 'a write'],
  ['flush', 'a flush'],
])('a failed %s', (operation, words) => {
  it('stops every log of the volume, once and for good', async () => {
    const { test, logs, advances } = await twoLogs()
    const [first, second] = logs as [PartitionLog, PartitionLog]
    test.order.fail(operation, 'INPUT_OUTPUT', 1)
    test.append(first, batchOf())
    const flushed = expect(first.flush()).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await test.until(() => first.failure !== null)
    await flushed
    expect(first.failure?.message).toContain(words)
    expect(second.failure).toBe(first.failure)
    expect(advances).toEqual([1, 1])
    const writes = { ...test.order.counts }
    for (const log of logs) {
      expect(log.hasRoom(1000)).toBe(true)
      expect(() => test.append(log, batchOf({ key: log.key }))).toThrow(log.failure!)
    }
    await expect(first.flush()).rejects.toThrow(first.failure!)
    for (let i = 0; i < 50; i++) {
      await turn()
      test.environment.clock.fireNext()
    }
    expect([test.order.counts.write, test.order.counts.flush, test.order.counts.sync]).toEqual([
      writes.write,
      writes.flush,
      writes.sync,
    ])
    expect(advances).toEqual([1, 1])
    expect(first.flushedIndex).toBe(5)
  })

  it('leaves what was flushed to be read, and to be found when the volume is opened anew', async () => {
    const { test, logs } = await twoLogs()
    const [first, second] = logs as [PartitionLog, PartitionLog]
    test.order.fail(operation, 'INPUT_OUTPUT', 1)
    test.append(first, batchOf())
    await test.until(() => first.failure !== null)
    expect(await test.readAll(second)).toHaveLength(5)
    expect((await test.readAll(first)).length).toBeGreaterThanOrEqual(5)
    await expect(test.store.drop(KEY)).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
    const again = await test.restart()
    expect(again.store.recovery.damaged).toEqual([])
    expect((await again.open()).filled.index).toBeGreaterThanOrEqual(5)
    expect((await again.open({ ...KEY, topicId: 2 })).filled.index).toBe(5)
  })
})

describe('closing a store whose last flush fails', () => {
  it('ends, and is not taken for an orderly close', async () => {
    const { test, logs } = await twoLogs()
    test.append(logs[0]!, batchOf(), 'write')
    test.order.fail('flush', 'INPUT_OUTPUT')
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
    const again = await test.restart()
    expect((await again.open()).filled.index).toBeGreaterThanOrEqual(5)
    expect(again.image.small.get('log-store')?.[5]).toBe(0)
  })
})

describe('a write that fails while others are under way', () => {
  it('acknowledges none of them', async () => {
    const { test, logs } = await twoLogs()
    const [first, second] = logs as [PartitionLog, PartitionLog]
    test.order.holding.add('write')
    test.append(first, batchOf())
    test.append(second, batchOf({ key: second.key }))
    await turn()
    test.order.fail('write', 'INPUT_OUTPUT', 1)
    test.order.release('write')
    await test.until(() => first.failure !== null)
    for (let i = 0; i < 10; i++) await turn()
    expect([first.flushedIndex, second.flushedIndex]).toEqual([5, 5])
  })

  it('wakes those who wait for room, so that they hear of it', async () => {
    const { test, logs } = await twoLogs()
    const [first] = logs as [PartitionLog]
    let woken = 0
    first.onRoom(() => woken++)
    test.order.fail('flush', 'INPUT_OUTPUT', 1)
    test.append(first, batchOf())
    await test.until(() => first.failure !== null)
    await test.until(() => woken === 1)
    first.onRoom(() => woken++)
    await test.until(() => woken === 2)
  })
})
