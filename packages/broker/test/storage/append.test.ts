// Group commit: what is appended in a turn becomes one write, what is written is flushed together, and the watermarks.
import { crc32, readBatchHeader } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { ENVELOPE_BYTES, type GroupEnvelope, readEnvelope } from '#src/storage/group-envelope.js'
import type { PartitionLog } from '#src/storage/log-store.js'
import { ROLL_HEADER_POSITION, SLOT_DATA_START } from '#src/storage/slot-layout.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { batchOf, clientPartsOf, KEY, slotFiles, TestStore, turn } from './fixture.js'

/** Envelopes of a slot in the order they stand there. */
function groupsOf(image: VolumeImage, name: string): GroupEnvelope[] {
  const file = image.files.get(name)!
  const groups: GroupEnvelope[] = []
  for (let at = SLOT_DATA_START; at < file.size; ) {
    const page = file.page(at / 4096)
    const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
    const envelope = readEnvelope(page, view, 0, crc32)
    if (envelope === null) break
    groups.push(envelope)
    at += Math.ceil(envelope.length / 4096) * 4096
  }
  return groups
}

/** Position and length of every write to a file. */
function writesOf(test: TestStore, name: string): [number, number][] {
  return test.trace.events.flatMap((event): [number, number][] => {
    if (event.kind !== 'submit' || event.operation.kind !== 'write' || event.operation.file !== name) return []
    return [[event.operation.position, event.operation.bytes.length]]
  })
}

/** The slot that holds groups, when only one does. */
function usedSlot(image: VolumeImage): string {
  const used = slotFiles(image).filter((name) => groupsOf(image, name).length > 0)
  expect(used).toHaveLength(1)
  return used[0]!
}

describe('group commit', () => {
  it('makes one group and one write of what a turn appends', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.until(() => test.store.statistics.freeSlots === 2)
    const { bytesWritten } = test.store.statistics
    for (let i = 0; i < 10; i++) expect(test.append(log, batchOf())).toBe(true)
    await test.settled(log.flush())
    const [group] = groupsOf(test.image, usedSlot(test.image))
    expect(group).toMatchObject({
      batchCount: 10,
      position: 0,
      durableTo: 0,
      previous: 0,
      firstIndex: 1,
      firstOffset: 0,
    })
    // The header that makes the slot the log's, and the group.
    expect(writesOf(test, usedSlot(test.image)).slice(-2)).toEqual([
      [SLOT_DATA_START, 4096],
      [ROLL_HEADER_POSITION, 4096],
    ])
    expect(test.store.statistics).toMatchObject({ groups: 1, flushes: 1 })
    expect(test.store.statistics.bytesWritten - bytesWritten).toBeGreaterThanOrEqual(2 * 4096)
  })

  it('chains groups by position, checksum and what was flushed', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    for (const bytes of [10, 5000, 1]) await test.fill(log, 1, { bytes })
    const groups = groupsOf(test.image, usedSlot(test.image))
    expect(groups.map(({ position }) => position)).toEqual([0, 4096, 12_288])
    expect(groups.map(({ durableTo }) => durableTo)).toEqual([0, 4096, 12_288])
    expect(groups.map(({ previous }) => previous)).toEqual([0, groups[0]!.checksum, groups[1]!.checksum])
    expect(groups.map(({ firstIndex }) => firstIndex)).toEqual([1, 2, 3])
  })

  it('pads with zeros', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1, { bytes: 3000, fill: 9 })
    const name = usedSlot(test.image)
    const page = test.image.files.get(name)!.page(SLOT_DATA_START / 4096)
    const [group] = groupsOf(test.image, name)
    expect(page.subarray(ENVELOPE_BYTES, group!.length).some((byte) => byte !== 0)).toBe(true)
    expect(page.subarray(group!.length).every((byte) => byte === 0)).toBe(true)
  })

  it('touches the bytes of a record once, and writes a group once', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const batches = await test.fill(log, 20, { bytes: 2000 })
    const bytes = batches.reduce((sum, batch) => sum + batch.length + 40, 0)
    const { copiedBytes, bytesAppended, groups } = test.store.statistics
    expect(copiedBytes).toBe(bytes)
    expect(bytesAppended).toBe(bytes)
    const written = slotFiles(test.image).flatMap((name) =>
      writesOf(test, name).filter(([position, length]) => position >= SLOT_DATA_START && length < 64 * 1024),
    )
    expect(written).toHaveLength(groups)
  })

  it('refuses a bad checksum and changes nothing', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const bad = batchOf()
    bad[90]! ^= 1
    expect(test.append(log, bad)).toBe(false)
    expect(log.filled).toMatchObject({ index: 0, nextOffset: 0 })
    const good = batchOf()
    expect(test.append(log, good)).toBe(true)
    await test.settled(log.flush())
    expect(await test.readAll(log)).toEqual([good].map((batch) => Buffer.from(batch)))
  })

  it('insists on the next index and offset', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const block = test.memory.allocate(4096)!
    const batch = batchOf()
    block.bytes.set(batch)
    const header = readBatchHeader(block.view, 0)
    const stamp = { term: 1, baseOffset: 0, index: 2, appendTime: 0 }
    expect(() => log.append(block, 0, header, stamp, 'flush')).toThrow(/index 2/)
    expect(() => log.append(block, 0, header, { ...stamp, index: 1, baseOffset: 5 }, 'flush')).toThrow(/offset 5/)
  })

  it('gathers while a group is under way, so that groups grow with the load', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    test.order.holding.add('write')
    const before = test.store.statistics.groups
    test.append(log, batchOf(), 'write')
    await turn()
    for (let i = 0; i < 12; i++) {
      test.append(log, batchOf(), 'write')
      await turn()
    }
    expect(test.store.statistics.groups - before).toBe(1)
    test.order.holding.clear()
    test.order.release('write')
    await test.settled(log.flush())
    expect(test.store.statistics.groups - before).toBe(2)
  })

  it('writes large groups beside each other and advances without gaps', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    test.order.holding.add('write')
    for (let i = 0; i < 3; i++) {
      test.append(log, batchOf({ bytes: 7000 }), 'write')
      await turn()
      test.append(log, batchOf({ bytes: 7000 }), 'write')
      await turn()
    }
    expect(test.order.held.length).toBeGreaterThan(1)
    const { writtenIndex } = log
    test.order.releaseNewest('write')
    await turn()
    expect(log.writtenIndex).toBe(writtenIndex)
    test.order.holding.clear()
    test.order.release('write')
    await test.settled(log.flush())
    expect(log.flushedIndex).toBe(log.filled.index)
  })

  it('submits a flush only when the writes it covers have completed', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    test.order.holding.add('write')
    test.append(log, batchOf())
    await turn()
    const flushes = test.order.counts.flush ?? 0
    await turn()
    expect(test.order.counts.flush ?? 0).toBe(flushes)
    test.order.release('write')
    await test.until(() => log.flushedIndex === 2)
    expect(test.order.counts.flush).toBe(flushes + 1)
  })

  it('covers all logs with one flush', async () => {
    const test = await TestStore.open(undefined, undefined)
    const logs: PartitionLog[] = []
    for (let topicId = 1; topicId <= 12; topicId++) {
      const log = await test.open({ ...KEY, topicId })
      await test.fill(log, 1)
      logs.push(log)
    }
    const { flushes } = test.store.statistics
    test.order.holding.add('write')
    for (const log of logs) test.append(log, batchOf({ key: log.key }))
    await turn()
    test.order.holding.clear()
    test.order.release('write')
    await test.until(() => logs.every((log) => log.flushedIndex === 2))
    expect(test.store.statistics.flushes - flushes).toBe(1)
  })
})

describe('durability', () => {
  it('flushes a `write` log within the interval, and tells each watermark', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    const seen: [number, number][] = []
    log.onAdvance = () => seen.push([log.writtenIndex, log.flushedIndex])
    test.append(log, batchOf(), 'write')
    for (let i = 0; i < 10; i++) await turn()
    expect([log.writtenIndex, log.flushedIndex]).toEqual([2, 1])
    expect(log.unflushedBytes).toBeGreaterThan(0)
    const startedMs = test.environment.clock.monotonicMs()
    await test.until(() => log.flushedIndex === 2)
    expect(test.environment.clock.monotonicMs() - startedMs).toBe(100)
    expect(seen).toEqual([
      [2, 1],
      [2, 2],
    ])
    expect(log.unflushedBytes).toBe(0)
  })

  it('flushes a `write` log at the limit of bytes without waiting for the interval', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const startedMs = test.environment.clock.monotonicMs()
    for (let i = 0; i < 40; i++) {
      while (!log.hasRoom(7000)) await turn()
      test.append(log, batchOf({ bytes: 6000 }), 'write')
      await turn()
    }
    expect(log.flushedIndex).toBeGreaterThan(10)
    expect(test.environment.clock.monotonicMs()).toBe(startedMs)
  })

  it('flushes what waits when asked to', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const startedMs = test.environment.clock.monotonicMs()
    test.append(log, batchOf(), 'write')
    await test.settled(log.flush())
    expect(log.flushedIndex).toBe(1)
    expect(test.environment.clock.monotonicMs()).toBe(startedMs)
    await log.flush()
  })

  it('says when there is no room and when there is again', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    test.order.holding.add('flush')
    let refused = 0
    for (let i = 0; i < 100 && refused === 0; i++) {
      if (log.hasRoom(5000)) test.append(log, batchOf({ bytes: 4900 }), 'write')
      else refused++
      await turn()
    }
    expect(refused).toBe(1)
    expect(log.unflushedBytes).toBeLessThanOrEqual(128 * 1024)
    let called = 0
    log.onRoom(() => called++)
    await turn()
    expect(called).toBe(0)
    test.order.holding.clear()
    test.order.release('flush')
    await test.until(() => called === 1)
    await test.until(() => log.hasRoom(5000))
  })
})

describe('sizes', () => {
  it.each([1, 100, 4000, 60_000, 1_000_000, 4 * 1024 * 1024 - 200])('takes batches of %i bytes', async (bytes) => {
    const test = await TestStore.open(
      undefined,
      { fillBytesPerSecond: Number.POSITIVE_INFINITY, reserveSlots: 1 },
      2 ** 28,
    )
    const log = await test.open()
    const batches = await test.fill(log, 3, { bytes })
    expect((await test.readAll(log, 0, 1024 * 1024)).map((b) => Buffer.compare(b, batches.shift()!))).toEqual([0, 0, 0])
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
    const again = await test.restart()
    const reopened = await again.open()
    expect(reopened.filled).toMatchObject({ index: 3, nextOffset: 3 })
    const read = await reopened.read(2, 1, 3)
    expect(clientPartsOf(read)).toHaveLength(1)
    read.release()
  })

  it('reads what is appended meanwhile', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const expected: Uint8Array[] = []
    const seen: Uint8Array[] = []
    let offset = 0
    for (let i = 0; i < 200; i++) {
      const batch = batchOf({ bytes: 1 + ((i * 977) % 5000) })
      await test.appendWhenRoom(log, batch, i % 3 === 0 ? 'flush' : 'write')
      expected.push(batch)
      const read = await test.settled(log.read(offset, 4096, log.writtenIndex))
      seen.push(...clientPartsOf(read))
      offset = read.nextOffset
      read.release()
    }
    await test.settled(log.flush())
    seen.push(...(await test.readAll(log, offset)))
    expect(seen.length).toBe(200)
    expect(seen.every((batch, i) => Buffer.compare(batch, expected[i]!) === 0)).toBe(true)
  })
})
