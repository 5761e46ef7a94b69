// Logs with a beginning that was given back and a suffix that was cut off: told as such, and never taken for damage.
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { LOG_PART_BYTES, readBatchHeader } from '@millrace/protocol'
import { expect, it } from 'vitest'
import { encodeIdentity } from '#src/identity.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { sealLogStart } from '#src/storage/log-start.js'
import type { LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { batchOf, KEY, RecordingState } from '../storage/fixture.js'
import { flip, groupsOf, log, scratch } from './directories.js'

const OWNER = { clusterId: '0'.repeat(32), nodeId: 1, diskId: '1'.repeat(32) }

/** A directory as `work` leaves it, closed in order. */
async function directoryAfter(
  work: (log: PartitionLog, append: (batch: Uint8Array) => Promise<void>, store: LogStore) => Promise<void>,
): Promise<string> {
  const directory = scratch()
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  const environment = createPortableEnvironment({ memoryBytes: 128 * 1024 * 1024, logger })
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  try {
    const store = await openLogStore(environment, volume, OWNER)
    const opened = await store.open(KEY, new RecordingState())
    await work(
      opened,
      async (batch) => {
        while (!opened.hasRoom(LOG_PART_BYTES + batch.length))
          await new Promise<void>((resolve) => opened.onRoom(resolve))
        const source = environment.memory.allocate(batch.length)!
        source.bytes.set(batch)
        const { index, nextOffset } = opened.filled
        const stamp = { term: 1, baseOffset: nextOffset, index: index + 1, appendTime: 1 }
        opened.append(source, 0, readBatchHeader(source.view, 0), stamp, 'flush')
        environment.memory.release(source)
        await opened.flush()
      },
      store,
    )
    await store.close()
  } finally {
    await volume.close()
    await environment.close()
  }
  writeFileSync(join(directory, 'identity.json'), encodeIdentity({ ...OWNER, starts: 1 }))
  return directory
}

it('tells what was cut off, and what took its place', async () => {
  const directory = await directoryAfter(async (opened, append) => {
    for (let i = 0; i < 10; i++) await append(batchOf({ records: 2 }))
    await opened.truncateTo(6)
    for (let i = 0; i < 3; i++) await append(batchOf({ records: 5 }))
    await opened.truncateTo(8)
    await append(batchOf({ records: 1 }))
  })
  const { code, report } = await log('verify', directory, '--json')
  expect(code).toBe(0)
  const [cut] = report.logs
  expect(cut).toMatchObject({ state: 'clean', topic: null, nextOffset: 12 + 10 + 1, lastIndex: 9, damage: [] })
  expect(cut?.deadRanges).toMatchObject([
    { firstIndex: 7, lastIndex: 10, firstOffset: 12, nextOffset: 20 },
    { firstIndex: 9, lastIndex: 9, firstOffset: 22, nextOffset: 27 },
  ])
  for (const { position, endPosition } of cut!.deadRanges) expect(endPosition).toBeGreaterThan(position)
  const { text } = await log('inspect', directory, '--log', '1/0')
  expect(text).toMatch(/^#1\/0 +cut off +[\d,]+ +12 +19 +superseded$/m)

  // Damage behind a cut is damage all the same.
  const last = groupsOf(directory, 0)
    .filter(({ envelope }) => envelope.kind === 0)
    .at(-1)!
  flip(directory, last.slot, last.at + 200)
  expect((await log('verify', directory)).code).toBe(1)
})

it('knows a log whose beginning was given back', { timeout: 60_000 }, async () => {
  const directory = await directoryAfter(async (opened, append, store) => {
    for (let i = 0; i < 60; i++) await append(batchOf({ bytes: 100_000 }))
    const start = opened.expire({ bytes: 2 * 1024 * 1024, appendedBefore: null })!
    await append(sealLogStart(start, KEY, opened.filled.index + 1, 5))
    opened.noteCommitted(opened.flushedIndex)
    await append(batchOf())
    while (store.statistics.slotsRecycled === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  })
  const { code, report } = await log('verify', directory, '--json')
  expect(code).toBe(0)
  const [cut] = report.logs
  expect(cut).toMatchObject({ state: 'clean', nextOffset: 61, damage: [] })
  expect(cut?.logStart.offset).toBeGreaterThan(0)
  expect(cut?.segments[0]?.basePosition).toBeGreaterThan(0)
  expect(cut?.segments[0]?.baseOffset).toBeLessThanOrEqual(cut!.logStart.offset)
})
