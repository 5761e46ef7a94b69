// Slots: the reserve, rolls and size classes, recycling, slots that were not written through, and a full disk.
import { crc32 } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { RESERVE_SLOTS, SLOT_BYTES } from '#src/limits.js'
import { StorageError } from '#src/storage/log-store.js'
import { readSlotHeader, type SlotHeader } from '#src/storage/slot-header.js'
import { ROLL_HEADER_POSITION } from '#src/storage/slot-layout.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { batchOf, KEY, RecordingState, SMALL, slotFiles, TestStore, turn } from './fixture.js'

function header(image: VolumeImage, name: string, position: number): SlotHeader | null {
  const page = image.files.get(name)!.page(position / 4096)
  const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
  const read = readSlotHeader(page, view, 0, crc32)
  return read.kind === 'header' ? read.header : null
}

/** Slots in use that were never written through: one that was only prepared for the next roll does not count. */
const unwrittenInUse = (image: VolumeImage): string[] =>
  slotFiles(image).filter(
    (name) =>
      header(image, name, 0)?.writtenThrough === false && header(image, name, ROLL_HEADER_POSITION)?.owner != null,
  )

const bytesOnDisk = (image: VolumeImage): number => [...image.files.values()].reduce((sum, { size }) => sum + size, 0)

describe('the reserve', () => {
  it('is small on a fresh volume, written and durable before it is used', async () => {
    const test = await TestStore.open(undefined, {})
    await test.until(() => test.store.statistics.freeSlots === RESERVE_SLOTS)
    expect(bytesOnDisk(test.image)).toBeLessThanOrEqual(8 * 1024 * 1024)
    for (const name of slotFiles(test.image)) {
      expect(header(test.image, name, 0)).toMatchObject({ generation: 0, writtenThrough: true, owner: null })
      const operations = test.trace.events.flatMap((event) => {
        if (event.kind !== 'complete') return []
        const { operation } = event
        if (operation.kind === 'write' && operation.file === name) return [`write ${operation.position}`]
        return operation.kind === 'sync' && operation.files.includes(name) ? ['sync'] : []
      })
      expect(operations).toEqual(['write 0', 'sync', 'write 0', 'sync'])
    }
  })

  it('is filled at a bounded rate', async () => {
    const test = await TestStore.open(undefined, { fillBytesPerSecond: 2 * 1024 * 1024 })
    const startedMs = test.environment.clock.monotonicMs()
    await test.until(() => test.store.statistics.freeSlots === RESERVE_SLOTS)
    expect(test.environment.clock.monotonicMs() - startedMs).toBe(
      (RESERVE_SLOTS * SLOT_BYTES[0] * 1000) / (2 * 1024 * 1024),
    )
  })

  it('is filled without rest while a log waits', async () => {
    const test = await TestStore.open(undefined, { fillBytesPerSecond: 1024, reserveSlots: 1 })
    const log = await test.open()
    const startedMs = test.environment.clock.monotonicMs()
    await test.fill(log, 1)
    // The first fill had begun its rest before anybody waited.
    expect(test.environment.clock.monotonicMs() - startedMs).toBeLessThanOrEqual(1_024_000)
    const laterMs = test.environment.clock.monotonicMs()
    await test.fill(await test.open({ ...KEY, topicId: 2 }), 1)
    expect(test.environment.clock.monotonicMs() - laterMs).toBeLessThanOrEqual(1_024_000)
  })
})

describe('rolls', () => {
  it('take slots of larger classes while a log is busy, and chain by header', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const batches = await test.fill(log, 80, { bytes: 6000 })
    const owned = slotFiles(test.image)
      .map((name) => header(test.image, name, ROLL_HEADER_POSITION))
      .filter((found) => found !== null)
      .sort((a, b) => a.owner!.basePosition - b.owner!.basePosition)
    expect(owned.length).toBeGreaterThan(2)
    expect(owned[0]!.slotBytes).toBe(64 * 1024)
    expect(owned.at(-1)!.slotBytes).toBe(256 * 1024)
    expect(owned.map(({ generation }) => generation)).toEqual(owned.map(() => 1))
    expect(log.bytesOnDisk).toBe(owned.reduce((sum, { slotBytes }) => sum + slotBytes, 0))
    expect(await test.readAll(log)).toHaveLength(batches.length)
  })

  it('take a much larger class only once a log holds enough to be worth it', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, slotBytes: [64 * 1024, 1024 * 1024] })
    const log = await test.open()
    const sizes = (): number[] =>
      slotFiles(test.image)
        .map((name) => header(test.image, name, ROLL_HEADER_POSITION)?.slotBytes ?? 0)
        .filter((bytes) => bytes > 0)
    await test.fill(log, 14, { bytes: 6000 })
    expect(sizes()).toEqual([64 * 1024, 64 * 1024, 64 * 1024])
    await test.fill(log, 25, { bytes: 6000 })
    expect(sizes()).toEqual([64 * 1024, 64 * 1024, 64 * 1024, 64 * 1024, 1024 * 1024])
    expect(log.bytesOnDisk).toBeLessThanOrEqual(5 * 4 * 64 * 1024)
  })

  it('take smaller slots again when a log is quiet', async () => {
    const slotBytes = [64 * 1024, 512 * 1024]
    const test = await TestStore.open(undefined, { ...SMALL, slotBytes, slowRollMs: 1000, quickRollMs: 1 })
    const log = await test.open()
    const before = log.bytesOnDisk
    for (let i = 0; i < 30; i++) {
      await test.fill(log, 1, { bytes: 6000 })
      test.environment.clock.pass(500)
    }
    expect(log.bytesOnDisk - before).toBeGreaterThan(3 * 64 * 1024)
    expect(log.bytesOnDisk % (64 * 1024)).toBe(0)
    const sizes = slotFiles(test.image).map((name) => test.image.files.get(name)!.size)
    expect(Math.max(...sizes)).toBe(64 * 1024)
  })

  it('take the smallest slots only while a log holds next to nothing, however quiet it is', async () => {
    const limits = { slotBytes: [64 * 1024, 128 * 1024, 256 * 1024], slowRollMs: 1000, quickRollMs: 1 }
    const test = await TestStore.open(undefined, { ...SMALL, ...limits })
    const log = await test.open()
    for (let i = 0; i < 60; i++) {
      await test.fill(log, 1, { bytes: 6000 })
      test.environment.clock.pass(500)
    }
    const owned = slotFiles(test.image)
      .map((name) => header(test.image, name, ROLL_HEADER_POSITION))
      .filter((found) => found !== null)
      .sort((a, b) => a.owner!.basePosition - b.owner!.basePosition)
      .map(({ slotBytes }) => slotBytes)
    expect(owned.slice(0, 4)).toEqual([64 * 1024, 64 * 1024, 128 * 1024, 128 * 1024])
    expect(new Set(owned.slice(2))).toEqual(new Set([128 * 1024]))
  })

  it('go to a larger class at once for a batch that a small slot does not hold', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 2, { bytes: 60_000 })
    expect(log.bytesOnDisk).toBe(256 * 1024)
  })
})

describe('dropping a log', () => {
  it('gives its slots back under a new generation, and never shows old bytes', async () => {
    const test = await TestStore.open()
    const first = await test.open()
    await test.fill(first, 20, { bytes: 6000, fill: 0xaa })
    const used = slotFiles(test.image).filter((name) => header(test.image, name, ROLL_HEADER_POSITION) !== null)
    const { slots } = test.store.statistics
    await test.settled(test.store.drop(KEY))
    for (const name of used) expect(header(test.image, name, 0)).toMatchObject({ generation: 2, owner: null })
    const second = await test.open({ ...KEY, topicId: 2 })
    const batches = await test.fill(second, 10, { bytes: 6000, fill: 0xbb })
    expect(test.store.statistics.slots).toBeLessThanOrEqual(slots + 2)
    const again = await test.restart()
    expect(again.store.found.map(({ topicId }) => topicId)).toEqual([2])
    const reopened = await again.open({ ...KEY, topicId: 2 })
    expect((await again.readAll(reopened)).map((batch) => Buffer.from(batch))).toEqual(
      batches.map((batch) => Buffer.from(batch)),
    )
  })

  it('is finished after a restart that came between', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 20, { bytes: 6000 })
    test.order.holding.add('sync')
    const dropped = test.store.drop(KEY)
    await turn()
    await turn()
    const again = await test.restart()
    expect(again.store.found).toEqual([])
    expect(again.store.statistics.freeSlots).toBeGreaterThanOrEqual(again.store.statistics.slots - 1)
    test.order.holding.clear()
    test.order.release('sync')
    await test.settled(dropped)
  })

  it('works for a log that was found and never opened', async () => {
    const test = await TestStore.open()
    await test.fill(await test.open(), 3)
    const again = await test.restart()
    expect(again.store.found).toEqual([KEY])
    await again.settled(again.store.drop(KEY))
    expect(again.store.found).toEqual([])
    expect((await again.restart()).store.found).toEqual([])
  })

  it('stays dropped although the disk refused to read one of its slots for a while', async () => {
    const test = await TestStore.open()
    await test.fill(await test.open(), 60, { bytes: 3000 })
    expect(slotFiles(test.image).length).toBeGreaterThan(2)
    test.order.holding.add('write')
    void test.store.drop(KEY).catch(() => {})
    await test.until(() => test.order.held.length > 0, 'the first header')
    const refusing = new TestStore(test.image.copy(), test.limits)
    refusing.order.refuse(slotFiles(refusing.image)[0]!)
    await refusing.settled(refusing.start())
    expect([refusing.store.recovery.unreadable.length, refusing.store.found]).toEqual([1, []])
    await refusing.settled(refusing.store.close())
    const again = await TestStore.open(refusing.image.copy(), test.limits)
    expect([again.store.recovery.unreadable, again.store.found]).toEqual([[], []])
    const last = await TestStore.open(again.image.copy(), test.limits)
    expect(last.store.found).toEqual([])
  })

  it('refuses what is still asked of it', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 1)
    test.append(log, batchOf())
    const flushed = log.flush()
    const outcome = expect(flushed).rejects.toThrow(/closed/)
    await test.settled(test.store.drop(KEY))
    await outcome
    expect(() => test.append(log, batchOf())).toThrow(StorageError)
    await expect(log.read(0, 1, 1)).rejects.toMatchObject({ code: 'CLOSED' })
  })
})

describe('slots that were not written through', () => {
  it('serve `write` logs while the reserve is empty, and are flushed with their metadata', async () => {
    const store = await TestStore.open(undefined, { ...SMALL, reserveSlots: 1, fillBytesPerSecond: 1 })
    const log = await store.open()
    const batches = await store.fill(log, 1, {}, 'write')
    for (let i = 0; i < 30; i++) {
      const batch = batchOf({ bytes: 6000 })
      for (let turns = 0; !log.hasRoom(batch.length + 40) && turns < 50; turns++) await turn()
      if (!log.hasRoom(batch.length + 40)) break
      store.append(log, batch, 'write')
      batches.push(batch)
      await turn()
    }
    // The filler rests for minutes of this clock, and the log went on.
    expect(batches.length).toBe(31)
    await store.settled(log.flush())
    const unwritten = unwrittenInUse(store.image)
    expect(unwritten.length).toBeGreaterThan(0)
    for (const name of unwritten) {
      const synced = store.trace.events.some(
        ({ kind, ...event }) =>
          kind === 'complete' &&
          'operation' in event &&
          event.operation.kind === 'sync' &&
          event.operation.files.includes(name),
      )
      expect(synced).toBe(true)
    }
    const again = await store.restart()
    expect(await again.readAll(await again.open())).toHaveLength(31)
  })

  it('make `flush` logs wait', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, fillBytesPerSecond: 1 })
    const log = await test.open()
    test.append(log, batchOf(), 'flush')
    for (let i = 0; i < 20; i++) await turn()
    expect(slotFiles(test.image).every((name) => header(test.image, name, 0)?.writtenThrough !== false)).toBe(true)
    await test.settled(log.flush())
    expect(log.flushedIndex).toBe(1)
  })
})

describe('a full disk', () => {
  it('refuses appends that need a slot, changes nothing, serves reads, and recovers', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    const batches = await test.fill(log, 4)
    test.order.fail('allocate', 'NO_SPACE')
    test.order.fail('space', 'OTHER')
    let refusal: unknown = null
    for (let i = 0; i < 500 && refusal === null; i++) {
      const batch = batchOf({ bytes: 5000 })
      await test.until(() => log.hasRoom(batch.length + 40))
      const { index, nextOffset } = { ...log.filled }
      try {
        test.append(log, batch)
        batches.push(batch)
      } catch (error) {
        refusal = error
        expect(log.filled).toMatchObject({ index, nextOffset })
      }
      await turn()
    }
    expect(refusal).toMatchObject({ code: 'DISK_FULL' })
    expect(log.failure).toBeNull()
    await test.settled(log.flush())
    expect(await test.readAll(log)).toHaveLength(batches.length)
    test.order.heal()
    await test.until(() => {
      if (!log.hasRoom(5200)) return false
      try {
        test.append(log, batchOf({ bytes: 5000 }))
        return true
      } catch {
        return false
      }
    }, 'space')
    await test.settled(log.flush())
    expect(await test.readAll(log)).toHaveLength(batches.length + 1)
  })

  it('tells those who wait for room', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, reserveSlots: 1 })
    await test.until(() => test.store.statistics.freeSlots === 1)
    test.order.fail('allocate', 'NO_SPACE')
    test.order.fail('space', 'OTHER')
    await test.fill(await test.open(), 1)
    const second = await test.open({ ...KEY, topicId: 2 })
    await test.until(() => second.hasRoom(200))
    expect(() => test.append(second, batchOf({ key: second.key }))).toThrow(/no space/)
  })

  it('keeps nobody from opening and reading what is there', async () => {
    const test = await TestStore.open()
    const batches = await test.fill(await test.open(), 5)
    await test.settled(test.store.close())
    const again = new TestStore(test.image.copy(), test.limits)
    for (const label of ['allocate', 'writeSmall']) again.order.fail(label, 'NO_SPACE')
    again.order.fail('space', 'OTHER')
    await again.start()
    const log = await again.open()
    expect(await again.readAll(log)).toHaveLength(batches.length)
    // The slot has room left; and the note that the volume is in use follows as soon as there is space.
    await again.fill(log, 1)
    again.order.heal()
    const before = again.order.counts.writeSmall ?? 0
    await again.until(() => (again.order.counts.writeSmall ?? 0) > before)
    expect(log.failure).toBeNull()
  })

  it('is not taken for a broken disk by a `write` log whose slot was not written through', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, reserveSlots: 1, fillBytesPerSecond: 1 })
    const log = await test.open()
    await test.fill(log, 1, {}, 'write')
    const unwritten = () => unwrittenInUse(test.image).length > 0
    for (let i = 0; i < 30 && !unwritten(); i++) await test.fill(log, 1, { bytes: 6000 }, 'write')
    expect(unwritten()).toBe(true)
    await test.fill(log, 1, { bytes: 6000 }, 'write')
    test.order.fail('write', 'NO_SPACE', 2)
    await test.appendWhenRoom(log, batchOf(), 'write')
    for (let i = 0; i < 20; i++) await turn()
    expect(log.failure).toBeNull()
    await test.settled(log.flush())
    expect(log.flushedIndex).toBe(log.filled.index)
  })
})

describe('closing', () => {
  it('gives all memory back and writes a checkpoint', async () => {
    const test = await TestStore.open()
    const state = new RecordingState()
    const log = await test.open(KEY, state)
    await test.fill(log, 10, { bytes: 3000 })
    const read = await log.read(0, 1, 10)
    read.release()
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
    const again = await test.restart()
    const reopenedState = new RecordingState()
    const reopened = await again.open(KEY, reopenedState)
    expect(reopened.filled).toMatchObject({ index: 10, nextOffset: 10, term: 1 })
    expect(reopenedState.restored).toEqual(state.state)
    expect(reopenedState.replayed).toEqual([])
    await expect(test.store.open({ ...KEY, topicId: 9 }, state)).rejects.toThrow(/closed/)
  })

  it('flushes what was only written', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    for (let i = 0; i < 5; i++) await test.appendWhenRoom(log, batchOf(), 'write')
    await test.settled(test.store.close())
    const again = await test.restart()
    expect((await again.open()).filled.index).toBe(5)
  })
})
