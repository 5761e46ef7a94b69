// The end: everything is waited for as long as asked, everything completes, nothing is left.
import { type MillraceError, processEach } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { describe, expect, test } from 'vitest'
import { fill } from './support/batches.js'
import { begin, Orders, type Setting, Texts } from './support/setting.js'

function nothingLeft({ world }: Setting): void {
  expect(world.openLinks).toEqual([])
  expect(world.keepAliveTimers).toBe(0)
}

/** Lets the fake brokers go, and counts what the client left in the timer list. */
async function timersLeft({ world, cluster }: Setting): Promise<number> {
  for (const broker of cluster.brokers) broker.stop()
  await world.run(2_000)
  return world.pendingTimers
}

describe('complaint 12: shutdown hangs, takes seconds, or keeps consuming', () => {
  test('of an idle client', async () => {
    const setting = begin()
    await setting.world.result(setting.mill.close())
    nothingLeft(setting)
    expect(setting.world.dials).toEqual([])
    expect(setting.statuses.at(-1)?.kind).toBe('closed')
    await expect(setting.mill.ready()).rejects.toMatchObject({ code: 'ERR_MILLRACE_CLOSED' })
    expect(() => setting.mill.producer(Orders)).toThrow('closed')
    expect(() => setting.mill.consumer()).toThrow('closed')
  })

  test('sends what is queued, completes subscriptions and status$, leaves nothing', async () => {
    const setting = begin()
    const { world, cluster, mill } = setting
    const producer = mill.producer(Orders)
    let statusCompleted = false
    let completed = false
    mill.status$.subscribe({ complete: () => (statusCompleted = true) })
    mill
      .consumer()
      .subscribe(Texts)
      .subscribe({ complete: () => (completed = true) })
    const loop = mill.consumer().subscribe(Texts)[Symbol.asyncIterator]().next()
    await world.run(50)
    const sent = Promise.all([1, 2, 3].map((n) => producer.send('k', { n })))
    await world.result(mill.close())
    expect((await sent).length).toBe(3)
    expect([completed, statusCompleted]).toEqual([true, true])
    expect(await loop).toEqual({ value: undefined, done: true })
    nothingLeft(setting)
    expect(await timersLeft(setting)).toBe(0)
    expect(cluster.brokers[0]!.connections).toEqual([])
  })

  test('waits for records being worked on, and lets their handlers send', async () => {
    const setting = begin({ partitions: 2 })
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 3, 3)
    const producer = mill.producer(Texts)
    const finished: number[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', partitions: [0] })
      .pipe(
        processEach(async ({ offset }) => {
          await new Promise<void>((resolve) => world.at(1_000, resolve))
          await producer.send('k', 'processed', { partition: 1 })
          finished.push(offset)
        }),
      )
      .subscribe()
    await world.run(1_020)
    const closing = mill.close()
    await world.result(closing)
    // The second was being worked on; the third had not begun and is for another time.
    expect(finished).toEqual([0, 1])
    expect(cluster.partition(1, 1).end).toBe(2)
    nothingLeft(setting)
  })

  test('always ends: work that never does is given up after timeoutMs', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 3, 3)
    let completed = false
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .pipe(processEach(() => new Promise<void>(() => {})))
      .subscribe({ complete: () => (completed = true) })
    await world.run(20)
    cluster.produceRule = () => ({ silent: true })
    const producer = mill.producer(Orders)
    const outcomes = Promise.allSettled([producer.send('a', { n: 1 })])
    const startMs = world.nowMs
    const error = await world.failure(mill.close({ timeoutMs: 3_000 }))
    expect(world.nowMs - startMs).toBeLessThan(3_010)
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY', failedRecords: 0, unknownRecords: 1 })
    expect(await outcomes).toMatchObject([{ reason: { code: 'ERR_MILLRACE_DELIVERY_UNKNOWN', outcome: 'unknown' } }])
    expect(completed).toBe(true)
    nothingLeft(setting)
    expect(await timersLeft(setting)).toBe(0)
  })

  test('aborts dials and retry timers with every broker down', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    mill.consumer().subscribe(Texts).subscribe()
    await world.run(20)
    cluster.brokers[0]!.stop()
    await world.run(5_000)
    const outcomes = Promise.allSettled([producer.send('a', { n: 2 })])
    await world.run(100)
    const error = await world.failure(mill.close({ timeoutMs: 1_000 }))
    expect(error).toMatchObject({ failedRecords: 1, unknownRecords: 0 })
    expect(await outcomes).toMatchObject([{ reason: { code: 'ERR_MILLRACE_CLOSED', outcome: 'failed' } }])
    nothingLeft(setting)
    const dials = world.dials.length
    await world.run(60_000)
    expect(world.dials.length).toBe(dials)
    expect(world.pendingTimers).toBe(0)
  })

  test('during the first contact', async () => {
    const setting = begin({ wait: true })
    const { world, cluster, mill } = setting
    cluster.brokers[0]!.stop()
    const outcomes = Promise.allSettled([
      mill.producer(Orders).send('a', { n: 1 }),
      mill.ready(),
      admin(mill).listTopics(),
    ])
    const errors: MillraceError[] = []
    let completed = false
    mill
      .consumer()
      .subscribe(Orders)
      .subscribe({ error: (e) => errors.push(e), complete: () => (completed = true) })
    await world.run(3_000)
    await world.failure(mill.close({ timeoutMs: 500 }))
    for (const outcome of await outcomes) {
      expect(outcome).toMatchObject({ status: 'rejected', reason: { code: 'ERR_MILLRACE_CLOSED' } })
    }
    expect(errors).toEqual([])
    expect(completed).toBe(true)
    nothingLeft(setting)
    await world.run(2_000)
    expect(world.pendingTimers).toBe(0)
  })

  test('twice is once, and a disposal closes', async () => {
    const setting = begin()
    await setting.world.result(setting.mill.ready())
    expect(setting.mill.close()).toBe(setting.mill.close())
    await setting.world.result(setting.mill[Symbol.asyncDispose]())
    nothingLeft(setting)
    const other = begin()
    const producer = other.mill.producer(Orders)
    const consumer = other.mill.consumer()
    await other.world.result(producer[Symbol.asyncDispose]())
    await other.world.result(consumer[Symbol.asyncDispose]())
    await expect(producer.send('a', { n: 1 })).rejects.toMatchObject({ code: 'ERR_MILLRACE_CLOSED' })
    const errors: unknown[] = []
    consumer.subscribe(Orders).subscribe({ error: (error) => errors.push(error) })
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_CLOSED', fatal: true }])
  })

  test('a signal given to connect closes at once', async () => {
    const controller = new AbortController()
    const setting = begin({ signal: controller.signal })
    const { world, cluster, mill } = setting
    cluster.produceRule = () => ({ silent: true })
    const outcomes = Promise.allSettled([mill.producer(Orders).send('a', { n: 1 })])
    await world.run(50)
    controller.abort()
    await world.run(5)
    expect(await outcomes).toMatchObject([{ status: 'rejected', reason: { outcome: 'unknown' } }])
    nothingLeft(setting)
  })

  test('a shorter time may be given later, also past a close of one producer or consumer with a longer one', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 3, 3)
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    cluster.produceRule = () => ({ silent: true })
    const outcomes = Promise.allSettled([producer.send('a', { n: 1 })])
    const consumer = mill.consumer()
    consumer
      .subscribe(Texts, { from: 'earliest' })
      .pipe(processEach(() => new Promise<void>(() => {})))
      .subscribe()
    await world.run(20)
    const startMs = world.nowMs
    const longer = Promise.allSettled([producer.close({ timeoutMs: 60_000 }), consumer.close({ timeoutMs: 60_000 })])
    const closing = mill.close({ timeoutMs: 2_000 })
    await world.failure(closing)
    expect(world.nowMs - startMs).toBeLessThan(2_010)
    expect(await outcomes).toMatchObject([{ status: 'rejected', reason: { outcome: 'unknown' } }])
    expect(await longer).toMatchObject([{ status: 'rejected' }, { status: 'fulfilled' }])
    nothingLeft(setting)
  })

  test.each(['a second close', 'the signal of connect'])('%s ends a close that takes too long', async (how) => {
    const controller = new AbortController()
    const setting = begin({ partitions: 1, signal: controller.signal })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    cluster.produceRule = () => ({ silent: true })
    const outcomes = Promise.allSettled([producer.send('a', { n: 1 })])
    const closing = mill.close({ timeoutMs: 60_000 })
    await world.run(1_000)
    const startMs = world.nowMs
    if (how === 'a second close') expect(mill.close({ timeoutMs: 0 })).toBe(closing)
    else controller.abort()
    await world.failure(closing)
    expect(world.nowMs - startMs).toBeLessThan(10)
    await outcomes
    nothingLeft(setting)
  })

  test('refuses a timeout that is none', async () => {
    const { mill } = begin()
    expect(() => mill.close({ timeoutMs: -1 })).toThrow('timeoutMs')
  })
})

describe('what keeps a process alive', () => {
  test('pending sends and open subscriptions do; an otherwise idle client does not', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    // A moment of grace spares sends one after the other a timer each.
    await world.run(60)
    expect(world.keepAliveTimers).toBe(0)
    expect(world.openLinks.length).toBe(2)
    expect(world.openLinks.every(({ kept }) => !kept)).toBe(true)

    cluster.produceRule = () => ({ silent: true })
    const sent = producer.send('a', { n: 2 })
    await world.run(50)
    expect(world.keepAliveTimers).toBe(1)
    cluster.produceRule = () => undefined
    await world.result(sent)
    await world.run(60)
    expect(world.keepAliveTimers).toBe(0)

    const subscription = mill.consumer().subscribe(Texts).subscribe()
    await world.run(50)
    expect(world.keepAliveTimers).toBe(1)
    await world.run(3_600_000)
    expect(world.keepAliveTimers).toBe(1)
    subscription.unsubscribe()
    await world.run(60)
    expect(world.keepAliveTimers).toBe(0)
  })
})
