// What users of other clients suffer from while they process records, each told by its number in the list of complaints.
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import {
  bytes,
  type ConsumerRecord,
  deadLetterOf,
  json,
  type MillraceError,
  processByKey,
  processByPartition,
  processEach,
  retryOrDeadLetter,
  type Topic,
  topic,
  utf8,
} from '@millrace/client'
import { describe, expect, test } from 'vitest'
import { clusterOfFile } from '../support/real-cluster.js'

interface Order {
  readonly n: number
}
type OrderRecord = ConsumerRecord<string, Order>

const real = clusterOfFile()

async function newTopic(partitions = 1): Promise<Topic<string, Order>> {
  const name = await real.newTopic({ partitions, durability: 'buffered' })
  return topic(name, { key: utf8, value: json<Order>() })
}

async function put(to: Topic<string, Order>, count: number, keys = 10): Promise<void> {
  await real.mill
    .producer(to)
    .sendBatch(Array.from({ length: count }, (_, n) => ({ key: `k${n % keys}`, value: { n } })))
}

/** Everything of a topic. */
async function all(of: string): Promise<ConsumerRecord<Uint8Array, Uint8Array>[]> {
  const found: ConsumerRecord<Uint8Array, Uint8Array>[] = []
  for await (const record of real.mill.consumer().subscribe(of, { from: 'earliest', until: 'end' })) found.push(record)
  return found
}

/** What a stream does until it ends: everything it emits, then `complete` or the error. */
function drain<T>(stream: {
  subscribe(observer: object): unknown
}): Promise<{ values: T[]; error: MillraceError | null }> {
  const values: T[] = []
  return new Promise((resolve) => {
    stream.subscribe({
      next: (value: T) => values.push(value),
      error: (error: MillraceError) => resolve({ values, error }),
      complete: () => resolve({ values, error: null }),
    })
  })
}

describe('complaint 6: memory grows, or back-pressure is lost in a layer', () => {
  const operators = ['processByKey', 'processByPartition']

  test('a 100 ms handler behind twice the window: under 100 MB, and the broker reads no further', {
    timeout: 60_000,
  }, async () => {
    const name = await real.newTopic({ partitions: 4, durability: 'buffered' })
    const producer = real.mill.producer(topic(name, { key: bytes, value: bytes }))
    const value = new Uint8Array(100)
    for (let at = 0; at < 150_000; at += 5_000) {
      await producer.ready()
      void producer.sendBatch(Array.from({ length: 5_000 }, (_, i) => ({ key: Buffer.from(`k${at + i}`), value })))
    }
    await producer.flush()
    const program = new URL('../support/slow-consumer.mjs', import.meta.url).pathname
    for (const operator of operators) {
      const before = real.pushedBytes
      const { stdout } = await promisify(execFile)(process.execPath, [
        program,
        real.cluster.bootstrap,
        name,
        operator,
        '1500',
      ])
      const { done, maxRss } = JSON.parse(stdout) as { done: number; maxRss: number }
      expect(done).toBeGreaterThan(4)
      expect(done).toBeLessThan(1_000)
      expect(maxRss).toBeLessThan(100_000_000)
      // The window, and a batch for each partition.
      expect(real.pushedBytes - before).toBeLessThan(8 * 1024 * 1024 + 4 * 300_000)
    }
  })

  test('close leaves no promise unsettled, with handlers in progress and records waiting', async () => {
    const Orders = await newTopic(2)
    await put(Orders, 5_000)
    const begun: Promise<void>[] = []
    let ended = 0
    const work = (): Promise<void> => {
      const done = new Promise<void>((resolve) => setTimeout(resolve, 30))
      begun.push(done.then(() => void ended++))
      return done
    }
    const result = drain(
      real.mill
        .consumer()
        .subscribe(Orders, { from: 'earliest' })
        .pipe(processByKey(work, { concurrency: 4 })),
    )
    while (begun.length < 8) await new Promise((resolve) => setTimeout(resolve, 5))
    await real.mill.close()
    expect((await result).error).toBe(null)
    expect(ended).toBe(begun.length)
  })
})

describe('complaint 12: shutdown hangs', () => {
  test('behind a retry that would wait for an hour', async () => {
    const Orders = await newTopic()
    await put(Orders, 1)
    let tried = (): void => {}
    const first = new Promise<void>((resolve) => (tried = resolve))
    const work = (): never => {
      tried()
      throw new Error('down')
    }
    const retried = retryOrDeadLetter(work, { attempts: 9, backoff: () => 3_600_000, topic: 'nowhere' })
    const result = drain(real.mill.consumer().subscribe(Orders, { from: 'earliest' }).pipe(processEach(retried)))
    await first
    const startMs = performance.now()
    await real.mill.close({ timeoutMs: 500 })
    expect(performance.now() - startMs).toBeLessThan(2_000)
    expect(await result).toEqual({ values: [], error: null })
  })
})

describe('complaint 17: a poison record blocks the partition', () => {
  test('work that always fails: tried as often as said, then dead-lettered with its bytes; the rest goes on', async () => {
    const Orders = await newTopic()
    const Dead = await newTopic()
    await put(Orders, 50)
    let tries = 0
    const work = async ({ value }: OrderRecord): Promise<number> => {
      if (value!.n === 7 && ++tries > 0) throw new TypeError('poison')
      return value!.n
    }
    const retried = retryOrDeadLetter(work, { attempts: 4, backoff: { initialMs: 1, maxMs: 4 }, topic: Dead.name })
    const source = real.mill.consumer().subscribe(Orders, { from: 'earliest', until: 'end' })
    const { values, error } = await drain<number>(source.pipe(processByKey(retried, { concurrency: 8 })))
    expect(error).toBe(null)
    expect(tries).toBe(4)
    expect(values.sort((a, b) => a - b)).toEqual([...Array(50).keys()].filter((n) => n !== 7))
    const letters = await all(Dead.name)
    expect(letters.map((letter) => deadLetterOf(letter))).toMatchObject([
      { topic: Orders.name, partition: 0, offset: 7, errorName: 'TypeError', errorMessage: 'poison', attempts: 4 },
    ])
    expect(new TextDecoder().decode(letters[0]!.value!)).toBe('{"n":7}')
  })

  test('bytes that cannot be decoded: dead-lettered, in order, and the rest goes on', async () => {
    const Orders = await newTopic()
    const Dead = await newTopic()
    const raw = real.mill.producer(topic(Orders.name, { key: utf8, value: utf8 }))
    await raw.sendBatch(['{"n":0}', '{', '{"n":2}', 'oops', '{"n":4}'].map((value) => ({ key: 'k', value })))
    const options = { from: 'earliest', until: 'end', onDecodeError: 'deadLetter', deadLetterTopic: Dead.name } as const
    const { values, error } = await drain<OrderRecord>(real.mill.consumer().subscribe(Orders, options))
    expect(error).toBe(null)
    expect(values.map(({ value }) => value!.n)).toEqual([0, 2, 4])
    expect((await all(Dead.name)).map(({ value }) => new TextDecoder().decode(value!))).toEqual(['{', 'oops'])
  })
})

describe('complaint 18: the position moves although the handler failed', () => {
  test.each([
    ['processEach', processEach],
    ['processByKey', processByKey],
    ['processByPartition', processByPartition],
  ])('%s: what failed, what waited, and what came meanwhile gives no credit back', async (_name, operator) => {
    const Orders = await newTopic()
    await put(Orders, 20_000)
    const before = real.pushedBytes
    const work = async ({ value }: OrderRecord): Promise<number> => {
      if (value!.n === 3) throw new Error('no')
      return value!.n
    }
    const source = real.mill.consumer({ inFlightBytes: 20_000 }).subscribe(Orders, { from: 'earliest' })
    const { values, error } = await drain<number>(source.pipe(operator(work, { concurrency: 1 })))
    expect(String(error)).toContain('no')
    expect(values).toEqual([0, 1, 2])
    expect(real.pushedBytes - before).toBeLessThan(20_000 + 300_000)
  })
})

describe('complaint 19: parallel work within a partition', () => {
  test('keys side by side, each in order: faster than the partition alone', async () => {
    const Orders = await newTopic()
    await put(Orders, 200, 20)
    const run = async (operator: typeof processByKey): Promise<{ most: number; inOrder: boolean }> => {
      const last = new Map<string, number>()
      let busy = 0
      let most = 0
      let inOrder = true
      const work = async ({ key, value }: OrderRecord): Promise<void> => {
        most = Math.max(most, ++busy)
        inOrder &&= (last.get(key!) ?? -1) < value!.n
        await new Promise((resolve) => setImmediate(resolve))
        last.set(key!, value!.n)
        busy--
      }
      const source = real.mill.consumer().subscribe(Orders, { from: 'earliest', until: 'end' })
      const { error, values } = await drain(source.pipe(operator(work, { concurrency: 64 })))
      expect([error, values.length]).toEqual([null, 200])
      return { most, inOrder }
    }
    expect(await run(processByKey)).toEqual({ most: 20, inOrder: true })
    expect(await run(processByPartition)).toEqual({ most: 1, inOrder: true })
  })
})

describe('complaint 20: retries without end, or none', () => {
  test('a limit, a judgement, and then an error of the stream when nothing else is asked for', async () => {
    const Orders = await newTopic()
    await put(Orders, 3)
    const source = real.mill.consumer().subscribe(Orders, { from: 'earliest' })
    let tries = 0
    const work = async (): Promise<never> => {
      tries++
      throw new RangeError('hopeless')
    }
    const once = await drain(source.pipe(processEach(work)))
    expect([once.error?.name, tries]).toEqual(['RangeError', 1])
    tries = 0
    const Dead = await newTopic()
    const judged = retryOrDeadLetter(work, {
      attempts: 100,
      retryIf: (error) => !(error instanceof RangeError),
      topic: Dead.name,
    })
    const ended = real.mill.consumer().subscribe(Orders, { from: 'earliest', until: 'end' })
    expect((await drain(ended.pipe(processEach(judged)))).error).toBe(null)
    expect(tries).toBe(3)
    expect((await all(Dead.name)).length).toBe(3)
  })
})
