// When a record counts as finished, and what that holds back: the three stalls of naive schemes among them.
import { type ConsumerRecord, MillraceError, processEach, settle, toAsyncIterable } from '@millrace/client'
import { concatMap, delay, filter, map, mergeMap, type OperatorFunction, of, share, take, tap } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { BYTES_PER_WAITING_RECORD } from '#src/limits.js'
import { fill } from './support/batches.js'
import { begin, type Setting, Texts } from './support/setting.js'
import { Workbench } from './support/workbench.js'

type TextRecord = ConsumerRecord<string, string>

const records = ({ mill }: Setting, inFlightBytes = 2_000) =>
  mill.consumer({ inFlightBytes }).subscribe(Texts, { from: 'earliest' })

describe('processEach', () => {
  test('bounded work, in the order of the partition, results emitted', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 20, 4)
    const bench = new Workbench()
    const results: number[] = []
    records(setting)
      .pipe(processEach(bench.work, { concurrency: 3 }))
      .subscribe((result) => results.push(result))
    await setting.world.run(20)
    expect(bench.started).toEqual([0, 1, 2])
    bench.finish(1)
    await setting.world.run(1)
    expect(bench.started).toEqual([0, 1, 2, 3])
    expect(results).toEqual([1])
    while (bench.busy.length > 0) {
      bench.finish()
      await setting.world.run(1)
    }
    expect(bench.most).toBe(3)
    expect(results.length).toBe(20)
  })

  test('one at a time unless told otherwise', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 3, 3)
    const bench = new Workbench()
    records(setting).pipe(processEach(bench.work)).subscribe()
    await setting.world.run(20)
    expect(bench.busy).toEqual([0])
    expect(() => processEach(bench.work, { concurrency: 0 })).toThrow('concurrency')
  })

  test('synchronous work needs no turn of the event loop', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 500, 50)
    const seen: string[] = []
    records(setting)
      .pipe(processEach(({ value }) => value))
      .subscribe((value) => seen.push(value!))
    await setting.world.run(500)
    expect(seen.length).toBe(500)
  })

  test('a failure: nothing new is begun, work in progress is awaited, then the error', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 20, 4)
    const bench = new Workbench()
    const events: string[] = []
    records(setting)
      .pipe(processEach(bench.work, { concurrency: 3 }))
      .subscribe({ next: (n) => events.push(`done ${n}`), error: (error: Error) => events.push(error.message) })
    await setting.world.run(20)
    bench.fail(new Error('broken'), 1)
    await setting.world.run(20)
    expect(events).toEqual([])
    bench.finish(0)
    await setting.world.run(20)
    expect(events).toEqual(['done 0'])
    bench.finish(2)
    await setting.world.run(20)
    expect(events).toEqual(['done 0', 'done 2', 'broken'])
    expect(bench.started).toEqual([0, 1, 2])
    expect(setting.cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('work that throws', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 2, 2)
    const errors: unknown[] = []
    const thrown = new Error('thrown')
    records(setting)
      .pipe(
        processEach(() => {
          throw thrown
        }),
      )
      .subscribe({ error: (error) => errors.push(error) })
    await setting.world.run(20)
    expect(errors).toEqual([thrown])
  })

  test('completes when the source has, and everything is done', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 3, 3)
    const bench = new Workbench()
    let completed = false
    setting.mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(processEach(bench.work))
      .subscribe({ complete: () => (completed = true) })
    await setting.world.run(20)
    for (const offset of [0, 1, 2]) {
      expect(completed).toBe(false)
      bench.finish(offset)
      await setting.world.run(1)
    }
    expect(completed).toBe(true)
  })

  test.each<[string, OperatorFunction<TextRecord, TextRecord>]>([
    ['delay', delay(1)],
    ['mergeMap of a promise', mergeMap((record) => Promise.resolve(record))],
    ['concatMap of a delayed value', concatMap((record) => of(record).pipe(delay(1)))],
  ])('behind %s it is an error that says so', async (_name, operator) => {
    for (const shipped of [processEach((record: TextRecord) => record.offset), settle<TextRecord>()]) {
      const setting = begin({ partitions: 1 })
      fill(setting.cluster, 1, 0, 2, 2)
      const errors: unknown[] = []
      records(setting)
        .pipe(operator, shipped as OperatorFunction<TextRecord, unknown>)
        .subscribe({ error: (error) => errors.push(error) })
      await setting.world.run(20)
      // RxJS keeps time of its own.
      await new Promise((resolve) => setTimeout(resolve, 10))
      expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_NOT_IN_DELIVERY', fatal: true }])
      expect(String(errors[0])).toContain('before every asynchronous operator')
    }
  })

  test('works behind filter, map and a synchronous mergeMap', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 1_000, 10)
    const seen: string[] = []
    records(setting, 500)
      .pipe(
        filter(({ offset }) => offset % 3 === 0),
        map(({ value }) => value!),
        mergeMap((value) => of(value, value)),
        processEach(async (value) => value, { concurrency: 4 }),
      )
      .subscribe((value) => seen.push(value))
    await setting.world.run(3_000)
    expect(seen.length).toBe(668)
  })
})

describe('complaint 6: memory grows, back-pressure is counted in messages or lost in a layer', () => {
  test('buffering: a slow handler holds back the broker, not memory', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 100_000, 100)
    const bench = new Workbench()
    records(setting, 100_000)
      .pipe(processEach(bench.work, { concurrency: 8 }))
      .subscribe()
    await world.run(5_000)
    expect(bench.busy.length).toBe(8)
    const { decodedBytes } = cluster.partition(1, 0).batches.at(-1)!
    // The window, and one batch more.
    expect(cluster.pushedBytes).toBeLessThanOrEqual(100_000 + decodedBytes)
    for (let round = 0; round < 300; round++) {
      for (let i = 0; i < 8; i++) bench.finish(bench.busy[i % 2 === 0 ? 0 : bench.busy.length - 1])
      await world.run(1)
    }
    expect(bench.finished.length).toBe(2_400)
    const finishedBytes = (2_400 / 100 + 1) * decodedBytes
    expect(cluster.pushedBytes).toBeLessThanOrEqual(finishedBytes + 100_000 + decodedBytes)
    expect(cluster.pushedBytes).toBeGreaterThan(100_000 + decodedBytes)
  })

  test('records that wait are bounded by number as well: small ones do not fill the memory with objects', async () => {
    const { cluster, world, mill } = begin({ partitions: 1 })
    fill(cluster, 1, 0, 60_000, 500)
    const bench = new Workbench()
    const waiting = (8 * 1024 * 1024) / BYTES_PER_WAITING_RECORD
    let delivered = 0
    let completed = false
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(
        tap(() => delivered++),
        processEach(bench.work, { concurrency: 64 }),
      )
      .subscribe({ complete: () => (completed = true) })
    await world.run(2_000)
    // Everything is within the window; what waits is not all of it.
    expect(delivered).toBeLessThanOrEqual(waiting + 64)
    for (let done = 0; done < 60_000; ) {
      expect(delivered - done).toBeLessThanOrEqual(waiting + 64)
      for (const work of [...bench.busy]) {
        bench.finish(work)
        done++
      }
      await world.run(0)
    }
    await world.run(10)
    expect([delivered, bench.finished.length, completed]).toEqual([60_000, 60_000, true])
  })

  test('silence after the first window: work that is done brings more', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 5_000, 7)
    const bench = new Workbench()
    records(setting, 1_000)
      .pipe(processEach(bench.work, { concurrency: 5 }))
      .subscribe()
    for (let done = 0; done < 5_000; ) {
      await world.run(1)
      // The last begun ends first: no order of completion may leave credit behind.
      while (bench.busy.length > 0) {
        bench.finish(bench.busy.at(-1))
        done++
        if (done % 5 === 0) break
      }
    }
    expect(bench.finished.length).toBe(5_000)
  })

  test('starvation: records nobody claims give their credit back', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 20_000, 50)
    const seen: number[] = []
    records(setting, 1_000)
      .pipe(
        filter(({ offset }) => offset % 5_000 === 0),
        processEach(async ({ offset }) => offset),
      )
      .subscribe((offset) => seen.push(offset))
    await world.run(5_000)
    expect(seen).toEqual([0, 5_000, 10_000, 15_000])
    expect(cluster.pushedBatches).toBe(400)
  })
})

describe('whatever claims nothing', () => {
  test('is finished when next() has returned', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 5_000, 50)
    let seen = 0
    records(setting, 500).subscribe(() => seen++)
    await setting.world.run(2_000)
    expect(seen).toBe(5_000)
  })

  test('settle() finishes when everything behind it has returned', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 5_000, 50)
    const seen: number[] = []
    let completed = false
    records(setting, 500)
      .pipe(
        take(4_000),
        settle(),
        map(({ offset }) => offset),
      )
      .subscribe({ next: (offset) => seen.push(offset), complete: () => (completed = true) })
    await setting.world.run(2_000)
    expect(seen.length).toBe(4_000)
    expect(completed).toBe(true)
  })

  test('one session shared by two branches waits for both, until one leaves', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 2_000, 10)
    const slow = new Workbench()
    const shared = records(setting, 1_000).pipe(share())
    let fast = 0
    const branch = shared.pipe(processEach(slow.work)).subscribe()
    shared.pipe(processEach(async () => {}, { concurrency: 4 })).subscribe(() => fast++)
    await world.run(500)
    expect(fast).toBeLessThan(300)
    branch.unsubscribe()
    slow.finish()
    await world.run(2_000)
    expect(fast).toBe(2_000)
  })
})

describe('iteration', () => {
  test('the next record asked for finishes the one before', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 1_000, 10)
    const iterator = records(setting, 1_000)[Symbol.asyncIterator]()
    const first = await world.result(iterator.next())
    expect(first.value!.offset).toBe(0)
    await world.run(1_000)
    const pushed = cluster.pushedBytes
    expect(pushed).toBeLessThan(1_500)
    for (let offset = 1; offset < 1_000; offset++) {
      expect((await world.result(iterator.next())).value!.offset).toBe(offset)
    }
    expect(cluster.pushedBytes).toBeGreaterThan(pushed)
  })

  test('leaving the loop ends the session', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 50, 10)
    const loop = (async () => {
      const seen: number[] = []
      for await (const { offset } of records(setting)) {
        seen.push(offset)
        if (offset === 4) break
      }
      return seen
    })()
    expect(await world.result(loop)).toEqual([0, 1, 2, 3, 4])
    await world.run(5)
    expect(cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('return() while a record is awaited, and several next() at once', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const iterator = records(setting)[Symbol.asyncIterator]()
    const waiting = [iterator.next(), iterator.next(), iterator.next()]
    await world.run(20)
    fill(cluster, 1, 0, 2, 2)
    await world.run(20)
    expect((await waiting[0]!).value!.offset).toBe(0)
    expect((await waiting[1]!).value!.offset).toBe(1)
    await iterator.return!()
    expect(await waiting[2]!).toEqual({ value: undefined, done: true })
    expect(await iterator.next()).toEqual({ value: undefined, done: true })
  })

  test('an error ends the loop once', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 2, 2)
    const iterator = records(setting)[Symbol.asyncIterator]()
    await world.result(iterator.next())
    cluster.removeTopic('orders')
    await world.run(20)
    await world.result(iterator.next())
    expect(await world.failure(iterator.next())).toMatchObject({ code: 'ERR_MILLRACE_TOPIC_DELETED' })
    expect(await iterator.next()).toEqual({ value: undefined, done: true })
  })

  test('a loop over records that are there lets the event loop turn', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 5_000, 1_000)
    let seen = 0
    const loop = (async () => {
      for await (const _ of setting.mill.consumer().subscribe(Texts, { from: 'earliest', until: 'end' })) seen++
    })()
    const spans: number[] = []
    const startMs = setting.world.nowMs
    await setting.world.result(loop)
    spans.push(setting.world.nowMs - startMs)
    expect(seen).toBe(5_000)
  })
})

describe('toAsyncIterable', () => {
  test('holds records of a synchronous pipeline back', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 2_000, 10)
    const values = toAsyncIterable(records(setting, 1_000).pipe(map(({ offset }) => offset)), { bufferRecords: 1 })
    const iterator = values[Symbol.asyncIterator]()
    await world.result(iterator.next())
    await world.run(1_000)
    expect(cluster.pushedBytes).toBeLessThan(1_500)
    for (let offset = 1; offset < 2_000; offset++) expect((await world.result(iterator.next())).value).toBe(offset)
    await iterator.return!()
    await world.run(5)
    expect(cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('fails by name when values that cannot be held back pile up', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 100, 10)
    const late = records(setting).pipe(mergeMap((record) => Promise.resolve(record)))
    const iterator = toAsyncIterable(late, { bufferRecords: 10 })[Symbol.asyncIterator]()
    await world.result(iterator.next())
    await world.run(50)
    const error = await world.failure(iterator.next())
    expect(MillraceError.is(error) && error.code).toBe('ERR_MILLRACE_ITERATOR_OVERFLOW')
    expect(await iterator.next()).toEqual({ value: undefined, done: true })
  })

  test('completion and errors come after what was before them', async () => {
    const seen: number[] = []
    for await (const n of toAsyncIterable(of(1, 2, 3))) seen.push(n)
    expect(seen).toEqual([1, 2, 3])
    const failing = toAsyncIterable(
      of(1).pipe(
        map(() => {
          throw new Error('mapped')
        }),
      ),
    )
    await expect(failing[Symbol.asyncIterator]().next()).rejects.toThrow('mapped')
  })
})

describe('the watch', () => {
  test('names a record that was handed out long ago, again and more seldom', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, statuses } = setting
    fill(cluster, 1, 0, 20, 4)
    const bench = new Workbench()
    records(setting)
      .pipe(processEach(bench.work, { concurrency: 3 }))
      .subscribe()
    await world.run(20)
    bench.finish(0)
    bench.finish(1)
    await world.run(29_000)
    expect(world.warnings).toEqual([])
    await world.run(5_000)
    expect(world.warnings).toMatchObject([{ code: 'MILLRACE_STALLED' }])
    expect(world.warnings[0]!.message).toMatch(/orders\/0 at offset 2/)
    expect(statuses.find(({ kind }) => kind === 'stalled')).toMatchObject({ topic: 'orders', partition: 0, offset: 2 })
    await world.run(300_000)
    expect(world.warnings.length).toBe(4)
  })

  test('a loop that does not go on is named too; one that waits for records is not', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const iterator = records(setting)[Symbol.asyncIterator]()
    const next = iterator.next()
    await world.run(60_000)
    expect(world.warnings).toEqual([])
    fill(cluster, 1, 0, 2, 2)
    await world.result(next)
    await world.run(40_000)
    expect(world.warnings[0]!.message).toMatch(/offset 0/)
  })

  test('names a partition that cannot be read, and why', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 3, 3)
    let seen = 0
    records(setting).subscribe(() => seen++)
    await world.run(5_000)
    cluster.brokers[0]!.stop()
    await world.run(25_000)
    expect(world.warnings).toEqual([])
    await world.run(10_000)
    expect(world.warnings).toMatchObject([{ code: 'MILLRACE_UNREADABLE' }])
    expect(world.warnings[0]!.message).toMatch(/orders\/0 could not be read .*ECONNREFUSED/)
    cluster.brokers[0]!.start()
    fill(cluster, 1, 0, 3, 3)
    await world.run(30_000)
    expect(seen).toBe(6)
    expect(world.warnings.length).toBe(1)
  })

  test('goes to the logger when there is one', async () => {
    const warned: { fields: object; message: string }[] = []
    const logger = { info: () => {}, warn: (fields: object, message: string) => warned.push({ fields, message }) }
    const setting = begin({ partitions: 1, logger })
    fill(setting.cluster, 1, 0, 1, 1)
    records(setting)
      .pipe(processEach(() => new Promise<void>(() => {})))
      .subscribe()
    await setting.world.run(40_000)
    expect(setting.world.warnings).toEqual([])
    expect(warned).toMatchObject([{ fields: { code: 'MILLRACE_STALLED', topic: 'orders', partition: 0, offset: 0 } }])
  })
})
