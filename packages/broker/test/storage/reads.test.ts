// Reads: whole batches from memory and from disk, in pieces, verified, pinned, within bounds however many ask.
import { crc32, loggedBatches } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { SLOT_DATA_START } from '#src/storage/slot-layout.js'
import { batchOf, bytesOf, clientPartsOf, flipBit, KEY, SMALL, slotFiles, TestStore, turn } from './fixture.js'

/** A log of this many batches on disk, none of it in memory. */
async function coldLog(count: number, bytes: number, limits = SMALL, memoryBytes?: number) {
  const test = await TestStore.open(undefined, limits)
  const log = await test.open()
  const batches = await test.fill(log, count, { bytes })
  await test.settled(test.store.close())
  const again = await TestStore.open(test.image.copy(), limits, memoryBytes)
  return { test: again, log: await again.open(), batches }
}

const sameBytes = (a: readonly Uint8Array[], b: readonly Uint8Array[]): boolean =>
  a.length === b.length && a.every((bytes, i) => Buffer.compare(bytes, b[i]!) === 0)

describe('a read', () => {
  it.each(['memory', 'disk'])(
    'from %s begins with the batch that holds the offset, and ends with a whole one',
    async (from) => {
      const made = await coldLog(1, 10)
      const test = from === 'disk' ? made.test : await TestStore.open()
      const log = from === 'disk' ? made.log : await test.open()
      if (from === 'memory') await test.fill(log, 1, { bytes: 10 })
      for (let i = 0; i < 20; i++) await test.fill(log, 1, { records: 5, bytes: 50 })
      const reader = from === 'memory' ? { test, log } : await reopened(test)
      const end = reader.log.filled.index
      const read = await reader.log.read(8, 1, end)
      const [batch] = [...loggedBatches(bytesOf(read), crc32)]
      expect(batch).toMatchObject({ baseOffset: 6, index: 3 })
      expect([read.batchCount, read.nextOffset, read.byteLength]).toEqual([1, 11, bytesOf(read).length])
      read.release()
      const more = await reader.log.read(6, read.byteLength * 3, end)
      expect([more.batchCount, more.nextOffset]).toEqual([3, 21])
      more.release()
      const limited = await reader.log.read(6, 100_000, 5)
      expect([limited.batchCount, limited.nextOffset]).toEqual([3, 21])
      limited.release()
      const none = await reader.log.read(6, 100_000, 2)
      expect([none.batchCount, none.nextOffset, none.pieces.length]).toEqual([0, 6, 0])
      none.release()
      expect((await reader.log.read(101, 1, end)).batchCount).toBe(0)
      expect((await reader.log.read(5000, 1, end)).batchCount).toBe(0)
    },
  )

  it.each(['memory', 'disk'])('by index from %s tells batches apart that share an offset', async (from) => {
    const made = await TestStore.open()
    const appended = await made.open()
    // Every third batch has records; offsets 0, 1, 2 … each begin behind two control batches.
    const batches: Uint8Array[] = []
    for (let i = 0; i < 60; i++) batches.push(batchOf({ bytes: 900, control: i % 3 !== 2 }))
    for (const batch of batches) await made.appendWhenRoom(appended, batch)
    await made.settled(appended.flush())
    const { test, log } = from === 'memory' ? { test: made, log: appended } : await reopened(made)
    for (const index of [1, 2, 3, 29, 30, 31, 60]) {
      const answer = log.readFrom(index, 3000)
      expect(answer instanceof Promise).toBe(from === 'disk')
      const read = await test.settled(Promise.resolve(answer))
      const count = Math.min(60 - index + 1, read.batchCount)
      expect([read.firstIndex, read.lastIndex, read.batchCount]).toEqual([index, index + count - 1, count])
      expect(count).toBe(index === 60 ? 1 : 2)
      expect(sameBytes(clientPartsOf(read), batches.slice(index - 1, index - 1 + count))).toBe(true)
      read.release()
    }
    const none = await log.readFrom(61, 3000)
    expect([none.batchCount, none.firstIndex, none.lastIndex, none.nextOffset]).toEqual([0, 0, 0, 20])
    none.release()
    await expect(Promise.resolve(log.readFrom(0, 100))).rejects.toMatchObject({ code: 'OUT_OF_RANGE' })
    await test.settled(test.store.close())
    await expect(Promise.resolve(log.readFrom(1, 100))).rejects.toMatchObject({ code: 'CLOSED' })
    expect(test.memory.usedBytes).toBe(0)
  })

  it('by index does not mix what was cut off while it waited with what came instead', async () => {
    const { test, log, batches } = await coldLog(20, 900)
    test.order.holding.add('read')
    const reading = Promise.resolve(log.readFrom(5, 50_000))
    await test.until(() => test.order.held.length > 0, 'the read')
    test.order.holding.delete('read')
    const cut = log.truncateTo(10)
    await test.settled(cut)
    const others = await test.fill(log, 6, { bytes: 800 })
    test.order.release('read')
    const read = await test.settled(reading)
    expect([read.firstIndex, read.lastIndex]).toEqual([5, 4 + read.batchCount])
    expect(sameBytes(clientPartsOf(read), [...batches.slice(4, 10), ...others].slice(0, read.batchCount))).toBe(true)
    read.release()
  })

  it('by index passes by damage that lies before it, and is refused in it', async () => {
    const made = await TestStore.open()
    const written = await made.open()
    // Each batch is a group of its own and takes a block: batch 5 rots.
    const batches: Uint8Array[] = []
    for (let i = 0; i < 14; i++) batches.push(...(await made.fill(written, 1, { bytes: 1500 })))
    await made.settled(made.store.close())
    const [slot] = slotFiles(made.image)
    const image = made.image.copy()
    flipBit(image, slot!, SLOT_DATA_START + 4 * 4096 + 200)
    const again = await TestStore.open(image)
    const log = await again.open()
    const before = await again.settled(Promise.resolve(log.readFrom(2, 100_000)))
    expect([before.firstIndex, before.lastIndex]).toEqual([2, 4])
    before.release()
    await expect(again.settled(Promise.resolve(log.readFrom(5, 100)))).rejects.toMatchObject({ code: 'DAMAGED' })
    const behind = await again.settled(Promise.resolve(log.readFrom(6, 1)))
    expect([behind.firstIndex, behind.lastIndex]).toEqual([6, 6])
    expect(sameBytes(clientPartsOf(behind), [batches[5]!])).toBe(true)
    behind.release()
  })

  it('adds up what batches cost in credit', async () => {
    const { test, log } = await coldLog(3, 500)
    const read = await log.read(0, 100_000, 3)
    const headers = [...loggedBatches(bytesOf(read), crc32)].map(({ clientLength }) => clientLength - 80)
    expect(read.decodedBytes).toBe(headers.reduce((a, b) => a + b, 0))
    read.release()
    expect(() => read.release()).toThrow(/once/)
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it.each([1, 700, 8000, 8192, 20_000, 60_000])('puts batches of %i bytes together from frames', async (bytes) => {
    const { test, log, batches } = await coldLog(12, bytes)
    expect(sameBytes(await test.readAll(log, 0, 1), batches)).toBe(true)
    expect(sameBytes(await test.readAll(log, 0, 50_000), batches)).toBe(true)
    expect(sameBytes(await test.readAll(log, 7, 10 * bytes), batches.slice(7))).toBe(true)
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('skips control batches where it begins, and shows them in between', async () => {
    const test = await TestStore.open()
    const log = await test.open()
    for (const control of [true, false, true, false, true]) await test.fill(log, 1, { control })
    expect(log.filled).toMatchObject({ index: 5, nextOffset: 2 })
    for (const { log: one } of [{ log }, await reopened(test)]) {
      const read = await one.read(0, 100_000, 5)
      expect([...loggedBatches(bytesOf(read), crc32)].map(({ index }) => index)).toEqual([2, 3, 4, 5])
      expect(read.nextOffset).toBe(2)
      read.release()
      expect((await one.read(2, 100, 5)).batchCount).toBe(0)
    }
  })

  it('goes from segment to segment', async () => {
    const { test, log, batches } = await coldLog(120, 3000)
    expect(log.bytesOnDisk).toBeGreaterThan(256 * 1024)
    expect(sameBytes(await test.readAll(log), batches)).toBe(true)
    const order = [...batches.keys()].sort((a, b) => ((a * 7919) % 120) - ((b * 7919) % 120))
    for (const offset of order) {
      const read = await test.settled(log.read(offset, 1, 120))
      expect(Buffer.compare(clientPartsOf(read)[0]!, batches[offset]!)).toBe(0)
      read.release()
    }
  })
})

describe('the cache', () => {
  it('loads a frame once however many ask', async () => {
    const { test, log, batches } = await coldLog(4, 500)
    const before = test.order.counts.read ?? 0
    const reads = await Promise.all(Array.from({ length: 20 }, () => log.read(0, 1, 4)))
    expect((test.order.counts.read ?? 0) - before).toBe(1)
    for (const read of reads) {
      expect(Buffer.compare(clientPartsOf(read)[0]!, batches[0]!)).toBe(0)
      read.release()
    }
    const { misses } = test.store.statistics.pagePool
    ;(await log.read(0, 1, 4)).release()
    expect(test.store.statistics.pagePool.misses).toBe(misses)
  })

  it('never frees pinned memory, and never takes more than it was given', async () => {
    const { test, log, batches } = await coldLog(150, 3000)
    const pinned = await log.read(3, 1, 150)
    for (let round = 0; round < 3; round++) {
      expect(sameBytes(await test.readAll(log, 0, 9000), batches)).toBe(true)
      expect(test.memory.usedBytes).toBeLessThanOrEqual(320 * 1024)
    }
    expect(Buffer.compare(clientPartsOf(pinned)[0]!, batches[3]!)).toBe(0)
    pinned.release()
  })

  it('makes readers wait while everything is pinned, in their order, and never for each other', async () => {
    const { test, log, batches } = await coldLog(150, 3000)
    const held = []
    let done = 0
    const reads = Array.from({ length: 60 }, (_, i) => log.read((i * 37) % 150, 20_000, 150))
    for (const read of reads) void read.then(() => done++)
    for (let i = 0; i < 20; i++) await turn()
    expect(done).toBeGreaterThan(0)
    expect(done).toBeLessThan(60)
    for (const [i, pending] of reads.entries()) {
      const read = await test.settled(pending)
      expect(Buffer.compare(clientPartsOf(read)[0]!, batches[(i * 37) % 150]!)).toBe(0)
      held.push(read)
      if (held.length > 3) held.shift()!.release()
    }
    for (const read of held) read.release()
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('keeps what is read again when a scan passes through', async () => {
    const { test, log } = await coldLog(150, 3000)
    ;(await log.read(3, 1, 150)).release()
    // Not what is scanned afterwards: pages that come back by chance would say that probation is too short.
    for (const offset of [5, 8, 11, 14, 17]) (await test.settled(log.read(offset, 9000, 150))).release()
    ;(await log.read(3, 1, 150)).release()
    await test.readAll(log, 20, 9000)
    const { misses } = test.store.statistics.pagePool
    ;(await log.read(3, 1, 150)).release()
    expect(test.store.statistics.pagePool.misses).toBe(misses)
  })

  it('says so when the environment has no memory left', async () => {
    const { test, log } = await coldLog(20, 3000, SMALL, 200 * 1024)
    const hoard = []
    for (let block = test.memory.allocate(4096); block !== null; block = test.memory.allocate(4096)) hoard.push(block)
    await expect(test.settled(log.read(0, 1, 20))).rejects.toMatchObject({ code: 'OVERLOADED' })
    for (const block of hoard) test.memory.release(block)
    ;(await test.settled(log.read(0, 1, 20))).release()
  })

  it('forgets the frames of a slot that changes hands', async () => {
    const { test, log, batches } = await coldLog(6, 3000)
    expect(sameBytes(await test.readAll(log), batches)).toBe(true)
    await test.settled(test.store.drop(KEY))
    const other = await test.open({ ...KEY, topicId: 2 })
    const fresh = await test.fill(other, 6, { bytes: 3000, key: other.key })
    const last = await reopened(test, other.key)
    expect(sameBytes(await last.test.readAll(last.log), fresh)).toBe(true)
  })
})

describe('many partitions', () => {
  it('share memory, reserve and flushes', async () => {
    const limits = { ...SMALL, appendMemoryBytes: 1024 * 1024, reserveSlots: 8 }
    const test = await TestStore.open(undefined, limits, 16 * 1024 * 1024)
    const logs = []
    for (let partition = 0; partition < 200; partition++) {
      logs.push({ log: await test.open({ topicId: 7, partition, lane: 0 }), batches: [] as Uint8Array[] })
    }
    for (let round = 0; round < 3; round++) {
      for (const { log, batches } of logs) {
        const batch = batchOf({ key: log.key, bytes: 300 })
        await test.appendWhenRoom(log, batch, round === 1 ? 'write' : 'flush')
        batches.push(batch)
      }
      await test.settled(Promise.all(logs.map(({ log }) => log.flush())))
    }
    expect(test.store.statistics.flushes).toBeLessThan(600)
    await test.settled(test.store.close())
    const again = await TestStore.open(test.image.copy(), limits, 16 * 1024 * 1024)
    expect(again.store.found).toHaveLength(200)
    for (const { log, batches } of logs) {
      const reopenedLog = await again.open(log.key)
      expect(sameBytes(await again.readAll(reopenedLog), batches)).toBe(true)
    }
    expect(slotFiles(again.image).length).toBeGreaterThanOrEqual(200)
  })
})

async function reopened(test: TestStore, key = KEY) {
  const again = await test.restart()
  return { test: again, log: await again.open(key) }
}
