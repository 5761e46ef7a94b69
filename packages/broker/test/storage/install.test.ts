// A log that begins anew: with somebody else's start, or where damage has cut it off. The old one never comes back.
import { crc32 } from 'node:zlib'
import { loggedBatches } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { GROUP_KINDS, readEnvelope } from '#src/storage/group-envelope.js'
import type { LogStart } from '#src/storage/log-start.js'
import type { PartitionLog } from '#src/storage/log-store.js'
import { SLOT_DATA_START } from '#src/storage/slot-layout.js'
import type { StorageLimits } from '#src/storage/storage-limits.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { batchOf, bytesOf, damage, flipBit, KEY, RecordingState, SMALL, slotFiles, TestStore, turn } from './fixture.js'

const LIMITS: Partial<StorageLimits> = {
  ...SMALL,
  slotBytes: [64 * 1024],
  maxGroupBytes: 32 * 1024,
  maxUnflushedBytes: 32 * 1024,
  checkpointBytes: 12 * 1024,
  voteAreaBytes: 8 * 1024,
}
const START: LogStart = { index: 1001, offset: 5000, previousTerm: 7 }
const STATE = new Uint8Array([9, 8, 7, 6, 5])

/** Gives the state that it was given. */
class KeptState extends RecordingState {
  override restoreState(state: Uint8Array | null): void {
    super.restoreState(state)
    this.state = state?.slice() ?? new Uint8Array()
  }
}

async function reopened(image: VolumeImage, limits = LIMITS) {
  const test = await TestStore.open(image, limits)
  const state = new KeptState()
  const log = await test.settled(test.open(KEY, state))
  return { test, state, log }
}

/** A log with some batches of one record each, each in a block of its own, over several slots. */
async function written(count: number, limits = LIMITS) {
  const opened = await reopened(new TestStore().image, limits)
  const batches: Uint8Array[] = []
  for (let i = 0; i < count; i++) batches.push(...(await opened.test.fill(opened.log, 1, { bytes: 3000 })))
  return { ...opened, batches }
}

async function indexesOf(test: TestStore, log: PartitionLog): Promise<number[]> {
  const indexes: number[] = []
  for (let index = log.start.index; index <= log.filled.index; index = indexes.at(-1)! + 1) {
    const read = await test.settled(Promise.resolve(log.readFrom(index, 20_000)))
    for (const batch of loggedBatches(bytesOf(read), crc32)) indexes.push(batch.index)
    read.release()
  }
  return indexes
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from + 1 }, (_, i) => from + i)

describe('installing a start', () => {
  it.each([0, 1, 60])('over %i batches leaves an empty log that goes on from there', async (count) => {
    const { test, state, log } = await written(count)
    await test.settled(log.installStart(START, STATE))
    expect(state.restored).toEqual(STATE)
    expect(log.filled).toEqual({ index: 1000, nextOffset: 5000, term: 7 })
    expect([log.flushedIndex, log.writtenIndex, log.start]).toEqual([1000, 1000, START])
    expect([log.termAtIndex(1000), log.termAtIndex(1), log.termRuns()]).toEqual([7, 0, []])
    await expect(test.settled(log.read(0, 100, 1000))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    const empty = await reopened(test.image.copy())
    expect(empty.state.restored).toEqual(STATE)
    expect(empty.log.filled).toEqual(log.filled)
    expect(empty.log.start).toEqual(START)
    for (let i = 0; i < 40; i++) await test.appendWhenRoom(log, batchOf({ bytes: 3000 }), 'flush', 8)
    await test.settled(log.flush())
    log.noteCommitted(1010)
    for (const one of [{ test, log }, await reopened(test.image.copy())]) {
      expect(await indexesOf(one.test, one.log)).toEqual(range(1001, 1040))
      expect(one.log.termRuns()).toEqual([{ term: 8, firstIndex: 1001, firstOffset: 5000 }])
      await one.test.settled(one.log.truncateTo(1020))
      expect(await indexesOf(one.test, one.log)).toEqual(range(1001, 1020))
    }
  })

  it('never takes a position where another slot of the log begins', async () => {
    const { test, log } = await reopened(new TestStore().image)
    // The first slot is free again when the log begins anew.
    const other = { ...KEY, topicId: 2 }
    await test.fill(await test.open(other), 1)
    await test.fill(log, 1)
    await test.settled(test.store.drop(other))
    // The header of the slot reached the disk, the group did not.
    const torn = test.image.copy()
    for (const name of slotFiles(torn)) damage(torn, name, SLOT_DATA_START, (page) => void page.fill(0))
    const empty = await reopened(torn)
    expect([empty.log.filled.index, empty.log.bytesOnDisk]).toEqual([0, 64 * 1024])
    const image = empty.test.image.copy()
    await empty.test.settled(empty.log.installStart(START, STATE))
    const after = empty.test.image.copy()
    // As it was before the old slot was given back, and a header told of the checkpoint.
    const [old] = slotFiles(image).filter((name) => !beginsAnew(after, name))
    after.files.set(old!, image.files.get(old!)!)
    const begun = slotFiles(after).find((name) => beginsAnew(after, name))!
    for (const page of [1, 2]) damage(after, begun, page * 4096, (bytes) => void bytes.fill(0))
    const again = await reopened(after)
    expect([again.log.filled.index, again.test.store.recovery.damaged]).toEqual([1000, []])
    await again.test.appendWhenRoom(again.log, batchOf(), 'flush', 8)
    await again.test.settled(again.log.flush())
    expect(await indexesOf(again.test, again.log)).toEqual([1001])
  })

  it('gives the old slots back', async () => {
    const { test, log } = await written(60)
    const before = log.bytesOnDisk
    expect(before).toBeGreaterThan(3 * 64 * 1024)
    await test.settled(log.installStart(START, STATE))
    await test.until(() => test.store.statistics.slotsRecycled >= before / (64 * 1024), 'the old slots')
    expect(log.bytesOnDisk).toBe(64 * 1024)
    const { test: again, log: recovered } = await reopened(test.image.copy())
    expect([again.store.recovery.damaged, recovered.filled.index]).toEqual([[], 1000])
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('again and again always leaves the last one', async () => {
    const { test, log } = await written(20)
    for (const index of [15, 400, 402, 900]) {
      const start = { index, offset: index * 10, previousTerm: 3 }
      await test.settled(log.installStart(start, new Uint8Array([index % 256])))
      const { log: recovered, state } = await reopened(test.image.copy())
      expect([recovered.start, state.restored]).toEqual([start, new Uint8Array([index % 256])])
      await test.appendWhenRoom(log, batchOf({ bytes: 500 }), 'flush', 4)
    }
    await test.settled(log.flush())
    expect(await indexesOf(test, log)).toEqual([900])
  })

  it('shows the old log or the new one, whenever it crashes', async () => {
    const { test, log } = await written(40)
    await test.until(() => test.store.statistics.freeSlots >= 2, 'the reserve')
    const images: VolumeImage[] = [test.image.copy()]
    test.order.holding.add('write')
    let isInstalled = false
    void log.installStart(START, STATE).then(() => {
      isInstalled = true
    })
    for (let i = 0; i < 400 && (!isInstalled || i < 100); i++) {
      await turn()
      test.order.release('write', 1)
      await turn()
      images.push(test.image.copy())
      if (i % 8 === 7) test.environment.clock.fireNext()
      if (isInstalled && test.store.statistics.slotsRecycled >= 3) break
    }
    expect(isInstalled).toBe(true)
    const ends = new Set<number>()
    for (const image of images) {
      const again = await reopened(image)
      expect(again.test.store.recovery.damaged).toEqual([])
      const isNew = again.log.filled.index === 1000
      // Nothing of the old log once the new one has been seen.
      expect(isNew || !ends.has(1000)).toBe(true)
      ends.add(again.log.filled.index)
      expect(await indexesOf(again.test, again.log)).toEqual(isNew ? [] : range(1, 40))
    }
    expect([...ends]).toEqual([40, 1000])
  })

  it('stays when what says so rots: the log is damaged then, and never the old one', async () => {
    const { test, log } = await written(10)
    const old = test.image.copy()
    await test.settled(log.installStart(START, STATE))
    await test.until(() => test.store.statistics.slotsRecycled > 0, 'the old slot')
    // The old slots as if they had never been given back.
    const image = test.image.copy()
    const begun = slotFiles(image).find((name) => beginsAnew(image, name))!
    for (const name of slotFiles(old)) if (name !== begun) image.files.set(name, old.files.get(name)!)
    const whole = await reopened(image.copy())
    expect([whole.log.filled.index, whole.test.store.recovery.damaged]).toEqual([1000, []])
    flipBit(image, begun, SLOT_DATA_START + 100)
    const rotten = await reopened(image)
    expect(rotten.log.failure?.code).toBe('DAMAGED')
    expect(rotten.log.filled.index).toBe(1000)
    await rotten.test.settled(rotten.log.installStart({ ...START, index: 2001 }, STATE))
    expect((await reopened(rotten.test.image.copy())).log.filled.index).toBe(2000)
  })

  it('is given up when the log is dropped or closed meanwhile, and when the disk fails', async () => {
    for (const end of ['drop', 'close', 'fail'] as const) {
      const { test, log } = await written(10)
      test.order.holding.add('flush')
      const installing = log.installStart(START, STATE)
      const outcome = expect(installing).rejects.toMatchObject({ code: end === 'fail' ? 'STORAGE_FAILED' : 'CLOSED' })
      await test.until(() => test.order.held.length > 0, 'the flush')
      if (end === 'fail') test.order.fail('flush', 'INPUT_OUTPUT')
      const ended = end === 'drop' ? test.store.drop(KEY) : end === 'close' ? test.store.close() : Promise.resolve()
      for (let i = 0; i < 20; i++) await turn()
      test.order.holding.clear()
      test.order.release('flush')
      await test.settled(ended)
      await outcome
      if (end === 'drop') expect((await TestStore.open(test.image.copy(), LIMITS)).store.found).toEqual([])
      test.order.heal()
      if (end !== 'close') await test.settled(test.store.close())
      expect(test.memory.usedBytes).toBe(0)
    }
  })

  it('waits for room, and takes no appends meanwhile', async () => {
    const { test, log } = await written(5)
    test.order.holding.add('flush')
    const installing = log.installStart(START, STATE)
    for (let i = 0; i < 10; i++) await turn()
    expect(log.hasRoom(100)).toBe(false)
    test.order.holding.clear()
    test.order.release('flush')
    await test.settled(installing)
    expect(log.hasRoom(100)).toBe(true)
  })

  it('refuses a state that no group holds', async () => {
    const { test, log } = await written(1)
    await expect(test.settled(log.installStart(START, new Uint8Array(64 * 1024)))).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
    })
  })

  it('is never below what is committed', async () => {
    const { log } = await written(5)
    log.noteCommitted(4)
    await expect(log.installStart({ index: 4, offset: 3, previousTerm: 1 }, null)).rejects.toThrow(/committed/)
  })
})

describe('a damaged log', () => {
  /** Batch 39 of 40 rots, and the one behind it says that it was flushed. */
  async function damaged() {
    const { test, batches } = await written(40, { ...LIMITS, checkpointBytes: 1024 * 1024 })
    const image = test.image.copy()
    for (const name of slotFiles(image)) {
      for (let page = 4; page < 16; page++) {
        const bytes = image.files.get(name)!.page(page)
        if (Buffer.from(bytes).includes(Buffer.from(batches[38]!.subarray(8, 60)))) {
          damage(image, name, page * 4096, (content) => void content.fill(0x77))
        }
      }
    }
    const again = await reopened(image)
    expect(again.log.failure?.code).toBe('DAMAGED')
    expect(again.log.lostAcknowledged).toBe(true)
    expect(again.log.filled.index).toBe(38)
    return { ...again, end: 38 }
  }

  it('goes on when it is cut off before the damage, and remembers what it lacks', async () => {
    const { test, log, end } = await damaged()
    const kept = end - 2
    await test.settled(log.truncateTo(kept))
    expect([log.failure, log.filled.index, log.lostAcknowledged]).toEqual([null, kept, true])
    await test.fill(log, 10, { bytes: 2000 })
    for (const one of [{ test, log }, await reopened(test.image.copy())]) {
      expect([one.test.store.recovery.damaged.length, one.log.failure]).toEqual([one.log === log ? 1 : 0, null])
      expect(await indexesOf(one.test, one.log)).toEqual(range(1, kept + 10))
      expect(one.log.lostAcknowledged).toBe(true)
    }
    await test.settled(log.noteWhole())
    const last = await reopened(test.image.copy())
    expect([last.log.lostAcknowledged, last.test.store.votes.find(KEY)]).toEqual([false, null])
    await last.test.settled(last.log.truncateTo(5))
    expect(await indexesOf(last.test, last.log)).toEqual(range(1, 5))
  })

  it('may be cut off right at the damage', async () => {
    const { test, log, end } = await damaged()
    await test.settled(log.truncateTo(end))
    await test.fill(log, 30, { bytes: 2000 })
    const again = await reopened(test.image.copy())
    expect(again.test.store.recovery.damaged).toEqual([])
    expect(await indexesOf(again.test, again.log)).toEqual(range(1, end + 30))
  })

  it('is sound again with another start, which may lie below', async () => {
    const { test, log } = await damaged()
    const start = { index: 10, offset: 9, previousTerm: 1 }
    await test.settled(log.installStart(start, STATE))
    expect([log.failure, log.start, log.lostAcknowledged]).toEqual([null, start, true])
    await test.fill(log, 3)
    const again = await reopened(test.image.copy())
    expect([again.test.store.recovery.damaged, again.log.start]).toEqual([[], start])
    expect(await indexesOf(again.test, again.log)).toEqual([10, 11, 12])
    expect(again.log.lostAcknowledged).toBe(true)
  })

  it('that lacks an older slot is repaired by another start alone', async () => {
    const { test } = await written(60)
    const image = test.image.copy()
    image.files.delete(slotFiles(image)[1]!)
    const { test: again, log } = await reopened(image)
    expect(log.failure?.code).toBe('DAMAGED')
    await expect(again.settled(log.truncateTo(2))).rejects.toMatchObject({ code: 'DAMAGED' })
    await again.settled(log.installStart({ ...START, previousTerm: 1 }, STATE))
    await again.fill(log, 2)
    const last = await reopened(again.image.copy())
    expect([last.test.store.recovery.damaged, await indexesOf(last.test, last.log)]).toEqual([[], [1001, 1002]])
  })

  it('is repaired again after a crash at any write of the repair', async () => {
    const { test, log, end } = await damaged()
    const images: VolumeImage[] = [test.image.copy()]
    test.order.holding.add('write')
    let isRepaired = false
    void log.truncateTo(end).then(() => {
      isRepaired = true
    })
    for (let i = 0; i < 400 && !isRepaired; i++) {
      await turn()
      test.order.release('write', 1)
      await turn()
      images.push(test.image.copy())
      if (i % 8 === 7) test.environment.clock.fireNext()
    }
    expect(isRepaired).toBe(true)
    for (const image of images) {
      const again = await reopened(image)
      expect(again.log.filled.index).toBe(end)
      expect(again.log.lostAcknowledged).toBe(true)
      if (again.log.failure !== null) await again.test.settled(again.log.truncateTo(end))
      await again.test.fill(again.log, 2)
      expect(await indexesOf(again.test, again.log)).toEqual(range(1, end + 2))
    }
  })
})

/** Whether the first group of a slot is one with which a log begins anew. */
function beginsAnew(image: VolumeImage, name: string): boolean {
  const page = image.files.get(name)!.page(SLOT_DATA_START / 4096)
  const envelope = readEnvelope(page, new DataView(page.buffer, page.byteOffset, page.byteLength), 0, crc32)
  return envelope?.kind === GROUP_KINDS.beginning
}
