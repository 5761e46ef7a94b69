// Rot on disk: the scrubber finds it, readers go past it, and neither takes anything else for it.
import { crc32, LOG_PART_BYTES } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import type { LogFields, Logger } from '#src/environment.js'
import { ENVELOPE_BYTES, readEnvelope } from '#src/storage/group-envelope.js'
import { sealLogStart } from '#src/storage/log-start.js'
import type { PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { SLOT_DATA_START } from '#src/storage/slot-layout.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { batchOf, clientPartsOf, flipBit, IDENTITY, KEY, SMALL, slotFiles, TestStore } from './fixture.js'

const RATE = 1024 * 1024
const SCRUBBED = { ...SMALL, scrubBytesPerSecond: RATE, scrubRestMs: 1000 }

class ScrubbedStore extends TestStore {
  readonly errors: { fields: LogFields; message: string }[] = []

  override async start(): Promise<void> {
    const error = (fields: LogFields, message: string): void => void this.errors.push({ fields, message })
    const log: Logger = { debug() {}, info() {}, warn() {}, error }
    this.store = await openLogStore({ ...this.environment, log }, this.volume, IDENTITY, this.limits)
  }

  static async begin(limits = SCRUBBED, image?: VolumeImage): Promise<ScrubbedStore> {
    const test = new ScrubbedStore(image, limits)
    await test.start()
    return test
  }

  /** A whole pass that begins now or later. */
  async pass(): Promise<void> {
    const { scrubPasses } = this.store.statistics
    await this.until(() => this.store.statistics.scrubPasses >= scrubPasses + 2, 'a pass of the scrubber')
  }

  /** Where the groups of batches stand, oldest first. */
  groups(): { slot: string; at: number; position: number; firstOffset: number; length: number }[] {
    const found = []
    for (const slot of slotFiles(this.image)) {
      const file = this.image.files.get(slot)!
      for (let at = SLOT_DATA_START; at < file.size; at += 4096) {
        const page = file.page(at / 4096)
        const envelope = readEnvelope(page, new DataView(page.buffer, page.byteOffset, page.byteLength), 0, crc32)
        if (envelope === null || envelope.kind !== 0) continue
        found.push({
          slot,
          at,
          position: envelope.position,
          firstOffset: envelope.firstOffset,
          length: envelope.length,
        })
      }
    }
    return found.sort((a, b) => a.position - b.position)
  }
}

/** A log over several slots with one batch of one record in each group, as another life finds it: nothing is cached. */
async function reopened(
  limits = SCRUBBED,
  count = 60,
): Promise<{ test: ScrubbedStore; log: PartitionLog; batches: Uint8Array[] }> {
  const first = await ScrubbedStore.begin(limits)
  const before = await first.open()
  const batches: Uint8Array[] = []
  while (batches.length < count) batches.push(...(await first.fill(before, 1, { bytes: 3000 })))
  await first.settled(first.store.close())
  const test = await ScrubbedStore.begin(limits, first.image.copy())
  return { test, log: await test.open(), batches }
}

async function offsets(test: TestStore, log: PartitionLog, from: number, maxBytes = 20_000): Promise<number> {
  const read = await test.settled(log.read(from, maxBytes, log.flushedIndex))
  const count = clientPartsOf(read).length
  read.release()
  return count
}

/** The same slots, as far as they go, with one more group of another life behind the end. */
function withLeftover(image: VolumeImage, later: VolumeImage): void {
  for (const slot of slotFiles(image)) {
    const file = image.files.get(slot)!
    const other = later.files.get(slot)!
    for (let page = SLOT_DATA_START / 4096; page < Math.min(file.size, other.size) / 4096; page++) {
      if (file.page(page).every((byte) => byte === 0)) file.write(page * 4096, new Uint8Array(other.page(page)))
    }
  }
}

describe('the scrubber', () => {
  it('takes nothing that stood behind the end before for what was written there since', async () => {
    const first = await TestStore.open(undefined, SMALL)
    const before = await first.open()
    for (let i = 0; i < 6; i++) await first.fill(before, 1, { bytes: 3000 })
    const image = first.image.copy()
    for (let i = 0; i < 2; i++) await first.fill(before, 1, { bytes: 3000 })
    const test = await ScrubbedStore.begin({ ...SCRUBBED, scrubBytesPerSecond: 16 * 1024 }, image)
    const log = await test.open()
    withLeftover(test.image, first.image)
    await test.until(() => test.store.statistics.scrubbedBytes > 0, 'the first group is looked at')
    for (let i = 0; i < 4; i++) await test.fill(log, 1, { bytes: 3000 })
    await test.pass()
    expect(test.errors).toEqual([])
    await test.settled(test.store.close())
  })

  it('finds a flipped bit wherever it stands, says so once, and nothing else', async () => {
    const { test } = await reopened()
    await test.pass()
    expect(test.store.statistics).toMatchObject({ damagedGroups: 0 })
    expect(test.errors).toEqual([])
    const [second, , , , , , , , , , , later] = test.groups().slice(1)
    flipBit(test.image, second!.slot, second!.at + 40)
    flipBit(test.image, later!.slot, later!.at + 1000)
    await test.pass()
    await test.pass()
    expect(test.store.statistics.damagedGroups).toBe(2)
    expect(test.errors.map(({ fields }) => fields)).toMatchObject([
      {
        ...KEY,
        slot: second!.slot,
        filePosition: second!.at,
        position: second!.position,
        firstOffset: 1,
        nextOffset: 2,
        reason: 'no valid group stands there',
      },
      {
        ...KEY,
        slot: later!.slot,
        filePosition: later!.at,
        firstOffset: 12,
        nextOffset: 13,
        reason: 'the group fails its checksums',
      },
    ])
    expect(test.errors[0]?.message).toContain('run `millrace-broker log verify`')
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('reads past the cache, at no more than its rate', async () => {
    const { test } = await reopened()
    const { hits, misses } = test.store.statistics.pagePool
    const begunAtMs = test.environment.clock.monotonicMs()
    await test.until(() => test.store.statistics.scrubPasses === 1, 'the first pass')
    const { scrubbedBytes, pagePool } = test.store.statistics
    expect(scrubbedBytes).toBeGreaterThan(60 * 4096)
    expect(test.environment.clock.monotonicMs() - begunAtMs).toBeGreaterThanOrEqual(
      1000 + (scrubbedBytes / RATE) * 1000 - 20,
    )
    expect(pagePool).toMatchObject({ hits, misses })
    await test.settled(test.store.close())
  })

  it('is off at a rate of 0', async () => {
    const { test } = await reopened({ ...SCRUBBED, scrubBytesPerSecond: 0 })
    while (test.environment.clock.fireNext()) await Promise.resolve()
    expect(test.store.statistics).toMatchObject({ scrubbedBytes: 0, scrubPasses: 0 })
    await test.settled(test.store.close())
  })

  it('takes what is being written for what it is', { timeout: 30_000 }, async () => {
    const test = await ScrubbedStore.begin({ ...SCRUBBED, scrubBytesPerSecond: 1024 * RATE, scrubRestMs: 1 })
    const log = await test.open()
    for (let round = 0; round < 40; round++) {
      await test.fill(log, 3, { bytes: 1 + round * 300 })
      // Some of it is on its way while the scrubber reads what stands before.
      for (let i = 0; i < 4; i++) await test.appendWhenRoom(log, batchOf({ bytes: 3000 }), i % 2 ? 'flush' : 'write')
      const { scrubbedBytes } = test.store.statistics
      await test.until(() => test.store.statistics.scrubbedBytes > scrubbedBytes + 8192, 'the scrubber reads on')
    }
    await test.pass()
    expect(test.store.statistics.scrubPasses).toBeGreaterThan(3)
    expect(test.errors).toEqual([])
    await test.settled(test.store.close())
  })

  it('copes with slots that are given back and written over while it reads them', { timeout: 30_000 }, async () => {
    const limits = { ...SCRUBBED, slotBytes: [64 * 1024], maxGroupBytes: 32 * 1024, maxUnflushedBytes: 32 * 1024 }
    const test = await ScrubbedStore.begin({
      ...limits,
      scrubBytesPerSecond: RATE / 4,
      scrubRestMs: 1,
    } as typeof SCRUBBED)
    let log = await test.open()
    for (let round = 0; round < 12; round++) {
      await test.fill(log, 40, { bytes: 3000 })
      const start = log.expire({ bytes: 100 * 1024, appendedBefore: null })
      if (start !== null) {
        test.order.holding.add('read')
        await test.until(() => test.order.held.length > 0, 'a read of the scrubber')
        await test.appendWhenRoom(log, sealLogStart(start, log.key, log.filled.index + 1, 5))
        await test.settled(log.flush())
        log.noteCommitted(log.flushedIndex)
        await test.fill(log, 10, { bytes: 3000, fill: round + 1 })
        test.order.holding.clear()
        test.order.release('read')
      }
      if (round === 6) {
        await test.settled(test.store.drop(log.key))
        log = await test.open({ ...KEY, topicId: 2 })
      }
    }
    await test.pass()
    expect(test.store.statistics.slotsRecycled).toBeGreaterThan(10)
    expect(test.errors).toEqual([])
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('ends with the store, in the middle of a read and of a rest', async () => {
    const { test } = await reopened()
    await test.until(() => test.store.statistics.scrubbedBytes > 0, 'the scrubber is under way')
    test.order.holding.add('read')
    await test.until(() => test.order.held.length > 0, 'a read of the scrubber')
    const closing = test.store.close()
    test.order.holding.clear()
    test.order.release('read')
    await test.settled(closing)
    expect(test.memory.usedBytes).toBe(0)

    const resting = await reopened()
    await resting.test.settled(resting.test.store.close())
    expect(resting.test.environment.clock.hasTimers).toBe(false)
  })

  it('goes on behind what the disk refuses to read', async () => {
    const { test } = await reopened()
    await test.pass()
    test.order.fail('read', 'INPUT_OUTPUT', 2)
    await test.pass()
    test.order.heal()
    expect(test.store.statistics.damagedGroups).toBe(1)
    expect(test.errors[0]?.fields.reason).toContain('the disk refuses to read it')
    await test.settled(test.store.close())
  })
})

describe('reads of a damaged log', () => {
  it.each([
    ['the envelope', 40, false],
    ['a batch', 1000, false],
    ['the envelope, which the scrubber has found', 40, true],
    ['a batch, which the scrubber has found', 1000, true],
  ])('serve everything but what is damaged: %s', async (_, at, scrubbed) => {
    const { test, log, batches } = await reopened({ ...SCRUBBED, scrubBytesPerSecond: scrubbed ? RATE : 0 })
    const groups = test.groups()
    for (const lost of [7, 30]) flipBit(test.image, groups[lost]!.slot, groups[lost]!.at + at)
    if (scrubbed) await test.pass()
    for (let from = 0; from < batches.length; from++) {
      if (from === 7 || from === 30) {
        const words = `records ${from} to ${from} of log 1/0/0 are damaged on disk`
        const refusal = test.settled(log.read(from, 20_000, log.flushedIndex))
        await expect(refusal).rejects.toMatchObject({ code: 'DAMAGED', message: expect.stringContaining(words) })
        await expect(test.settled(log.read(from, 1, log.flushedIndex))).rejects.toThrow(`go on from offset ${from + 1}`)
      } else expect(await offsets(test, log, from)).toBeGreaterThan(0)
    }
    // One after the other, as a consumer reads: it meets the damage at its very offset.
    let next = 8
    while (next < 30) {
      const read = await offsets(test, log, next)
      next += read
    }
    expect(next).toBe(30)
    expect((await test.readAll(log, 31)).length).toBe(29)
    expect(test.store.statistics.damagedGroups).toBe(2)
    await test.settled(test.store.close())
    expect(test.memory.usedBytes).toBe(0)
  })

  it('know that nothing behind is left when the last group is damaged', async () => {
    const { test, log } = await reopened({ ...SCRUBBED, scrubBytesPerSecond: 0 }, 20)
    const last = test.groups().at(-1)!
    flipBit(test.image, last.slot, last.at + 1000)
    expect(await offsets(test, log, 10)).toBeGreaterThan(0)
    // The checkpoint at the end of the log is whole, and says which offset comes next.
    await expect(test.settled(log.read(19, 1, 20))).rejects.toThrow('records 19 to 19 of log 1/0/0 are damaged on disk')
    await test.fill(log, 3, { bytes: 10 })
    expect(await test.readAll(log, 20)).toHaveLength(3)
    await test.settled(test.store.close())
  })

  /** A log whose second group has eight batches; where each of those begins in it. */
  async function withFullGroup() {
    const limits = { ...SCRUBBED, scrubBytesPerSecond: 0 }
    const first = await ScrubbedStore.begin(limits)
    const before = await first.open()
    const batches = await first.fill(before, 1, { bytes: 500 })
    for (let i = 0; i < 8; i++) {
      batches.push(batchOf({ bytes: 500 }))
      expect(first.append(before, batches.at(-1)!)).toBe(true)
    }
    await first.settled(before.flush())
    batches.push(...(await first.fill(before, 2, { bytes: 500 })))
    await first.settled(first.store.close())
    const group = first.groups().find(({ firstOffset }) => firstOffset === 1)!
    const bytes = LOG_PART_BYTES + batches[1]!.length
    expect(group.length).toBe(ENVELOPE_BYTES + 8 * bytes)
    const at = (batch: number): number => group.at + ENVELOPE_BYTES + batch * bytes
    const reopen = async (image: VolumeImage) => {
      const test = await ScrubbedStore.begin(limits, image)
      return { test, log: await test.open() }
    }
    return { first, group, batches, at, reopen }
  }

  it('are served whole batches of a group in which others are damaged, and never those', async () => {
    const { first, group, batches, at, reopen } = await withFullGroup()
    for (const damaged of [[3], [1], [8], [2, 3, 6], [1, 8], [2, 4, 6, 8], [1, 2, 3, 4, 5, 6, 7, 8]]) {
      const image = first.image.copy()
      for (const offset of damaged) flipBit(image, group.slot, at(offset - 1) + LOG_PART_BYTES + 200)
      const { test, log } = await reopen(image)
      // Whichever is asked for first, and again when the damage is known.
      for (const offset of [10, 7, 5, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]) {
        const next = [...batches.keys()].find((other) => other > offset && !damaged.includes(other))!
        if (damaged.includes(offset)) {
          const refusal = `go on from offset ${next}`
          await expect(test.settled(log.read(offset, 20_000, log.flushedIndex)), `${damaged}`).rejects.toThrow(refusal)
          await expect(test.settled(Promise.resolve(log.readFrom(offset + 1, 20_000)))).rejects.toThrow(refusal)
          continue
        }
        for (const reading of [log.read(offset, 20_000, log.flushedIndex), log.readFrom(offset + 1, 20_000)]) {
          const read = await test.settled(Promise.resolve(reading))
          const parts = clientPartsOf(read)
          read.release()
          const until = damaged.find((other) => other > offset) ?? batches.length
          expect(parts.length, `${damaged}: from ${offset}`).toBeGreaterThan(0)
          expect(offset + parts.length).toBeLessThanOrEqual(until)
          const expected = batches.slice(offset, offset + parts.length)
          expect(Buffer.compare(Buffer.concat(parts), Buffer.concat(expected))).toBe(0)
        }
      }
      expect(test.store.statistics.damagedGroups).toBe(1)
      await test.settled(test.store.close())
      expect(test.memory.usedBytes).toBe(0)
    }
  })

  it('are served nothing of a group whose envelope does not vouch for its batches', async () => {
    const { first, group, at, reopen } = await withFullGroup()
    const image = first.image.copy()
    // A log part: where the batches behind it begin is not known any more, and whose they are.
    flipBit(image, group.slot, at(2) + 8)
    const { test, log } = await reopen(image)
    expect(await offsets(test, log, 1, 1)).toBe(1)
    for (const offset of [3, 4, 8]) {
      await expect(test.settled(log.read(offset, 1, log.flushedIndex))).rejects.toThrow('go on from offset 9')
    }
    expect(await offsets(test, log, 9)).toBeGreaterThan(0)
    await test.settled(test.store.close())
  })
})
