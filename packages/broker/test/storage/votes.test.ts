// Term and vote of every group: durable, kept twice, known to be lost when they are.
import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import type { LogKey } from '#src/storage/log-store.js'
import { mostVotes } from '#src/storage/vote-journal.js'
import { VOTE_ENTRY_BYTES, VOTE_HEADER_BYTES } from '#src/storage/vote-record.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { batchOf, damage, flipBit, IDENTITY, KEY, RecordingState, SMALL, TestStore, turn } from './fixture.js'

const AREA_BYTES = 16 * 1024
const LIMITS = { ...SMALL, voteAreaBytes: AREA_BYTES }
const FILES = ['votes-a', 'votes-b'] as const
const group = (topicId: number): LogKey => ({ topicId, partition: 0, lane: 0 })
const opened = (image?: VolumeImage): Promise<TestStore> => TestStore.open(image, LIMITS)
const vote = (test: TestStore, topicId: number, term: number, votedFor = 0): Promise<void> =>
  test.settled(test.store.votes.save(group(topicId), { term, votedFor }))

/** A store with some votes, each a record of its own, and its disk as a crash leaves it. */
async function voted(...terms: readonly (readonly [topicId: number, term: number])[]): Promise<VolumeImage> {
  const test = await opened()
  for (const [topicId, term] of terms) await vote(test, topicId, term, 1)
  return test.image.copy()
}

function spoil(image: VolumeImage, name: string, block: number): void {
  damage(image, name, block * 4096, (page) => void page.fill(0xa5))
}

describe('votes', () => {
  it('are there after a crash, and none that nobody gave', async () => {
    const test = await opened()
    expect(test.store.votes.find(KEY)).toBeNull()
    await vote(test, 1, 3)
    await vote(test, 1, 3, 2)
    await vote(test, 2, 9, 1)
    expect(test.store.votes.find(group(1))).toEqual({ term: 3, votedFor: 2 })
    const again = await opened(test.image.copy())
    expect(again.store.votes.find(group(1))).toEqual({ term: 3, votedFor: 2 })
    expect(again.store.votes.find(group(2))).toEqual({ term: 9, votedFor: 1 })
    expect(again.store.votes.find(group(3))).toBeNull()
    again.store.votes.forget(group(1))
    await vote(again, 3, 1)
    await again.settled(again.store.close())
    expect(again.memory.usedBytes).toBe(0)
    const last = await opened(again.image.copy())
    expect(last.store.votes.find(group(1))).toBeNull()
    expect(last.store.votes.find(group(3))).toEqual({ term: 1, votedFor: 0 })
  })

  it('of one turn become one write to each copy and one flush', async () => {
    const test = await opened()
    await vote(test, 1, 1)
    const log = await test.open(group(500))
    await test.fill(log, 1)
    const { write, flush } = test.order.counts
    const saves = Array.from({ length: 100 }, (_, i) => test.store.votes.save(group(i + 1), { term: 2, votedFor: 1 }))
    await test.settled(Promise.all(saves))
    expect([test.order.counts.write! - write!, test.order.counts.flush! - flush!]).toEqual([2, 1])
  })

  it('are promised only once they are flushed, each turn behind the one before', async () => {
    const test = await opened()
    await vote(test, 1, 1)
    test.order.holding.add('flush')
    const saved: number[] = []
    void test.store.votes.save(group(1), { term: 2, votedFor: 0 }).then(() => saved.push(2))
    await test.until(() => test.order.held.length === 1, 'the flush')
    void test.store.votes.save(group(1), { term: 3, votedFor: 0 }).then(() => saved.push(3))
    for (let i = 0; i < 20; i++) await turn()
    expect([saved, test.store.votes.find(group(1))]).toEqual([[], { term: 1, votedFor: 0 }])
    test.order.release('flush', 1)
    await test.until(() => saved.length === 1, 'the first save')
    await test.until(() => test.order.held.length === 1, 'the next flush')
    test.order.release('flush')
    await test.until(() => saved.length === 2, 'the second save')
    expect(test.store.votes.find(group(1))).toEqual({ term: 3, votedFor: 0 })
  })

  it('never go back and are never given twice', async () => {
    const test = await opened()
    await vote(test, 1, 5, 2)
    expect(() => test.store.votes.save(group(1), { term: 4, votedFor: 0 })).toThrow(/behind/)
    expect(() => test.store.votes.save(group(1), { term: 5, votedFor: 3 })).toThrow(/second vote/)
    expect(() => test.store.votes.save(group(1), { term: 5, votedFor: 0 })).toThrow(/second vote/)
    await vote(test, 1, 5, 2)
    await vote(test, 1, 6, 3)
  })

  it('take no more room however often they change, and hold the most there may be', async () => {
    const test = await opened()
    const most = mostVotes(AREA_BYTES)
    const saves = Array.from({ length: most }, (_, i) => test.store.votes.save(group(i + 1), { term: 1, votedFor: 0 }))
    await test.settled(Promise.all(saves))
    for (let term = 2; term < 60; term++) await vote(test, (term % most) + 1, term)
    for (const name of FILES) expect(test.image.files.get(name)!.size).toBe(2 * AREA_BYTES)
    await expect(test.store.votes.save(group(most + 1), { term: 1, votedFor: 0 })).rejects.toMatchObject({
      code: 'DISK_FULL',
    })
    const again = await opened(test.image.copy())
    for (let i = 0; i < most; i++) {
      const term = i >= 2 && i < 60 ? i : 1
      expect(again.store.votes.find(group(i + 1))).toEqual({ term, votedFor: 0 })
    }
  })
})

describe('a rotten copy', () => {
  it.each(FILES)('%s costs nothing, wherever it rots, and is made whole again', async (name) => {
    const image = await voted([1, 1], [2, 4], [1, 2], [3, 1], [2, 5])
    const other = FILES.find((one) => one !== name)!
    for (let block = 0; block < (2 * AREA_BYTES) / 4096; block++) {
      const rotten = image.copy()
      spoil(rotten, name, block)
      const test = await opened(rotten)
      const first = [1, 2, 3].map((topicId) => test.store.votes.find(group(topicId)))
      expect(first).toEqual([2, 5, 1].map((term) => ({ term, votedFor: 1 })))
      // What was rotten is not any more.
      const healed = test.image.copy()
      for (let at = 0; at < (2 * AREA_BYTES) / 4096; at++) spoil(healed, other, at)
      const again = await opened(healed)
      expect([1, 2, 3].map((topicId) => again.store.votes.find(group(topicId)))).toEqual(first)
    }
  })

  it('that is gone altogether is made again', async () => {
    const image = await voted([1, 7])
    image.files.delete('votes-a')
    const test = await opened(image)
    expect(test.store.votes.find(group(1))).toEqual({ term: 7, votedFor: 1 })
    await vote(test, 1, 8)
    const healed = test.image.copy()
    healed.files.delete('votes-b')
    expect((await opened(healed)).store.votes.find(group(1))).toEqual({ term: 8, votedFor: 0 })
  })
})

describe('votes that neither copy holds', () => {
  it('are known to be lost, and stay so until there is a new one', async () => {
    // A snapshot with the first, then records of three others: the second of them rots.
    const image = await voted([1, 1], [2, 4], [3, 1], [4, 2])
    for (const name of FILES) flipBit(image, name, 2 * 4096 + 50)
    const test = await opened(image)
    // It may have been about any group but those that were heard of since.
    expect([1, 2, 3, 5].map((topicId) => test.store.votes.find(group(topicId)))).toEqual([
      'lost',
      'lost',
      'lost',
      'lost',
    ])
    expect(test.store.votes.find(group(4))).toEqual({ term: 2, votedFor: 1 })
    await vote(test, 2, 1, 3)
    const again = await opened(test.image.copy())
    expect(again.store.votes.find(group(2))).toEqual({ term: 1, votedFor: 3 })
    expect([1, 3, 5].map((topicId) => again.store.votes.find(group(topicId)))).toEqual(['lost', 'lost', 'lost'])
  })

  it('are lost when the whole journal is gone, unless there never was one', async () => {
    const image = await voted([1, 1])
    for (const name of FILES) image.files.delete(name)
    const test = await opened(image)
    expect(test.store.votes.find(group(1))).toBe('lost')
    await vote(test, 2, 1)
    const again = await opened(test.image.copy())
    expect([again.store.votes.find(group(1)), again.store.votes.find(group(2))]).toEqual([
      'lost',
      { term: 1, votedFor: 0 },
    ])
    const unused = await opened()
    await unused.fill(await unused.open(), 1)
    expect((await unused.restart()).store.votes.find(KEY)).toBeNull()
  })
})

describe('a log that is not found', () => {
  const hadLog = async (image: VolumeImage): Promise<boolean> => (await opened(image)).store.votes.hadLog(group(1))

  it('was lost only where there was one', async () => {
    const test = await opened()
    expect(test.store.votes.hadLog(group(1))).toBe(false)
    await vote(test, 1, 1)
    expect(await hadLog(test.image.copy())).toBe(false)
    const log = await test.open(group(1))
    await test.fill(log, 1)
    await test.settled(log.flush())
    expect(await hadLog(test.image.copy())).toBe(true)
    // Nor does a later vote make anybody forget it.
    await vote(test, 1, 2)
    await vote(test, 1, 2, 3)
    await test.settled(test.store.drop(group(1)))
    expect(await hadLog(test.image.copy())).toBe(true)
    test.store.votes.forget(group(1))
    await vote(test, 2, 1)
    expect(await hadLog(test.image.copy())).toBe(false)
  })

  it('was lost where it came before the first vote, or began with the state of others', async () => {
    const test = await opened()
    await test.fill(await test.open(group(1)), 1)
    await vote(test, 1, 1)
    expect(test.store.votes.hadLog(group(1))).toBe(true)
    await vote(test, 2, 1)
    const log = await test.open(group(2))
    await test.settled(log.installStart({ index: 5, offset: 7, previousTerm: 1 }, null))
    expect((await opened(test.image.copy())).store.votes.hadLog(group(2))).toBe(true)
  })

  it('is noted by one record for all that begin in a turn, and waits for no flush but its own', async () => {
    const begun = async (voters: readonly number[]): Promise<number> => {
      const test = await opened()
      for (const topicId of voters) await vote(test, topicId, 1)
      const logs = await Promise.all([1, 2].map((topicId) => test.open(group(topicId))))
      const { write = 0 } = test.order.counts
      test.order.holding.add('flush')
      for (const log of logs) test.append(log, batchOf({ key: log.key }))
      await test.until(() => logs.every(({ writtenIndex }) => writtenIndex === 1))
      return test.order.counts.write! - write
    }
    // It is written twice.
    expect(await begun([1, 2])).toEqual((await begun([8, 9])) + 2)
  })

  it('was lost as far as entries of version 1 say', async () => {
    const image = await voted([1, 1])
    for (const name of FILES) {
      damage(image, name, 0, (page) => {
        page[8] = 1
        const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
        view.setUint32(0, crc32(page.subarray(4, VOTE_HEADER_BYTES + VOTE_ENTRY_BYTES)), true)
      })
    }
    const test = await opened(image)
    expect(test.store.votes.find(group(1))).toEqual({ term: 1, votedFor: 1 })
    expect(test.store.votes.hadLog(group(1))).toBe(true)
    expect(await hadLog(test.image.copy())).toBe(true)
  })

  it('was lost where what was said of it is', async () => {
    const image = await voted([1, 1], [2, 4], [3, 1], [4, 2])
    for (const name of FILES) flipBit(image, name, 2 * 4096 + 50)
    const test = await opened(image)
    await vote(test, 1, 2)
    expect([1, 4].map((topicId) => test.store.votes.hadLog(group(topicId)))).toEqual([true, false])
  })
})

describe('a disk that fails', () => {
  it('latches the votes with everything else', async () => {
    const test = await opened()
    await vote(test, 1, 1)
    const log = await test.open()
    test.order.fail('flush', 'INPUT_OUTPUT')
    await expect(test.settled(test.store.votes.save(group(1), { term: 2, votedFor: 0 }))).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
    })
    test.order.heal()
    expect(log.failure?.code).toBe('STORAGE_FAILED')
    await expect(test.store.votes.save(group(1), { term: 3, votedFor: 0 })).rejects.toMatchObject({
      code: 'STORAGE_FAILED',
    })
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('is full when the first vote is given: it is refused, and taken when there is space', async () => {
    const test = await opened()
    test.order.fail('allocate', 'NO_SPACE')
    await expect(test.settled(test.store.votes.save(group(1), { term: 1, votedFor: 0 }))).rejects.toMatchObject({
      code: 'DISK_FULL',
    })
    expect(test.store.votes.find(group(1))).toBeNull()
    test.order.heal()
    await vote(test, 1, 1)
    expect((await opened(test.image.copy())).store.votes.find(group(1))).toEqual({ term: 1, votedFor: 0 })
  })

  it('is of another node: nothing is changed', async () => {
    const image = await voted([1, 1])
    for (const name of image.files.keys()) if (name.startsWith('slot-')) image.files.delete(name)
    const before = image.copy().hash()
    const test = new TestStore(image, LIMITS)
    await expect(test.settled(test.start({ ...IDENTITY, nodeId: 4 }))).rejects.toThrow(/vote journal belongs to node 3/)
    expect(image.hash()).toBe(before)
  })
})

describe('a power failure', () => {
  async function machine(image: VolumeImage, bootId: string): Promise<TestStore> {
    const test = new TestStore(image, LIMITS)
    test.environment.bootId = bootId
    await test.start()
    return test
  }

  it('is noticed by the boot id, and remembered until a replica is whole', async () => {
    const test = await machine(new TestStore().image, 'one')
    await vote(test, 1, 1)
    await vote(test, 2, 1)
    expect(test.store.wasPowerLost).toBe(false)
    for (const topicId of [1, 2]) await test.fill(await test.open(group(topicId)), 1)
    // The process ended, the machine did not.
    const same = await machine(test.image.copy(), 'one')
    expect([same.store.wasPowerLost, (await same.open(group(1))).wasPowerLost]).toEqual([false, false])
    const next = await machine(test.image.copy(), 'two')
    const log = await next.open(group(1))
    expect([next.store.wasPowerLost, log.wasPowerLost, log.lostAcknowledged]).toEqual([true, true, false])
    await next.settled(log.noteWhole())
    expect(log.wasPowerLost).toBe(false)
    // A group that was not made whole is not by starting once more.
    const last = await machine(next.image.copy(), 'two')
    expect(last.store.wasPowerLost).toBe(false)
    expect((await last.open(group(1))).wasPowerLost).toBe(false)
    expect((await last.open(group(2))).wasPowerLost).toBe(true)
    expect((await last.open(group(3))).wasPowerLost).toBe(false)
    expect(last.store.votes.find(group(2))).toEqual({ term: 1, votedFor: 0 })
  })

  it('costs nothing once the store was closed in order', async () => {
    const test = await machine(new TestStore().image, 'one')
    await test.fill(await test.open(KEY, new RecordingState()), 1)
    await test.settled(test.store.close())
    const next = await machine(test.image.copy(), 'two')
    expect([next.store.wasPowerLost, (await next.open()).wasPowerLost]).toEqual([false, false])
  })
})
