// A replica whose disk has rotted, among others that are whole: it gets back what it lacks, and counts again.
import { readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { expect, it, onTestFinished, vi } from 'vitest'
import { REPAIR_FILE } from '#src/replication/repair-list.js'
import { GROUP_KINDS } from '#src/storage/group-envelope.js'
import { StorageError } from '#src/storage/log-store.js'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { flip, groupsOf } from '../inspect/directories.js'
import { client, numbered, numbers, readAll, sendAll } from '../server/numbered-records.js'
import { runBroker } from '../server/running-broker.js'
import { ENVIRONMENTS } from './environments.js'

const VICTIM = 2

async function lagOf(mill: Mill, nodeId: number): Promise<number | null | undefined> {
  const { partitions } = await admin(mill).describeTopic('orders')
  return partitions[0]!.replicas.find((replica) => replica.nodeId === nodeId)?.lagBatches
}

/** Kills the victim and turns over a bit in the middle of what it had flushed. */
async function killAndDamage(cluster: TestCluster): Promise<void> {
  const { dataDirectory } = cluster.broker(VICTIM)
  await cluster.kill(VICTIM)
  const groups = groupsOf(dataDirectory, 0).filter(({ envelope }) => envelope.kind === GROUP_KINDS.batches)
  expect(groups.length).toBeGreaterThan(8)
  const { slot, at } = groups[Math.floor(groups.length / 2)]!
  flip(dataDirectory, slot, at + 96 + 40 + 30)
}

it.each(ENVIRONMENTS)(
  'a damaged replica is repaired by the others, on %s',
  { timeout: 240_000 },
  async (environment) => {
    const cluster = await startTestCluster({ environment, brokers: 3 })
    onTestFinished(() => cluster.stop())
    const mill = client(cluster)
    await admin(mill).createTopic('orders', { partitions: 1 })
    for (let at = 0; at < 100; at += 5) await sendAll(mill, 'orders', at, at + 5)
    await expect.poll(() => lagOf(mill, VICTIM), { timeout: 60_000 }).toBe(0)
    await killAndDamage(cluster)
    await sendAll(mill, 'orders', 100, 120)
    await cluster.restart(VICTIM)
    await expect.poll(() => lagOf(mill, VICTIM), { timeout: 60_000 }).toBe(0)
    // It is needed for every majority now, and has what it had lost.
    await cluster.kill(1)
    await sendAll(mill, 'orders', 120, 140)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 140))
    await cluster.restart(1)
    await cluster.kill(3)
    await sendAll(mill, 'orders', 140, 150)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 150))
  },
)

/** What the victim's disk says of replicas that may have lost something. */
function underRepair(cluster: TestCluster): unknown {
  return JSON.parse(readFileSync(join(cluster.broker(VICTIM).dataDirectory, REPAIR_FILE), 'utf8'))
}

/** Takes away the first segment of what the victim has of the partition: nobody can say what stood there. */
async function killAndBehead(cluster: TestCluster): Promise<void> {
  const { dataDirectory } = cluster.broker(VICTIM)
  await cluster.kill(VICTIM)
  const slots = new Set(groupsOf(dataDirectory, 0).map(({ slot }) => slot))
  expect(slots.size).toBeGreaterThan(1)
  rmSync(join(dataDirectory, [...slots][0]!))
}

/** The same numbers, with a great many zeros before them. */
async function sendLong(mill: Mill, from: number, to: number): Promise<void> {
  const producer = mill.producer(numbered('orders'), { deliveryTimeoutMs: 30_000 })
  for (let at = from; at < to; at++) await producer.send('key', String(at).padStart(100_000, '0'))
  await producer.close()
}

it('a replica that is damaged beyond repair begins anew once the others are known to have everything', {
  timeout: 240_000,
}, async () => {
  const cluster = await startTestCluster({ environment: 'portable', brokers: 3 })
  onTestFinished(() => cluster.stop())
  const mill = client(cluster)
  await admin(mill).createTopic('orders', { partitions: 1 })
  await sendLong(mill, 0, 30)
  await expect.poll(() => lagOf(mill, VICTIM), { timeout: 60_000 }).toBe(0)
  await killAndBehead(cluster)
  // Whoever is left cannot lead without the third, and that one is away.
  await cluster.kill(1)
  await cluster.restart(VICTIM)
  const lacking = async () => (await admin(mill).clusterStatus()).lacking
  await expect.poll(lacking, { timeout: 60_000 }).toMatchObject([{ nodeId: VICTIM, topic: 'orders', partition: 0 }])
  await new Promise((resolve) => setTimeout(resolve, 3_000))
  expect((await lacking()).map(({ reason }) => reason)).toEqual([expect.stringContaining('missing')])
  await cluster.restart(1)
  await expect.poll(() => lagOf(mill, VICTIM), { timeout: 60_000 }).toBe(0)
  expect(await lacking()).toEqual([])
  // Until it knows itself that it holds everything it votes for nobody, and the other one alone is no majority.
  await expect.poll(() => underRepair(cluster), { timeout: 60_000 }).toEqual([])
  await cluster.kill(3)
  await sendLong(mill, 30, 31)
  expect(await readAll(mill, 'orders')).toEqual(numbers(0, 31))
})

it('a replica that could not be opened is told of, and opened once it can be', { timeout: 30_000 }, async () => {
  const { broker, store, log } = await runBroker()
  const { host, port } = broker.address
  const mill = connect({ bootstrap: `${host}:${port}` })
  onTestFinished(() => mill.close())
  const operator = admin(mill)
  await operator.createTopic('orders', { partitions: 1 })
  const opening = vi.spyOn(store, 'open')
  for (let i = 0; i < 2; i++) opening.mockRejectedValueOnce(new StorageError('DISK_FULL', 'no space for the segment'))
  const altered = operator.alterTopic('orders', { partitions: 2, breakKeyOrder: true })
  await expect
    .poll(async () => (await operator.clusterStatus()).lacking, { timeout: 5_000 })
    .toEqual([{ nodeId: 1, topic: 'orders', partition: 1, reason: 'no space for the segment' }])
  // Resolves when every partition has a leader.
  await altered
  expect((await operator.clusterStatus()).lacking).toEqual([])
  expect(opening).toHaveBeenCalledTimes(3)
  expect(log.lines.filter(({ level }) => level === 'error').map(({ message }) => message)).toEqual([
    'a replica could not be opened here; it is tried again',
  ])
  await sendAll(mill, 'orders', 0, 32)
  expect(await readAll(mill, 'orders')).toEqual(numbers(0, 32))
})
