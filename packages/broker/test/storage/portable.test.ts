// The log store on a real file system: everything once, with the default limits.
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LOG_PART_BYTES, readBatchHeader } from '@millrace/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { Environment, Logger } from '#src/environment.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import type { LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { batchOf, clientPartsOf, IDENTITY, KEY, RecordingState } from './fixture.js'

const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }
let directory: string
let environment: Environment

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'millrace-storage-'))
  environment = createPortableEnvironment({ memoryBytes: 256 * 1024 * 1024, logger: SILENT })
})

afterEach(async () => {
  await environment.close()
  rmSync(directory, { recursive: true, force: true })
})

async function openStore(): Promise<{ store: LogStore; close: () => Promise<void> }> {
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  const store = await openLogStore(environment, volume, IDENTITY)
  return {
    store,
    close: async () => {
      await store.close()
      await volume.close()
    },
  }
}

async function append(log: PartitionLog, bytes: number, mode: 'flush' | 'write'): Promise<Uint8Array> {
  const batch = batchOf({ bytes, key: log.key })
  while (!log.hasRoom(LOG_PART_BYTES + batch.length)) await new Promise<void>((resolve) => log.onRoom(resolve))
  const source = environment.memory.allocate(batch.length)!
  source.bytes.set(batch)
  const { index, nextOffset } = log.filled
  const stamp = { term: 1, baseOffset: nextOffset, index: index + 1, appendTime: 1 }
  expect(log.append(source, 0, readBatchHeader(source.view, 0), stamp, mode)).toBe(true)
  environment.memory.release(source)
  return batch
}

async function readAll(log: PartitionLog): Promise<Uint8Array[]> {
  const batches: Uint8Array[] = []
  for (let offset = 0; offset < log.filled.nextOffset; ) {
    const read = await log.read(offset, 300_000, log.flushedIndex)
    batches.push(...clientPartsOf(read))
    offset = read.nextOffset
    read.release()
  }
  return batches
}

describe('a log store on files', () => {
  it('keeps what it is given over restarts', { timeout: 60_000 }, async () => {
    const expected = new Map<number, Uint8Array[]>()
    for (let life = 0; life < 3; life++) {
      const { store, close } = await openStore()
      expect(store.found.length).toBe(life === 0 ? 0 : 4)
      for (let topicId = 1; topicId <= 4; topicId++) {
        const log = await store.open({ ...KEY, topicId }, new RecordingState())
        const batches = expected.get(topicId) ?? []
        expected.set(topicId, batches)
        expect(log.filled.index).toBe(batches.length)
        const bytes = [100, 5000, 250_000, 1_000_000][topicId - 1]!
        for (let i = 0; i < 12; i++) batches.push(await append(log, bytes, i % 2 === 0 ? 'flush' : 'write'))
        await log.flush()
        const read = await readAll(log)
        expect(read.every((batch, i) => Buffer.compare(batch, batches[i]!) === 0)).toBe(true)
        expect(read).toHaveLength(batches.length)
      }
      await close()
    }
    expect(environment.memory.usedBytes).toBe(0)
  })

  it('starts fast and small, and opens again what was not closed', async () => {
    const startedMs = performance.now()
    const first = await openStore()
    const log = await first.store.open(KEY, new RecordingState())
    await append(log, 100, 'flush')
    await log.flush()
    expect(performance.now() - startedMs).toBeLessThan(5000)
    while (first.store.statistics.freeSlots < 4) await new Promise((resolve) => setTimeout(resolve, 5))
    const bytes = Array.from({ length: first.store.statistics.slots }, (_, i) =>
      statSync(join(directory, `slot-${(i + 1).toString(16).padStart(8, '0')}`)),
    ).reduce((sum, { size }) => sum + size, 0)
    expect(bytes).toBeLessThanOrEqual(32 * 1024 * 1024)
    // Another process would find the directory so after kill -9.
    const copy = mkdtempSync(join(tmpdir(), 'millrace-storage-'))
    const { cpSync } = await import('node:fs')
    cpSync(directory, copy, { recursive: true, filter: (path) => !path.endsWith('LOCK') })
    await first.close()
    const volume = await environment.disk.openVolume(copy, { requireDirect: false })
    const store = await openLogStore(environment, volume, IDENTITY)
    const state = new RecordingState()
    expect((await store.open(KEY, state)).filled.index).toBe(1)
    expect(state.replayed).toHaveLength(1)
    await store.close()
    await volume.close()
    rmSync(copy, { recursive: true })
  })
})
