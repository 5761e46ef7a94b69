// processByKey and processByPartition: what waits for what, how much goes on at once, and what is left afterwards.
import { type ConsumerRecord, processByKey, processByPartition, processEach, type WorkContext } from '@millrace/client'
import { filter, map, type OperatorFunction, type Subscription, share } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { buildBatch, fill } from '../support/batches.js'
import { begin, type Setting, Texts } from '../support/setting.js'

type TextRecord = ConsumerRecord<string, string>
type Key = string | null

/** Work that ends when the test says so, by key and offset. */
class Desk {
  readonly busy = new Map<string, { resolve(): void; reject(error: unknown): void }>()
  readonly begun: string[] = []
  readonly finished: string[] = []
  most = 0

  readonly work = ({ key, partition, offset }: TextRecord): Promise<string> => {
    const name = `${key}@${partition}/${offset}`
    this.begun.push(name)
    return new Promise((resolve, reject) => {
      this.busy.set(name, { resolve: () => resolve(name), reject })
      this.most = Math.max(this.most, this.busy.size)
    })
  }

  finish(name: string): void {
    this.finished.push(name)
    this.#take(name).resolve()
  }

  fail(name: string, error: unknown): void {
    this.#take(name).reject(error)
  }

  #take(name: string): { resolve(): void; reject(error: unknown): void } {
    const work = this.busy.get(name)
    if (work === undefined) throw new Error(`${name} is not being worked on: ${[...this.busy.keys()].join(', ')}`)
    this.busy.delete(name)
    return work
  }
}

function start(
  { mill }: Setting,
  operator: OperatorFunction<TextRecord, unknown>,
  inFlightBytes = 1_000_000,
): { readonly events: unknown[]; readonly subscription: Subscription } {
  const events: unknown[] = []
  const subscription = mill
    .consumer({ inFlightBytes })
    .subscribe(Texts, { from: 'earliest' })
    .pipe(operator)
    .subscribe({
      next: (value) => events.push(value),
      error: (error: Error) => events.push(error.message),
      complete: () => events.push('complete'),
    })
  return { events, subscription }
}

function put({ cluster }: Setting, partition: number, keys: readonly Key[]): void {
  cluster.append(
    1,
    partition,
    buildBatch(
      1,
      partition,
      keys.map((key) => ({ key, value: 'v' })),
    ),
  )
}

describe('processByKey', () => {
  test('one record of a key at a time and in order; other keys go on', async () => {
    const setting = begin({ partitions: 1 })
    put(setting, 0, ['a', 'a', 'b', 'a', 'c', 'b'])
    const desk = new Desk()
    const { events } = start(setting, processByKey(desk.work, { concurrency: 8 }))
    await setting.world.run(20)
    expect(desk.begun).toEqual(['a@0/0', 'b@0/2', 'c@0/4'])
    desk.finish('b@0/2')
    await setting.world.run(1)
    expect(desk.begun.slice(3)).toEqual(['b@0/5'])
    desk.finish('a@0/0')
    await setting.world.run(1)
    desk.finish('a@0/1')
    await setting.world.run(1)
    expect(desk.begun.slice(4)).toEqual(['a@0/1', 'a@0/3'])
    // As they were finished.
    expect(events).toEqual(['b@0/2', 'a@0/0', 'a@0/1'])
  })

  test('no more at once than the concurrency, over all keys', async () => {
    const setting = begin({ partitions: 1 })
    put(setting, 0, ['a', 'b', 'c', 'd', 'a', 'b', 'c', 'd'])
    const desk = new Desk()
    start(setting, processByKey(desk.work, { concurrency: 3 }))
    await setting.world.run(20)
    expect(desk.begun).toEqual(['a@0/0', 'b@0/1', 'c@0/2'])
    while (desk.busy.size > 0) {
      desk.finish([...desk.busy.keys()].at(-1)!)
      await setting.world.run(1)
    }
    expect(desk.finished.length).toBe(8)
    expect(desk.most).toBe(3)
  })

  test('records without a key wait for nobody', async () => {
    const setting = begin({ partitions: 1 })
    put(setting, 0, [null, null, 'a', null, 'a'])
    const desk = new Desk()
    start(setting, processByKey(desk.work, { concurrency: 8 }))
    await setting.world.run(20)
    expect(desk.begun).toEqual(['null@0/0', 'null@0/1', 'a@0/2', 'null@0/3'])
  })

  test('the key is that of the record, whatever the value was mapped to', async () => {
    const setting = begin({ partitions: 1 })
    put(setting, 0, ['a', 'b', 'a', 'é', 'é'])
    const seen: { offset: number; key: Uint8Array | null; busy: number }[] = []
    let busy = 0
    const work = async (offset: number, context: WorkContext): Promise<void> => {
      busy++
      seen.push({ offset, key: context.key, busy })
      expect([context.topic, context.partition, context.offset]).toEqual(['orders', 0, offset])
      expect(context.records().map((record) => record.offset)).toEqual([offset])
      await new Promise<void>((resolve) => setting.world.at(10, resolve))
      busy--
    }
    setting.mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .pipe(
        filter(({ offset }) => offset !== 1),
        map(({ offset }) => offset),
        processByKey(work, { concurrency: 8 }),
      )
      .subscribe()
    await setting.world.run(100)
    expect(seen.map(({ offset }) => offset)).toEqual([0, 3, 2, 4])
    expect(Math.max(...seen.map((one) => one.busy))).toBe(2)
    expect(new TextDecoder().decode(seen[1]!.key!)).toBe('é')
  })

  test('keys that differ only far behind do not wait for each other', async () => {
    const setting = begin({ partitions: 1 })
    const long = 'x'.repeat(3_000)
    put(setting, 0, [`${long}1`, `${long}2`, `${long}1`])
    const desk = new Desk()
    start(setting, processByKey(desk.work, { concurrency: 8 }))
    await setting.world.run(20)
    expect(desk.begun.length).toBe(2)
  })

  test('a failure: nothing new is begun, work in progress is awaited and settled, then the error', async () => {
    const setting = begin({ partitions: 1 })
    put(setting, 0, ['a', 'b', 'a', 'b', 'c', 'd'])
    const desk = new Desk()
    const { events } = start(setting, processByKey(desk.work, { concurrency: 3 }))
    await setting.world.run(20)
    desk.fail('a@0/0', new Error('broken'))
    await setting.world.run(20)
    expect(events).toEqual([])
    // Comes meanwhile, and must not count as finished.
    put(setting, 0, ['e'])
    desk.finish('b@0/1')
    await setting.world.run(20)
    desk.finish('c@0/4')
    await setting.world.run(20)
    expect(events).toEqual(['b@0/1', 'c@0/4', 'broken'])
    expect(desk.begun.length).toBe(3)
    expect(setting.cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('synchronous work needs no turn of the event loop, and leaves no lane behind', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 5_000, 50)
    const { events } = start(
      setting,
      processByKey(({ offset }: TextRecord) => offset, { concurrency: 4 }),
      500,
    )
    await setting.world.run(2_000)
    expect(events).toEqual([...Array(5_000).keys()])
  })

  test('holds back the broker, whatever the keys', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 100_000, 100)
    const desk = new Desk()
    start(setting, processByKey(desk.work, { concurrency: 64 }), 100_000)
    await world.run(5_000)
    // fill() has seven keys.
    expect(desk.busy.size).toBe(7)
    const { decodedBytes } = cluster.partition(1, 0).batches.at(-1)!
    expect(cluster.pushedBytes).toBeLessThanOrEqual(100_000 + decodedBytes)
    for (let round = 0; round < 600; round++) {
      for (const name of [...desk.busy.keys()]) desk.finish(name)
      await world.run(1)
    }
    expect(desk.finished.length).toBe(4_200)
    expect(cluster.pushedBytes).toBeGreaterThan(100_000 + decodedBytes)
    expect(cluster.pushedBytes).toBeLessThan((desk.finished.length / 100 + 2) * decodedBytes + 100_000)
  })

  test('order of every key under work of random length, counted over 6,000 records of 499 keys', async () => {
    const setting = begin({ partitions: 3 })
    const { cluster, world } = setting
    let n = 0
    for (let batch = 0; batch < 60; batch++) {
      const records = Array.from({ length: 100 }, () => ({ key: `k${n % 499}`, value: String(n++) }))
      const partition = batch % 3
      cluster.append(1, partition, buildBatch(1, partition, records))
    }
    const last = new Map<string, number>()
    const busy = new Set<string>()
    let most = 0
    let done = 0
    const work = async ({ key, partition, offset }: TextRecord): Promise<void> => {
      const lane = `${key}@${partition}`
      expect(busy.has(key!)).toBe(false)
      busy.add(key!)
      most = Math.max(most, busy.size)
      expect(last.get(lane) ?? -1).toBeLessThan(offset)
      last.set(lane, offset)
      const turns = Math.floor(world.environment.random() * 40)
      for (let turn = 0; turn < turns; turn++) await Promise.resolve()
      busy.delete(key!)
      done++
    }
    start(setting, processByKey(work, { concurrency: 32 }), 50_000)
    await world.until(() => done === 6_000)
    expect(most).toBeGreaterThan(16)
    expect(most).toBeLessThanOrEqual(32)
    expect(last.size).toBe(499 * 3)
  })
})

describe('processByPartition', () => {
  test('one record of a partition at a time; partitions side by side, up to the concurrency', async () => {
    const setting = begin({ partitions: 3 })
    for (const partition of [0, 1, 2]) put(setting, partition, ['a', 'b', 'c'])
    const desk = new Desk()
    start(setting, processByPartition(desk.work, { concurrency: 2 }))
    await setting.world.run(20)
    expect(desk.busy.size).toBe(2)
    const order = new Map<string, number>()
    while (desk.busy.size > 0) {
      const name = [...desk.busy.keys()].at(-1)!
      const [, partition, offset] = /@(\d)\/(\d)/.exec(name)!
      expect(Number(offset)).toBe(order.get(partition!) ?? 0)
      order.set(partition!, Number(offset) + 1)
      desk.finish(name)
      await setting.world.run(1)
    }
    expect(desk.most).toBe(2)
    expect([...order.values()]).toEqual([3, 3, 3])
  })

  test('records that wait in the lanes of some partitions leave room for those of the others', async () => {
    const setting = begin({ partitions: 50 })
    for (let partition = 0; partition < 50; partition++) fill(setting.cluster, 1, partition, 600, 200)
    const desk = new Desk()
    start(setting, processByPartition(desk.work, { concurrency: 50 }), 8 * 1024 * 1024)
    await setting.world.run(100)
    expect(desk.busy.size).toBe(50)
    for (let round = 0; round < 600; round++) {
      expect(desk.busy.size).toBe(50)
      for (const name of [...desk.busy.keys()]) desk.finish(name)
      await setting.world.run(0)
    }
    expect(desk.finished.length).toBe(30_000)
  })

  test('is as processEach one by one unless told otherwise', async () => {
    const setting = begin({ partitions: 2 })
    for (const partition of [0, 1]) put(setting, partition, ['a'])
    const desk = new Desk()
    start(setting, processByPartition(desk.work))
    await setting.world.run(20)
    expect(desk.busy.size).toBe(1)
  })
})

describe('all of them', () => {
  const operators = { processEach, processByKey, processByPartition }

  test.each(Object.entries(operators))('%s refuses what it does not know', (name, operator) => {
    expect(() => operator(() => 1, { concurrency: 0 })).toThrow('concurrency')
    expect(() => operator(() => 1, { concurency: 2 } as object)).toThrow(`${name}() has no option concurency`)
  })

  test.each(Object.entries(operators))(
    '%s aborts the signal of work that nobody waits for',
    async (_name, operator) => {
      const setting = begin({ partitions: 1 })
      put(setting, 0, ['a'])
      const signals: AbortSignal[] = []
      const work = (_record: TextRecord, { signal }: WorkContext): Promise<void> => {
        signals.push(signal)
        return new Promise(() => {})
      }
      const unsubscribed = start(setting, operator(work))
      const closed = start(setting, operator(work))
      await setting.world.run(20)
      expect(signals.map(({ aborted }) => aborted)).toEqual([false, false])
      unsubscribed.subscription.unsubscribe()
      expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
      const closing = setting.mill.close({ timeoutMs: 1_000 })
      await setting.world.run(500)
      expect(signals[1]!.aborted).toBe(false)
      await setting.world.result(closing)
      expect(signals[1]!.reason).toMatchObject({ code: 'ERR_MILLRACE_CLOSED' })
      expect(closed.events).toEqual(['complete'])
    },
  )

  test('a branch that leaves lets go of what waits in its lanes', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, mill } = setting
    fill(cluster, 1, 0, 2_000, 10)
    const shared = mill.consumer({ inFlightBytes: 1_000 }).subscribe(Texts, { from: 'earliest' }).pipe(share())
    const desk = new Desk()
    let fast = 0
    const branch = shared.pipe(processByKey(desk.work, { concurrency: 2 })).subscribe()
    shared.pipe(processByPartition(async () => {})).subscribe(() => fast++)
    await world.run(500)
    expect(fast).toBeLessThan(300)
    branch.unsubscribe()
    for (const name of [...desk.busy.keys()]) desk.finish(name)
    await world.run(3_000)
    expect(fast).toBe(2_000)
  })
})
