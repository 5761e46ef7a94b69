// Retention: the start moves by a committed control batch, slots below it come back, and a restart finds the same log.
import { LOG_PART_BYTES } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { sealLogStart } from '#src/storage/log-start.js'
import type { PartitionLog, RetentionLimits } from '#src/storage/log-store.js'
import { CHECKPOINT_HEADER_POSITIONS, FREE_HEADER_POSITION } from '#src/storage/slot-layout.js'
import { DurableState } from '../../sim/crash/durable-state.js'
import { PAGE_BYTES, type VolumeImage } from '../../sim/crash/page-image.js'
import { type Step, Workload } from '../../sim/crash/workload.js'
import { SeededRandom } from '../../sim/random.js'
import { batchOf, clientPartsOf, damage, KEY, RecordingState, SMALL, slotFiles, TestStore, turn } from './fixture.js'

const bySize = (bytes: number): RetentionLimits => ({ bytes, appendedBefore: null })
const byTime = (appendedBefore: number): RetentionLimits => ({ bytes: null, appendedBefore })

/** Every slot has this size, so that it is known what a log of so many batches takes. */
const ONE_SIZE = { ...SMALL, slotBytes: [64 * 1024], maxGroupBytes: 32 * 1024, maxUnflushedBytes: 32 * 1024 }

async function moveStart(test: TestStore, log: PartitionLog, limits: RetentionLimits): Promise<boolean> {
  const start = log.expire(limits)
  if (start === null) return false
  const batch = sealLogStart(start, KEY, log.filled.index + 1, 5)
  await test.appendWhenRoom(log, batch)
  await test.settled(log.flush())
  log.noteCommitted(log.flushedIndex)
  return true
}

async function filled(
  count = 200,
  limits = ONE_SIZE,
): Promise<{ test: TestStore; log: PartitionLog; batches: Uint8Array[] }> {
  const test = await TestStore.open(undefined, limits)
  const log = await test.open()
  return { test, log, batches: await test.fill(log, count, { bytes: 3000 }) }
}

describe('retention by size', () => {
  it('moves the start and gives slots back, which the log then uses again', async () => {
    const { test, log, batches } = await filled()
    const { slots } = test.store.statistics
    expect(log.startOffset).toBe(0)
    expect(await moveStart(test, log, bySize(200 * 1024))).toBe(true)
    expect(log.startOffset).toBeGreaterThan(100)
    await test.until(() => log.bytesOnDisk <= 5 * 64 * 1024, 'the slots come back')
    const read = await test.readAll(log, log.startOffset)
    expect(read.slice(0, -1).map((bytes) => Buffer.from(bytes))).toEqual(
      batches.slice(log.startOffset).map((bytes) => Buffer.from(bytes)),
    )
    const { bytesFilled } = test.store.statistics
    await test.fill(log, 100, { bytes: 3000 })
    expect(test.store.statistics.slots).toBe(slots)
    expect(test.store.statistics.bytesFilled).toBe(bytesFilled)
  })

  it('keeps what it is asked to keep, and never the slot being filled', async () => {
    const { test, log } = await filled()
    expect(await moveStart(test, log, bySize(64 * 1024 * 1024))).toBe(false)
    expect(await moveStart(test, log, bySize(1))).toBe(true)
    await test.until(() => log.bytesOnDisk === 64 * 1024)
    expect(log.startOffset).toBeLessThan(log.filled.nextOffset)
    expect(await moveStart(test, log, bySize(1))).toBe(false)
  })

  it('has effect only once the control batch is committed and flushed', async () => {
    const { test, log } = await filled()
    const start = log.expire(bySize(100 * 1024))!
    test.order.holding.add('flush')
    await test.appendWhenRoom(log, sealLogStart(start, KEY, log.filled.index + 1, 5))
    log.noteCommitted(log.filled.index - 1)
    expect(log.committedStartOffset).toBe(0)
    log.noteCommitted(log.filled.index)
    await test.until(() => log.writtenIndex === log.filled.index)
    log.noteCommitted(log.filled.index)
    expect(log.startOffset).toBe(0)
    // Whoever leads next may have flushed it, and tells it already.
    expect(log.committedStartOffset).toBe(start.offset)
    expect(log.expire(bySize(100 * 1024))).toBeNull()
    test.order.holding.clear()
    test.order.release('flush')
    await test.settled(log.flush())
    expect(log.startOffset).toBe(0)
    log.noteCommitted(log.filled.index)
    expect(log.startOffset).toBe(start.offset)
  })

  it('waits for reads of what is to go', async () => {
    const { test, log } = await filled()
    const read = await test.settled(log.read(0, 9000, log.flushedIndex))
    const before = log.bytesOnDisk
    await moveStart(test, log, bySize(100 * 1024))
    for (let i = 0; i < 50; i++) await test.until(() => true)
    expect(log.bytesOnDisk).toBeGreaterThanOrEqual(before - 64 * 1024)
    expect(clientPartsOf(read).length).toBeGreaterThan(1)
    read.release()
    await test.until(() => log.bytesOnDisk < before - 5 * 64 * 1024)
  })

  it('refuses reads below the start', async () => {
    const { test, log } = await filled()
    await moveStart(test, log, bySize(100 * 1024))
    await expect(log.read(0, 1000, log.flushedIndex)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await expect(log.read(log.startOffset - 1, 1000, log.flushedIndex)).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    expect(await log.termAt(log.startOffset - 1)).toBe(0)
    expect(await log.termAt(log.startOffset)).toBe(1)
    expect(await test.settled(log.offsetForTime(0, log.flushedIndex))).toMatchObject({ offset: log.startOffset })
  })
})

describe('on a full disk', () => {
  it('the log start still moves, and appends go on in what comes back', async () => {
    const test = await TestStore.open(undefined, ONE_SIZE)
    const log = await test.open()
    await test.fill(log, 60, { bytes: 3000 })
    await test.until(() => test.store.statistics.freeSlots >= 2)
    test.order.fail('allocate', 'NO_SPACE')
    const batch = batchOf({ bytes: 3000 })
    const room = LOG_PART_BYTES + batch.length
    const fillUp = async (): Promise<void> => {
      for (let i = 0; i < 500; i++) {
        await test.until(() => log.hasRoom(room))
        try {
          test.append(log, batch)
        } catch (error) {
          expect(error).toMatchObject({ code: 'DISK_FULL' })
          return
        }
      }
      throw new Error('the disk does not become full')
    }
    for (let round = 0; round < 3; round++) {
      await fillUp()
      await test.settled(log.flush())
      const start = log.expire(bySize(64 * 1024))!
      const control = sealLogStart(start, KEY, log.filled.index + 1, 5)
      expect(log.hasRoom(LOG_PART_BYTES + control.length, true)).toBe(true)
      expect(test.append(log, control)).toBe(true)
      await test.settled(log.flush())
      log.noteCommitted(log.flushedIndex)
      await test.until(() => test.store.statistics.freeSlots > 0, 'slots come back')
    }
    const again = await test.restart()
    const reopened = await again.open()
    expect(again.store.recovery.damaged).toEqual([])
    expect(reopened.filled).toEqual(log.filled)
  })

  it('what is too old goes, but for the segment that there is no slot to replace', async () => {
    const test = await TestStore.open(undefined, ONE_SIZE)
    const log = await test.open()
    await test.fill(log, 40, { bytes: 3000 })
    test.order.fail('allocate', 'NO_SPACE')
    await test.until(() => test.store.statistics.freeSlots >= 2)
    const others = await test.open({ ...KEY, partition: 9 })
    const full = async (): Promise<void> => {
      while (true) await test.appendWhenRoom(others, batchOf({ bytes: 3000 }))
    }
    await expect(full()).rejects.toMatchObject({ code: 'DISK_FULL' })
    expect(test.store.statistics.freeSlots).toBe(0)
    const start = log.expire(byTime(78))!
    expect(start.offset).toBeGreaterThan(20)
  })
})

describe('retention by time', () => {
  it('takes whole segments of which every batch is too old', async () => {
    const { test, log } = await filled(40)
    test.appendTime = 99
    await test.fill(log, 40, { bytes: 3000 })
    expect(await moveStart(test, log, byTime(77))).toBe(false)
    expect(await moveStart(test, log, byTime(78))).toBe(true)
    // The segment in which the later batches begin stays as it is.
    expect(log.startOffset).toBeGreaterThan(20)
    expect(log.startOffset).toBeLessThanOrEqual(40)
    const { startOffset } = log
    await test.until(() => log.bytesOnDisk <= 5 * 64 * 1024)
    const again = await test.restart()
    const reopened = await again.open()
    reopened.noteCommitted(reopened.filled.index)
    expect(reopened.startOffset).toBe(startOffset)
    expect(reopened.expire(byTime(99))).toBeNull()
    expect(reopened.expire(byTime(100))).toMatchObject({ offset: 80 })
  })

  it('empties a quiet log, and gives it a new slot for that', async () => {
    const { test, log } = await filled(20)
    expect(await moveStart(test, log, byTime(78))).toBe(true)
    expect(log.startOffset).toBe(20)
    await test.until(() => log.bytesOnDisk === 64 * 1024)
    expect(await moveStart(test, log, byTime(78))).toBe(false)
    const more = await test.fill(log, 3, { bytes: 3000 })
    expect(await test.readAll(log, 20)).toHaveLength(3)
    const again = await test.restart()
    const reopened = await again.open()
    // The slot of the first twenty is gone already, so the start that allowed it must have been committed.
    expect(reopened.startOffset).toBe(20)
    expect((await again.readAll(reopened, 20)).map((part) => Buffer.from(part)).slice(-3)).toEqual(
      more.map((part) => Buffer.from(part)),
    )
  })
})

describe('a slot that was taken unwritten', () => {
  it('is filled where its log left it unwritten, and nowhere else', async () => {
    const test = await TestStore.open(undefined, ONE_SIZE)
    const log = await test.open()
    await test.fill(log, 150, { bytes: 3000 }, 'write')
    const { bytesFilled } = test.store.statistics
    await moveStart(test, log, bySize(1))
    await test.until(() => log.bytesOnDisk === 64 * 1024)
    const slots = test.store.statistics.slotsRecycled
    expect(slots).toBeGreaterThan(5)
    expect(test.store.statistics.bytesFilled - bytesFilled).toBeLessThan(slots * 20 * 1024)
    for (const name of slotFiles(test.image)) expect(test.image.files.get(name)!.size).toBe(64 * 1024)
  })
})

describe('after a restart', () => {
  it('the log begins where it began, with the state of its owner', async () => {
    const { test, log, batches } = await filled()
    await moveStart(test, log, bySize(100 * 1024))
    await test.until(() => log.bytesOnDisk <= 4 * 64 * 1024)
    const { startOffset } = log
    const again = await test.restart()
    const state = new RecordingState()
    const reopened = await again.open(KEY, state)
    expect(again.store.recovery.damaged).toEqual([])
    expect(state.restored).toEqual(new Uint8Array([1, 2, 3]))
    reopened.noteCommitted(reopened.filled.index)
    expect(reopened.startOffset).toBe(startOffset)
    expect(reopened.filled).toEqual(log.filled)
    const read = await again.readAll(reopened, startOffset)
    expect(read.slice(0, batches.length - startOffset).map((part) => Buffer.from(part))).toEqual(
      batches.slice(startOffset).map((part) => Buffer.from(part)),
    )
    await again.store.close()
    const closed = await again.restart()
    expect((await closed.open()).startOffset).toBe(startOffset)
  })

  it('is the old log or the new one, wherever the crash came', async () => {
    const { test, log, batches } = await filled(120)
    const before = test.trace.events.length
    const images: VolumeImage[] = []
    await moveStart(test, log, bySize(60 * 1024))
    for (let i = 0; i < 400 && log.bytesOnDisk > 3 * 64 * 1024; i++) {
      images.push(test.image.copy())
      await test.until(() => true)
      await new Promise((resolve) => setImmediate(resolve))
    }
    images.push(test.image.copy())
    expect(test.trace.events.length).toBeGreaterThan(before)
    const starts = new Set<number>()
    for (const image of images) {
      const again = await TestStore.open(image, ONE_SIZE)
      const reopened = await again.open()
      expect(again.store.recovery.damaged).toEqual([])
      reopened.noteCommitted(reopened.filled.index)
      starts.add(reopened.startOffset)
      expect(reopened.filled).toEqual(log.filled)
      const read = await again.readAll(reopened, reopened.startOffset)
      expect(read.slice(0, 120 - reopened.startOffset).map((part) => Buffer.from(part))).toEqual(
        batches.slice(reopened.startOffset).map((part) => Buffer.from(part)),
      )
      await again.until(() => reopened.bytesOnDisk <= 3 * 64 * 1024)
    }
    expect([...starts]).toEqual([log.startOffset])
  })

  it('a checkpoint can be found: of the two headers that name one a power cut tears no more than one', async () => {
    const append: Step = { kind: 'append', log: 0, bytes: 12_000, mode: 'flush' }
    const steps = Array.from({ length: 40 }, (_, i): Step => (i % 2 === 0 ? append : { kind: 'settle', log: 0 }))
    let headers = 0
    for (let seed = 0; seed < 8; seed++) {
      const { trace, start } = await new Workload(new SeededRandom(`headers/${seed}`)).run(1, steps)
      const durable = new DurableState(start, 'files')
      for (const event of trace.events) {
        if (event.kind === 'note') continue
        durable.step(event)
        const { operation } = event
        if (event.kind !== 'submit' || operation.kind !== 'write' || operation.bytes.length > PAGE_BYTES) continue
        if (!CHECKPOINT_HEADER_POSITIONS.some((position) => position === operation.position)) continue
        headers++
        const torn = durable
          .choices()
          .flatMap((choice) => (choice.kind === 'sector' && choice.file === operation.file ? [choice.page] : []))
          .filter((page) => CHECKPOINT_HEADER_POSITIONS.some((position) => position === page * PAGE_BYTES))
        expect(new Set(torn).size, `seed ${seed}, operation ${event.id}`).toBe(1)
      }
    }
    expect(headers).toBeGreaterThan(50)
  })

  it('a slot that lost the header which gave it back is given back again', async () => {
    const { test, log } = await filled()
    expect(await moveStart(test, log, bySize(200 * 1024))).toBe(true)
    await test.until(() => log.bytesOnDisk <= 5 * 64 * 1024, 'the slots come back')
    await turn()
    const { freeSlots } = test.store.statistics
    // Of each slot in turn; those of the log lose a header that says nothing any more.
    for (const name of slotFiles(test.image)) {
      const image = test.image.copy()
      damage(image, name, FREE_HEADER_POSITION, (page) => page.fill(0))
      const again = await TestStore.open(image, ONE_SIZE)
      const reopened = await again.open()
      expect(again.store.recovery.damaged).toEqual([])
      expect(reopened.startOffset).toBe(log.startOffset)
      expect(reopened.filled).toEqual(log.filled)
      // The one next to the start is kept until the start moves again.
      await again.until(() => again.store.statistics.freeSlots >= freeSlots - 1, 'what was left over comes back')
    }
  })

  it('a checkpoint that no header names any more is met on the way from the first slot that is left', async () => {
    const { test, log, batches } = await filled()
    expect(await moveStart(test, log, bySize(200 * 1024))).toBe(true)
    await test.until(() => log.bytesOnDisk <= 5 * 64 * 1024, 'the slots come back')
    await test.fill(log, 3, { bytes: 3000 })
    await turn()
    const image = test.image.copy()
    for (const name of slotFiles(image)) {
      for (const position of CHECKPOINT_HEADER_POSITIONS) damage(image, name, position, (page) => page.fill(0))
    }
    const again = await TestStore.open(image, ONE_SIZE)
    const state = new RecordingState()
    const reopened = await again.open(KEY, state)
    expect(again.store.recovery.damaged).toEqual([])
    expect([reopened.startOffset, reopened.filled]).toEqual([log.startOffset, log.filled])
    expect(state.restored).toEqual(state.state)
    const read = await again.readAll(reopened, reopened.startOffset)
    const kept = batches.slice(log.startOffset)
    expect(Buffer.compare(Buffer.concat(read.slice(0, kept.length)), Buffer.concat(kept))).toBe(0)
  })

  it('a log whose beginning is missing without a start that says so is damaged', async () => {
    const { test, log } = await filled()
    const again = test.image.copy()
    // The slot that was taken first.
    const first = slotFiles(again)[0]!
    again.files.delete(first)
    const reopened = await TestStore.open(again, ONE_SIZE)
    await reopened.open()
    expect(reopened.store.recovery.damaged).toHaveLength(1)
    expect(log.failure).toBeNull()
  })
})

it('the control batch is small', () => {
  const batch = sealLogStart({ index: 2 ** 40, offset: 2 ** 50, previousTerm: 7 }, KEY, 2 ** 41, Date.UTC(2026, 0))
  expect(batch.length + LOG_PART_BYTES).toBeLessThan(200)
})
