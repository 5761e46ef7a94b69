// Whole batches: what they hold, how they are decoded, and that they are settled as one.

import { gzipSync } from 'node:zlib'
import {
  bytes,
  type ConsumerRecord,
  deadLetterOf,
  type MillraceError,
  processByPartition,
  processEach,
  type RecordBatch,
  retryOrDeadLetter,
  type SubscribeOptions,
  settle,
  topic,
} from '@millrace/client'
import { map } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { buildBatch, fill } from '../support/batches.js'
import { begin, Orders, type Setting, Texts } from '../support/setting.js'

type TextBatch = RecordBatch<string, string>

const batches = ({ mill }: Setting, options: SubscribeOptions = {}) =>
  mill
    .consumer()
    .subscribe(Texts, { from: 'earliest', ...options })
    .batches()

async function collect(setting: Setting, options: SubscribeOptions = {}): Promise<TextBatch[]> {
  const found: TextBatch[] = []
  let done = false
  batches(setting, { until: 'end', ...options }).subscribe({
    next: (batch) => found.push(batch),
    complete: () => (done = true),
  })
  await setting.world.until(() => done)
  return found
}

describe('a batch', () => {
  test('is what was sent together: as records, and through one view', async () => {
    const setting = begin({ partitions: 1 })
    const headers = [['h', new Uint8Array([1])]] as const
    const written = [
      { key: 'a', value: '1', timestamp: 7, headers },
      { key: null, value: null, timestamp: 5 },
      { key: 'b', value: '3', timestamp: 9 },
    ]
    fill(setting.cluster, 1, 0, 4, 2)
    setting.cluster.append(1, 0, buildBatch(1, 0, written))
    setting.cluster.append(1, 0, buildBatch(1, 0, written, { gzip: (body) => new Uint8Array(gzipSync(body)) }))
    const found = await collect(setting)
    expect(
      found.map(({ topic, partition, offset, endOffset, recordCount }) => [
        topic,
        partition,
        offset,
        endOffset,
        recordCount,
      ]),
    ).toEqual([
      ['orders', 0, 0, 2, 2],
      ['orders', 0, 2, 4, 2],
      ['orders', 0, 4, 7, 3],
      ['orders', 0, 7, 10, 3],
    ])
    for (const [i, batch] of found.slice(2).entries()) {
      const offset = 4 + 3 * i
      const records = [...batch].map(({ offset, timestamp, key, value }) => ({ offset, timestamp, key, value }))
      expect(records).toEqual([
        { offset, timestamp: 7, key: 'a', value: '1' },
        { offset: offset + 1, timestamp: 5, key: null, value: null },
        { offset: offset + 2, timestamp: 9, key: 'b', value: '3' },
      ])
      expect([...batch][0]!.headers).toEqual(headers)
      const view = batch.view()
      const seen: unknown[] = []
      while (view.next())
        seen.push([
          view.offset,
          view.timestamp,
          view.key,
          view.value,
          view.keyBytes?.length,
          view.valueBytes?.length,
          view.headers.length,
          // -1 and -1 for none is an empty range.
          new TextDecoder().decode(view.bytes.subarray(view.keyStart, view.keyEnd)),
          new TextDecoder().decode(view.bytes.subarray(view.valueStart, view.valueEnd)),
        ])
      expect(seen).toEqual([
        [offset, 7, 'a', '1', 1, 1, 1, 'a', '1'],
        [offset + 1, 5, null, null, undefined, undefined, 0, '', ''],
        [offset + 2, 9, 'b', '3', 1, 1, 0, 'b', '3'],
      ])
      expect(view.next()).toBe(false)
    }
  })

  test('is cut where the subscription begins and ends', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 20, 10)
    const found = await collect(setting, { from: { offset: 3 }, until: { offset: 14 } })
    expect(found.map(({ offset, endOffset, recordCount }) => [offset, endOffset, recordCount])).toEqual([
      [3, 10, 7],
      [10, 14, 4],
    ])
    expect(found.flatMap((batch) => [...batch].map(({ value }) => Number(value)))).toEqual([
      3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    ])
  })

  test('is decoded lazily: what nobody looks at may be anything', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, mill } = setting
    cluster.append(1, 0, buildBatch(1, 0, [{ value: '{"n":1}' }, { value: 'no json' }, { value: '{"n":3}' }]))
    const found: RecordBatch<string, { readonly n: number }>[] = []
    mill
      .consumer()
      .subscribe(Orders, { from: 'earliest' })
      .batches()
      .subscribe((batch) => found.push(batch))
    await world.run(50)
    const view = found[0]!.view()
    expect([view.next(), view.value]).toEqual([true, { n: 1 }])
    expect(view.next()).toBe(true)
    const undecodable = { code: 'ERR_MILLRACE_DESERIALIZATION', partition: 0, offset: 1 }
    expect(() => view.value).toThrow(expect.objectContaining(undecodable))
    expect(new TextDecoder().decode(view.valueBytes!)).toBe('no json')
    expect([view.next(), view.value]).toEqual([true, { n: 3 }])
    expect(() => [...found[0]!]).toThrow(expect.objectContaining(undecodable))
  })

  test('in a loop, and of bytes', async () => {
    const setting = begin({ partitions: 2 })
    for (const partition of [0, 1]) fill(setting.cluster, 1, partition, 100, 7)
    const raw = topic('orders', { key: bytes, value: bytes })
    let records = 0
    const loop = (async () => {
      for await (const batch of setting.mill.consumer().subscribe(raw, { from: 'earliest', until: 'end' }).batches()) {
        for (const view = batch.view(); view.next(); ) records += view.value!.length > 0 ? 1 : 0
      }
    })()
    await setting.world.result(loop)
    expect(records).toBe(200)
  })

  test('damage ends the subscription where it stands', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 10, 5)
    const stored = setting.cluster.partition(1, 0).batches[1]!.bytes
    stored[stored.length - 1]! ^= 1
    const found: number[] = []
    const errors: MillraceError[] = []
    batches(setting).subscribe({ next: ({ offset }) => found.push(offset), error: (error) => errors.push(error) })
    await setting.world.run(50)
    expect(found).toEqual([0])
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_CORRUPT_BATCH', partition: 0, offset: 5, fatal: true }])
  })
})

describe('settlement of batches', () => {
  test('processEach holds back the broker until a batch is done', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 5_000, 10)
    const open: (() => void)[] = []
    let done = 0
    batches(setting, { inFlightBytes: 2_000 })
      .pipe(processEach(() => new Promise<void>((resolve) => open.push(resolve)), { concurrency: 3 }))
      .subscribe(() => done++)
    await world.run(500)
    expect(open.length).toBe(3)
    const { decodedBytes } = cluster.partition(1, 0).batches.at(-1)!
    expect(cluster.pushedBytes).toBeLessThanOrEqual(2_000 + decodedBytes)
    while (done < 500) {
      for (const finish of open.splice(0)) finish()
      await world.run(1)
    }
    expect(cluster.pushedBatches).toBe(500)
  })

  test('processByPartition: a batch of a partition at a time, in order', async () => {
    const setting = begin({ partitions: 3 })
    for (const partition of [0, 1, 2]) fill(setting.cluster, 1, partition, 40, 10)
    const busy = new Set<number>()
    const seen = new Map<number, number>()
    let most = 0
    const work = async ({ partition, offset, endOffset }: TextBatch): Promise<void> => {
      expect(busy.has(partition)).toBe(false)
      busy.add(partition)
      most = Math.max(most, busy.size)
      expect(offset).toBe(seen.get(partition) ?? 0)
      seen.set(partition, endOffset)
      await new Promise<void>((resolve) => setting.world.at(5, resolve))
      busy.delete(partition)
    }
    let completed = false
    batches(setting, { until: 'end' })
      .pipe(processByPartition(work, { concurrency: 8 }))
      .subscribe({ complete: () => (completed = true) })
    await setting.world.until(() => completed)
    expect(most).toBe(3)
    expect([...seen.values()]).toEqual([40, 40, 40])
  })

  test('settle(), and nothing at all', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 5_000, 10)
    let settled = 0
    let plain = 0
    batches(setting, { inFlightBytes: 500 })
      .pipe(
        settle(),
        map(({ recordCount }) => recordCount),
      )
      .subscribe((count) => (settled += count))
    batches(setting, { inFlightBytes: 500 }).subscribe(({ recordCount }) => (plain += recordCount))
    await setting.world.run(3_000)
    expect([settled, plain]).toEqual([5_000, 5_000])
  })

  test('retryOrDeadLetter tries a batch as a whole, and sends all its records away', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, mill } = setting
    cluster.addTopic('orders.dead', 1)
    fill(cluster, 1, 0, 9, 3)
    const tries: number[] = []
    const work = async ({ offset }: TextBatch): Promise<number> => {
      tries.push(offset)
      if (offset === 3) throw new Error('bad batch')
      return offset
    }
    const seen: number[] = []
    batches(setting)
      .pipe(processEach(retryOrDeadLetter(work, { attempts: 2, backoff: () => 5, topic: 'orders.dead' })))
      .subscribe((offset) => seen.push(offset))
    await world.until(() => seen.length === 2)
    expect(tries).toEqual([0, 3, 3, 6])
    const letters: ConsumerRecord<Uint8Array, Uint8Array>[] = []
    mill
      .consumer()
      .subscribe('orders.dead', { from: 'earliest' })
      .subscribe((letter) => letters.push(letter))
    await world.run(50)
    expect(letters.map((letter) => [deadLetterOf(letter)!.offset, new TextDecoder().decode(letter.value!)])).toEqual([
      [3, '3'],
      [4, '4'],
      [5, '5'],
    ])
  })

  test('a stalled batch is told by its first record', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 9, 3)
    batches(setting)
      .pipe(processEach(({ offset }) => (offset === 3 ? new Promise(() => {}) : offset)))
      .subscribe()
    await setting.world.run(40_000)
    expect(setting.statuses.find(({ kind }) => kind === 'stalled')).toMatchObject({ partition: 0, offset: 3 })
  })
})
