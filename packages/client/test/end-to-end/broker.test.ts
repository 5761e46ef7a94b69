// The client against a real broker in this process: what only both together can show.
import { type ConsumerRecord, json, type MillStatus, processEach, toAsyncIterable, topic, utf8 } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { map } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { clusterOfFile } from '../support/real-cluster.js'

interface Order {
  readonly n: number
}

const real = clusterOfFile()

async function newTopic(partitions: number, codecs?: ('none' | 'gzip')[]): Promise<ReturnType<typeof orders>> {
  return orders(await real.newTopic({ partitions, durability: 'buffered', ...(codecs && { codecs }) }))
}

const orders = (name: string) => topic(name, { key: utf8, value: json<Order>() })

test('a record leaves through send and arrives through subscribe', async () => {
  const Orders = await newTopic(6)
  const producer = real.mill.producer(Orders)
  const arrived = new Promise<ConsumerRecord<string, Order>>((resolve, reject) => {
    real.mill.consumer().subscribe(Orders, { from: 'earliest' }).subscribe({ next: resolve, error: reject })
  })
  const headers = [['trace', new Uint8Array([1, 2])]] as const
  const { partition, offset, timestamp } = await producer.send('customer-42', { n: 12 }, { headers })
  const record = await arrived
  expect(record).toMatchObject({
    topic: Orders.name,
    partition,
    offset,
    timestamp,
    key: 'customer-42',
    value: { n: 12 },
  })
  expect(record.headers).toEqual(headers)
  expect(real.mill.statistics()).toEqual({ misroutes: 0, refusals: 0, refreshes: 0, reconnects: 0 })
})

test('keys keep their order, partitions are dense, gzip and tombstones pass', async () => {
  const Orders = await newTopic(4)
  const producer = real.mill.producer(Orders, { codec: 'gzip' })
  const sends = Array.from({ length: 5_000 }, (_, n) => ({
    key: n % 11 === 0 ? null : `k${n % 97}`,
    value: n % 13 === 0 ? null : { n },
  }))
  const result = await producer.sendBatch(sends)
  expect(result.acknowledgedRecords).toBe(5_000)
  const byPartition = new Map<number, number[]>()
  const lastByKey = new Map<string, number>()
  for await (const { partition, offset, key, value } of real.mill
    .consumer()
    .subscribe(Orders, { from: 'earliest', until: 'end' })) {
    const offsets = byPartition.get(partition) ?? []
    offsets.push(offset)
    byPartition.set(partition, offsets)
    if (key === null || value === null) continue
    expect(value.n).toBeGreaterThan(lastByKey.get(key) ?? -1)
    lastByKey.set(key, value.n)
  }
  let total = 0
  for (const offsets of byPartition.values()) {
    expect(offsets).toEqual([...offsets.keys()])
    total += offsets.length
  }
  expect(total).toBe(5_000)
})

test('offsets, times and ends', async () => {
  const Orders = await newTopic(1)
  const producer = real.mill.producer(Orders)
  for (let n = 0; n < 30; n++) await producer.send('k', { n }, { timestamp: 1_000 + n })
  const read = async (options: object): Promise<number[]> => {
    const seen: number[] = []
    for await (const { value } of real.mill.consumer().subscribe(Orders, options)) seen.push(value!.n)
    return seen
  }
  const numbers = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i)
  expect(await read({ from: 'earliest', until: 'end' })).toEqual(numbers(0, 30))
  expect(await read({ from: { offset: 25 }, until: 'end' })).toEqual(numbers(25, 30))
  expect(await read({ from: { timestamp: 1_020 }, until: 'end' })).toEqual(numbers(20, 30))
  expect(await read({ from: 'earliest', until: { offset: 3 } })).toEqual(numbers(0, 3))
  expect(await read({ from: 'earliest', until: { timestamp: 1_010 } })).toEqual(numbers(0, 10))
  expect(await read({ from: 'latest', until: 'end' })).toEqual([])
  await expect(read({ from: { offset: 31 } })).rejects.toMatchObject({ code: 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE' })
})

test('refusals of a real broker are typed', async () => {
  const Orders = await newTopic(1, ['none'])
  await expect(real.mill.producer(Orders, { codec: 'gzip' }).send('a', { n: 1 })).rejects.toMatchObject({
    code: 'ERR_MILLRACE_CODEC_NOT_ALLOWED',
  })
  await expect(real.mill.producer('nowhere').send(null, null)).rejects.toMatchObject({
    code: 'ERR_MILLRACE_UNKNOWN_TOPIC',
  })
  await expect(admin(real.mill).createTopic(Orders.name)).rejects.toMatchObject({ code: 'ERR_MILLRACE_TOPIC_EXISTS' })
  await expect(admin(real.mill).createTopic('x', { partitions: 10_001 })).rejects.toMatchObject({
    code: 'ERR_MILLRACE_INVALID_CONFIG',
  })
  const described = await admin(real.mill).describeTopic(Orders.name)
  expect(described).toMatchObject({ name: Orders.name, codecs: ['none'], durability: 'buffered' })
  expect(described.partitions).toMatchObject([{ partition: 0, highWatermark: 0 }])
  expect((await admin(real.mill).listTopics()).map(({ name }) => name)).toContain(Orders.name)
  expect(await admin(real.mill).brokerStatus()).toMatchObject({ nodeId: 1, environment: 'portable', version: '0.1.0' })
  const next = real.mill.consumer().subscribe(Orders)[Symbol.asyncIterator]().next()
  const ended = expect(next).rejects.toMatchObject({ code: 'ERR_MILLRACE_TOPIC_DELETED' })
  await new Promise((resolve) => setTimeout(resolve, 50))
  await admin(real.mill).deleteTopic(Orders.name)
  await ended
})

test('a slow handler holds back the broker', async () => {
  const Orders = await newTopic(1)
  const producer = real.mill.producer(Orders)
  const pad = 'x'.repeat(1_000)
  const Padded = topic(Orders.name, { key: utf8, value: utf8 })
  const padded = real.mill.producer(Padded)
  for (let i = 0; i < 40; i++) await padded.sendBatch(Array.from({ length: 250 }, () => ({ key: null, value: pad })))
  await producer.close()
  const pushedBefore = real.pushedBytes
  const finish: (() => void)[] = []
  let done = 0
  real.mill
    .consumer({ inFlightBytes: 300_000 })
    .subscribe(Padded, { from: 'earliest' })
    .pipe(processEach(() => new Promise<void>((resolve) => finish.push(resolve)), { concurrency: 8 }))
    .subscribe(() => done++)
  await new Promise((resolve) => setTimeout(resolve, 300))
  const pushed = real.pushedBytes - pushedBefore
  expect(finish.length).toBe(8)
  expect(pushed).toBeLessThan(300_000 + 2 * 260_000)
  while (done < 10_000) {
    for (const resolve of finish.splice(0)) resolve()
    await new Promise((resolve) => setImmediate(resolve))
  }
})

test('toAsyncIterable at the end of a pipeline', async () => {
  const Orders = await newTopic(2)
  await real.mill.producer(Orders).sendBatch(Array.from({ length: 3_000 }, (_, n) => ({ key: `k${n}`, value: { n } })))
  const pipeline = real.mill
    .consumer({ inFlightBytes: 10_000 })
    .subscribe(Orders, { from: 'earliest', until: 'end' })
    .pipe(map(({ value }) => value!.n))
  let sum = 0
  for await (const n of toAsyncIterable(pipeline)) sum += n
  expect(sum).toBe((3_000 * 2_999) / 2)
})

describe('a broker that restarts', () => {
  test('loses nothing, repeats nothing, keeps the order of every key', async () => {
    const Orders = await newTopic(3)
    const statuses: MillStatus[] = []
    real.mill.status$.subscribe((status) => statuses.push(status))
    const received = new Map<string, number[]>()
    let count = 0
    real.mill
      .consumer()
      .subscribe(Orders, { from: 'earliest' })
      .pipe(
        processEach(
          async ({ key, value }) => {
            const list = received.get(key!) ?? []
            list.push(value!.n)
            received.set(key!, list)
            count++
          },
          { concurrency: 16 },
        ),
      )
      .subscribe()
    const producer = real.mill.producer(Orders)
    const outcomes: Promise<unknown>[] = []
    for (let n = 0; n < 3_000; n++) {
      await producer.ready()
      outcomes.push(producer.send(`k${n % 20}`, { n }))
      if (n === 1_000 || n === 2_000) {
        await real.cluster.brokers[0]!.restart()
        // The second restart has to meet a client that is connected again.
        await outcomes.at(-1)
      }
      if (n % 100 === 0) await new Promise((resolve) => setTimeout(resolve, 2))
    }
    await producer.flush()
    expect((await Promise.all(outcomes)).length).toBe(3_000)
    const deadlineMs = performance.now() + 10_000
    while (count < 3_000 && performance.now() < deadlineMs) await new Promise((resolve) => setTimeout(resolve, 10))
    expect(count).toBe(3_000)
    for (const [key, list] of received) {
      const expected = Array.from({ length: 150 }, (_, i) => i * 20 + Number(key.slice(1)))
      expect(list).toEqual(expected)
    }
    expect(real.mill.statistics().reconnects).toBeGreaterThan(1)
    expect(statuses.map(({ kind }) => kind)).toContain('cursor-reopened')
  })

  test('before the first contact: pending things wait until it is there', async () => {
    const Orders = await newTopic(1)
    await real.cluster.brokers[0]!.stop()
    const late = real.connect()
    const sent = late.producer(Orders).send('k', { n: 1 })
    await new Promise((resolve) => setTimeout(resolve, 300))
    await real.cluster.brokers[0]!.restart()
    expect(await sent).toMatchObject({ offset: 0 })
  })
})
