// Which partition a record goes to: named, by its key, by a partitioner of one's own, or a batch's worth to each in turn.
import { type PartitionContext, partitionOfKey, topic, utf8 } from '@millrace/client'
import { describe, expect, test } from 'vitest'
import { begin, Orders, type Setting, Texts } from './support/setting.js'
import { wrong } from './support/wrong.js'

const encoder = new TextEncoder()

/** Bytes and records of each partition of `orders`. */
function shares({ cluster }: Setting, partitions: number): { bytes: number[]; records: number[] } {
  const bytes = new Array<number>(partitions).fill(0)
  const records = new Array<number>(partitions).fill(0)
  for (let partition = 0; partition < partitions; partition++) {
    for (const batch of cluster.partition(1, partition).batches) {
      bytes[partition]! += batch.decodedBytes
      records[partition]! += batch.recordCount
    }
  }
  return { bytes, records }
}

const spread = (numbers: readonly number[]): number => Math.max(...numbers) / Math.min(...numbers)

describe('complaint 8: the same key goes to another partition in another library', () => {
  test("keys go where Kafka's Java client puts them", () => {
    // Vectors of Kafka's own test of murmur2, taken modulo a number of partitions as its partitioner does.
    const vectors: readonly (readonly [key: string, hash: number])[] = [
      ['21', -973932308],
      ['foobar', -790332482],
      ['a-little-bit-long-string', -985981536],
      ['a-little-bit-longer-string', -1486304829],
      ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ]
    for (const [key, hash] of vectors) expect(partitionOfKey(encoder.encode(key), 12)).toBe((hash & 0x7fffffff) % 12)
  })

  test('send, whereIs and the protocol agree, whichever serde made the bytes', async () => {
    const { world, mill } = begin({ partitions: 7 })
    const producer = mill.producer(Texts)
    const raw = mill.producer('orders')
    for (let i = 0; i < 50; i++) {
      const key = `customer-${i}`
      const wanted = partitionOfKey(encoder.encode(key), 7)
      expect((await world.result(producer.send(key, 'x'))).partition).toBe(wanted)
      expect((await world.result(raw.send(encoder.encode(key), null))).partition).toBe(wanted)
      expect((await world.result(mill.cluster.whereIs(Texts, key))).partition).toBe(wanted)
    }
  })
})

describe('a partitioner of one’s own', () => {
  const byLength = (key: Uint8Array, { partitionCount }: PartitionContext): number => key.length % partitionCount
  const ByLength = topic('orders', { key: utf8, value: utf8, partitioner: byLength })

  test('of the topic: producers and whereIs follow it, and are told topic and partitions', async () => {
    const { world, mill } = begin()
    const contexts: PartitionContext[] = []
    const Watched = topic('orders', {
      key: utf8,
      value: utf8,
      partitioner: (key, context) => {
        contexts.push(context)
        return byLength(key, context)
      },
    })
    const producer = mill.producer(Watched)
    for (const key of ['', 'a', 'bb', 'ccc', 'dddd']) {
      expect((await world.result(producer.send(key, 'x'))).partition).toBe(key.length % 3)
      const { partition, explanation } = await world.result(mill.cluster.whereIs(Watched, key))
      expect(partition).toBe(key.length % 3)
      expect(explanation).toContain('the partitioner of the topic')
    }
    expect(contexts[0]).toEqual({ topic: 'orders', partitionCount: 3 })
  })

  test('of the producer: goes before that of the topic; one that is named goes before both', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(ByLength, { partitioner: () => 2 })
    expect((await world.result(producer.send('a', 'x'))).partition).toBe(2)
    expect((await world.result(producer.send('a', 'x', { partition: 0 }))).partition).toBe(0)
  })

  test('is not asked about records without a key', async () => {
    const { world, mill } = begin()
    let asked = 0
    const partitioner = (): number => {
      asked++
      return 0
    }
    const producer = mill.producer(Texts, { partitioner })
    await world.result(Promise.all([producer.send(null, 'x'), producer.send('k', 'x', { partition: 1 })]))
    expect(asked).toBe(0)
  })

  test.each([
    ['too large', () => 3],
    ['negative', () => -1],
    ['a fraction', () => 0.5],
    ['no number', () => wrong<number>('1')],
    ['nothing', () => wrong<number>(undefined)],
    ['a promise that fails', () => wrong<number>(Promise.reject(new Error('late')))],
    [
      'an error',
      () => {
        throw new Error('no idea')
      },
    ],
  ])('what it returns is checked: %s', async (_what, partitioner) => {
    for (const warm of [false, true]) {
      const { world, cluster, mill } = begin()
      const producer = mill.producer(Texts, { partitioner })
      if (warm) await world.result(producer.ready())
      const error = await world.failure(producer.send('k', 'x'))
      expect(error).toMatchObject({ code: 'ERR_MILLRACE_INVALID_ARGUMENT', outcome: 'failed', topic: 'orders' })
      expect(String(error)).toContain('the partitioner')
      const batch = await world.failure(producer.sendBatch([{ key: 'k', value: 'x' }]))
      expect(batch).toMatchObject({ failedRecords: 1, unknownRecords: 0 })
      // Nothing of them is left: others go on.
      await world.result(producer.send(null, 'x'))
      expect(cluster.seen.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(1)
      expect(await world.failure(producer.close())).toMatchObject({ failedRecords: 2 })
    }
  })

  test('must be a function', () => {
    const { mill } = begin()
    expect(() => mill.producer(Texts, { partitioner: wrong('murmur2') })).toThrow('partitioner must be a function')
  })
})

describe('records without a key', () => {
  const busy = async (setting: Setting, partitions: number, recordBytes: number, records: number): Promise<void> => {
    const producer = setting.mill.producer(Texts, { batchBytes: 16_384 })
    const value = 'x'.repeat(recordBytes)
    const loop = (async () => {
      for (let i = 0; i < records; i++) {
        await producer.ready()
        void producer.send(null, value)
      }
      await producer.flush()
    })()
    await setting.world.result(loop, 600_000)
    expect(shares(setting, partitions).records.reduce((sum, n) => sum + n)).toBe(records)
  }

  test('a burst that fills many batches is spread evenly, a batch each', async () => {
    const setting = begin({ partitions: 6 })
    await setting.world.result(setting.mill.ready())
    await busy(setting, 6, 1_000, 12_000)
    const { bytes } = shares(setting, 6)
    expect(spread(bytes)).toBeLessThan(1.05)
  })

  test('one call with far more than a batch is spread as well', async () => {
    const { world, mill, ...rest } = begin({ partitions: 4 })
    const producer = mill.producer(Texts, { batchBytes: 16_384 })
    const records = Array.from({ length: 4_000 }, () => ({ key: null, value: 'x'.repeat(200) }))
    await world.result(producer.ready())
    await world.result(producer.sendBatch(records))
    expect(spread(shares({ world, mill, ...rest }, 4).records)).toBeLessThan(1.1)
  })

  test('one awaited after the other, each partition in turn', async () => {
    const setting = begin({ partitions: 5 })
    const producer = setting.mill.producer(Orders)
    for (let n = 0; n < 50; n++) await setting.world.result(producer.send(null, { n }))
    expect(shares(setting, 5).records).toEqual([10, 10, 10, 10, 10])
  })

  test('few at a time share a batch', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Orders)
    for (let round = 0; round < 40; round++) {
      const before = cluster.seen.length
      await world.result(Promise.all(Array.from({ length: 10 }, (_, n) => producer.send(null, { n }))))
      expect(cluster.seen.length).toBe(before + 1)
    }
    expect(new Set(cluster.seen.map(({ partition }) => partition)).size).toBe(3)
  })

  test('producers do not all begin with the same partition', async () => {
    const setting = begin({ partitions: 8 })
    for (let n = 0; n < 64; n++) await setting.world.result(setting.mill.producer(Orders).send(null, { n }))
    expect(shares(setting, 8).records.filter((count) => count > 0).length).toBeGreaterThan(5)
  })

  test('a partition that refuses or has no leader gets no more than its share', async () => {
    const setting = begin({ partitions: 4, bufferBytes: 1_000_000 })
    const { world, cluster } = setting
    await world.result(setting.mill.ready())
    cluster.move(1, 3, 0)
    await world.run(5)
    let refusals = 0
    cluster.produceRule = ({ partition }) => (partition === 1 && refusals++ < 40 ? { refuse: 'OVERLOADED' } : undefined)
    world.at(60_000, () => cluster.move(1, 3, 1))
    await busy(setting, 4, 500, 8_000)
    const { records } = shares(setting, 4)
    const [first = 0, slow = 0, , leaderless = 0] = records
    expect(leaderless).toBeLessThan(first / 4)
    expect(slow).toBeLessThan(first)
    expect(refusals).toBeGreaterThan(1)
  })
})
