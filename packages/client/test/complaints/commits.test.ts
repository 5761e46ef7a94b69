// Complaint 18 with a group: what is committed when work fails, is given up, is left behind, or is done batch by batch.
import {
  type ConsumerRecord,
  type Mill,
  processByKey,
  processByPartition,
  processEach,
  type RecordBatch,
  retryOrDeadLetter,
  type SubscribeOptions,
  type Topic,
  topic,
  toTopic,
  utf8,
} from '@millrace/client'
import { type Observable, Subscription } from 'rxjs'
import { describe, expect, test, vi } from 'vitest'
import { clusterOfFile } from '../support/real-cluster.js'

vi.setConfig({ testTimeout: 60_000 })

type Text = Topic<string, string>
type TextRecord = ConsumerRecord<string, string>

const real = clusterOfFile()

async function newTopic(count: number): Promise<Text> {
  const created = topic(await real.newTopic({ partitions: 1 }), { key: utf8, value: utf8 })
  // Two batches, so that one can be finished and the other not.
  const producer = real.mill.producer(created)
  for (const [from, to] of [
    [0, count / 2],
    [count / 2, count],
  ] as const) {
    await producer.sendBatch(
      Array.from({ length: to - from }, (_, i) => ({ key: `k${(from + i) % 5}`, value: String(from + i) })),
    )
  }
  return created
}

/** Runs a pipeline as the only member of the topic's group until it ends, or until `enough`. */
async function run<R>(
  from: Text,
  pipe: (stream: ReturnType<typeof streamOf>) => Observable<R>,
  enough: (values: readonly R[]) => boolean = () => false,
  how: 'close' | 'unsubscribe' = 'close',
): Promise<{ readonly values: R[]; readonly error: Error | null }> {
  const consumer = real.mill.consumer({ group: from.name, leaseMs: 6_000, commitIntervalMs: 50 })
  const values: R[] = []
  const subscription = new Subscription()
  const error = await new Promise<Error | null>((resolve) => {
    subscription.add(
      pipe(streamOf(consumer, from)).subscribe({
        next: (value) => {
          values.push(value)
          if (enough(values)) resolve(null)
        },
        error: resolve,
      }),
    )
  })
  if (how === 'unsubscribe') subscription.unsubscribe()
  await consumer.close()
  return { values, error }
}

const streamOf = (consumer: ReturnType<Mill['consumer']>, from: Text, options: SubscribeOptions = {}) =>
  consumer.subscribe(from, options)

/** Where the next member of the group begins. */
async function nextOffset(from: Text): Promise<number> {
  const { values } = await run(
    from,
    (stream) => stream.pipe(processEach(({ offset }) => offset)),
    (seen) => seen.length > 0,
  )
  return values[0]!
}

const failAt =
  (bad: number) =>
  async ({ offset }: TextRecord): Promise<number> => {
    if (offset === bad) throw new Error('no')
    return offset
  }

describe('complaint 18: the committed offset moves although the handler failed', () => {
  test.each([
    ['processEach', processEach],
    ['processByKey', processByKey],
    ['processByPartition', processByPartition],
  ])('%s: the next member begins with the record that failed', async (_name, operator) => {
    const from = await newTopic(40)
    const { values, error } = await run(from, (stream) => stream.pipe(operator(failAt(13), { concurrency: 1 })))
    expect(error?.message).toBe('no')
    expect(values).toEqual([...Array(13).keys()])
    expect(await nextOffset(from)).toBe(13)
  })

  test('with others finished behind it: they come again, nothing is lost', async () => {
    const from = await newTopic(40)
    const { error } = await run(from, (stream) => stream.pipe(processByKey(failAt(12), { concurrency: 8 })))
    expect(error?.message).toBe('no')
    expect(await nextOffset(from)).toBe(12)
  })

  test('unsubscribed while records wait: what waited and what was in progress comes again', async () => {
    const from = await newTopic(40)
    const work = async ({ offset }: TextRecord): Promise<number> => {
      if (offset === 5) await new Promise(() => {})
      return offset
    }
    const piped = (stream: ReturnType<typeof streamOf>) => stream.pipe(processByPartition(work))
    await run(from, piped, (values) => values.length === 5, 'unsubscribe')
    expect(await nextOffset(from)).toBe(5)
  })
})

describe('complaint 17: a poison record, in a group', () => {
  test('is behind the committed offset once its dead letter is acknowledged, and not before', async () => {
    const from = await newTopic(20)
    const retried = (to: string) => retryOrDeadLetter(failAt(7), { attempts: 2, backoff: () => 1, topic: to })
    const lost = await run(from, (stream) => stream.pipe(processByKey(retried('nowhere'))))
    expect(lost.error).toMatchObject({ code: 'ERR_MILLRACE_DEAD_LETTER', offset: 7 })
    expect(await nextOffset(from)).toBe(7)
    const dead = await newTopic(2)
    const fresh = await newTopic(20)
    const good = await run(
      fresh,
      (stream) => stream.pipe(processByKey(retried(dead.name))),
      (values) => values.length === 19,
    )
    expect(good.error).toBe(null)
    await real.mill.producer(fresh).send('k', 'more')
    expect(await nextOffset(fresh)).toBe(20)
  })
})

describe('whole batches and toTopic in a group', () => {
  test('a batch is committed as one', async () => {
    const from = await newTopic(40)
    const work = async ({ offset, endOffset }: RecordBatch<string, string>): Promise<number> => {
      if (offset === 20) throw new Error('no')
      return endOffset
    }
    const { values, error } = await run(from, (stream) => stream.batches().pipe(processByPartition(work)))
    expect([values, error?.message]).toEqual([[20], 'no'])
    expect(await nextOffset(from)).toBe(20)
  })

  test('what was sent on is committed when it is acknowledged', async () => {
    const from = await newTopic(40)
    const to = await newTopic(2)
    const producer = real.mill.producer(to)
    await run(
      from,
      (stream) => stream.pipe(toTopic(producer)),
      (values) => values.length === 40,
    )
    await real.mill.producer(from).send('k', 'more')
    expect(await nextOffset(from)).toBe(40)
    const copies: (string | null)[] = []
    for await (const { value } of real.mill.consumer().subscribe(to, { from: { offset: 2 }, until: 'end' }))
      copies.push(value)
    expect(copies).toEqual(Array.from({ length: 40 }, (_, i) => String(i)))
  })
})
