// Offsets by time and terms by offset, against the plain list of what was appended, also when hints are lost.
import { crc32 } from 'node:zlib'
import { describe, expect, it } from 'vitest'
import { GROUP_KINDS, type GroupKind, readEnvelope } from '#src/storage/group-envelope.js'
import { type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { PAGE_BYTES, type VolumeImage } from '../../sim/crash/page-image.js'
import { SeededRandom } from '../../sim/random.js'
import { batchOf, damage, KEY, SMALL, slotFiles, TestStore } from './fixture.js'

interface Listed {
  readonly offset: number
  readonly timestamp: number
  readonly index: number
  readonly term: number
}

/** A log with timestamps that go back and forth, and several terms; and what is in it, record by record. */
async function drawnLog(batches: number, bytes: number) {
  const random = new SeededRandom('index')
  const test = await TestStore.open()
  const log = await test.open()
  const listed: Listed[] = []
  let term = 1
  for (let i = 0; i < batches; i++) {
    if (random.chance(0.03)) term++
    const timestamp = 10_000 + i * 10 + random.integer(-200, 200)
    const records = random.integer(1, 4)
    const offset = log.filled.nextOffset
    await test.appendWhenRoom(log, batchOf({ bytes, records, timestamp }), 'write', term)
    for (let r = 0; r < records; r++) {
      listed.push({ offset: offset + r, timestamp: timestamp + r, index: log.filled.index, term })
    }
  }
  await test.settled(log.flush())
  return { test, log, listed }
}

/** Where the groups of a kind stand. */
function groupsOf(image: VolumeImage, kind: GroupKind): { readonly name: string; readonly position: number }[] {
  return slotFiles(image).flatMap((name) =>
    image.files.get(name)!.pages.flatMap((page, number) => {
      const view = new DataView(page.buffer, page.byteOffset, page.byteLength)
      return readEnvelope(page, view, 0, crc32)?.kind === kind ? [{ name, position: number * PAGE_BYTES }] : []
    }),
  )
}

async function compare(log: PartitionLog, listed: readonly Listed[], test: TestStore): Promise<void> {
  const random = new SeededRandom('ask')
  const last = log.filled.index
  for (let i = 0; i < 60; i++) {
    const timestamp = random.integer(9_000, 10_000 + last * 10 + 300)
    const limit = random.chance(0.3) ? random.integer(1, last) : last
    const expected = listed.find((record) => record.timestamp >= timestamp && record.index <= limit)
    const found = await test.settled(log.offsetForTime(timestamp, limit))
    expect(found, `time ${timestamp}, limit ${limit}`).toEqual(
      expected === undefined ? null : { offset: expected.offset, timestamp: expected.timestamp },
    )
  }
  for (const { offset, term } of listed) expect(await log.termAt(offset)).toBe(term)
  expect(await log.termAt(log.filled.nextOffset)).toBe(0)
}

describe('times and terms', () => {
  it('are those of the records, in memory and on disk', async () => {
    const { test, log, listed } = await drawnLog(120, 2000)
    await compare(log, listed, test)
  })

  it('are found after a restart without reading the log', async () => {
    const { test, log, listed } = await drawnLog(200, 2000)
    await test.settled(test.store.close())
    const again = await test.restart()
    const reopened = await again.open()
    const before = again.volume.bytesRead
    await compare(reopened, listed, again)
    expect(again.volume.bytesRead - before).toBeLessThan(log.bytesOnDisk * 3)
    const third = await test.restart()
    const log3 = await third.open()
    const start = third.volume.bytesRead
    await third.settled(log3.offsetForTime(10_050, log3.filled.index))
    expect(third.volume.bytesRead - start).toBeLessThan(96 * 1024)
  })

  it('are found after a crash', async () => {
    const { test, listed } = await drawnLog(200, 2000)
    const again = await test.restart()
    await compare(await again.open(), listed, again)
  })

  it('are found when the index of a segment is lost', async () => {
    const { test, listed } = await drawnLog(200, 2000)
    await test.settled(test.store.close())
    for (const spoil of [(page: Uint8Array) => page.fill(0, 100, 130), (page: Uint8Array) => page.fill(0)]) {
      const image = test.image.copy()
      const indexes = groupsOf(image, GROUP_KINDS.index)
      for (const { name, position } of indexes) damage(image, name, position, spoil)
      expect(indexes.length).toBeGreaterThan(1)
      const again = await TestStore.open(image, SMALL)
      await compare(await again.open(), listed, again)
      expect(again.store.recovery.damaged).toEqual([])
    }
  })

  it('are found or refused, and never passed over, when index and envelopes are lost', async () => {
    const { test, listed } = await drawnLog(200, 2000)
    await test.settled(test.store.close())
    const lost = test.image.copy()
    for (const { name, position } of groupsOf(lost, GROUP_KINDS.index)) damage(lost, name, position, (p) => p.fill(0))
    const envelopes = groupsOf(lost, GROUP_KINDS.batches).filter((_, i) => i % 7 === 0)
    let refused = 0
    for (const { name, position } of envelopes) {
      const image = lost.copy()
      damage(image, name, position, (page) => page.fill(0))
      const again = await TestStore.open(image, SMALL)
      const log = await again.open()
      for (const { timestamp } of listed.filter((_, i) => i % 31 === 0)) {
        const expected = listed.find((record) => record.timestamp >= timestamp)!
        try {
          const found = await again.settled(log.offsetForTime(timestamp, log.filled.index))
          // What a damaged log has lost at its end it has said.
          if (found === null && expected.offset >= log.filled.nextOffset) continue
          expect(found?.offset).toBe(expected.offset)
        } catch (cause) {
          if (!(cause instanceof StorageError)) throw cause
          expect(cause.code).toBe('DAMAGED')
          refused++
        }
      }
    }
    expect(refused).toBeGreaterThan(0)
  })

  it('of an empty log are none', async () => {
    const test = await TestStore.open()
    const log = await test.open(KEY)
    expect(await log.offsetForTime(0, 0)).toBeNull()
    expect(await log.termAt(0)).toBe(0)
  })

  it('of compressed batches are those of their first record', async () => {
    const { gzipSync } = await import('node:zlib')
    const { RecordBatchBuilder } = await import('@millrace/protocol')
    const builder = new RecordBatchBuilder(100_000)
    for (let i = 0; i < 10; i++) builder.tryAppend(null, new Uint8Array(1000), null, 500 + i)
    const compression = { codec: 'gzip' as const, compress: (body: Uint8Array) => new Uint8Array(gzipSync(body)) }
    const identity = { ...KEY, control: false, producer: [1, 2, 3, 4] as const, epoch: 0, sequence: 0 }
    const test = await TestStore.open()
    const log = await test.open()
    await test.appendWhenRoom(log, builder.seal({ identity, checksum: crc32, compression }))
    await test.settled(log.flush())
    expect(await log.offsetForTime(505, 1)).toEqual({ offset: 0, timestamp: 500 })
    expect(await log.offsetForTime(510, 1)).toBeNull()
  })
})
