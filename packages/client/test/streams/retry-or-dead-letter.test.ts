// Work that is tried again, and records that are given up: what is settled when, and what ends what.
import {
  type ConsumerRecord,
  deadLetterOf,
  type MillraceError,
  NO_RESULT,
  processByKey,
  processByPartition,
  processEach,
  type RetryOrDeadLetterOptions,
  retryOrDeadLetter,
  type SubscribeOptions,
  type Work,
} from '@millrace/client'
import { map, type OperatorFunction, type Subscription } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { buildBatch, fill } from '../support/batches.js'
import { begin as beginSetting, Orders, type Setting, Texts } from '../support/setting.js'

type TextRecord = ConsumerRecord<string, string>
type Bytes = Uint8Array

const DEAD = 'orders.dead'
const DEAD_ID = 2
const QUICK: RetryOrDeadLetterOptions = { attempts: 3, backoff: () => 10, topic: DEAD }

function begin(partitions = 1): Setting {
  const setting = beginSetting({ partitions })
  setting.cluster.addTopic(DEAD, 1)
  return setting
}

interface Run {
  readonly events: unknown[]
  readonly errors: MillraceError[]
  readonly subscription: Subscription
}

function start(setting: Setting, operator: OperatorFunction<TextRecord, unknown>, options: SubscribeOptions = {}): Run {
  const events: unknown[] = []
  const errors: MillraceError[] = []
  const subscription = setting.mill
    .consumer()
    .subscribe(Texts, { from: 'earliest', ...options })
    .pipe(operator)
    .subscribe({
      next: (value) => events.push(value),
      error: (error: MillraceError) => errors.push(error),
      complete: () => events.push('complete'),
    })
  return { events, errors, subscription }
}

/** What is in the dead-letter topic. */
async function letters({ mill, world }: Setting): Promise<ConsumerRecord<Bytes, Bytes>[]> {
  const found: ConsumerRecord<Bytes, Bytes>[] = []
  let done = false
  mill
    .consumer()
    .subscribe(DEAD, { from: 'earliest', until: 'end' })
    .subscribe({ next: (record) => found.push(record), complete: () => (done = true) })
  await world.until(() => done)
  return found
}

const text = (bytes: Bytes | null): string | null => bytes && new TextDecoder().decode(bytes)

/** Fails for these offsets, as often as said. */
function failing(times: ReadonlyMap<number, number>, tries: number[] = []): Work<TextRecord, number> {
  const left = new Map(times)
  return async ({ offset }) => {
    tries.push(offset)
    const more = left.get(offset) ?? 0
    if (more === 0) return offset
    left.set(offset, more - 1)
    throw new RangeError(`no luck with ${offset}`)
  }
}

describe('retryOrDeadLetter', () => {
  test('tries again with waits between, and gives up after the attempts', async () => {
    const setting = begin()
    const { world, cluster, statuses } = setting
    const headers = [['trace', new Uint8Array([7])]] as const
    const written = ['0', '1', '2', '3'].map((value) => ({ key: `k${value}`, value, headers, timestamp: 42 }))
    cluster.append(1, 0, buildBatch(1, 0, written))
    const tries: number[] = []
    const work = failing(
      new Map([
        [1, 2],
        [2, 9],
      ]),
      tries,
    )
    const { events, errors } = start(setting, processEach(retryOrDeadLetter(work, QUICK)))
    await world.until(() => events.length === 3)
    expect(events).toEqual([0, 1, 3])
    expect(tries).toEqual([0, 1, 1, 1, 2, 2, 2, 3])
    expect(errors).toEqual([])
    const [letter, ...others] = await letters(setting)
    expect(others).toEqual([])
    expect([text(letter!.key), text(letter!.value), letter!.timestamp]).toEqual(['k2', '2', 42])
    expect(letter!.header('trace')).toEqual(new Uint8Array([7]))
    expect(deadLetterOf(letter!)).toMatchObject({
      topic: 'orders',
      partition: 0,
      offset: 2,
      errorName: 'RangeError',
      errorMessage: 'no luck with 2',
      attempts: 3,
    })
    const told = statuses.filter(({ kind }) => kind === 'dead-lettered')
    expect(told).toMatchObject([{ topic: 'orders', partition: 0, offset: 2 }])
    expect(deadLetterOf(letter!)!.atMs).toBe(told[0]!.timestamp - 2)
  })

  test('settles the record only when the dead letter is acknowledged', async () => {
    const setting = begin()
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 200, 10)
    cluster.produceRule = () => ({ silent: true })
    const broken = retryOrDeadLetter(
      () => {
        throw new Error('always')
      },
      { attempts: 1, topic: DEAD },
    )
    const events: unknown[] = []
    mill
      .consumer({ inFlightBytes: 1_000 })
      .subscribe(Texts, { from: 'earliest' })
      .pipe(processEach(broken, { concurrency: 100 }))
      .subscribe((value) => events.push(value))
    await world.run(5_000)
    // The credit of what is on its way to the dead-letter topic has not returned.
    expect(cluster.pushedBytes).toBeLessThan(1_500)
    expect(cluster.seen.length).toBeGreaterThan(0)
    cluster.produceRule = () => undefined
    for (const connection of cluster.brokers[0]!.data) connection.cut()
    await world.until(() => cluster.partition(DEAD_ID, 0).end === 200)
    expect(events).toEqual([])
    const found = await letters(setting)
    expect(found.map((letter) => deadLetterOf(letter)!.offset).sort((a, b) => a - b)).toEqual([...Array(200).keys()])
  })

  test('retryIf sends hopeless records away at once', async () => {
    const setting = begin()
    fill(setting.cluster, 1, 0, 2, 2)
    const tries: number[] = []
    const work = failing(
      new Map([
        [0, 1],
        [1, 9],
      ]),
      tries,
    )
    const retryIf = (error: unknown): boolean => (error as Error).message.endsWith('0')
    start(setting, processEach(retryOrDeadLetter(work, { ...QUICK, retryIf })))
    await setting.world.run(200)
    expect(tries).toEqual([0, 0, 1])
    expect((await letters(setting)).map((letter) => deadLetterOf(letter)!.attempts)).toEqual([1])
  })

  test('backoff doubles with full jitter unless a function says otherwise', async () => {
    const setting = begin()
    fill(setting.cluster, 1, 0, 1, 1)
    const atMs: number[] = []
    const work = (): never => {
      atMs.push(setting.world.nowMs)
      throw new Error('x')
    }
    start(
      setting,
      processEach(retryOrDeadLetter(work, { attempts: 8, topic: DEAD, backoff: { initialMs: 100, maxMs: 1_000 } })),
    )
    await setting.world.run(10_000)
    const waits = atMs.slice(1).map((at, i) => at - atMs[i]!)
    expect(waits.length).toBe(7)
    for (const [i, wait] of waits.entries()) expect(wait).toBeLessThanOrEqual(Math.min(1_000, 100 * 2 ** i))
    expect(new Set(waits).size).toBeGreaterThan(3)

    const asked: unknown[] = []
    const backoff = (attemptsMade: number, error: unknown): number => {
      asked.push([attemptsMade, (error as Error).message])
      return 7
    }
    atMs.length = 0
    start(setting, processEach(retryOrDeadLetter(work, { attempts: 3, topic: DEAD, backoff })))
    await setting.world.run(1_000)
    expect(asked).toEqual([
      [1, 'x'],
      [2, 'x'],
    ])
    expect(atMs.slice(1).map((at, i) => at - atMs[i]!)).toEqual([7, 7])
  })

  test('others of the lane wait for it, other lanes do not', async () => {
    const setting = begin()
    const { cluster, world } = setting
    cluster.append(
      1,
      0,
      buildBatch(
        1,
        0,
        ['a', 'b', 'a', 'b'].map((key) => ({ key, value: 'v' })),
      ),
    )
    const tries: number[] = []
    const work = failing(new Map([[0, 2]]), tries)
    const { events } = start(
      setting,
      processByKey(retryOrDeadLetter(work, { ...QUICK, backoff: () => 1_000 }), { concurrency: 4 }),
    )
    await world.run(500)
    expect(events).toEqual([1, 3])
    await world.run(5_000)
    expect(tries).toEqual([0, 1, 3, 0, 0, 2])
    expect(events).toEqual([1, 3, 0, 2])
  })

  test('many that wait at once are no leak to the runtime', async () => {
    const warnings: Error[] = []
    const listen = (warning: Error): void => void warnings.push(warning)
    process.on('warning', listen)
    const setting = begin()
    const { world, cluster } = setting
    fill(cluster, 1, 0, 64, 64)
    const once = new Map(Array.from({ length: 64 }, (_, offset) => [offset, 1]))
    const { events } = start(setting, processEach(retryOrDeadLetter(failing(once), QUICK), { concurrency: 64 }))
    await world.until(() => events.length === 64)
    await new Promise((resolve) => setImmediate(resolve))
    process.off('warning', listen)
    expect(warnings).toEqual([])
  })

  test('works on mapped values, and emits what the work returns', async () => {
    const setting = begin()
    fill(setting.cluster, 1, 0, 4, 4)
    const work = retryOrDeadLetter(
      (offset: number) => {
        if (offset === 1) throw new Error('one')
        return offset === 2 ? NO_RESULT : offset * 10
      },
      { attempts: 1, topic: DEAD },
    )
    const { events } = start(setting, (source) =>
      source.pipe(
        map(({ offset }) => offset),
        processByPartition(work),
      ),
    )
    await setting.world.run(200)
    expect(events).toEqual([0, 30])
    expect(text((await letters(setting))[0]!.value)).toBe('1')
  })

  test('a dead letter that cannot be sent ends the stream, after work in progress', async () => {
    const setting = begin()
    const { cluster, world } = setting
    fill(cluster, 1, 0, 6, 6)
    cluster.produceRule = () => ({ refuse: 'DISK_FULL' })
    const hanging: (() => void)[] = []
    const work = ({ offset }: TextRecord): Promise<number> | number => {
      if (offset === 0) throw new Error('bad')
      return new Promise((resolve) => hanging.push(() => resolve(offset)))
    }
    const producer = setting.mill.producer(DEAD, { deliveryTimeoutMs: 1_000 })
    const { events, errors } = start(
      setting,
      processEach(retryOrDeadLetter(work, { attempts: 1, producer }), { concurrency: 3 }),
    )
    await world.run(5_000)
    expect(hanging.length).toBe(2)
    expect(errors).toEqual([])
    for (const finish of hanging) finish()
    await world.run(10)
    expect(events).toEqual([1, 2])
    expect(errors).toMatchObject([
      { code: 'ERR_MILLRACE_DEAD_LETTER', topic: 'orders', partition: 0, offset: 0, fatal: true },
    ])
    expect(String(errors[0])).toContain(DEAD)
  })

  test('a dead-letter topic that does not exist ends the stream by name', async () => {
    const setting = begin()
    fill(setting.cluster, 1, 0, 1, 1)
    const work = failing(new Map([[0, 1]]))
    const { errors } = start(setting, processEach(retryOrDeadLetter(work, { attempts: 1, topic: 'nowhere' })))
    await setting.world.run(1_000)
    expect(errors[0]).toMatchObject({
      code: 'ERR_MILLRACE_DEAD_LETTER',
      cause: { code: 'ERR_MILLRACE_UNKNOWN_TOPIC' },
    })
  })

  test.each(['unsubscribe', 'close'] as const)('%s ends the wait for another attempt', async (how) => {
    const setting = begin()
    const { world, mill } = setting
    fill(setting.cluster, 1, 0, 1, 1)
    const outcomes: Promise<unknown>[] = []
    const tries: number[] = []
    const retried = retryOrDeadLetter(failing(new Map([[0, 99]]), tries), { ...QUICK, backoff: () => 600_000 })
    const watched: Work<TextRecord, number> = (record, context) => {
      const result = Promise.resolve(retried(record, context))
      outcomes.push(
        result.then(
          () => 'resolved',
          (error: MillraceError) => error.code,
        ),
      )
      return result
    }
    const { events, subscription } = start(setting, processEach(watched))
    await world.run(50)
    const timersBefore = world.pendingTimers
    if (how === 'unsubscribe') subscription.unsubscribe()
    else await world.result(mill.close({ timeoutMs: 1_000 }))
    await world.run(1)
    // No promise is left behind, and no timer.
    expect(await Promise.all(outcomes)).toEqual(['ERR_MILLRACE_ABORTED'])
    expect(world.pendingTimers).toBeLessThan(timersBefore)
    expect(events).toEqual(how === 'close' ? ['complete'] : [])
    expect(tries).toEqual([0])
    if (how === 'close') expect(world.keepAliveTimers).toBe(0)
  })

  test('close waits for a dead letter on its way, though it was the first', async () => {
    const setting = begin()
    const { world, mill, cluster } = setting
    fill(cluster, 1, 0, 1, 1)
    const work = failing(new Map([[0, 9]]))
    start(setting, processEach(retryOrDeadLetter(work, { ...QUICK, backoff: () => 500 })))
    await world.run(100)
    await world.result(mill.close())
    expect(cluster.partition(DEAD_ID, 0).end).toBe(1)
  })

  test('one producer for each dead-letter topic is enough', async () => {
    const setting = begin(3)
    for (const partition of [0, 1, 2]) fill(setting.cluster, 1, partition, 20, 5)
    const work = (): never => {
      throw new Error('x')
    }
    start(setting, processByPartition(retryOrDeadLetter(work, { attempts: 1, topic: DEAD }), { concurrency: 3 }))
    start(setting, processEach(retryOrDeadLetter(work, { attempts: 1, topic: DEAD })))
    await setting.world.until(() => setting.cluster.partition(DEAD_ID, 0).end === 120)
    expect(new Set(setting.cluster.seen.map(({ producer }) => producer)).size).toBe(1)
  })

  test.each([
    [{}, 'topic'],
    [{ topic: 'a/b' }, 'topic'],
    [{ topic: DEAD, attempts: 0 }, 'attempts'],
    [{ topic: DEAD, backoff: { initialMs: 0 } }, 'backoff.initialMs'],
    [{ topic: DEAD, backoff: { initialMs: 10, maxMs: 5 } }, 'backoff.maxMs'],
    [{ topic: DEAD, backoff: { factor: 2 } }, 'factor'],
    [{ topic: DEAD, retryIf: 'always' }, 'retryIf'],
    [{ topic: DEAD, retries: 3 }, 'retries'],
  ])('%j is refused and named', (options, named) => {
    expect(() => retryOrDeadLetter(() => 1, options as RetryOrDeadLetterOptions)).toThrow(named)
  })

  test('a topic and a producer that disagree, and work that no operator runs', () => {
    const { mill } = begin()
    const producer = mill.producer('elsewhere')
    expect(() => retryOrDeadLetter(() => 1, { topic: DEAD, producer })).toThrow('give one of them')
    const work = retryOrDeadLetter((n: number) => n, { topic: DEAD })
    const context = { topic: '', partition: 0, offset: 0, key: null, signal: new AbortController().signal }
    expect(() => work(1, { ...context, records: () => [] })).toThrow('processEach()')
  })
})

describe('onDecodeError', () => {
  const rows = ['{"n":0}', 'no json', '{"n":2}', 'nor this', '{"n":4}']

  function read(
    setting: Setting,
    options: SubscribeOptions,
    until = true,
  ): { seen: unknown[]; errors: MillraceError[] } {
    const seen: unknown[] = []
    const errors: MillraceError[] = []
    setting.mill
      .consumer()
      .subscribe(Orders, { from: 'earliest', ...(until && { until: 'end' }), ...options })
      .subscribe({
        next: ({ value }) => seen.push(value!.n),
        error: (error: MillraceError) => errors.push(error),
        complete: () => seen.push('complete'),
      })
    return { seen, errors }
  }

  function put({ cluster }: Setting, partition = 0): void {
    cluster.append(
      1,
      partition,
      buildBatch(
        1,
        partition,
        rows.map((value) => ({ key: 'k', value })),
      ),
    )
  }

  test('deadLetter keeps the bytes, and the order: nothing passes before it is acknowledged', async () => {
    const setting = begin()
    const { world, cluster, statuses } = setting
    put(setting)
    cluster.produceRule = () => ({ silent: true })
    const { seen, errors } = read(setting, { onDecodeError: 'deadLetter', deadLetterTopic: DEAD })
    await world.run(2_000)
    expect(seen).toEqual([0])
    expect(cluster.seen.length).toBe(1)
    cluster.produceRule = () => undefined
    for (const connection of cluster.brokers[0]!.data) connection.cut()
    await world.until(() => seen.length === 4)
    expect(seen).toEqual([0, 2, 4, 'complete'])
    expect(errors).toEqual([])
    const found = await letters(setting)
    expect(found.map(({ value }) => text(value))).toEqual(['no json', 'nor this'])
    expect(found.map((letter) => deadLetterOf(letter))).toMatchObject([
      { topic: 'orders', partition: 0, offset: 1, errorName: 'ERR_MILLRACE_DESERIALIZATION', attempts: 0 },
      { offset: 3 },
    ])
    expect(statuses.filter(({ kind }) => kind === 'dead-lettered').map(({ offset }) => offset)).toEqual([1, 3])
  })

  test('deadLetter that cannot be sent ends the subscription; nothing behind the record was delivered', async () => {
    const setting = begin()
    put(setting)
    const { seen, errors } = read(setting, { onDecodeError: 'deadLetter', deadLetterTopic: 'nowhere' })
    await setting.world.run(2_000)
    expect(seen).toEqual([0])
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_DEAD_LETTER', partition: 0, offset: 1, fatal: true }])
    expect(setting.cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('a function sees the bytes and decides, at once or later; other partitions go on meanwhile', async () => {
    const setting = begin(2)
    const { world } = setting
    put(setting, 0)
    put(setting, 1)
    const asked: unknown[] = []
    const decide: ((verdict: 'skip' | 'deadLetter') => void)[] = []
    const { seen } = read(setting, {
      deadLetterTopic: DEAD,
      onDecodeError: ({ record, what, error }) => {
        asked.push([record.partition, record.offset, text(record.key), text(record.value), what, error.code])
        if (record.partition === 1) return 'skip'
        return new Promise((resolve) => decide.push(resolve))
      },
    })
    await world.run(100)
    expect(seen.length).toBe(4)
    expect(asked).toContainEqual([0, 1, 'k', 'no json', 'value', 'ERR_MILLRACE_DESERIALIZATION'])
    expect(decide.length).toBe(1)
    decide[0]!('skip')
    await world.run(100)
    expect(seen.length).toBe(5)
    decide[1]!('deadLetter')
    await world.run(100)
    expect(seen.length).toBe(7)
    expect(seen.at(-1)).toBe('complete')
    expect((await letters(setting)).map(({ value }) => text(value))).toEqual(['nor this'])
  })

  test.each([
    ['fail', () => 'fail', 'cannot be decoded'],
    ['fail, later', async () => 'fail', 'cannot be decoded'],
    [
      'throws',
      () => {
        throw new Error('undecided')
      },
      'undecided',
    ],
    ['rejects', () => Promise.reject(new Error('undecided')), 'undecided'],
    ['deadLetter without a topic', () => 'deadLetter', 'deadLetterTopic'],
    ['deadLetter without a topic, later', async () => 'deadLetter', 'deadLetterTopic'],
    ['anything else', () => 'retry', 'retry'],
  ])('a function that says %s ends the subscription', async (_name, onDecodeError, named) => {
    const setting = begin()
    put(setting)
    const options = { onDecodeError } as SubscribeOptions
    const { seen, errors } = read(setting, options)
    await setting.world.run(100)
    expect(seen).toEqual([0])
    expect(errors).toMatchObject([{ fatal: true }])
    expect(String(errors[0])).toContain(named)
  })

  test('in a loop', async () => {
    const setting = begin()
    put(setting)
    const seen: number[] = []
    const loop = (async () => {
      const options: SubscribeOptions = {
        from: 'earliest',
        until: 'end',
        onDecodeError: 'deadLetter',
        deadLetterTopic: DEAD,
      }
      for await (const { value } of setting.mill.consumer().subscribe(Orders, options)) seen.push(value!.n)
    })()
    await setting.world.result(loop)
    expect(seen).toEqual([0, 2, 4])
    expect((await letters(setting)).length).toBe(2)
  })

  test('close waits for a dead letter on its way', async () => {
    const setting = begin()
    put(setting)
    const { seen } = read(setting, { onDecodeError: 'deadLetter', deadLetterTopic: DEAD }, false)
    await setting.world.until(() => seen.length === 1)
    await setting.world.result(setting.mill.close())
    expect(setting.cluster.partition(DEAD_ID, 0).end).toBe(1)
    expect(seen).toEqual([0, 'complete'])
  })

  test('deadLetter without a topic is refused', () => {
    const { mill } = begin()
    expect(() => mill.consumer({ onDecodeError: 'deadLetter' })).toThrow('deadLetterTopic')
    expect(() => mill.consumer({ deadLetterTopic: 'a/b' })).toThrow('topic')
    expect(() =>
      mill.consumer({ deadLetterTopic: DEAD }).subscribe(Orders, { onDecodeError: 'deadLetter' }),
    ).not.toThrow()
  })
})
