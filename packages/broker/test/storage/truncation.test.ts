// Cutting off a suffix: what comes behind supersedes it, on disk, in memory, in indexes and in the owner's state.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, type LogPart, loggedBatches, readBatchHeader } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { PartitionState } from '#src/partition/partition-state.js'
import { sealLogStart } from '#src/storage/log-start.js'
import type { LogState, PartitionLog } from '#src/storage/log-store.js'
import { FREE_HEADER_POSITION, SLOT_DATA_START } from '#src/storage/slot-layout.js'
import type { StorageLimits } from '#src/storage/storage-limits.js'
import type { VolumeImage } from '../../sim/crash/page-image.js'
import { SeededRandom } from '../../sim/random.js'
import { batchOf, bytesOf, damage, flipBit, KEY, SMALL, slotFiles, TestStore, turn } from './fixture.js'

const LIMITS: Partial<StorageLimits> = {
  ...SMALL,
  slotBytes: [64 * 1024],
  maxGroupBytes: 32 * 1024,
  maxUnflushedBytes: 32 * 1024,
  checkpointBytes: 12 * 1024,
}

const step = (value: number, index: number, term: number): number => crc32(Buffer.from(`${value}/${index}/${term}`))

/** A state that no two histories share. */
class ChainState implements LogState {
  value = 0
  encodeState(): Uint8Array {
    return new Uint8Array(new Uint32Array([this.value]).buffer)
  }
  restoreState(state: Uint8Array | null): void {
    this.value = state === null ? 0 : new DataView(state.buffer, state.byteOffset).getUint32(0, true)
  }
  replay({ index, term }: LogPart): void {
    this.value = step(this.value, index, term)
  }
}

interface Written {
  readonly term: number
  readonly bytes: Uint8Array
  readonly records: number
  readonly control: boolean
}

/** A log, its owner and what the log ought to hold. */
class Subject {
  term = 1
  log!: PartitionLog
  state = new ChainState()
  /** Batch of index i + 1 at i. */
  batches: Written[] = []
  startIndex = 1

  constructor(public test: TestStore) {}

  static async begin(limits = LIMITS): Promise<Subject> {
    const subject = new Subject(await TestStore.open(undefined, limits))
    subject.log = await subject.test.open(KEY, subject.state)
    return subject
  }

  async append(count = 1, bytes = 1000, records = 1): Promise<void> {
    for (let i = 0; i < count; i++) {
      await this.write(batchOf({ bytes, records, timestamp: 1000 + this.batches.length }), records, false)
    }
  }

  async write(batch: Uint8Array, records: number, control: boolean): Promise<void> {
    const { test, log, term } = this
    await test.until(() => log.hasRoom(LOG_PART_BYTES + batch.length), 'room')
    expect(test.append(log, batch, 'flush', term)).toBe(true)
    this.state.value = step(this.state.value, log.filled.index, term)
    this.batches.push({ term, bytes: batch, records, control })
  }

  async truncate(lastIndex: number): Promise<void> {
    await this.test.settled(this.log.truncateTo(lastIndex))
    this.batches.length = Math.min(this.batches.length, lastIndex)
    this.term++
  }

  flush(): Promise<void> {
    return this.test.settled(this.log.flush())
  }

  /** Another life on an image; what the log ought to hold stays the same. */
  async restart(image: VolumeImage = this.test.image.copy()): Promise<void> {
    this.test = await TestStore.open(image, this.test.limits)
    this.state = new ChainState()
    this.log = await this.test.open(KEY, this.state)
    expect(this.test.store.recovery.damaged).toEqual([])
  }

  offsetOf(index: number): number {
    return this.batches.slice(0, index - 1).reduce((sum, { records, control }) => sum + (control ? 0 : records), 0)
  }

  /** Everything that can be asked of the log. */
  async check(): Promise<void> {
    const { log, batches, test } = this
    await this.flush()
    const last = batches.length
    expect(log.filled).toEqual({ index: last, nextOffset: this.offsetOf(last + 1), term: batches.at(-1)?.term ?? 0 })
    expect([log.flushedIndex, log.writtenIndex]).toEqual([last, last])
    expect(this.state.value).toBe(batches.reduce((value, { term }, i) => step(value, i + 1, term), 0))
    await this.checkReads(log.startOffset)
    await this.checkIndexes()
    for (const index of [this.startIndex, Math.ceil((this.startIndex + last) / 2), last]) {
      if (index < this.startIndex || index > last || batches[index - 1]!.control) continue
      await this.checkReads(this.offsetOf(index))
      expect(await log.termAt(this.offsetOf(index))).toBe(batches[index - 1]!.term)
      const header = readBatchHeader(viewOf(batches[index - 1]!.bytes), 0)
      const found = await test.settled(log.offsetForTime(header.baseTimestamp, last))
      expect(found?.timestamp).toBeGreaterThanOrEqual(header.baseTimestamp)
      const first = batches.findIndex(({ bytes, control }, i) => {
        const { lastTimestamp } = readBatchHeader(viewOf(bytes), 0)
        return !control && i + 1 >= this.startIndex && lastTimestamp >= header.baseTimestamp
      })
      expect(found?.offset).toBeGreaterThanOrEqual(this.offsetOf(first + 1))
      expect(found?.offset).toBeLessThan(this.offsetOf(first + 2))
    }
  }

  /** By index every batch is there once, control batches too, in the term it was written in. */
  private async checkIndexes(): Promise<void> {
    const { log, test, batches } = this
    const { index: startIndex, previousTerm } = log.start
    expect(log.termAtIndex(startIndex - 1)).toBe(previousTerm)
    for (const [from, maxBytes] of [
      [startIndex, 7000],
      [Math.ceil((startIndex + batches.length) / 2), 40_000],
    ] as const) {
      for (let index = from; index <= batches.length; ) {
        const read = await test.settled(Promise.resolve(log.readFrom(index, maxBytes)))
        const bytes = bytesOf(read)
        expect(read.firstIndex).toBe(index)
        for (const batch of loggedBatches(bytes, crc32)) {
          const wanted = batches[index - 1]!
          expect([batch.index, batch.term, log.termAtIndex(index)]).toEqual([index, wanted.term, wanted.term])
          expect(Buffer.from(bytes.slice(batch.clientStart, batch.end)).equals(Buffer.from(wanted.bytes))).toBe(true)
          index++
        }
        expect(read.lastIndex).toBe(index - 1)
        read.release()
      }
    }
    const runs = batches.slice(startIndex - 1).flatMap(({ term }, i, { [i - 1]: before }) => {
      const firstIndex = startIndex + i
      return before?.term === term ? [] : [{ term, firstIndex, firstOffset: this.offsetOf(firstIndex) }]
    })
    expect(log.termRuns()).toEqual(runs)
  }

  private async checkReads(from: number): Promise<void> {
    const { log, test } = this
    let next: number | null = null
    for (let offset = from; offset < log.filled.nextOffset; ) {
      const read = await test.settled(log.read(offset, 7000, log.flushedIndex))
      const bytes = bytesOf(read)
      for (const batch of loggedBatches(bytes, crc32)) {
        // A read begins behind control batches that stand at its offset.
        while (next !== null && next < batch.index && this.batches[next - 1]!.control) next++
        if (next !== null) expect(batch.index).toBe(next)
        next = batch.index + 1
        const wanted = this.batches[batch.index - 1]!
        expect(batch.term).toBe(wanted.term)
        expect(Buffer.from(bytes.slice(batch.clientStart, batch.end)).equals(Buffer.from(wanted.bytes))).toBe(true)
      }
      expect(read.batchCount).toBeGreaterThan(0)
      offset = read.nextOffset
      read.release()
    }
    if (next !== null) expect(this.batches.slice(next - 1).every(({ control }) => control)).toBe(true)
  }
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

describe('cutting off a suffix', () => {
  it('lets the log go on behind the batch that stays, now and after a restart', async () => {
    const subject = await Subject.begin()
    await subject.append(10)
    await subject.truncate(6)
    await subject.check()
    await subject.append(3)
    await subject.check()
    await subject.restart()
    await subject.check()
    await subject.append(2)
    await subject.test.store.close()
    await subject.restart()
    await subject.check()
  })

  it('reaches back over segments, checkpoints and indexes', async () => {
    const subject = await Subject.begin()
    await subject.append(150, 2000)
    expect(subject.log.bytesOnDisk).toBeGreaterThan(5 * 64 * 1024)
    await subject.truncate(40)
    await subject.check()
    await subject.append(60, 2000)
    await subject.check()
    await subject.restart()
    await subject.check()
    await subject.append(100, 2000)
    await subject.flush()
    await subject.restart()
    await subject.check()
  })

  it('cuts a group in two', async () => {
    const subject = await Subject.begin()
    await subject.append(20, 50, 3)
    const { groups } = subject.test.store.statistics
    expect(groups).toBeLessThan(15)
    await subject.truncate(9)
    await subject.append(4, 50, 2)
    await subject.check()
    await subject.restart()
    await subject.check()
  })

  it('to nothing, and to everything', async () => {
    const subject = await Subject.begin()
    await subject.append(5)
    const { groups } = subject.test.store.statistics
    await subject.flush()
    await subject.truncate(9)
    expect(subject.test.store.statistics.groups - groups).toBeLessThan(3)
    await subject.truncate(0)
    await subject.append(3)
    await subject.check()
    await subject.restart()
    await subject.check()
  })

  it('twice: less far, as far, and farther back', async () => {
    for (const [first, second] of [
      [50, 70],
      [50, 50],
      [50, 20],
    ] as const) {
      const subject = await Subject.begin()
      await subject.append(80, 2000)
      await subject.truncate(first)
      await subject.append(40, 2000)
      await subject.truncate(second)
      await subject.check()
      await subject.restart()
      await subject.append(10, 2000)
      await subject.check()
      await subject.restart()
      await subject.check()
    }
  })

  it('twice without anything between', async () => {
    const subject = await Subject.begin()
    await subject.append(30)
    await subject.truncate(20)
    await subject.truncate(10)
    await subject.append(1)
    await subject.check()
    await subject.restart()
    await subject.check()
  })

  it('takes no append before it is done, and wakes who waits', async () => {
    const subject = await Subject.begin()
    await subject.append(10)
    const cut = subject.log.truncateTo(5)
    expect(subject.log.hasRoom(100)).toBe(false)
    let woken = false
    subject.log.onRoom(() => {
      woken = true
    })
    expect(() => subject.test.append(subject.log, batchOf())).toThrow(/cut off/)
    await subject.test.settled(cut)
    await subject.test.until(() => woken)
    expect(subject.log.hasRoom(100)).toBe(true)
  })

  it('is an assertion below what is committed', async () => {
    const subject = await Subject.begin()
    await subject.append(10)
    await subject.flush()
    subject.log.noteCommitted(7)
    await expect(subject.log.truncateTo(6)).rejects.toThrow(/committed is 7/)
    await subject.truncate(7)
    await subject.check()
  })

  it('ends with the log when that fails or is closed meanwhile', async () => {
    const subject = await Subject.begin()
    await subject.append(10)
    subject.test.order.fail('flush', 'INPUT_OUTPUT')
    await expect(subject.test.settled(subject.log.truncateTo(5))).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    const other = await Subject.begin()
    await other.append(10)
    other.test.order.holding.add('flush')
    const cut = other.log.truncateTo(5)
    const outcome = expect(cut).rejects.toMatchObject({ code: 'CLOSED' })
    const dropped = other.test.store.drop(KEY)
    await turn()
    other.test.order.holding.clear()
    other.test.order.release('flush')
    await other.test.settled(dropped)
    await outcome
  })

  it('fails the log where the state cannot be made anew', async () => {
    const subject = await Subject.begin()
    await subject.append(4)
    await subject.flush()
    const [name] = slotFiles(subject.test.image).filter(
      (file) => subject.test.image.files.get(file)!.page(SLOT_DATA_START / 4096)[4] !== 0,
    )
    flipBit(subject.test.image, name!, SLOT_DATA_START + 200)
    await expect(subject.test.settled(subject.log.truncateTo(3))).rejects.toMatchObject({ code: 'DAMAGED' })
    expect(subject.log.failure).toMatchObject({ code: 'DAMAGED' })
    expect(() => subject.test.append(subject.log, batchOf())).toThrow(/damaged/)
  })

  it('finds its way while slots are given back', async () => {
    const subject = await Subject.begin()
    await subject.append(100, 2000)
    await subject.flush()
    const { log, test } = subject
    const bytesBefore = log.bytesOnDisk
    const start = log.expire({ bytes: 64 * 1024, appendedBefore: null })!
    await subject.write(sealLogStart(start, KEY, log.filled.index + 1, 1), 0, true)
    await subject.append(4)
    await subject.flush()
    // Nothing is given back before this flush is done, and nothing is read before something was given back.
    test.order.holding.add('flush').add('read')
    log.noteCommitted(101)
    subject.startIndex = start.index
    const cut = subject.truncate(103)
    await test.until(() => test.order.held.some(({ label }) => label === 'read'), 'the read')
    test.order.holding.delete('flush')
    test.order.release('flush')
    await test.until(() => log.bytesOnDisk < bytesBefore, 'a slot that is given back')
    test.order.holding.clear()
    test.order.release('read')
    await cut
    expect(log.failure).toBeNull()
    await subject.append(2)
    await subject.check()
    await subject.restart()
    subject.log.noteCommitted(101)
    await subject.check()
  })

  it('gives no slot back for being cut off before that is flushed', async () => {
    const subject = await Subject.begin()
    const { log, test } = subject
    while (log.bytesOnDisk <= 64 * 1024) await subject.append(1, 3000)
    // A checkpoint that no truncation reaches any more stands in the second slot.
    await subject.truncate(1)
    await subject.append(2)
    await subject.flush()
    const bytesBefore = log.bytesOnDisk
    test.order.holding.add('write')
    const cut = subject.truncate(0)
    await test.until(() => log.filled.index === 0, 'the cut')
    await cut
    await subject.append(1)
    // The first slot holds nothing that counts; a crash brings it all back until the cut is flushed.
    log.noteCommitted(1)
    for (let i = 0; i < 20; i++) await turn()
    expect(log.bytesOnDisk).toBe(bytesBefore)
    test.order.holding.clear()
    test.order.release('write')
    await subject.flush()
    log.noteCommitted(1)
    await test.until(() => log.bytesOnDisk < bytesBefore, 'the slot that is given back')
    await subject.check()
  })

  it('is no damage where a slot that was given back is there again, and its truncation forgotten', async () => {
    const subject = await Subject.begin()
    const { log, test } = subject
    while (log.bytesOnDisk <= 64 * 1024) await subject.append(1, 3000)
    // The second slot begins with this one, and is left with little room.
    const first = log.filled.index
    await subject.append(6, 3000)
    expect(log.bytesOnDisk).toBe(2 * 64 * 1024)
    await subject.flush()
    await subject.truncate(first - 6)
    while (log.bytesOnDisk <= 2 * 64 * 1024) await subject.append(1, 3000)
    await subject.flush()
    const start = log.expire({ bytes: 1, appendedBefore: null })!
    expect(start.index).toBeLessThan(first)
    await subject.write(sealLogStart(start, KEY, log.filled.index + 1, 1), 0, true)
    await subject.flush()
    subject.startIndex = start.index
    log.noteCommitted(log.filled.index)
    await test.until(() => log.bytesOnDisk === 64 * 1024, 'the slots that are given back')
    // With checkpoints that do not speak of the truncation any more.
    await subject.append(8, 3000)
    await subject.flush()
    for (let i = 0; i < 20; i++) await turn()
    const { index } = log.filled
    for (const name of slotFiles(test.image)) {
      const image = test.image.copy()
      damage(image, name, FREE_HEADER_POSITION, (page) => page.fill(0))
      await subject.restart(image)
      expect(subject.log.start.index).toBe(start.index)
      subject.log.noteCommitted(index)
      await subject.check()
    }
  })

  it('takes proposed log starts along', async () => {
    const subject = await Subject.begin()
    await subject.append(100, 2000)
    await subject.flush()
    const { log } = subject
    const start = log.expire({ bytes: 64 * 1024, appendedBefore: null })!
    await subject.write(sealLogStart(start, KEY, log.filled.index + 1, 1), 0, true)
    await subject.flush()
    await subject.truncate(100)
    await subject.append(1)
    await subject.flush()
    log.noteCommitted(101)
    expect(log.startOffset).toBe(0)
    await subject.check()
    await subject.restart()
    subject.log.noteCommitted(101)
    expect(subject.log.startOffset).toBe(0)
    await subject.check()
  })
})

describe('producer sessions', () => {
  it('are those of the batches that stay', async () => {
    const test = await TestStore.open(undefined, LIMITS)
    const state = new PartitionState()
    const log = await test.open(KEY, state)
    const batches: Uint8Array[] = []
    const append = async (batch: Uint8Array): Promise<void> => {
      await test.appendWhenRoom(log, batch)
      state.appended(readBatchHeader(viewOf(batch), 0), log.filled.nextOffset - 1, log.filled.index, 77)
    }
    for (let i = 0; i < 30; i++) batches.push(batchOf({ bytes: 1500 }))
    for (const batch of batches) await append(batch)
    const headers = batches.map((batch) => readBatchHeader(viewOf(batch), 0))
    expect(state.sessions.judge(headers[29]!)).toBe('duplicate')
    await test.settled(log.truncateTo(20))
    for (const sessions of [state.sessions]) {
      expect(sessions.judge(headers[19]!)).toBe('duplicate')
      expect(sessions.judge(headers[20]!)).toBe('append')
      expect(sessions.judge(headers[21]!)).toBe('outOfOrder')
    }
    for (const batch of batches.slice(20, 25)) await append(batch)
    await test.settled(log.flush())
    const again = await test.restart()
    const recovered = new PartitionState()
    await again.open(KEY, recovered)
    expect(recovered.sessions.judge(headers[24]!)).toBe('duplicate')
    expect(recovered.sessions.judge(headers[25]!)).toBe('append')
    expect(recovered.encodeState()).toEqual(state.encodeState())
  })
})

describe('a crash', () => {
  it('at any write shows the log as it was before or after', async () => {
    const subject = await Subject.begin()
    await subject.append(60, 2000)
    await subject.flush()
    const before = [...subject.batches]
    const images: VolumeImage[] = [subject.test.image.copy()]
    subject.test.order.holding.add('write')
    const oneByOne = async (done: () => boolean): Promise<void> => {
      for (let i = 0; i < 500 && !done(); i++) {
        await turn()
        subject.test.order.release('write', 1)
        await turn()
        images.push(subject.test.image.copy())
        if (i % 8 === 7) subject.test.environment.clock.fireNext()
      }
    }
    let isCut = false
    void subject.log.truncateTo(30).then(() => {
      isCut = true
    })
    await oneByOne(() => isCut)
    subject.batches.length = 30
    subject.term++
    for (let i = 0; i < 10; i++) {
      subject.test.append(subject.log, batchOf({ bytes: 1500, timestamp: 2000 + i }), 'flush', subject.term)
      subject.state.value = step(subject.state.value, subject.log.filled.index, subject.term)
      // What the batch was, as the log has it.
      subject.batches.push({ term: subject.term, bytes: new Uint8Array(), records: 1, control: false })
      await oneByOne(() => subject.log.flushedIndex === subject.log.filled.index)
    }
    const ends = new Set<string>()
    for (const image of images) {
      const again = await TestStore.open(image, LIMITS)
      const state = new ChainState()
      const log = await again.open(KEY, state)
      expect(again.store.recovery.damaged).toEqual([])
      const { index, term } = log.filled
      const history = term === 1 && index === 60 ? before : subject.batches.slice(0, index)
      expect(history.length).toBe(index)
      expect(index).toBeGreaterThanOrEqual(30)
      expect(state.value).toBe(history.reduce((value, batch, i) => step(value, i + 1, batch.term), 0))
      ends.add(`${index}/${term}`)
    }
    expect(ends.has('60/1')).toBe(true)
    expect(ends.has('30/1')).toBe(true)
    expect(ends.has('40/2')).toBe(true)
  })
})

describe('any order of appending, cutting, retention and restarts', () => {
  it.each([1, 2, 3, 4, 5, 6])('gives the log that it ought to (seed %i)', async (seed) => {
    const random = new SeededRandom(`truncation/${seed}`)
    const subject = await Subject.begin()
    let committed = 0
    for (let i = 0; i < 25; i++) {
      const length = subject.batches.length
      const action = random.integer(0, 9)
      if (action < 4) await subject.append(random.integer(1, 40), random.pick([50, 1000, 6000]), random.integer(1, 3))
      else if (action < 7) await subject.truncate(random.integer(committed, length))
      else if (action === 7) {
        await subject.flush()
        await subject.restart()
        subject.log.noteCommitted(committed)
      } else if (action === 8) {
        await subject.flush()
        committed = random.integer(committed, length)
        subject.log.noteCommitted(committed)
      } else {
        await subject.flush()
        const start = subject.log.expire({ bytes: random.integer(1, 3) * 64 * 1024, appendedBefore: null })
        if (start !== null) {
          const index = subject.log.filled.index + 1
          await subject.write(sealLogStart(start, KEY, index, 1), 0, true)
          await subject.flush()
          if (random.chance(0.7)) {
            committed = index
            subject.startIndex = start.index
          }
          subject.log.noteCommitted(committed)
        }
      }
      // A proposed start takes effect when the commit comes to it, whoever brings it there.
      const first = subject.log.startOffset
      while (subject.offsetOf(subject.startIndex) < first) subject.startIndex++
      await subject.check()
    }
    await subject.test.store.close()
    await subject.restart()
    subject.log.noteCommitted(committed)
    await subject.check()
  })
})
