// Recovery: a torn end is cut, damage is reported and never cut, lost hints cost time only, foreign slots are refused.
import { crc32, LOG_PART_BYTES } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { GROUP_KINDS, readEnvelope } from '#src/storage/group-envelope.js'
import { ForeignSlotError, type LogKey, StorageError } from '#src/storage/log-store.js'
import {
  CHECKPOINT_HEADER_POSITIONS,
  FREE_HEADER_POSITION,
  ROLL_HEADER_POSITION,
  SLOT_DATA_START,
} from '#src/storage/slot-layout.js'
import { DurableState } from '../../sim/crash/durable-state.js'
import { VolumeImage } from '../../sim/crash/page-image.js'
import {
  batchOf,
  damage,
  flipBit,
  IDENTITY,
  KEY,
  RecordingState,
  SMALL,
  slotFiles,
  TestStore,
  turn,
} from './fixture.js'

/** A log of small groups, each of one batch and one block, none of them a checkpoint; the slot that holds it. */
async function flatLog(
  count: number,
  key: LogKey = KEY,
): Promise<{ test: TestStore; slot: string; batches: Uint8Array[] }> {
  const test = await TestStore.open(undefined, { ...SMALL, checkpointBytes: 1024 * 1024 })
  const log = await test.open(key)
  const batches: Uint8Array[] = []
  for (let i = 0; i < count; i++) batches.push(...(await test.fill(log, 1, { key })))
  const slot = slotFiles(test.image).find((name) =>
    test.image.files
      .get(name)!
      .page(4)
      .some((byte) => byte !== 0),
  )!
  return { test, slot, batches }
}

const groupAt = (number: number): number => SLOT_DATA_START + number * 4096

async function reopen(test: TestStore, image = test.image): Promise<TestStore> {
  return TestStore.open(image.copy(), test.limits)
}

const isBatches = (page: Uint8Array): boolean =>
  readEnvelope(page, new DataView(page.buffer, page.byteOffset, page.byteLength), 0, crc32)?.kind ===
  GROUP_KINDS.batches

describe('a log that was not closed', () => {
  it('is replayed from its start without a checkpoint', async () => {
    const { test, batches } = await flatLog(6)
    const again = await reopen(test)
    const state = new RecordingState()
    const log = await again.open(KEY, state)
    expect(log.filled).toMatchObject({ index: 6, nextOffset: 6, term: 1 })
    expect(state.restored).toBeNull()
    expect(state.replayed.map(({ index, baseOffset }) => [index, baseOffset])).toEqual(
      batches.map((_, i) => [i + 1, i]),
    )
    expect(again.store.recovery).toMatchObject({ logs: 1, torn: [], damaged: [] })
    expect(again.store.found).toEqual([])
  })

  it('is replayed from its last checkpoint', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 60, { bytes: 3000 })
    await turn()
    const again = await reopen(test)
    const state = new RecordingState()
    const reopened = await again.open(KEY, state)
    expect(reopened.filled.index).toBe(60)
    expect(state.restored).toEqual(state.state)
    expect(state.replayed.length).toBeLessThan(20)
    expect(state.replayed.at(-1)?.index ?? 60).toBe(60)
    expect(await again.readAll(reopened)).toHaveLength(60)
  })

  it('has checkpoints also when its state outgrows its slots', async () => {
    const test = await TestStore.open()
    const state = new RecordingState()
    state.state = new Uint8Array(40_000).fill(5)
    const log = await test.open(KEY, state)
    // Ten groups fit the slot: without its checkpoint the log would stay in it.
    for (let i = 0; i < 10; i++) {
      await test.fill(log, 1, { bytes: 3000 })
      await turn()
    }
    await test.settled(test.store.close())
    const reopened = await reopen(test)
    const early = new RecordingState()
    expect((await reopened.open(KEY, early)).bytesOnDisk).toBe((64 + 256) * 1024)
    expect(early.restored).toEqual(state.state)
    expect(early.replayed).toEqual([])
  })

  it('has checkpoints while a large state allows them', async () => {
    const test = await TestStore.open()
    const state = new RecordingState()
    state.state = new Uint8Array(10_000).fill(5)
    const log = await test.open(KEY, state)
    await test.fill(log, 312, { bytes: 3000 })
    const again = await reopen(test)
    const restored = new RecordingState()
    expect((await again.open(KEY, restored)).filled.index).toBe(312)
    expect(restored.restored).toEqual(state.state)
    expect(restored.replayed.length).toBeLessThan(300)
    const huge = await TestStore.open()
    const hugeState = new RecordingState()
    hugeState.state = new Uint8Array(300_000)
    let asked = 0
    hugeState.encodeState = () => {
      asked++
      return hugeState.state
    }
    const other = await huge.open(KEY, hugeState)
    await huge.fill(other, 60, { bytes: 3000 })
    // No group holds such a state: recovery begins at the start, and the owner is not asked at every turn.
    expect(asked).toBeLessThan(30)
    expect((await (await reopen(huge)).open()).filled.index).toBe(60)
  })

  it('counts nothing as flushed before a flush', async () => {
    const { test } = await flatLog(3)
    const again = new TestStore(test.image.copy(), test.limits)
    again.order.holding.add('flush')
    await again.start()
    let opened = false
    const opening = again.open().then((log) => {
      opened = true
      return log
    })
    for (let i = 0; i < 30; i++) await turn()
    expect(opened).toBe(false)
    again.order.release('flush')
    expect((await opening).flushedIndex).toBe(3)
  })

  it('goes on where it ended, and is the same when recovered again', async () => {
    const { test } = await flatLog(3)
    const again = await reopen(test)
    const log = await again.open()
    await again.fill(log, 3)
    const third = await reopen(again)
    const state = new RecordingState()
    expect((await third.open(KEY, state)).filled.index).toBe(6)
    const fourth = await reopen(third)
    const stateAgain = new RecordingState()
    expect((await fourth.open(KEY, stateAgain)).filled.index).toBe(6)
    expect(stateAgain.replayed).toEqual(state.replayed)
  })
})

describe('a torn end', () => {
  it.each([
    ['its envelope', 0],
    ['its last bytes', 200],
  ])('of which %s is lost is cut', async (_, offset) => {
    const { test, slot } = await flatLog(4)
    const image = test.image.copy()
    // What the last group was durable to is the start of itself: nothing says it was ever flushed.
    flipBit(image, slot, groupAt(3) + offset)
    const again = await reopen(test, image)
    const log = await again.open()
    expect(log.filled.index).toBe(3)
    expect(log.failure).toBeNull()
    expect(again.store.recovery.damaged).toEqual([])
    const [batch] = await again.fill(log, 1)
    expect(Buffer.compare((await again.readAll(log, 3))[0]!, batch!)).toBe(0)
    expect((await (await reopen(again)).open()).filled.index).toBe(4)
  })

  it('is not damage when several groups were under way', async () => {
    const test = await TestStore.open(undefined, { ...SMALL, checkpointBytes: 1024 * 1024 })
    const log = await test.open()
    await test.fill(log, 1)
    const slot = slotFiles(test.image)[0]!
    test.order.holding.add('flush')
    for (let i = 0; i < 4; i++) {
      test.append(log, batchOf({ bytes: 3000 }), 'write')
      for (let turns = 0; turns < 4; turns++) await turn()
    }
    expect(log.writtenIndex).toBe(5)
    const image = test.image.copy()
    flipBit(image, slot, SLOT_DATA_START + 4096 + 100)
    const again = await reopen(test, image)
    const reopened = await again.open()
    expect(reopened.filled.index).toBe(1)
    expect(again.store.recovery).toMatchObject({ damaged: [], torn: [{ key: KEY, position: 4096 }] })
    // The groups behind the cut are stale from now on, although each of them is whole.
    await again.fill(reopened, 1)
    const third = await reopen(again)
    expect((await third.open()).filled.index).toBe(2)
    expect(third.store.recovery.damaged).toEqual([])
  })
})

describe('a first segment that a power cut took', () => {
  /** A log that went on in a second slot; nothing of it is flushed, or all of it with `flushed`. */
  async function rolledLog(flushed: boolean) {
    const test = await TestStore.open(undefined, { ...SMALL, checkpointBytes: 1024 * 1024, flushIntervalMs: 1e9 })
    const log = await test.open()
    // The log as it is opened has no slot yet; the reserve of the smallest ones is filled.
    const before = new Map([...test.image.files].map(([name, file]) => [name, file.page(4)]))
    if (!flushed) test.order.holding.add('flush')
    test.append(log, batchOf())
    // Too large for such a slot, so that it goes into the next one whatever room there is.
    const large = batchOf({ bytes: 40_000 })
    await test.until(() => log.hasRoom(LOG_PART_BYTES + large.length), 'room')
    test.append(log, large)
    await test.until(() => log.writtenIndex === 2, 'the writes')
    if (flushed) await test.settled(log.flush())
    const owned = slotFiles(test.image).filter((name) => {
      const { pages } = test.image.files.get(name)!
      return pages.length > 4 && Buffer.compare(pages[4]!, before.get(name) ?? new Uint8Array(4096)) !== 0
    })
    expect(owned).toHaveLength(2)
    const [first, second] = owned as [string, string]
    expect(test.image.files.get(first)!.size).toBeLessThan(test.image.files.get(second)!.size)
    return { test, log, first, second }
  }

  /** Everything arrived but for one file, of which nothing did. */
  function without(test: TestStore, file: string): VolumeImage {
    const durable = new DurableState(new VolumeImage(), 'files')
    for (const event of test.trace.events) if (event.kind !== 'note') durable.step(event)
    return durable.build(durable.choices(), (choice) => {
      if (choice.kind === 'change') return true
      return choice.file === file ? false : choice.versions.at(-1)!
    })
  }

  it('is no damage while nothing of the log was flushed: the log begins anew', async () => {
    const { test, first, second } = await rolledLog(false)
    const again = await reopen(test, without(test, first))
    expect(again.store.found).toEqual([KEY])
    const state = new RecordingState()
    const log = await again.open(KEY, state)
    expect(again.store.recovery).toMatchObject({ damaged: [], torn: [{ key: KEY, position: 0 }] })
    expect(log).toMatchObject({ failure: null, flushedIndex: 0, startOffset: 0, bytesOnDisk: 0 })
    expect(log.filled).toEqual({ index: 0, nextOffset: 0, term: 0 })
    expect(state).toMatchObject({ restored: null, replayed: [] })
    const batches = await again.fill(log, 3, { bytes: 3000 })
    expect(Buffer.compare(Buffer.concat(await again.readAll(log)), Buffer.concat(batches))).toBe(0)
    const third = await reopen(again)
    expect((await third.open()).filled.index).toBe(3)
    expect(third.store.recovery).toMatchObject({ damaged: [] })
    // The other way round the log ends before the second segment.
    const other = await reopen(test, without(test, second))
    expect((await other.open()).filled.index).toBe(1)
    expect(other.store.recovery.damaged).toEqual([])
  })

  it('is damage once a group says that something was flushed', async () => {
    const { test, log, first } = await rolledLog(true)
    await test.fill(log, 1)
    const image = test.image.copy()
    image.files.delete(first)
    const again = await reopen(test, image)
    await again.open()
    expect(again.store.recovery).toMatchObject({ torn: [], damaged: [{ key: KEY, position: 0 }] })
  })

  it('is damage when the disk refuses to read a slot: it may be in there', async () => {
    const { test, first } = await rolledLog(false)
    const again = new TestStore(without(test, first), test.limits)
    again.order.refuse(slotFiles(again.image)[0]!)
    await again.settled(again.start())
    expect(again.store.recovery.unreadable).toHaveLength(1)
    await again.settled(again.open())
    expect(again.store.recovery).toMatchObject({ torn: [], damaged: [{ key: KEY, position: 0 }] })
  })
})

describe('damage', () => {
  it('below a group that knew it flushed is never cut', async () => {
    const { test, slot, batches } = await flatLog(6)
    const image = test.image.copy()
    flipBit(image, slot, groupAt(2) + 150)
    const again = await reopen(test, image)
    const log = await again.open()
    expect(again.store.recovery.damaged).toMatchObject([{ key: KEY, position: 8192 }])
    expect(log.failure).toMatchObject({ code: 'DAMAGED' })
    expect(log.filled.index).toBe(2)
    expect(() => again.append(log, batchOf())).toThrow(log.failure!)
    expect((await again.readAll(log)).map((b) => Buffer.compare(b, batches.shift()!))).toEqual([0, 0])
    await again.settled(again.store.close())
    // Also after an orderly close, and nothing was written over.
    const third = await reopen(again)
    expect((await third.open()).failure).toMatchObject({ code: 'DAMAGED' })
    const repaired = third.image.copy()
    flipBit(repaired, slot, groupAt(2) + 150)
    expect((await (await reopen(third, repaired)).open()).filled.index).toBe(6)
  })

  it('of the last groups is known by the watermark of a checkpoint', async () => {
    const { test, slot } = await flatLog(4)
    await test.settled(test.store.close())
    const image = test.image.copy()
    flipBit(image, slot, groupAt(3) + 120)
    damage(image, slot, groupAt(4), (page) => page.fill(0))
    const again = await reopen(test, image)
    expect((await again.open()).failure).toMatchObject({ code: 'DAMAGED' })
    expect(again.store.recovery.damaged).toMatchObject([{ position: 3 * 4096 }])
  })

  it('in the middle is found by reading, which never serves it', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 60, { bytes: 3000 })
    await test.settled(test.store.close())
    const image = test.image.copy()
    const name = slotFiles(image).find((file) =>
      image.files
        .get(file)!
        .page(4)
        .some((byte) => byte !== 0),
    )!
    // In the second group, whatever went into it: every batch is longer than that.
    const second = image.files.get(name)!.pages.findIndex((page, at) => at > 4 && isBatches(page))
    flipBit(image, name, second * 4096 + 2000)
    const again = await reopen(test, image)
    const reopened = await again.open()
    expect(reopened.failure).toBeNull()
    await expect(again.settled(again.readAll(reopened))).rejects.toMatchObject({ code: 'DAMAGED' })
    expect((await again.readAll(reopened, 30)).length).toBe(30)
    await again.settled(again.store.close())
    expect(again.memory.usedBytes).toBe(0)
  })

  it('is not what an error of the disk is that passes, in headers, groups and behind the end', async () => {
    const { test, batches } = await flatLog(4)
    for (let refused = 1; refused <= 6; refused++) {
      const again = new TestStore(test.image.copy(), test.limits)
      again.order.fail('read', 'INPUT_OUTPUT', refused)
      await again.settled(again.start())
      const log = await again.settled(again.open())
      expect([log.failure, log.lostAcknowledged, again.store.recovery.unreadable]).toEqual([null, false, []])
      expect(await again.readAll(log)).toHaveLength(batches.length)
    }
  })

  it('as an error of the disk is damage too, at recovery and when read', async () => {
    const { test } = await flatLog(4)
    const again = new TestStore(test.image.copy(), test.limits)
    await again.start()
    again.order.fail('read', 'INPUT_OUTPUT')
    const log = await again.settled(again.open())
    expect(log.failure).toMatchObject({ code: 'DAMAGED' })
    const other = await reopen(test)
    const readable = await other.open()
    // What is read ahead may fail, so what is needed is asked for once more.
    other.order.fail('read', 'INPUT_OUTPUT', 2)
    await expect(readable.read(0, 100, 4)).rejects.toBeInstanceOf(StorageError)
    expect(await other.readAll(readable)).toHaveLength(4)
  })

  it('shows when a whole segment is missing', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 60, { bytes: 6000 })
    await test.settled(test.store.close())
    for (const victim of slotFiles(test.image)) {
      const image = test.image.copy()
      const owned = image.files
        .get(victim)!
        .page(ROLL_HEADER_POSITION / 4096)
        .some((byte) => byte !== 0)
      image.files.delete(victim)
      if (!owned) continue
      const again = await reopen(test, image)
      await again.open()
      expect(again.store.recovery.damaged, victim).toHaveLength(1)
    }
  })
})

describe('lost hints', () => {
  const everyHeader = [FREE_HEADER_POSITION, ...CHECKPOINT_HEADER_POSITIONS, ROLL_HEADER_POSITION]

  it.each(everyHeader)('such as the header at %i cost nothing but time', async (position) => {
    const test = await TestStore.open()
    const log = await test.open()
    const batches = await test.fill(log, 40, { bytes: 3000 })
    for (const name of slotFiles(test.image)) {
      const image = test.image.copy()
      if (position < image.files.get(name)!.size) damage(image, name, position, (page) => page.fill(0xff, 0, 512))
      const again = await reopen(test, image)
      expect(again.store.found).toEqual([KEY])
      const reopened = await again.open()
      expect(reopened.filled.index).toBe(batches.length)
      expect(await again.readAll(reopened)).toHaveLength(batches.length)
      expect(again.store.recovery.damaged).toEqual([])
    }
  })

  it('such as all headers of a slot are read off its first group', async () => {
    const { test, slot } = await flatLog(3)
    const image = test.image.copy()
    for (const position of everyHeader) damage(image, slot, position, (page) => page.fill(0xee))
    const again = await reopen(test, image)
    expect((await again.open()).filled.index).toBe(3)
    // The header has been written again: now the first group may go.
    const headers = again.image.copy()
    flipBit(headers, slot, SLOT_DATA_START)
    expect((await reopen(again, headers)).store.found).toEqual([KEY])
  })

  it('such as the record of the volume mean that it was not closed in order', async () => {
    const { test } = await flatLog(3)
    await test.settled(test.store.close())
    const image = test.image.copy()
    image.small.set('log-store', new Uint8Array([1, 2, 3]))
    expect((await (await reopen(test, image)).open()).filled.index).toBe(3)
    image.small.delete('log-store')
    expect((await (await reopen(test, image)).open()).filled.index).toBe(3)
  })

  it('such as a checkpoint group make the walk begin at the one before', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    await test.fill(log, 60, { bytes: 3000 })
    await turn()
    const whole = await reopen(test)
    const state = new RecordingState()
    await whole.open(KEY, state)
    const image = test.image.copy()
    for (const name of slotFiles(image)) {
      for (const position of CHECKPOINT_HEADER_POSITIONS) damage(image, name, position, (page) => page.fill(0))
    }
    const again = await reopen(test, image)
    const longer = new RecordingState()
    expect((await again.open(KEY, longer)).filled.index).toBe(60)
    expect(longer.replayed.length).toBe(60)
    expect(state.replayed.length).toBeLessThan(60)
  })
})

describe('slots of others', () => {
  /** What was seen may be volatile: it is flushed before the record of the volume forgets whose the slots were. */
  function expectSyncedFirst(test: TestStore, files: readonly string[]): void {
    const asked = test.trace.events.flatMap((event) => (event.kind === 'submit' ? [event.operation] : []))
    const record = asked.findIndex(({ kind }) => kind === 'writeSmall')
    for (const file of files) {
      const synced = asked.findIndex((operation) => operation.kind === 'sync' && operation.files.includes(file))
      expect(synced, file).toBeGreaterThanOrEqual(0)
      expect(synced, file).toBeLessThan(record)
    }
  }

  it.each([
    ['cluster', { ...IDENTITY, clusterId: 'another' }],
    ['node', { ...IDENTITY, nodeId: 4 }],
    ['disk', { ...IDENTITY, diskId: 'ff'.repeat(16) }],
  ])('of another %s are refused, and nothing is changed', async (word, identity) => {
    const { test } = await flatLog(3)
    const image = test.image.copy()
    const other = new TestStore(image, test.limits)
    const before = new Map(image.files)
    await expect(other.start(identity)).rejects.toThrow(ForeignSlotError)
    await expect(other.start(identity)).rejects.toThrow(word)
    expect(image.files).toEqual(before)
    expect(other.trace.events).toEqual([])
    expect(other.memory.usedBytes).toBe(0)
    expect((await (await reopen(test, image)).open()).filled.index).toBe(3)
  })

  it('of a later format are refused by its number', async () => {
    const { test, slot } = await flatLog(1)
    damage(test.image, slot, ROLL_HEADER_POSITION, (page) => {
      page[8] = 9
      new DataView(page.buffer, page.byteOffset).setUint32(0, crc32(page.subarray(4, 224), 0), true)
    })
    await expect(reopen(test)).rejects.toThrow(/version 9/)
  })

  it('that nobody can read are left alone', async () => {
    const { test, slot } = await flatLog(3)
    const image = test.image.copy()
    for (const position of [0, 4096, 8192, 12_288, 16_384]) damage(image, slot, position, (page) => page.fill(0x77))
    const before = image.files.get(slot)!.pages.map((page) => page.slice())
    const again = await reopen(test, image)
    expect(again.store.found).toEqual([])
    expectSyncedFirst(again, [slot])
    await again.fill(await again.open({ ...KEY, topicId: 5 }), 3)
    await again.settled(again.store.close())
    expect(again.image.files.get(slot)!.pages).toEqual(before)
  })

  it('that were never finished are filled again', async () => {
    const image: VolumeImage = (await TestStore.open()).image.copy()
    const [first, second] = slotFiles(image) as [string, string]
    damage(image, first, 0, (page) => page.fill(0x55))
    image.files.get(second)!.size = 8192
    damage(image, second, 0, (page) => page.fill(0))
    const again = await TestStore.open(image)
    await again.until(() => again.store.statistics.freeSlots === 2)
    expect(slotFiles(again.image)).toEqual([first, second])
    expectSyncedFirst(again, [first, second])
    await again.fill(await again.open(), 3)
  })
})

describe('a store closed in order', () => {
  it('opens again by reading headers and the ends of its logs', async () => {
    const test = await TestStore.open()
    const logs = 10
    for (let topicId = 1; topicId <= logs; topicId++) {
      const log = await test.open({ ...KEY, topicId })
      await test.fill(log, 60, { bytes: 6000, key: log.key })
    }
    await test.settled(test.store.close())
    const again = await reopen(test)
    for (const key of again.store.found) await again.open(key)
    const { slots } = again.store.statistics
    expect(slots).toBeGreaterThan(20)
    const headers = slots * (SLOT_DATA_START + 4096)
    expect(again.volume.bytesRead).toBeLessThanOrEqual(headers + logs * 64 * 1024)
    expect(again.store.recovery).toMatchObject({ logs, torn: [], damaged: [] })
  })

  it('is not taken for closed once it is open again', async () => {
    const { test, slot } = await flatLog(3)
    await test.settled(test.store.close())
    const again = await reopen(test)
    const log = await again.open()
    await again.fill(log, 1)
    await again.fill(log, 1)
    await again.fill(log, 1)
    const image = again.image.copy()
    const first = image.files.get(slot)!.pages.findLastIndex((page) => page.some((byte) => byte !== 0)) - 1
    flipBit(image, slot, first * 4096 + 130)
    const third = await reopen(again, image)
    expect((await third.open()).failure).toMatchObject({ code: 'DAMAGED' })
  })
})
