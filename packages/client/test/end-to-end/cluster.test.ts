// The client on real brokers whose partitions change leaders: what is acknowledged is there, once and in order, whoever
// leads, and the client hears of every leader by itself.
import type { TestCluster } from '@millrace/broker/testing'
import { type Mill, topic, utf8 } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { expect, test, vi } from 'vitest'
import { clusterOfTest } from '../support/real-cluster.js'

vi.setConfig({ testTimeout: 60_000 })

const Numbers = topic('numbers', { key: utf8, value: utf8 })
const PARTITIONS = 6

const real = clusterOfTest()

async function begin(brokers = 3): Promise<{ cluster: TestCluster; mill: Mill }> {
  await real.start({ brokers })
  const { cluster, mill } = real
  await admin(mill).createTopic(Numbers.name, { partitions: PARTITIONS, replicas: Math.min(3, brokers) })
  return { cluster, mill }
}

const leaderOf = async (client: Mill, key: string): Promise<number> =>
  (await client.cluster.whereIs(Numbers, key)).nodeId

/** Every value of the topic, by key, in the order of the log. */
async function logOf(client: Mill): Promise<Map<string, number[]>> {
  const values = new Map<string, number[]>()
  for await (const { key, value } of client.consumer().subscribe(Numbers, { from: 'earliest', until: 'end' })) {
    const list = values.get(key!) ?? []
    list.push(Number(value))
    values.set(key!, list)
  }
  return values
}

const until = (what: () => boolean | Promise<boolean>): Promise<void> =>
  vi.waitFor(async () => expect(await what()).toBe(true), { timeout: 20_000, interval: 50 })

test('leaders are spread, found without a detour, and told by the brokers as by the map', async () => {
  const { mill } = await begin()
  const producer = mill.producer(Numbers)
  await Promise.all(Array.from({ length: 60 }, (_, n) => producer.send(`k${n % 12}`, String(n))))
  const { partitions } = await admin(mill).describeTopic(Numbers.name)
  expect(new Set(partitions.map(({ leader }) => leader))).toEqual(new Set([1, 2, 3]))
  for (const { replicas } of partitions) expect(replicas.map(({ nodeId }) => nodeId).sort()).toEqual([1, 2, 3])
  expect(partitions.reduce((sum, { highWatermark }) => sum + highWatermark!, 0)).toBe(60)
  for (let n = 0; n < 12; n++) {
    const { partition, nodeId, term } = await mill.cluster.whereIs(Numbers, `k${n}`)
    expect(partitions[partition]).toMatchObject({ leader: nodeId, term })
  }
  expect([...(await logOf(mill)).values()].flat().sort((a, b) => a - b)).toEqual([...Array(60).keys()])
  expect(mill.statistics()).toMatchObject({ misroutes: 0, refusals: 0, refreshes: 0 })
  await until(async () => (await admin(mill).clusterStatus()).underReplicated === 0)
  const { nodes, metadata, leaderless } = await admin(mill).clusterStatus()
  expect(nodes.map(({ nodeId, alive }) => [nodeId, alive])).toEqual([1, 2, 3].map((nodeId) => [nodeId, true]))
  expect(nodes.reduce((sum, { partitionsLed }) => sum + partitionsLed, 0)).toBe(PARTITIONS)
  expect([leaderless, metadata.leader > 0]).toEqual([0, true])
})

test('complaint 4: the leader is killed among sends: nothing fails, nothing is lost or twice, every key keeps its order', async () => {
  const { cluster, mill } = await begin()
  const producer = mill.producer(Numbers)
  const consumed: string[] = []
  const errors: unknown[] = []
  mill
    .consumer()
    .subscribe(Numbers, { from: 'earliest' })
    .subscribe({ next: ({ key, value }) => consumed.push(`${key}:${value}`), error: (error) => errors.push(error) })
  const sends: Promise<unknown>[] = []
  for (let n = 0; n < 600; n++) {
    sends.push(producer.send(`k${n % 12}`, String(n)))
    if (n === 200) await cluster.kill(await leaderOf(mill, 'k0'))
    if (n % 4 === 0) await new Promise((resolve) => setTimeout(resolve, 5))
  }
  await Promise.all(sends)
  const log = await logOf(mill)
  for (const values of log.values()) expect(values).toEqual([...values].sort((a, b) => a - b))
  expect([...log.values()].flat().sort((a, b) => a - b)).toEqual([...Array(600).keys()])
  await until(() => consumed.length >= 600)
  expect(new Set(consumed).size).toBe(600)
  expect(consumed.length).toBe(600)
  expect(errors).toEqual([])
  expect(mill.statistics().misroutes).toBe(0)
})

test('complaint 4: a leader that is cut off from the others is left, though the client still reaches it', async () => {
  const { cluster, mill } = await begin()
  const producer = mill.producer(Numbers)
  const consumed: number[] = []
  mill
    .consumer()
    .subscribe(Numbers, { from: 'earliest' })
    .subscribe(({ value }) => consumed.push(Number(value)))
  for (let n = 0; n < 20; n++) await producer.send('k', String(n))
  const old = await leaderOf(mill, 'k')
  const others = [1, 2, 3].filter((nodeId) => nodeId !== old)
  await cluster.partition(old, others)
  const sends = Array.from({ length: 20 }, (_, n) => producer.send('k', String(20 + n)))
  await Promise.all(sends)
  const next = await leaderOf(mill, 'k')
  expect(others).toContain(next)
  const { misroutes, refusals } = mill.statistics()
  await cluster.heal()
  for (let n = 40; n < 60; n++) await producer.send('k', String(n))
  await until(() => consumed.length >= 60)
  expect(consumed).toEqual([...Array(60).keys()])
  expect(misroutes).toBe(0)
  // Of each partition at most what was on its way to the old leader was refused.
  expect(refusals).toBeLessThanOrEqual(2 * PARTITIONS + 10)
})

test('complaint 5: every broker is killed and comes back in turn, also the only one whose address was given', async () => {
  const { cluster, mill } = await begin()
  const seed = real.connect({ bootstrap: cluster.bootstrap.split(',')[0]! })
  const producer = seed.producer(Numbers)
  const numbers: number[] = []
  await seed.ready()
  for (const { nodeId } of cluster.brokers) {
    await cluster.kill(nodeId)
    for (let n = 0; n < 60; n++) {
      numbers.push(numbers.length)
      await producer.send(`k${n % 12}`, String(numbers.at(-1)))
    }
    await cluster.restart(nodeId)
    await until(async () => {
      const { leaderless, underReplicated, nodes } = await admin(seed).clusterStatus()
      return leaderless === 0 && underReplicated === 0 && nodes.every(({ alive }) => alive)
    })
  }
  expect([...(await logOf(mill)).values()].flat().sort((a, b) => a - b)).toEqual(numbers)
})
