// What a batch costs on its way in and out, counted: copies, calls into the addon, enters of the ring. So that it stays.

import { binding } from '@millrace/native'
import {
  crc32,
  cursorBatches,
  cursorOpen,
  cursorOpened,
  loggedBatches,
  produceReply,
  readBatchHeader,
} from '@millrace/protocol'
import { afterAll, beforeAll, expect, it } from 'vitest'
import type { PoolStatistics } from '#src/memory/page-pool.js'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { describeRing } from '../ring/ring-suite.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'

const BATCHES = 160
const IN_FLIGHT = 4
const LOG_PART_BYTES = 40
const MB = 1_000_000
const SMALLEST_ARENA_BYTES = 4 * 1024 * 1024
/** Batch header and log part are looked at in a copy, where they may lie in two frames; records are not. */
const MOST_HEADER_BYTES = 256

/** Calls of the addon's functions by name, while `work` runs. All of them are the broker's: the client is `node:net`. */
async function countingCalls(work: () => Promise<void>) {
  const native = binding()
  const counts = { enters: 0, calls: 0, nativeCopies: 0, copiedFromArenas: 0 }
  const originals = Object.entries(native)
  for (const [name, original] of originals) {
    if (typeof original !== 'function') continue
    Reflect.set(native, name, (...values: unknown[]): unknown => {
      counts.calls++
      if (name === 'ringEnter') counts.enters++
      if (name === 'copyWithChecksum') counts.nativeCopies++
      return Reflect.apply(original, native, values)
    })
  }
  const { set } = Uint8Array.prototype
  Uint8Array.prototype.set = function (this: Uint8Array, source: ArrayLike<number>, offset?: number): void {
    // Arenas are large; what a socket of the client hands out is not.
    if (source instanceof Uint8Array && source.buffer.byteLength >= SMALLEST_ARENA_BYTES) {
      counts.copiedFromArenas += source.length
    }
    set.call(this, source, offset)
  }
  try {
    await work()
  } finally {
    Uint8Array.prototype.set = set
    for (const [name, original] of originals) Reflect.set(native, name, original)
  }
  return counts
}

interface StorageFigures {
  readonly copiedBytes: number
  readonly bytesAppended: number
  readonly pagePool: PoolStatistics
}

function storageOf(cluster: TestCluster): StorageFigures {
  return cluster.brokers[0]!.status().storage as StorageFigures
}

const values = Array.from({ length: 64 }, (_, i) => ({ value: String.fromCharCode(97 + (i % 26)).repeat(1000) }))

async function produceAll(client: RawClient, topicId: number): Promise<number> {
  let sent = 0
  let bytes = 0
  const sendOne = (): void => {
    const batch = batchOf(values, { topicId, sequence: sent })
    bytes += batch.length
    client.write(RawClient.produceFrame([batch], { id: 1000 + sent++ }))
  }
  for (let i = 0; i < IN_FLIGHT; i++) sendOne()
  for (let answered = 0; answered < BATCHES; answered++) {
    const { header } = await client.receive((frame) => frame.header.kind === produceReply.kind)
    expect(header.id).toBe(1000 + answered)
    if (sent < BATCHES) sendOne()
  }
  return bytes
}

/** Without what begins a term: that has no offset, and comes along only with records. */
async function consumeAll(client: RawClient, topicId: number): Promise<{ bytes: number; batches: number }> {
  const route = { routeVersion: { term: 1, placement: 0 }, lane: 0 }
  const from = { start: 'earliest', position: 0, lastTerm: 0 } as const
  client.send(cursorOpen, { topicId, partition: 0, ...route, ...from, credit: 100 * MB }, 77)
  await client.receiveMessage(cursorOpened, 77)
  let bytes = 0
  let batches = 0
  while (batches < BATCHES) {
    const pushed = await client.receiveMessage(cursorBatches, 77)
    const view = new DataView(pushed.batches.buffer, pushed.batches.byteOffset, pushed.batches.byteLength)
    for (const batch of loggedBatches(pushed.batches, crc32)) {
      if (readBatchHeader(view, batch.clientStart).control) continue
      batches++
      bytes += batch.end - batch.clientStart
    }
  }
  return { bytes, batches }
}

describeRing('what the broker does for a batch', () => {
  let cluster: TestCluster
  let topicId = 0
  let bytes = 0

  beforeAll(async () => {
    cluster = await startTestCluster({ environment: 'ring' })
    const client = await RawClient.open(cluster.brokers[0]!.address)
    topicId = await client.createTopic('counted')
    client.close()
  })
  afterAll(() => cluster.stop())

  it('on the way in: one copy of each record, few calls, few enters', async () => {
    const client = await RawClient.open(cluster.brokers[0]!.address)
    const before = storageOf(cluster)
    const counts = await countingCalls(async () => {
      bytes = await produceAll(client, topicId)
    })
    const after = storageOf(cluster)
    client.close()
    expect(after.copiedBytes - before.copiedBytes).toBe(bytes + BATCHES * LOG_PART_BYTES)
    expect(after.bytesAppended - before.bytesAppended).toBe(bytes + BATCHES * LOG_PART_BYTES)
    expect(counts.nativeCopies).toBe(BATCHES)
    // Measured with four batches of 65 KB in flight: 57 to 60 enters a MB and 4.8 to 5 calls a batch.
    expect(counts.enters / (bytes / MB)).toBeLessThan(90)
    expect(counts.calls / BATCHES).toBeLessThan(8)
  })

  it.each(['from memory', 'from disk'])('on the way out %s: no copy', async (from) => {
    if (from === 'from disk') await cluster.brokers[0]!.restart()
    const client = await RawClient.open(cluster.brokers[0]!.address)
    const before = storageOf(cluster)
    const counts = await countingCalls(async () => {
      expect(await consumeAll(client, topicId)).toEqual({ bytes, batches: BATCHES })
    })
    const after = storageOf(cluster)
    client.close()
    expect(after.copiedBytes).toBe(before.copiedBytes)
    expect(counts.nativeCopies).toBe(0)
    expect(counts.copiedFromArenas / BATCHES).toBeLessThan(MOST_HEADER_BYTES)
    // Measured: 3.5 enters a MB and 0.23 calls a batch from memory, 4.9 and 1.8 from disk.
    expect(counts.enters / (bytes / MB)).toBeLessThan(from === 'from disk' ? 10 : 7)
    expect(counts.calls / BATCHES).toBeLessThan(from === 'from disk' ? 3.5 : 0.6)
    const { hits, misses, readAheadUsed, pinnedFrames } = after.pagePool
    if (from === 'from memory') expect([hits, misses]).toEqual([0, 0])
    else {
      expect(misses).toBeLessThan(hits / 4)
      expect(readAheadUsed).toBeGreaterThan(misses)
      expect(pinnedFrames).toBe(0)
    }
  })
})
