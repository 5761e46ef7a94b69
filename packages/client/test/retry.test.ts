// What becomes of batches that are refused, lost or not answered: order, at most once, and honest outcomes.
import type { Delivery, MillraceError } from '@millrace/client'
import { ping } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import type { FakeCluster, ProduceRule, SeenBatch } from './support/fake-broker.js'
import { begin, Orders, type Setting, Texts } from './support/setting.js'

/** The values in a partition's log, in order. */
async function valuesOf({ world, mill }: Setting, partition = 0): Promise<string[]> {
  const values: string[] = []
  const stream = mill.consumer().subscribe(Texts, { from: 'earliest', until: 'end', partitions: [partition] })
  const done = (async () => {
    for await (const { value } of stream) values.push(value!)
  })()
  await world.result(done)
  return values
}

/** Applies rules to the first batches seen, one each. */
function script(cluster: FakeCluster, ...rules: (ProduceRule | undefined)[]): void {
  let at = 0
  cluster.produceRule = () => rules[at++]
}

/** One batch a record: the batch size holds no second one. */
const oneEach = { batchBytes: 120 } as const
const text = (n: number): string => `${n}`.padStart(100, '0')
const numbers = (from: number, to: number): string[] => Array.from({ length: to - from }, (_, i) => text(from + i))

describe('complaint 20: a crash without a retry, or retries without an end', () => {
  test.each(['OVERLOADED', 'STORAGE_FAILED', 'DISK_FULL', 'DEADLINE_EXCEEDED', 'CORRUPT_BATCH', 'INTERNAL'] as const)(
    '%s: sent again with the same sequence, in order, nothing twice',
    async (refuse) => {
      const setting = begin({ partitions: 1 })
      const { world, cluster, mill } = setting
      const producer = mill.producer(Texts, oneEach)
      script(cluster, undefined, { refuse }, undefined, undefined, { refuse })
      const sends = Array.from({ length: 12 }, (_, n) => producer.send('k', text(n)))
      const deliveries = await world.result(Promise.all(sends))
      expect(deliveries.map(({ offset }) => offset)).toEqual([...deliveries.keys()])
      expect(await valuesOf(setting)).toEqual(numbers(0, 12))
      expect(new Set(cluster.seen.map(({ epoch }) => epoch))).toEqual(new Set([0]))
    },
  )

  test('nothing is sent while batches in flight have no outcome, then the lowest first', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.ready())
    script(cluster, { refuse: 'OVERLOADED' })
    const sends = Array.from({ length: 8 }, (_, n) => producer.send('k', text(n)))
    await world.result(Promise.all(sends))
    const sequences = cluster.seen.map(({ sequence }) => sequence)
    // Five in flight; the first is refused, the others behind it are out of order; then again from the first on.
    expect(sequences.slice(0, 5)).toEqual([0, 1, 2, 3, 4])
    expect(sequences.slice(5)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
    expect(await valuesOf(setting)).toEqual(numbers(0, 8))
  })

  test('waits as long as the broker says', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 0 }))
    script(cluster, { refuse: 'OVERLOADED', throttleMs: 3_000 })
    const startMs = world.nowMs
    await world.result(producer.send('a', { n: 1 }))
    expect(world.nowMs - startMs).toBeGreaterThanOrEqual(3_000)
    expect(world.nowMs - startMs).toBeLessThan(3_100)
  })

  test('ends as DELIVERY_TIMEOUT, failed, when every attempt was refused before anything was appended', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders, { deliveryTimeoutMs: 5_000 })
    cluster.produceRule = () => ({ refuse: 'OVERLOADED' })
    const startMs = world.nowMs
    const error = await world.failure(producer.send('a', { n: 1 }))
    expect(error).toMatchObject({
      code: 'ERR_MILLRACE_DELIVERY_TIMEOUT',
      outcome: 'failed',
      topic: 'orders',
      partition: 0,
    })
    expect(String(error)).toMatch(/scripted/)
    expect(world.nowMs - startMs).toBeLessThan(6_500)
  })

  test('ends as DISK_FULL where the disk was full all the time, also for what came behind or was never sent', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Texts, { ...oneEach, deliveryTimeoutMs: 5_000 })
    await world.result(producer.ready())
    cluster.produceRule = (batch) => (batch.sequence === 0 ? { refuse: 'DISK_FULL' } : undefined)
    const failures = await Promise.all(numbers(0, 12).map((value) => world.failure(producer.send('k', value))))
    for (const error of failures) {
      expect(error).toMatchObject({ code: 'ERR_MILLRACE_DISK_FULL', outcome: 'failed', retriable: true, partition: 0 })
      expect(String(error)).toMatch(/not acknowledged within 5000 ms: .*Free or add disk space/)
    }
    // One that times out for another reason later is not put down to the disk.
    cluster.produceRule = () => undefined
    await world.result(producer.send('k', text(12)))
    cluster.produceRule = () => ({ refuse: 'OVERLOADED' })
    expect(await world.failure(producer.send('k', text(13)))).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY_TIMEOUT' })
  })

  test('ends as DELIVERY_UNKNOWN when an attempt may be in the log', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders, { deliveryTimeoutMs: 5_000 })
    cluster.produceRule = () => ({ refuse: 'STORAGE_FAILED' })
    const error = await world.failure(producer.send('a', { n: 1 }))
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY_UNKNOWN', outcome: 'unknown', retriable: false })
  })
})

describe('refusals that are final', () => {
  test.each([
    'INVALID_BATCH',
    'BATCH_TOO_LARGE',
    'CODEC_NOT_ALLOWED',
    'UNKNOWN_LANE',
    'PRODUCER_FENCED',
    'INVALID_REQUEST',
  ] as const)('%s fails the batch; those behind it go on in a new epoch, in order', async (refuse) => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.ready())
    script(cluster, undefined, { refuse })
    const sends = Array.from({ length: 8 }, (_, n) => producer.send('k', text(n)))
    const results = await world.result(Promise.allSettled(sends))
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', ...Array(6).fill('fulfilled')])
    expect(results[1]).toMatchObject({ reason: { code: `ERR_MILLRACE_${refuse}`, outcome: 'failed' } })
    expect(await valuesOf(setting)).toEqual([text(0), ...numbers(2, 8)])
    expect(Math.max(...cluster.seen.map(({ epoch }) => epoch))).toBe(1)
  })

  test('a final refusal after an attempt that may have been appended is unknown', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    script(cluster, { refuse: 'STORAGE_FAILED' }, { refuse: 'INVALID_BATCH' })
    const error = await world.failure(producer.send('a', { n: 1 }))
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY_UNKNOWN', outcome: 'unknown' })
    expect((error as MillraceError).cause).toMatchObject({ code: 'ERR_MILLRACE_INVALID_BATCH' })
  })

  test('a refusal of the whole frame', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    let refused = false
    cluster.brokers[0]!.intercept = (connection, header) => {
      if (header.kind !== 20 || refused) return false
      refused = true
      connection.fail('INVALID_REQUEST', header.id)
      return true
    }
    expect(await world.failure(producer.send('a', { n: 1 }))).toMatchObject({
      code: 'ERR_MILLRACE_INVALID_REQUEST',
      outcome: 'failed',
    })
    await world.result(producer.send('a', { n: 1 }))
  })
})

describe('lost connections', () => {
  test('appended and not answered: acknowledged once, with the first offset', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.ready())
    script(cluster, undefined, { append: true, closes: true })
    const sends = Array.from({ length: 6 }, (_, n) => producer.send('k', text(n)))
    const deliveries = await world.result(Promise.all(sends))
    expect(deliveries.map(({ offset }) => offset)).toEqual([0, 1, 2, 3, 4, 5])
    expect(await valuesOf(setting)).toEqual(numbers(0, 6))
    expect(mill.statistics().reconnects).toBe(1)
  })

  test('not appended and not answered: sent again', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.ready())
    script(cluster, undefined, { closes: true })
    await world.result(Promise.all(Array.from({ length: 6 }, (_, n) => producer.send('k', text(n)))))
    expect(await valuesOf(setting)).toEqual(numbers(0, 6))
  })

  test('the offset of a duplicate outside the window is null', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    cluster.produceRule = () => ({ offsetUnknown: true })
    expect(await world.result(mill.producer(Orders).send('a', { n: 1 }))).toMatchObject({ offset: null })
  })

  test('an answer that does not come is asked for again with the same sequence; the answer may come late', async () => {
    const setting = begin({ partitions: 1, requestTimeoutMs: 1_000 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.ready())
    script(cluster, { append: true, silent: true })
    const sends = [0, 1, 2].map((n) => producer.send('k', text(n)))
    await world.result(Promise.all(sends))
    expect(await valuesOf(setting)).toEqual(numbers(0, 3))
    expect(cluster.seen.filter(({ sequence }) => sequence === 0).length).toBe(2)
  })

  test('down for longer than deliveryTimeoutMs: what was never sent has failed, what was sent is unknown', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Texts, { ...oneEach, inFlightBatches: 2, deliveryTimeoutMs: 8_000 })
    await world.result(producer.send('k', text(0)))
    cluster.produceRule = () => ({ silent: true })
    const sends = [1, 2, 3].map((n) => producer.send('k', text(n)))
    await world.run(10)
    cluster.brokers[0]!.stop()
    const results = await world.result(Promise.allSettled(sends))
    const outcomes = results.map((result) => result.status === 'rejected' && (result.reason as MillraceError).outcome)
    expect(outcomes).toEqual(['unknown', 'unknown', 'failed'])
    // And the producer goes on when the broker is back, in an epoch that keeps late duplicates out.
    cluster.produceRule = () => undefined
    cluster.brokers[0]!.start()
    expect(await world.result(producer.send('k', text(4)), 30_000)).toMatchObject({ offset: 1 })
    expect(cluster.seen.at(-1)).toMatchObject({ epoch: 1, sequence: 0 })
  })

  test('buffers are not touched while a link may still send them', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    let turn = 0
    cluster.produceRule = () => {
      turn++
      if (turn % 5 === 0) return { refuse: 'INVALID_BATCH' }
      return turn % 7 === 0 ? { closes: true } : undefined
    }
    await world.result(Promise.allSettled(Array.from({ length: 60 }, (_, n) => producer.send('k', text(n)))))
    expect(world.changedBuffers).toBe(0)
  })

  test('a link that says nothing is asked, then given up', async () => {
    const { world, cluster, mill, statuses } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    cluster.brokers[0]!.intercept = ({ subscription, number }, header) =>
      subscription === null && number === 2 && header.kind !== 1
    const sent = producer.send('a', { n: 1 })
    await world.run(6_500)
    expect(cluster.brokers[0]!.data[0]!.frames.filter(({ kind }) => kind === ping.kind).length).toBe(1)
    expect(statuses.map(({ kind }) => kind)).not.toContain('link-lost')
    await world.result(sent, 10_000)
    expect(statuses.find(({ kind }) => kind === 'link-lost')?.error).toMatchObject({ code: 'ERR_MILLRACE_TIMEOUT' })
  })
})

describe('leaders that move', () => {
  test('pushed: nothing more goes to the old leader', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    cluster.move(1, 0, 2)
    await world.run(10)
    const before = cluster.seen.length
    await world.result(Promise.all([1, 2, 3].map((n) => producer.send('k', text(n)))))
    expect(cluster.seen.slice(before).map(({ nodeId }) => nodeId)).toEqual([2, 2, 2])
    expect(mill.statistics()).toMatchObject({ misroutes: 0, refusals: 0 })
    expect(await valuesOf(setting)).toEqual(numbers(0, 4))
  })

  test('refused with a newer route: again at once, no waiting', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    cluster.move(1, 0, 2, false)
    const startMs = world.nowMs
    await world.result(Promise.all([1, 2, 3, 4].map((n) => producer.send('k', text(n)))))
    expect(world.nowMs - startMs).toBeLessThan(15)
    // Four were on their way to the old leader; none after its first refusal.
    expect(cluster.seen.filter(({ nodeId }) => nodeId === 1).length).toBe(5)
    expect(mill.statistics().refusals).toBe(4)
    expect(await valuesOf(setting)).toEqual(numbers(0, 5))
  })

  test('no leader for a while', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    cluster.move(1, 0, 0)
    await world.run(5)
    const sends = [1, 2].map((n) => producer.send('k', text(n)))
    await world.run(3_000)
    expect(cluster.seen.length).toBe(1)
    cluster.move(1, 0, 2)
    await world.result(Promise.all(sends), 100)
    expect(await valuesOf(setting)).toEqual(numbers(0, 3))
  })

  test('the wrong core serves, and the reply corrects the route', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    cluster.move(1, 0, 1, false, 3)
    await world.result(producer.send('a', { n: 2 }))
    expect(mill.statistics().misroutes).toBe(1)
    await world.result(producer.send('a', { n: 3 }))
    await world.result(producer.send('a', { n: 4 }))
    expect(mill.statistics().misroutes).toBe(1)
    expect(cluster.brokers[0]!.data.map(({ shard }) => shard).sort()).toEqual([0, 3])
  })

  test('a broker that comes back elsewhere is found by the map', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 2 })
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }, { partition: 1 }))
    cluster.brokers[1]!.stop()
    const sent = producer.send('a', { n: 2 }, { partition: 1 })
    await world.run(500)
    Object.assign(cluster.brokers[1]!, { port: 9_999 })
    cluster.nodes = cluster.nodes.map((node) => (node.nodeId === 2 ? { ...node, port: 9_999 } : node))
    cluster.brokers[1]!.start()
    cluster.publish({ nodes: cluster.nodes })
    await world.result(sent, 15_000)
  })
})

describe('sessions with a partition', () => {
  test('the broker forgot the producer: a new epoch, nothing lost, nothing twice', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(Promise.all([0, 1, 2].map((n) => producer.send('k', text(n)))))
    cluster.partition(1, 0).sessions.clear()
    await world.result(Promise.all([3, 4, 5].map((n) => producer.send('k', text(n)))))
    expect(await valuesOf(setting)).toEqual(numbers(0, 6))
    expect(cluster.seen.at(-1)).toMatchObject({ epoch: 1, sequence: 2 })
  })

  test('the broker forgot the producer while attempts are unresolved: these are unknown, later ones go on', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    script(cluster, { append: true, closes: true })
    const first = producer.send('k', text(1))
    await world.until(() => cluster.seen.length === 2)
    await world.run(2)
    cluster.partition(1, 0).sessions.clear()
    const later = producer.send('k', text(2))
    expect(await world.failure(first)).toMatchObject({ code: 'ERR_MILLRACE_DELIVERY_UNKNOWN', outcome: 'unknown' })
    await world.result(later)
    expect(await valuesOf(setting)).toEqual(numbers(0, 3))
  })

  test('acknowledged batches that the broker lost: out of order, then a new epoch', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Texts, { ...oneEach, acks: 'leader' })
    await world.result(Promise.all([0, 1, 2].map((n) => producer.send('k', text(n)))))
    for (const session of cluster.partition(1, 0).sessions.values()) session.lastSequence = 0
    for (const session of cluster.partition(1, 0).sessions.values()) session.offsets.clear()
    const delivery: Delivery = await world.result(producer.send('k', text(3)))
    expect(delivery.offset).toBe(3)
    expect(cluster.seen.at(-1)).toMatchObject({ epoch: 1, sequence: 0 })
  })

  test('each producer draws an id of its own', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    await world.result(mill.producer(Orders).send('a', { n: 1 }))
    await world.result(mill.producer(Orders).send('a', { n: 1 }))
    expect(new Set(cluster.seen.map(({ producer }) => producer)).size).toBe(2)
  })
})

describe('topics that go', () => {
  test('deleted: what waits fails, a new topic of the same name is another topic', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    cluster.produceRule = () => ({ refuse: 'OVERLOADED' })
    const sent = producer.send('a', { n: 2 })
    await world.run(20)
    cluster.removeTopic('orders')
    expect(await world.failure(sent, 1_000)).toMatchObject({ code: 'ERR_MILLRACE_TOPIC_DELETED', outcome: 'failed' })
    cluster.produceRule = () => undefined
    expect(await world.failure(producer.send('a', { n: 3 }))).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_TOPIC' })
    cluster.addTopic('other', 1)
    cluster.addTopic('orders', 1)
    expect(await world.result(producer.send('a', { n: 4 }))).toMatchObject({ offset: 0 })
  })
})

test('under random trouble every partition keeps its order and no record appears twice', async () => {
  const setting = begin({ brokers: 2, partitions: 4 })
  const { world, cluster, mill } = setting
  const producer = mill.producer(Texts, { batchBytes: 400, deliveryTimeoutMs: 600_000 })
  let seed = 7
  const chance = (share: number): boolean => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0
    return (seed >>> 8) / 2 ** 24 < share
  }
  cluster.produceRule = ({ topicId, partition }: SeenBatch): ProduceRule | undefined => {
    if (chance(0.05)) cluster.move(topicId, partition, 1 + (cluster.route(topicId, partition).nodeId % 2), chance(0.5))
    if (chance(0.1)) return { refuse: 'OVERLOADED' }
    if (chance(0.05)) return { refuse: 'NOT_LEADER', append: chance(0.5) }
    if (chance(0.05)) return { closes: true, append: chance(0.5) }
    return undefined
  }
  const sends: Promise<Delivery>[] = []
  for (let n = 0; n < 2_000; n++) {
    sends.push(producer.send(`k${n % 13}`, text(n)))
    if (n % 50 === 0) await world.run(3)
  }
  await world.result(Promise.all(sends), 3_600_000)
  cluster.produceRule = () => undefined
  let total = 0
  for (let partition = 0; partition < 4; partition++) {
    const values = (await valuesOf(setting, partition)).map(Number)
    expect(values).toEqual([...values].sort((a, b) => a - b))
    expect(new Set(values).size).toBe(values.length)
    total += values.length
  }
  expect(total).toBe(2_000)
  expect(world.changedBuffers).toBe(0)
}, 60_000)
