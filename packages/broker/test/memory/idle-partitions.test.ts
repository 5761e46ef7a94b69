// A partition holds append memory only while something is under way, so many idle ones cost little.
import { expect, it } from 'vitest'
import { batchOf, SMALL, TestStore } from '../storage/fixture.js'

const MIB = 1024 * 1024
const PARTITIONS = 10_000

it('10,000 idle partitions hold no more than 64 MiB of append memory', async () => {
  const limits = { ...SMALL, slotBytes: [64 * 1024], maxGroupBytes: 32 * 1024, appendMemoryBytes: 64 * MIB }
  const test = await TestStore.open(undefined, limits, 256 * MIB)
  const logs = []
  for (let partition = 0; partition < PARTITIONS; partition++) {
    logs.push(await test.open({ topicId: 7, partition, lane: 0 }))
  }
  for (const log of logs) await test.appendWhenRoom(log, batchOf({ key: log.key, bytes: 300 }), 'write')
  await test.settled(Promise.all(logs.map((log) => log.flush())))
  expect(test.memory.usedBytes).toBeLessThanOrEqual(64 * MIB)
  expect(test.memory.usedBytes / PARTITIONS).toBeLessThanOrEqual(4096)
})
