// A replica whose disk has rotted, among others that are whole: it gets back what it lacks, and counts again.
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { expect, it, onTestFinished } from 'vitest'
import { GROUP_KINDS } from '#src/storage/group-envelope.js'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { flip, groupsOf } from '../inspect/directories.js'
import { client, numbers, readAll, sendAll } from '../server/numbered-records.js'
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
  { timeout: 60_000 },
  async (environment) => {
    const cluster = await startTestCluster({ environment, brokers: 3 })
    onTestFinished(() => cluster.stop())
    const mill = client(cluster)
    await admin(mill).createTopic('orders', { partitions: 1 })
    for (let at = 0; at < 100; at += 5) await sendAll(mill, 'orders', at, at + 5)
    await expect.poll(() => lagOf(mill, VICTIM), { timeout: 10_000 }).toBe(0)
    await killAndDamage(cluster)
    await sendAll(mill, 'orders', 100, 120)
    await cluster.restart(VICTIM)
    await expect.poll(() => lagOf(mill, VICTIM), { timeout: 20_000 }).toBe(0)
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
