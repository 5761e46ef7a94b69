// Complaint 1 of those who used other clients, and the worst: the consumer stops, and nothing says so.
import { type ConsumerRecord, type MillraceError, processByKey, processEach, toAsyncIterable } from '@millrace/client'
import { cursorBatches, cursorOpen } from '@millrace/protocol'
import type { OperatorFunction } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { fill } from '../support/batches.js'
import { begin, type Setting, Texts } from '../support/setting.js'

type TextRecord = ConsumerRecord<string, string>

/** The broker keeps its heartbeats and forgets to push. */
function withhold({ cluster }: Setting, isWithheld: () => boolean): { readonly opens: number } {
  const counts = { opens: 0 }
  const broker = cluster.brokers[0]!
  broker.intercept = (connection, header) => {
    if (header.kind === cursorOpen.kind) counts.opens++
    const send = connection.send.bind(connection)
    connection.send = (codec, message, id, timeMs) => {
      if (codec.kind !== cursorBatches.kind || !isWithheld()) send(codec, message, id, timeMs)
    }
    return false
  }
  return counts
}

function run({ mill }: Setting, operator: OperatorFunction<TextRecord, unknown>, stallTimeoutMs?: number) {
  const errors: MillraceError[] = []
  const seen: unknown[] = []
  mill
    .consumer(stallTimeoutMs === undefined ? {} : { stallTimeoutMs })
    .subscribe(Texts, { from: 'earliest' })
    .pipe(operator)
    .subscribe({ next: (value) => seen.push(value), error: (error: MillraceError) => errors.push(error) })
  return { errors, seen }
}

describe('complaint 1: a consumer silently stops', () => {
  test('a handler that does not end is an error after stallTimeoutMs, with its record; others are not waited for', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 50, 10)
    const work = ({ offset }: TextRecord): Promise<number> | number => (offset === 12 ? new Promise(() => {}) : offset)
    const { errors, seen } = run(setting, processEach(work, { concurrency: 4 }), 60_000)
    await setting.world.run(59_000)
    expect(seen.length).toBe(49)
    expect(errors).toEqual([])
    expect(setting.statuses.find(({ kind }) => kind === 'stalled')).toMatchObject({ partition: 0, offset: 12 })
    await setting.world.run(5_000)
    expect(errors).toMatchObject([
      { code: 'ERR_MILLRACE_STALLED', topic: 'orders', partition: 0, offset: 12, fatal: true, retriable: true },
    ])
    await setting.world.run(10)
    expect(setting.cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('slow is not stalled: a lane that goes on is left alone', async () => {
    const setting = begin({ partitions: 1 })
    const { world } = setting
    fill(setting.cluster, 1, 0, 14, 7)
    const work = (): Promise<void> => new Promise((resolve) => world.at(20_000, resolve))
    const { errors, seen } = run(setting, processByKey(work, { concurrency: 1 }), 30_000)
    await world.run(300_000)
    expect(errors).toEqual([])
    expect(seen.length).toBe(14)
    expect(world.warnings).toEqual([])
  })

  test('an operator that holds back: iteration that does not go on', async () => {
    const setting = begin({ partitions: 1 })
    const { world, mill } = setting
    fill(setting.cluster, 1, 0, 5, 5)
    const pipeline = mill.consumer({ stallTimeoutMs: 45_000 }).subscribe(Texts, { from: 'earliest' })
    const iterator = toAsyncIterable(pipeline)[Symbol.asyncIterator]()
    await world.result(iterator.next())
    const loop = mill
      .consumer({ stallTimeoutMs: 45_000 })
      .subscribe(Texts, { from: 'earliest' })
      [Symbol.asyncIterator]()
    await world.result(loop.next())
    await world.run(40_000)
    expect(world.warnings.map(({ code }) => code)).toEqual(['MILLRACE_STALLED', 'MILLRACE_STALLED'])
    await world.run(10_000)
    const stalled = { code: 'ERR_MILLRACE_STALLED', partition: 0, offset: 0 }
    expect(await world.failure(loop.next())).toMatchObject(stalled)
    const failed = (async () => {
      for (;;) if ((await iterator.next()).done) return
    })()
    expect(await world.failure(failed)).toMatchObject(stalled)
  })

  test('a cursor without data although the end is ahead is told of, asked anew, and goes on', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, statuses } = setting
    let withheld = false
    const counts = withhold(setting, () => withheld)
    fill(cluster, 1, 0, 5, 5)
    const { seen, errors } = run(
      setting,
      processEach(({ offset }) => offset),
    )
    await world.run(1_000)
    expect(seen.length).toBe(5)
    withheld = true
    fill(cluster, 1, 0, 5, 5)
    await world.run(28_000)
    expect([world.warnings.length, counts.opens]).toEqual([0, 1])
    await world.run(8_000)
    expect(world.warnings).toMatchObject([{ code: 'MILLRACE_UNREADABLE' }])
    expect(world.warnings[0]!.message).toMatch(/orders\/0 .* from offset 5 to 10/)
    expect(statuses.find(({ kind }) => kind === 'stalled')).toMatchObject({ topic: 'orders', partition: 0, offset: 5 })
    expect(counts.opens).toBe(2)
    withheld = false
    await world.run(60_000)
    expect(seen.length).toBe(10)
    expect(errors).toEqual([])
  })

  test('a partition of which nothing comes is an error after stallTimeoutMs', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster } = setting
    withhold(setting, () => true)
    const { errors } = run(
      setting,
      processEach(() => {}),
      90_000,
    )
    await world.run(100)
    fill(cluster, 1, 0, 5, 5)
    await world.run(80_000)
    expect(errors).toEqual([])
    await world.run(20_000)
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_STALLED', partition: 0, offset: 0 }])
  })

  test('a partition without a broker is an error after stallTimeoutMs, with the cause', async () => {
    const setting = begin({ partitions: 1 })
    const { errors } = run(
      setting,
      processEach(() => {}),
      40_000,
    )
    await setting.world.run(1_000)
    setting.cluster.brokers[0]!.stop()
    await setting.world.run(60_000)
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_STALLED', partition: 0 }])
    expect(String(errors[0])).toContain('ECONNREFUSED')
  })

  test('a slow reader with a full window is no trouble of the broker', async () => {
    const setting = begin({ partitions: 1 })
    const { world, mill } = setting
    fill(setting.cluster, 1, 0, 1_000, 10)
    let n = 0
    const errors: MillraceError[] = []
    const work = (): Promise<void> => new Promise((resolve) => world.at(5_000, resolve))
    mill
      .consumer({ inFlightBytes: 500, stallTimeoutMs: 20_000 })
      .subscribe(Texts, { from: 'earliest' })
      .pipe(processEach(work))
      .subscribe({ next: () => n++, error: (error) => errors.push(error) })
    await world.run(200_000)
    expect(n).toBeGreaterThan(35)
    expect(errors).toEqual([])
    expect(world.warnings).toEqual([])
  })

  test('a time that makes no sense is refused', () => {
    expect(() => begin().mill.consumer({ stallTimeoutMs: 0 })).toThrow('stallTimeoutMs')
  })
})
