// How long a record waits, and for what: never for a timer, and never for a neighbour.
import { produce } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { fill } from './support/batches.js'
import { begin, Orders, Texts } from './support/setting.js'

/** From one end to the other. */
const ONE_WAY_MS = 1

describe('complaint 14: no batching in the client', () => {
  test('records queued together share batches and frames, and nothing has to be set', async () => {
    const { world, cluster, mill } = begin()
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    const sends = Array.from({ length: 3_000 }, (_, n) => producer.send(`k${n}`, { n }))
    const deliveries = await world.result(Promise.all(sends))
    // Three partitions, one batch and one frame.
    expect(cluster.seen.map(({ recordCount }) => recordCount).reduce((sum, count) => sum + count)).toBe(3_000)
    expect(cluster.seen.length).toBe(3)
    const frames = cluster.brokers[0]!.data[0]!.frames.filter(({ kind }) => kind === produce.kind)
    expect(frames.length).toBe(1)
    expect(new Set(deliveries.map(({ partition, offset }) => `${partition}/${offset}`)).size).toBe(3_000)
  })

  test('batches grow while the line is busy', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    const producer = mill.producer(Orders, { inFlightBatches: 1 })
    await world.result(producer.send('k', { n: 0 }))
    const sends: Promise<unknown>[] = []
    for (let n = 1; n <= 400; n++) {
      world.at(n / 100, () => sends.push(producer.send('k', { n })))
    }
    await world.run(30)
    await world.result(Promise.all(sends))
    // 4 ms of sends, 2 ms from one batch to the next.
    expect(cluster.seen.length).toBeLessThanOrEqual(6)
    expect(cluster.partition(1, 0).end).toBe(401)
  })
})

describe('complaint 15: latency of wrapped clients', () => {
  const ROUND_MS = 2 * ONE_WAY_MS

  test('a lone record leaves at once: an awaited send takes one round, and a thousand take a thousand', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    await world.result(producer.send('k', { n: 0 }))
    const startMs = world.nowMs
    for (let n = 0; n < 1_000; n++) await world.result(producer.send(`k${n}`, { n }))
    expect(world.nowMs - startMs).toBeLessThanOrEqual(1_000 * ROUND_MS)
  })

  test('a thousand at once take one round', async () => {
    const { world, mill } = begin()
    const producer = mill.producer(Orders)
    await world.result(producer.send('k', { n: 0 }))
    const startMs = world.nowMs
    await world.result(Promise.all(Array.from({ length: 1_000 }, (_, n) => producer.send(`k${n}`, { n }))))
    expect(world.nowMs - startMs).toBeLessThanOrEqual(ROUND_MS)
  })

  test('a record reaches a subscriber without anybody asking for it', async () => {
    const { world, mill } = begin({ partitions: 1 })
    const seen: number[] = []
    mill
      .consumer()
      .subscribe(Texts)
      .subscribe(() => seen.push(world.nowMs))
    await world.run(50)
    const producer = mill.producer(Texts)
    await world.result(producer.ready())
    const startMs = world.nowMs
    await world.result(producer.send('k', 'x'))
    await world.run(10)
    expect(seen.length).toBe(1)
    expect(seen[0]! - startMs).toBeLessThanOrEqual(ROUND_MS)
  })
})

describe('complaint 16: head-of-line blocking, and too many connections', () => {
  test('a partition that does not answer holds up neither its neighbours nor the cluster map on the same node', async () => {
    const { world, cluster, mill } = begin({ partitions: 3 })
    const producer = mill.producer(Orders)
    await world.result(producer.ready())
    cluster.produceRule = ({ partition }) => (partition === 0 ? { silent: true } : undefined)
    let stuck = true
    const slow = Array.from({ length: 5 }, (_, n) => producer.send('k', { n }, { partition: 0 }))
    void Promise.allSettled(slow).then(() => {
      stuck = false
    })
    await world.run(20)
    const startMs = world.nowMs
    for (let n = 0; n < 50; n++) await world.result(producer.send('k', { n }, { partition: 1 + (n % 2) }))
    expect(world.nowMs - startMs).toBeLessThanOrEqual(100)
    cluster.addTopic('fresh', 2)
    const fresh = mill.producer('fresh').send(null, null, { partition: 1 })
    expect(await world.result(fresh)).toMatchObject({ offset: 0 })
    expect(stuck).toBe(true)
    // One connection for data, one that follows the cluster; not one for each partition, producer or request.
    expect(cluster.brokers[0]!.connections.length).toBe(2)
    await world.failure(mill.close({ timeoutMs: 10 }))
  })

  test('many producers and subscriptions share the connections of a node', async () => {
    const { world, cluster, mill } = begin({ brokers: 3, partitions: 12 })
    const producers = Array.from({ length: 40 }, () => mill.producer(Orders))
    for (let i = 0; i < 40; i++) mill.consumer().subscribe(Orders).subscribe()
    await world.result(
      Promise.all(producers.flatMap((producer) => Array.from({ length: 24 }, (_, n) => producer.send(`k${n}`, { n })))),
    )
    await world.run(50)
    const connections = cluster.brokers.map((broker) => broker.connections.length)
    expect(connections.reduce((sum, count) => sum + count)).toBe(4)
    await world.result(mill.close())
    expect(world.openLinks).toEqual([])
  })
})

describe('complaint 23: low latency only for those who poll', () => {
  test('while nothing is sent nothing is asked for, and what is sent then comes at once', async () => {
    const { world, cluster, mill } = begin({ partitions: 3 })
    const seen: number[] = []
    mill
      .consumer()
      .subscribe(Texts)
      .subscribe(() => seen.push(world.nowMs))
    await world.run(1_000)
    const [broker] = cluster.brokers
    const frames = (): number => broker!.connections.reduce((sum, connection) => sum + connection.frames.length, 0)
    const before = frames()
    await world.run(600_000)
    expect(frames() - before).toBe(0)
    for (let n = 0; n < 10; n++) {
      const sentMs = world.nowMs
      fill(cluster, 1, n % 3, 1, 1)
      await world.run(ONE_WAY_MS)
      expect(seen.slice(n)).toEqual([sentMs + ONE_WAY_MS])
      await world.run(10_000)
    }
    // The bytes of a record or two are not worth a frame of credit.
    expect(frames() - before).toBeLessThanOrEqual(10)
  })
})
