// Sending: routing, batching, outcomes, limits, the end.
import {
  BatchDeliveryError,
  BufferFullError,
  bytes,
  DeliveryError,
  type DeliveryFailure,
  type Mill,
  topic,
  utf8,
} from '@millrace/client'
import { partitionOfKey, produce } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { begin, Orders, Texts } from './support/setting.js'
import { wrong } from './support/wrong.js'

const encoder = new TextEncoder()

describe('send', () => {
  test('goes to the partition of the key and resolves with its offset', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    for (const key of ['a', 'b', 'customer-42']) {
      const delivery = await world.result(producer.send(key, { n: 1 }, { timestamp: 77 }))
      expect(delivery).toEqual({
        topic: 'orders',
        partition: partitionOfKey(encoder.encode(key), 3),
        offset: expect.any(Number),
        timestamp: 77,
      })
    }
  })

  test('a batch worth a frame leaves at the end of its call, small ones wait for company', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Texts)
    await world.result(producer.send('a', 'first'))
    const frames = () => cluster.brokers[0]!.data[0]!.frames.filter(({ kind }) => kind === produce.kind).length
    const before = frames()
    const large = Array.from({ length: 60 }, () => ({ key: 'a', value: 'x'.repeat(1_000) }))
    // The second finds its partition busy, and the small ones share a frame with it.
    const results = [producer.sendBatch(large), producer.sendBatch(large)]
    const others = [producer.send('b', 'small'), producer.send('c', 'small')]
    for (const result of results) expect(await world.result(result)).toMatchObject({ acknowledgedRecords: 60 })
    await world.result(Promise.all(others))
    expect(frames()).toBe(before + 2)
    expect(cluster.seen[1]!.recordCount).toBe(60)
    expect(cluster.seen.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(123)
  })

  test('the deadline is told as a duration', async () => {
    const { world, cluster, mill } = begin({ requestTimeoutMs: 12_345 })
    await world.result(mill.producer(Orders).send('a', { n: 1 }))
    expect(cluster.brokers[0]!.data[0]!.frames.find(({ kind }) => kind === produce.kind)?.timeMs).toBe(12_345)
  })

  test('the partition may be given', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    expect(await world.result(producer.send('a', { n: 1 }, { partition: 2 }))).toMatchObject({ partition: 2 })
    const error = await world.failure(producer.send('a', { n: 1 }, { partition: 3 }))
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_PARTITION', outcome: 'failed', partition: 3 })
    expect(await world.failure(producer.send('a', { n: 1 }, { partition: -1 }))).toMatchObject({
      code: 'ERR_MILLRACE_INVALID_ARGUMENT',
    })
  })

  test('arguments are copied before it returns, also before the topic is known', async () => {
    const { world, mill, connect } = begin()
    for (const warm of [false, true]) {
      const client = warm ? mill : connect()
      const producer = client.producer('orders')
      if (warm) await world.result(producer.ready())
      const key = Buffer.from('same key')
      const value = Buffer.from('before')
      const headers: [string, Uint8Array][] = [['h', Buffer.from('before')]]
      const sent = producer.send(key, value, { headers, timestamp: 5 })
      value.fill(0x21)
      key.fill(0x21)
      headers[0]![1].fill(0x21)
      const { partition, offset } = await world.result(sent)
      const from = { offset: offset! }
      const stream = client.consumer().subscribe(Texts, { from, until: 'end', partitions: [partition] })
      const { value: record } = await world.result(stream[Symbol.asyncIterator]().next())
      expect(record).toMatchObject({ key: 'same key', value: 'before', timestamp: 5 })
      expect(new TextDecoder().decode(record!.header('h')!)).toBe('before')
    }
  })

  test('null is no key and a tombstone, and reaches no serde; undefined is a typed error', async () => {
    const { world, mill } = begin()
    const picky = {
      encode: (value: string): Uint8Array => encoder.encode(value.toUpperCase()),
      decode: (encoded: Uint8Array): string => new TextDecoder().decode(encoded),
    }
    const producer = mill.producer(topic('orders', { key: picky, value: picky }))
    await world.result(producer.send(null, 'x'))
    await world.result(producer.send('k', null))
    for (const [key, value] of [
      [undefined, 'v'],
      ['k', undefined],
    ]) {
      const error = await world.failure(producer.send(key as string, value as string))
      expect(error).toMatchObject({ code: 'ERR_MILLRACE_SERIALIZATION', outcome: 'failed', topic: 'orders' })
    }
    const mixed = mill.producer(topic('orders', { key: utf8, value: bytes }))
    expect(await world.failure(mixed.send('k', wrong('text')))).toMatchObject({
      code: 'ERR_MILLRACE_SERIALIZATION',
    })
  })

  test('a record that no batch can hold is refused alone', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(topic('orders', { key: bytes, value: bytes }))
    await world.result(producer.ready())
    const small = producer.send(new Uint8Array(1), new Uint8Array(1))
    const large = producer.send(new Uint8Array(1), new Uint8Array(5 * 1024 * 1024))
    const longKey = producer.send(new Uint8Array(70_000), null)
    expect(await world.failure(large)).toMatchObject({ code: 'ERR_MILLRACE_BATCH_TOO_LARGE', outcome: 'failed' })
    expect(await world.failure(longKey)).toMatchObject({ code: 'ERR_MILLRACE_BATCH_TOO_LARGE' })
    expect(await world.result(small)).toMatchObject({ offset: 0 })
    // A large one that fits has a batch of its own.
    await world.result(producer.send(new Uint8Array(1), new Uint8Array(2 * 1024 * 1024)))
  })

  test('an unknown topic is told after the map was asked for afresh', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer('missing')
    expect(await world.failure(producer.send(null, null))).toMatchObject({
      code: 'ERR_MILLRACE_UNKNOWN_TOPIC',
      outcome: 'failed',
    })
    expect(mill.statistics().refreshes).toBe(1)
    cluster.addTopic('missing', 1)
    expect(await world.result(producer.send(null, null))).toMatchObject({ offset: 0 })
  })

  test('a topic made by somebody else a moment ago is found', async () => {
    const { world, cluster, mill } = begin()
    await world.result(mill.ready())
    // The push is lost on its way: a gap that only the next delta would show.
    const publish = cluster.publish.bind(cluster)
    cluster.publish = () => {}
    cluster.addTopic('fresh', 1)
    cluster.publish = publish
    expect(await world.result(mill.producer('fresh').send(null, null))).toMatchObject({ offset: 0 })
  })

  test('gzip, where the topic allows it', async () => {
    const { world, cluster, mill } = begin()
    cluster.addTopic('plain', 1, { codecs: ['none'] })
    const producer = mill.producer(Texts, { codec: 'gzip' })
    const { partition } = await world.result(producer.send('k', 'x'.repeat(10_000)))
    const [batch] = cluster.partition(1, partition).batches
    expect(batch!.bytes.length).toBeLessThan(500)
    const refused = mill.producer('plain', { codec: 'gzip' })
    expect(await world.failure(refused.send(null, null))).toMatchObject({ code: 'ERR_MILLRACE_CODEC_NOT_ALLOWED' })
  })

  test('a signal rejects at once', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    const controller = new AbortController()
    const sent = producer.send('a', { n: 1 }, { signal: controller.signal })
    controller.abort(new Error('enough'))
    expect(await world.failure(sent)).toMatchObject({ code: 'ERR_MILLRACE_ABORTED', outcome: 'unknown' })
    const never = producer.send('a', { n: 1 }, { signal: controller.signal })
    expect(await world.failure(never)).toMatchObject({ code: 'ERR_MILLRACE_ABORTED', outcome: 'failed' })
    await world.run(100)
    expect(cluster.seen.length).toBe(1)
  })

  test.each(['leader', 'none'] as const)('acks %s', async (acks) => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Orders, { acks })
    const deliveries = [
      await world.result(producer.send('a', { n: 1 })),
      await world.result(producer.send('a', { n: 2 })),
    ]
    expect(deliveries.map(({ offset }) => offset)).toEqual(acks === 'none' ? [null, null] : [0, 1])
    await world.run(10)
    expect(cluster.partition(1, deliveries[0]!.partition).end).toBe(2)
  })

  test('with acks none a lost batch holds up nothing', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders, { acks: 'none' })
    cluster.produceRule = ({ recordCount }) => (recordCount === 2 ? { refuse: 'OVERLOADED' } : undefined)
    await world.result(producer.send('a', { n: 1 }))
    await world.result(Promise.all([producer.send('a', { n: 2 }), producer.send('a', { n: 3 })]))
    await world.result(producer.send('a', { n: 4 }))
    await world.run(10)
    expect(cluster.partition(1, 0).end).toBe(2)
  })
})

describe('the buffer', () => {
  test('full: rejects at once, retriable; ready() waits for room', async () => {
    const { world, cluster, mill } = begin({ bufferBytes: 100_000 })
    const producer = mill.producer(Texts, { batchBytes: 10_000 })
    await world.result(producer.ready())
    cluster.produceRule = () => ({ silent: true })
    const value = 'x'.repeat(1_000)
    const failed: unknown[] = []
    for (let i = 0; i < 200; i++) producer.send(`k${i}`, value).catch((error) => failed.push(error))
    await world.run(10)
    expect(failed.length).toBeGreaterThan(90)
    expect(failed[0]).toBeInstanceOf(BufferFullError)
    expect(failed[0]).toMatchObject({ code: 'ERR_MILLRACE_BUFFER_FULL', retriable: true, outcome: 'failed' })
    // One warning, not one for each.
    expect(world.warnings).toMatchObject([{ code: 'MILLRACE_BUFFER_FULL' }])
    let ready = false
    const waiting = producer.ready().then(() => {
      ready = true
    })
    await world.run(1_000)
    expect(ready).toBe(false)
    cluster.produceRule = () => undefined
    await world.result(waiting, 60_000)
    await world.result(producer.send('k', value))
  })

  test('is given back in full, whatever the outcome', async () => {
    const { world, cluster, mill, connect } = begin({ bufferBytes: 50_000 })
    const producer = mill.producer(Texts, { batchBytes: 5_000 })
    let turn = 0
    cluster.produceRule = () => (turn++ % 3 === 0 ? { refuse: 'INVALID_BATCH' } : undefined)
    for (let round = 0; round < 50; round++) {
      const sends = Array.from({ length: 30 }, (_, n) => producer.send(`k${n}`, 'x'.repeat(1_000)))
      await world.result(Promise.allSettled(sends))
    }
    // As much fits as at first.
    cluster.produceRule = () => ({ silent: true })
    const count = async (client: Mill): Promise<number> => {
      const filling = client.producer(Texts)
      await filling.ready()
      const failed: unknown[] = []
      filling.failures$.subscribe(({ error }) => failed.push(error))
      let taken = 0
      for (; failed.length === 0; taken++) void filling.send('k', 'x'.repeat(1_000))
      return taken
    }
    expect(await world.result(count(mill))).toBe(await world.result(count(connect())))
  })

  test('a loop that awaits only ready() lets replies in', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Texts)
    await world.result(producer.send('k', 'x'))
    const value = 'x'.repeat(10_000)
    let sent = 1
    const loop = (async () => {
      for (; sent < 1_000; sent++) {
        await producer.ready()
        void producer.send('k', value)
      }
    })()
    await world.result(loop)
    // The loop has ended within one instant of this world, and yet batches have left.
    expect(cluster.seen.length).toBeGreaterThan(2)
    await world.result(producer.flush())
    expect(cluster.partition(1, 0).end).toBe(1_000)
  })
})

describe('sendBatch', () => {
  test('one result for many records, with the outcome of each', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    const records = Array.from({ length: 100 }, (_, n) => ({ key: `k${n}`, value: { n }, timestamp: n }))
    const result = await world.result(producer.sendBatch(records))
    expect(result).toMatchObject({ topic: 'orders', recordCount: 100, acknowledgedRecords: 100 })
    const places = new Set<string>()
    for (let i = 0; i < 100; i++) {
      const outcome = result.outcome(i)
      expect(outcome).toMatchObject({ outcome: 'acknowledged', timestamp: i })
      if (outcome.outcome === 'acknowledged') places.add(`${outcome.partition}/${outcome.offset}`)
    }
    expect(places.size).toBe(100)
    expect(() => result.outcome(100)).toThrow(RangeError)
    expect(await world.result(producer.sendBatch([]))).toMatchObject({ recordCount: 0 })
  })

  test('all or none are queued', async () => {
    const { world, cluster, mill } = begin({ bufferBytes: 20_000 })
    const producer = mill.producer(Texts)
    await world.result(producer.ready())
    const records = Array.from({ length: 100 }, (_, n) => ({ key: `k${n}`, value: 'x'.repeat(500) }))
    // A list larger than the whole buffer is taken when there is room at all, and then nothing more is.
    const large = producer.sendBatch(records)
    expect(await world.failure(producer.sendBatch([records[0]!]))).toMatchObject({ code: 'ERR_MILLRACE_BUFFER_FULL' })
    expect(await world.result(large)).toMatchObject({ acknowledgedRecords: 100 })
    const before = cluster.seen.length
    const bad = [
      { key: 'a', value: 'b' },
      { key: 'a', value: wrong<string>(undefined) },
    ]
    expect(await world.failure(producer.sendBatch(bad))).toMatchObject({ code: 'ERR_MILLRACE_SERIALIZATION' })
    expect(await world.failure(producer.sendBatch(wrong<[]>(null)))).toMatchObject({
      code: 'ERR_MILLRACE_INVALID_ARGUMENT',
    })
    await world.run(100)
    expect(cluster.seen.length).toBe(before)
  })

  test('tells which records failed', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Orders)
    cluster.produceRule = ({ partition }) => (partition === 1 ? { refuse: 'INVALID_BATCH' } : undefined)
    const records = Array.from({ length: 60 }, (_, n) => ({ key: `k${n}`, value: { n } }))
    const error = await world.failure(producer.sendBatch(records))
    expect(error).toBeInstanceOf(BatchDeliveryError)
    const { result, failedRecords, unknownRecords, failures } = error as BatchDeliveryError
    const inOne = records.filter(({ key }) => partitionOfKey(encoder.encode(key), 3) === 1).length
    expect({ failedRecords, unknownRecords }).toEqual({ failedRecords: inOne, unknownRecords: 0 })
    expect(failures).toMatchObject([
      { partition: 1, recordCount: inOne, error: { code: 'ERR_MILLRACE_INVALID_BATCH' } },
    ])
    const outcomes = records.map((_, i) => result.outcome(i).outcome)
    expect(outcomes.filter((outcome) => outcome === 'failed').length).toBe(inOne)
    expect(result.acknowledgedRecords).toBe(60 - inOne)
  })
})

describe('complaint 13: no flush, unsent messages lost on exit', () => {
  test('appear on failures$, in flush and close, and end no process', async () => {
    const unhandled: unknown[] = []
    const onUnhandled = (error: unknown): void => {
      unhandled.push(error)
    }
    process.on('unhandledRejection', onUnhandled)
    try {
      const { world, cluster, mill } = begin()
      const producer = mill.producer(Orders)
      const failures: DeliveryFailure[] = []
      let completed = false
      producer.failures$.subscribe({ next: (failure) => failures.push(failure), complete: () => (completed = true) })
      cluster.produceRule = () => ({ refuse: 'INVALID_BATCH' })
      void producer.send('a', { n: 1 })
      void producer.send('a', { n: 2 })
      void producer.send(wrong<string>(undefined), { n: 3 })
      void producer.sendBatch([{ key: 'a', value: { n: 4 } }])
      const error = await world.failure(producer.flush())
      expect(error).toBeInstanceOf(DeliveryError)
      expect(error).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY', failedRecords: 4, unknownRecords: 0 })
      expect(failures.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(4)
      // Counted once.
      await world.result(producer.flush())
      void producer.send('a', { n: 5 })
      expect(await world.failure(producer.close())).toMatchObject({ failedRecords: 1 })
      expect(completed).toBe(true)
      await world.result(mill.close())
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(unhandled).toEqual([])
    } finally {
      process.off('unhandledRejection', onUnhandled)
    }
  })

  test('flush waits for what was sent before it, and not for more', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    let sent = 0
    let flushed = false
    const first = producer.send('a', { n: sent++ })
    const flush = producer.flush().then(() => {
      flushed = true
    })
    await world.until(() => {
      if (!flushed) void producer.send('a', { n: sent++ })
      return flushed
    })
    await world.result(Promise.all([first, flush]))
    expect(cluster.partition(1, 0).end).toBeGreaterThan(0)
  })

  test('a closed producer refuses', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    await world.result(producer.close())
    const closed = { code: 'ERR_MILLRACE_CLOSED', outcome: 'failed' }
    expect(await world.failure(producer.send('a', { n: 1 }))).toMatchObject(closed)
    expect(await world.failure(producer.ready())).toMatchObject(closed)
    await world.result(producer.close())
  })
})
