// Several flushes under way: each covers what was written before it, and they end in the order in which they began.
import { describe, expect, it, vi } from 'vitest'
import type { PartitionLog } from '#src/storage/log-store.js'
import { batchOf, KEY, SMALL, TestStore, turn } from './fixture.js'

const FLUSHED = 3

/** Logs whose segments are written through; from now on flushes wait for the test. */
async function logsWithHeldFlushes(
  count: number,
  flushesInFlight = 8,
): Promise<{ test: TestStore; logs: PartitionLog[] }> {
  const test = await TestStore.open(undefined, { ...SMALL, flushesInFlight })
  const logs: PartitionLog[] = []
  for (let i = 0; i < count; i++) logs.push(await test.open({ ...KEY, topicId: i + 1 }))
  for (const log of logs) await test.fill(log, FLUSHED)
  test.order.holding.add('flush')
  return { test, logs }
}

const append = (test: TestStore, log: PartitionLog, mode: 'flush' | 'write' = 'flush') =>
  test.append(log, batchOf({ key: log.key }), mode)

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await turn()
}

/** Appends to each log, one flush after the other. */
async function flushEach(test: TestStore, logs: readonly PartitionLog[]): Promise<void> {
  const before = test.order.held.length
  for (const [i, log] of logs.entries()) {
    append(test, log)
    await test.until(() => test.order.held.length === before + i + 1, 'another flush')
  }
}

const flushedOf = (logs: readonly PartitionLog[]): number[] => logs.map((log) => log.flushedIndex - FLUSHED)

describe('flushes under way at the same time', () => {
  it('end in the order in which they began', async () => {
    const { test, logs } = await logsWithHeldFlushes(3)
    await flushEach(test, logs)
    test.order.releaseNewest('flush')
    await turns()
    expect(flushedOf(logs)).toEqual([0, 0, 0])
    test.order.release('flush', 1)
    await turns()
    expect(flushedOf(logs)).toEqual([1, 0, 0])
    test.order.release('flush')
    await turns()
    expect(flushedOf(logs)).toEqual([1, 1, 1])
  })

  it('count for what one log had written before each of them', async () => {
    const { test, logs } = await logsWithHeldFlushes(1)
    const [log] = logs as [PartitionLog]
    await flushEach(test, [log, log])
    append(test, log)
    await turns()
    for (const flushed of [1, 2]) {
      test.order.release('flush', 1)
      await turns()
      expect(log.flushedIndex - FLUSHED).toBe(flushed)
    }
    test.order.release('flush')
    await test.until(() => log.flushedIndex - FLUSHED === 3)
  })

  it('are as many as the limit says; what is written meanwhile shares the next one', async () => {
    const { test, logs } = await logsWithHeldFlushes(4, 2)
    await flushEach(test, logs.slice(0, 2))
    for (const log of logs.slice(2)) append(test, log)
    await turns()
    expect(test.order.held).toHaveLength(2)
    const { flushes } = test.store.statistics
    test.order.release('flush', 1)
    await turns()
    expect(test.order.held).toHaveLength(2)
    test.order.release('flush')
    await test.until(() => logs.every((log) => log.flushedIndex === FLUSHED + 1))
    expect(test.store.statistics.flushes - flushes).toBe(3)
  })

  it('all count for nothing when the oldest fails, whatever the others have said', async () => {
    const { test, logs } = await logsWithHeldFlushes(2)
    await flushEach(test, logs)
    test.order.releaseNewest('flush')
    await turns()
    test.order.fail('flush', 'INPUT_OUTPUT', 1)
    test.order.release('flush')
    await test.until(() => logs.every((log) => log.failure !== null))
    await turns()
    expect(flushedOf(logs)).toEqual([0, 0])
  })

  it('are not begun for what needs more than a flush of the device', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, reserveSlots: 1, fillBytesPerSecond: 1 })
    const log = await test.open()
    await test.fill(log, 1)
    const grown = await test.open({ ...KEY, topicId: 9 })
    // Slots are filled so slowly that this one soon goes on in some that are not.
    await test.fill(grown, 30, { bytes: 6000, key: grown.key }, 'write')
    test.order.holding.add('flush')
    await flushEach(test, [log])
    const flushGrown = vi.spyOn(test.volume, 'flushGrown')
    append(test, grown, 'write')
    const flushed = grown.flush()
    await turns()
    expect(flushGrown).not.toHaveBeenCalled()
    test.order.release('flush')
    await test.settled(flushed)
    expect(flushGrown).toHaveBeenCalled()
    expect([log.flushedIndex, grown.flushedIndex]).toEqual([2, 31])
  })

  it('are not begun where a flush goes file by file', async () => {
    const { test, logs } = await logsWithHeldFlushes(2)
    Object.defineProperty(test.volume, 'flushMethod', { value: 'files' })
    for (const log of logs) {
      append(test, log)
      await turns()
    }
    expect(test.order.held).toHaveLength(1)
    test.order.holding.clear()
    test.order.release('flush')
    await test.until(() => logs.every((log) => log.flushedIndex === FLUSHED + 1))
  })
})
