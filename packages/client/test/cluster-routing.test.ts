// A cluster whose leaders change: who is asked, who is not asked any more, and how soon.
import type { ClusterMapView, MillStatus } from '@millrace/client'
import { cursorOpen, mapSubscribe, offsets, offsetsReply, produce, produceReply, Reader } from '@millrace/protocol'
import { describe, expect, test, vi } from 'vitest'
import { PartitionQueue } from '#src/partition-queue.js'
import type { FakeBroker, FakeCluster, ProduceRule } from './support/fake-broker.js'
import { begin, Orders, type Setting, Texts } from './support/setting.js'

const oneEach = { batchBytes: 120 } as const
const text = (n: number): string => `${n}`.padStart(100, '0')
const none = (term: number) => ({ nodeId: 0, shard: 0, placement: 0, term })

/** Applies rules to the first batches seen, one each. */
function script(cluster: FakeCluster, ...rules: (ProduceRule | undefined)[]): void {
  let at = 0
  cluster.produceRule = () => rules[at++]
}

const kinds = (statuses: readonly MillStatus[]): string[] => statuses.map(({ kind }) => kind)
const snapshotsAsked = ({ cluster }: Setting): number =>
  cluster.brokers
    .flatMap(({ connections }) => connections.flatMap(({ frames }) => frames))
    .filter(({ kind }) => kind === mapSubscribe.kind).length

/** The broker that the control connection goes to, or one that it does not. */
const controlled = ({ cluster }: Setting): FakeBroker => cluster.brokers.find(({ control }) => control.length > 0)!
const uncontrolled = ({ cluster }: Setting): FakeBroker => cluster.brokers.find(({ control }) => control.length === 0)!

describe('a producer', () => {
  test('does not wait for a silent leader once another is known, and sends the same batches again in order', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    cluster.brokers[0]!.intercept = (_connection, header) => header.kind === produce.kind
    const sends = [1, 2, 3].map((n) => producer.send('k', text(n)))
    await world.run(1_000)
    cluster.move(1, 0, 2)
    const deliveries = await world.result(Promise.all(sends), 20)
    expect(deliveries.map(({ offset }) => offset)).toEqual([1, 2, 3])
    expect(cluster.seen.slice(1)).toMatchObject([1, 2, 3].map((sequence) => ({ nodeId: 2, epoch: 0, sequence })))
  })

  test('takes the acknowledgement of the old leader when it comes late all the same', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    let answer = (): void => {}
    cluster.brokers[0]!.intercept = (connection, header, payload) => {
      if (header.kind !== produce.kind) return false
      const copy = payload.slice()
      answer = () => {
        const { entries, batchesStart } = produce.decode(new Reader(copy))
        expect(entries.length).toBe(1)
        const baseOffset = cluster.append(1, 0, copy.slice(batchesStart))
        const result = { code: 0, baseOffset, appendTime: 1, route: cluster.route(1, 0), detail: '' }
        connection.send(produceReply, { results: [result] }, header.id)
      }
      return true
    }
    cluster.brokers[1]!.intercept = (_connection, header) => header.kind === produce.kind
    const sent = producer.send('k', text(1))
    await world.run(10)
    cluster.move(1, 0, 2)
    await world.run(10)
    answer()
    expect(await world.result(sent, 20)).toMatchObject({ offset: 1 })
    expect(mill.statistics().misroutes).toBe(0)
  })

  test('refused without news: nothing goes there until somebody else is known', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    script(cluster, { refuse: 'NOT_LEADER', route: none(1) })
    const sent = producer.send('k', text(1))
    await world.run(1_500)
    expect(cluster.seen.length).toBe(2)
    cluster.move(1, 0, 2)
    await world.result(sent, 20)
    expect(cluster.seen.at(-1)).toMatchObject({ nodeId: 2, sequence: 1 })
    expect(mill.statistics()).toMatchObject({ refusals: 1, misroutes: 0 })
  })

  test('refused by mistake: the map that still names the broker is believed after a while', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    script(cluster, { refuse: 'NOT_LEADER', route: none(1) })
    const startMs = world.nowMs
    await world.result(producer.send('k', text(1)), 10_000)
    expect(world.nowMs - startMs).toBeGreaterThan(2_000)
    expect(cluster.seen.at(-1)).toMatchObject({ nodeId: 1, sequence: 1 })
  })

  test('a leader of the term in which none was known at first', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    script(cluster, { refuse: 'NOT_LEADER', route: none(2) })
    const sent = producer.send('k', text(1))
    await world.run(100)
    expect(await world.result(mill.cluster.whereIs(Texts, 'k'))).toMatchObject({ nodeId: 0, term: 2 })
    expect(cluster.move(1, 0, 2)).toMatchObject({ term: 2 })
    await world.result(sent, 20)
  })

  test('without a leader: waits for the push, and asks seldom', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    cluster.move(1, 0, 0)
    await world.run(60_000)
    // Nobody waits, nobody asks.
    expect(mill.statistics().refreshes).toBe(0)
    const sent = producer.send('k', text(1))
    await world.run(60_000)
    expect(mill.statistics().refreshes).toBeGreaterThan(10)
    expect(mill.statistics().refreshes).toBeLessThan(25)
    expect(cluster.seen.length).toBe(1)
    cluster.move(1, 0, 2, false)
    // The push is lost: the next refresh brings it.
    await world.result(sent, 5_000)
    expect(cluster.seen.at(-1)).toMatchObject({ nodeId: 2 })
  })

  test('waits out no throttle of a broker that leads no more', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    script(cluster, { refuse: 'OVERLOADED', throttleMs: 30_000 })
    const sent = producer.send('k', text(1))
    await world.run(100)
    cluster.move(1, 0, 2)
    await world.result(sent, 20)
  })

  test('a broker that has yet to hear of the topic is asked again', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    script(cluster, { refuse: 'UNKNOWN_TOPIC' }, { refuse: 'UNKNOWN_PARTITION' })
    expect(await world.result(producer.send('k', text(0)), 3_000)).toMatchObject({ offset: 0 })
    expect(cluster.seen.map(({ epoch, sequence }) => `${epoch}.${sequence}`)).toEqual(['0.0', '0.0', '0.0'])
  })

  test('a node that was down for long and leads anew is connected to at once', async () => {
    const setting = begin({ brokers: 2, partitions: 2 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    for (const partition of [0, 1]) await world.result(producer.send('k', text(0), { partition }))
    const node = uncontrolled(setting)
    const partition = node.nodeId - 1
    node.stop()
    const sent = producer.send('k', text(1), { partition })
    await world.run(90_000)
    node.start()
    cluster.move(1, partition, node.nodeId)
    await world.result(sent, 150)
  })
})

describe('a subscription', () => {
  test('goes on where it stood, asking the new leader with the term it has read last', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Texts, oneEach)
    const values: number[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(({ value }) => values.push(Number(value)))
    await world.result(Promise.all([0, 1, 2].map((n) => producer.send('k', text(n)))))
    await world.run(50)
    const opened: unknown[] = []
    cluster.brokers[1]!.intercept = (_connection, header, payload) => {
      if (header.kind === cursorOpen.kind) opened.push(cursorOpen.decode(new Reader(payload)))
      return false
    }
    const route = cluster.move(1, 0, 2, false)
    cluster.brokers[0]!.data[0]!.closeCursors('MOVED', route)
    await world.run(10)
    const routeVersion = { term: 2, placement: 0 }
    expect(opened).toMatchObject([{ start: 'offset', position: 3, lastTerm: 1, routeVersion }])
    await world.result(Promise.all([3, 4].map((n) => producer.send('k', text(n)))))
    await world.run(50)
    expect(values).toEqual([0, 1, 2, 3, 4])
    expect(mill.statistics().misroutes).toBe(0)
  })

  test('a new leader ends the wait after a failure', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1, retry: { initialMs: 60_000, maxMs: 60_000 } })
    await world.result(mill.producer(Texts).send('k', text(0)))
    const values: unknown[] = []
    cluster.brokers[0]!.intercept = (connection, header, payload) => {
      if (header.kind !== cursorOpen.kind) return false
      connection.closeCursor(header.id, cursorOpen.decode(new Reader(payload)), 'OVERLOADED')
      return true
    }
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(({ value }) => values.push(value))
    await world.run(100)
    cluster.move(1, 0, 2)
    await world.run(20)
    expect(values).toEqual([text(0)])
  })

  test('a broker that has yet to hear of the topic is asked again', async () => {
    const { world, cluster, mill } = begin({ partitions: 1 })
    await world.result(mill.producer(Texts).send('k', text(0)))
    let refused = 0
    cluster.brokers[0]!.intercept = (connection, header, payload) => {
      if (header.kind !== cursorOpen.kind || ++refused > 2) return false
      connection.closeCursor(header.id, cursorOpen.decode(new Reader(payload)), 'UNKNOWN_TOPIC', none(0))
      return true
    }
    const stream = mill.consumer().subscribe(Texts, { from: 'earliest' })
    expect((await world.result(stream[Symbol.asyncIterator]().next(), 3_000)).value?.value).toBe(text(0))
  })

  test('an end given by time is asked of the leader', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    await world.result(mill.producer(Texts).send('k', text(0)))
    const route = cluster.move(1, 0, 2, false)
    const asked: number[] = []
    for (const broker of cluster.brokers) {
      broker.intercept = (connection, header) => {
        if (header.kind !== offsets.kind) return false
        asked.push(broker.nodeId)
        if (broker.nodeId === 2) return false
        const answer = { code: 11, offset: 0, timestamp: null, term: 0, route }
        connection.send(offsetsReply, { answers: [answer] }, header.id)
        return true
      }
    }
    const values: unknown[] = []
    const done = (async () => {
      const until = { timestamp: world.wallOffsetMs + world.nowMs + 1_000 }
      for await (const { value } of mill.consumer().subscribe(Texts, { from: 'earliest', until })) values.push(value)
    })()
    await world.result(done, 1_000)
    expect(values).toEqual([text(0)])
    expect(asked).toEqual([1, 2])
  })
})

describe('the map', () => {
  test('is asked for once when several connections are lost together', async () => {
    const setting = begin({ brokers: 4, partitions: 4 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts)
    await world.result(Promise.all([0, 1, 2, 3].map((partition) => producer.send('k', text(0), { partition }))))
    const asked = snapshotsAsked(setting)
    for (const broker of cluster.brokers) for (const connection of broker.data) connection.cut()
    await world.run(5_000)
    expect(mill.statistics().refreshes).toBe(1)
    expect(snapshotsAsked(setting) - asked).toBe(1)
  })

  test('a push counts at once, also while a whole map is on its way', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(producer.send('k', text(0)))
    // The broker takes its time with the map that the lost connection makes the client ask for.
    controlled(setting).intercept = (_connection, header) => header.kind === mapSubscribe.kind
    for (const connection of cluster.brokers[0]!.data) connection.cut()
    await world.run(10)
    expect(mill.statistics().refreshes).toBe(1)
    cluster.move(1, 0, 2)
    await world.result(producer.send('k', text(1)), 50)
    expect(cluster.seen.at(-1)).toMatchObject({ nodeId: 2, sequence: 1 })
  })

  test('steady: whatever is sent and read, nothing is refused, misrouted or asked for again', async () => {
    const { world, cluster, mill } = begin({ brokers: 3, partitions: 12 })
    const producer = mill.producer(Texts)
    let records = 0
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(() => records++)
    for (let n = 0; n < 300; n++) {
      void producer.send(`key ${n}`, text(n))
      await world.run(100)
    }
    await world.result(producer.flush())
    await world.run(100)
    expect(records).toBe(300)
    expect(mill.statistics()).toEqual({ misroutes: 0, refusals: 0, refreshes: 0, reconnects: 0 })
    expect(new Set(cluster.seen.map(({ nodeId }) => nodeId)).size).toBe(3)
    for (const { nodeId, partition } of cluster.seen) expect(nodeId).toBe(1 + (partition % 3))
  })

  test('that changes for one of many partitions has only that one looked at, and shown anew', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 50 })
    const producer = mill.producer(Texts)
    await world.result(Promise.all(Array.from({ length: 50 }, (_, at) => producer.send('k', 'v', { partition: at }))))
    const maps: ClusterMapView[] = []
    mill.cluster.map$.subscribe((map) => maps.push(map))
    await world.run(20)
    const looked = vi.spyOn(PartitionQueue.prototype, 'routeChanged')
    cluster.move(1, 7, 1)
    await world.run(20)
    expect(looked.mock.contexts.map((queue) => (queue as PartitionQueue).partition)).toEqual([7])
    looked.mockRestore()
    const [before, after] = [maps[0]!, maps.at(-1)!].map(({ topics }) => topics[0]!.partitions)
    expect(after!.flatMap((one, at) => (one === before![at] ? [] : [at]))).toEqual([7])
  })

  test('is shown as it is and as it becomes, and cannot be changed', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 2 })
    const seen: ClusterMapView[] = []
    let completed = false
    expect(world.dials).toEqual([])
    const subscription = mill.cluster.map$.subscribe({
      next: (map) => seen.push(map),
      complete: () => {
        completed = true
      },
    })
    await world.run(20)
    expect(seen).toHaveLength(1)
    expect(seen[0]).toEqual({
      clusterId: 'c'.repeat(32),
      version: cluster.version,
      nodes: cluster.nodes,
      topics: [
        {
          topicId: 1,
          name: 'orders',
          durability: 'flushed',
          codecs: ['none', 'gzip'],
          partitions: [0, 1].map((partition) => ({
            partition,
            nodeId: 1 + partition,
            shard: 0,
            term: 1,
            placement: 0,
          })),
        },
      ],
    })
    expect(() => Object.assign(seen[0]!.topics[0]!.partitions[0]!, { nodeId: 9 })).toThrow(TypeError)
    cluster.move(1, 0, 2)
    cluster.move(1, 1, 1)
    await world.run(20)
    expect(seen.at(-1)!.topics[0]!.partitions).toMatchObject([
      { nodeId: 2, term: 2 },
      { nodeId: 1, term: 2 },
    ])
    const late: ClusterMapView[] = []
    mill.cluster.map$.subscribe((map) => late.push(map))
    await world.run(1)
    expect(late).toEqual([seen.at(-1)])
    subscription.unsubscribe()
    const before = seen.length
    cluster.addTopic('more', 1)
    await world.run(20)
    expect(seen.length).toBe(before)
    expect(late.at(-1)!.topics).toHaveLength(2)
    mill.cluster.map$.subscribe({
      complete: () => {
        completed = true
      },
    })
    await world.result(mill.close())
    expect(completed).toBe(true)
  })

  test('nobody there: the map cannot be shown, and that is told', async () => {
    const { world, cluster, mill } = begin({ connectTimeoutMs: 1_000 })
    cluster.brokers[0]!.stop()
    let error: unknown
    mill.cluster.map$.subscribe({
      error: (cause) => {
        error = cause
      },
    })
    await world.run(1_100)
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_CONNECTION' })
  })

  test('a route is explained, from the key to the node', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    expect((await world.result(mill.cluster.whereIs(Texts, 'customer-42'))).explanation).toBe(
      'murmur2 of a key of 11 bytes: partition 0 of 1 of orders, led by node 1, core 0, at broker:7420, in term 1',
    )
    cluster.move(1, 0, 0)
    await world.run(5)
    expect((await world.result(mill.cluster.whereIs('orders', null))).explanation).toBe(
      'no key: partition 0 of 1 of orders, whose leader is not known at the moment',
    )
  })
})

describe('the control connection', () => {
  test('leaves a node that is silent within 3 s, whether its partitions move or not', async () => {
    const setting = begin({ brokers: 3, partitions: 3 })
    const { world, cluster, mill } = setting
    const producer = mill.producer(Texts, oneEach)
    await world.result(Promise.all([0, 1, 2].map((partition) => producer.send('k', text(0), { partition }))))
    const hole = controlled(setting)
    const partition = hole.nodeId - 1
    // The machine is gone: nothing is answered, nothing is refused.
    hole.heartbeats = false
    hole.intercept = () => true
    world.blackHoles.add(hole.address)
    const sent = producer.send('k', text(1), { partition })
    await world.run(1_000)
    cluster.move(1, partition, 1 + (hole.nodeId % 3), false)
    const startMs = world.nowMs
    await world.result(sent, 3_000)
    expect(world.nowMs - startMs).toBeLessThan(2_000)
    expect(kinds(setting.statuses)).toContain('control-stale')
    expect(controlled(setting)).not.toBe(hole)
  })

  test('survives the end of every bootstrap address after the first contact', async () => {
    const setting = begin({ brokers: 3, bootstrap: 'seed:1' })
    const { world, cluster, mill } = setting
    world.listeners.set('seed:1', world.listeners.get(cluster.brokers[0]!.address)!)
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }, { partition: 1 }))
    world.listeners.delete('seed:1')
    for (const connection of [...cluster.brokers[0]!.connections]) connection.cut()
    cluster.brokers[0]!.stop()
    cluster.move(1, 0, 2)
    await world.result(producer.send('a', { n: 2 }, { partition: 0 }), 1_000)
    expect(controlled(setting).nodeId).not.toBe(1)
  })

  test('leaves a node that has lost touch with the metadata leader for one that has not, at once', async () => {
    const setting = begin({ brokers: 3 })
    const { world, cluster, mill } = setting
    await world.result(mill.ready())
    const [first, second] = [controlled(setting), uncontrolled(setting)]
    first.metadataAgeMs = 5_001
    second.metadataAgeMs = 60_000
    await world.run(3_000)
    expect([first.control.length, second.control.length]).toEqual([0, 0])
    expect(kinds(setting.statuses).slice(1, 4)).toEqual(['connected', 'control-stale', 'connected'])
    expect(cluster.brokers.filter(({ control }) => control.length > 0)).toHaveLength(1)
  })

  test('stays when every node has lost touch, says so once a round, and says when it is well again', async () => {
    const setting = begin({ brokers: 3 })
    const { world, cluster, mill, statuses } = setting
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    for (const broker of cluster.brokers) broker.metadataAgeMs = 20_000
    await world.run(4_000)
    expect(statuses.at(-1)).toMatchObject({ kind: 'control-stale' })
    expect(statuses.at(-1)!.message).toContain('nor has any other node')
    const dials = world.dials.length
    await world.run(60_000)
    expect(world.dials.length - dials).toBeLessThan(12)
    // Records flow on without metadata.
    await world.result(producer.send('a', { n: 2 }))
    for (const broker of cluster.brokers) broker.metadataAgeMs = 10
    await world.run(2_000)
    expect(statuses.at(-1)).toMatchObject({ kind: 'connected' })
    const quiet = statuses.length
    await world.run(60_000)
    expect(kinds(statuses.slice(quiet)).filter((kind) => kind.startsWith('control'))).toEqual([])
  })
})
