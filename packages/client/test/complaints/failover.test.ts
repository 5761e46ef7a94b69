// Complaints 4 and 5: brokers die, move to other addresses or are replaced, and a client goes on asking those of yesterday.
// `end-to-end/cluster.test.ts` has the same on real brokers.
import dns, { type LookupAddress, type LookupAllOptions, type LookupOptions } from 'node:dns'
import { mapSubscribe } from '@millrace/protocol'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import { FakeBroker, type FakeCluster } from '../support/fake-broker.js'
import { clusterOfFile } from '../support/real-cluster.js'
import { begin, type Setting, Texts } from '../support/setting.js'

const real = clusterOfFile()

/** A client that sends to and reads from every partition; partition n is led by node n + 1. */
async function inUse(brokers: number): Promise<Setting & { readonly seen: number[]; readonly errors: unknown[] }> {
  const setting = begin({ brokers, partitions: brokers })
  const seen: number[] = []
  const errors: unknown[] = []
  const { world, mill } = setting
  mill
    .consumer()
    .subscribe(Texts, { from: 'earliest' })
    .subscribe({ next: ({ value }) => seen.push(Number(value)), error: (error) => errors.push(error) })
  const producer = mill.producer(Texts)
  for (let partition = 0; partition < brokers; partition++) {
    await world.result(producer.send('k', String(partition), { partition }))
  }
  await world.run(100)
  expect(seen.sort()).toEqual([...Array(brokers).keys()])
  return { ...setting, seen, errors }
}

const framesOf = (cluster: FakeCluster, kind: number): number =>
  cluster.brokers
    .flatMap(({ connections }) => connections.flatMap(({ frames }) => frames))
    .filter((frame) => frame.kind === kind).length

describe('complaint 4: the leader dies, and the client goes on with the dead node or gives up', () => {
  test('a broken connection is enough: the map is asked for at once, and the dead node is left', async () => {
    const { world, cluster, mill, seen, errors } = await inUse(3)
    const dead = cluster.brokers.find(({ control }) => control.length === 0)!
    const partition = dead.nodeId - 1
    const asked = framesOf(cluster, mapSubscribe.kind)
    // Nobody pushes the news.
    cluster.move(1, partition, (dead.nodeId % 3) + 1, false)
    dead.stop()
    const diedMs = world.nowMs
    await world.result(mill.producer(Texts).send('k', '7', { partition }))
    // The break is heard of, the map asked for and answered, the batch sent and acknowledged: no wait in between.
    expect(world.nowMs - diedMs).toBeLessThanOrEqual(10)
    expect(framesOf(cluster, mapSubscribe.kind)).toBe(asked + 1)
    await world.run(10)
    expect(seen).toContain(7)
    const dials = world.dials.length
    for (let n = 0; n < 60; n++) {
      await world.result(mill.producer(Texts).send('k', String(n), { partition }))
      await world.run(1_000)
    }
    expect(world.dials.slice(dials)).toEqual([])
    expect(errors).toEqual([])
  })

  test('nobody leads for a minute: it neither gives up nor asks without a pause, and goes on when somebody does', async () => {
    const { world, cluster, mill, seen, errors } = await inUse(3)
    const dead = cluster.brokers.find(({ control }) => control.length === 0)!
    const partition = dead.nodeId - 1
    dead.stop()
    const dials = world.dials.length
    const asked = framesOf(cluster, mapSubscribe.kind)
    let outcome: unknown = null
    const sent = mill.producer(Texts).send('k', '7', { partition })
    sent.then(
      (delivery) => (outcome = delivery),
      (error) => (outcome = error),
    )
    await world.run(60_000)
    expect(outcome).toBe(null)
    expect(new Set(world.dials.slice(dials))).toEqual(new Set([dead.address]))
    expect(world.dials.length - dials).toBeLessThan(60)
    expect(framesOf(cluster, mapSubscribe.kind) - asked).toBeLessThan(60)
    cluster.move(1, partition, (dead.nodeId % 3) + 1)
    await world.result(sent, 10)
    await world.run(10)
    expect(seen).toContain(7)
    expect(errors).toEqual([])
  })
})

describe('complaint 5: the addresses given at the start are used for ever', () => {
  test('a node that comes back elsewhere is found there, and nobody asks at its old address', async () => {
    const { world, cluster, mill, seen, errors } = await inUse(3)
    const old = cluster.brokers.find(({ control }) => control.length === 0)!
    const partition = old.nodeId - 1
    old.stop()
    await world.run(500)
    const moved = replace(cluster, old, 'elsewhere')
    cluster.version++
    cluster.publish({ nodes: [{ nodeId: old.nodeId, host: 'elsewhere', port: old.port, shardCount: 1 }] })
    await world.run(10)
    const dials = world.dials.length
    await world.result(mill.producer(Texts).send('k', '7', { partition }), 12_000)
    await world.run(12_000)
    expect(world.dials.slice(dials)).not.toContain(old.address)
    expect(moved.data.length).toBe(1)
    expect(seen).toContain(7)
    expect(errors).toEqual([])
  })

  test('after the first contact the address that was given is not needed', async () => {
    const { world, cluster, mill, errors } = await inUse(3)
    const given = cluster.brokers[0]!
    cluster.move(1, 0, 2)
    given.stop()
    for (let n = 0; n < 30; n++) {
      await world.result(mill.producer(Texts).send('k', String(n), { partition: n % 3 === 0 ? 0 : 1 }))
      await world.run(1_000)
    }
    const [, second] = cluster.brokers
    if (second!.control.length > 0) second!.control[0]!.cut()
    await world.run(10_000)
    expect(cluster.brokers.slice(1).flatMap(({ control }) => control).length).toBe(1)
    expect(errors).toEqual([])
  })

  test('every broker is replaced at once: the name that was given leads to the new ones', async () => {
    const { world, cluster, mill, seen, errors } = await inUse(2)
    for (const broker of cluster.brokers) broker.stop()
    await world.run(5_000)
    for (const broker of [...cluster.brokers]) replace(cluster, broker, 'new')
    // What the name stands for now.
    world.listeners.set('broker:7420', world.listeners.get('new:7420')!)
    cluster.version++
    await world.result(
      Promise.all([0, 1].map((partition) => mill.producer(Texts).send('k', '7', { partition }))),
      30_000,
    )
    await world.run(30_000)
    expect(seen.filter((n) => n === 7)).toHaveLength(2)
    const dials = world.dials.length
    await world.run(120_000)
    expect(world.dials.slice(dials)).toEqual([])
    expect(errors).toEqual([])
  })

  test('a name is resolved anew on every dial', async () => {
    const name = 'mill.test'
    const { host, port } = real.cluster.brokers[0]!.address
    // Nobody listens there.
    let address = '127.0.0.2'
    let lookups = 0
    const lookup = vi.spyOn(dns, 'lookup').mockImplementation(((
      hostname: string,
      options: LookupOptions,
      callback: (error: null, found: string | LookupAddress[], family?: number) => void,
    ) => {
      expect(hostname).toBe(name)
      lookups++
      const { all } = options as LookupAllOptions
      process.nextTick(() => (all ? callback(null, [{ address, family: 4 }]) : callback(null, address, 4)))
    }) as typeof dns.lookup)
    onTestFinished(() => lookup.mockRestore())
    const mill = real.connect({ bootstrap: `${name}:${port}`, wait: true, retry: { initialMs: 5, maxMs: 50 } })
    const ready = mill.ready()
    await vi.waitFor(() => expect(lookups).toBeGreaterThan(2), 20_000)
    address = host
    await ready
  })
})

/** The node runs at another address from now on. */
function replace(cluster: FakeCluster, old: FakeBroker, host: string): FakeBroker {
  const broker = new FakeBroker(cluster, old.nodeId, host, old.port, old.shardCount)
  cluster.brokers[cluster.brokers.indexOf(old)] = broker
  cluster.nodes = cluster.nodes.map((node) => (node.nodeId === old.nodeId ? { ...node, host } : node))
  broker.start()
  return broker
}
