// A cluster that begins with one broker and grows by others that know nothing but an address of it.
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { client, numbers, readAll, sendAll } from '../server/numbered-records.js'

const PATIENCE = { timeout: 20_000, interval: 100 }
let cluster: TestCluster | null = null

afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

/** Every one of so many brokers is alive, and somebody leads the metadata. */
async function untilAlive(mill: Mill, brokers: number): Promise<void> {
  await vi.waitFor(async () => {
    const { nodes, metadata } = await admin(mill).clusterStatus()
    expect(nodes.filter(({ alive }) => alive)).toHaveLength(brokers)
    expect(metadata.leader).toBeGreaterThan(0)
  }, PATIENCE)
}

describe('a cluster of one', { timeout: 60_000 }, () => {
  it('becomes one of three by joining alone, and loses nothing when one of them is killed', async () => {
    cluster = await startTestCluster()
    const mill = client(cluster)
    await admin(mill).createTopic('before', { partitions: 2 })
    await sendAll(mill, 'before', 0, 100)
    expect((await cluster.addBroker()).nodeId).toBe(2)
    expect((await cluster.addBroker()).nodeId).toBe(3)
    await untilAlive(mill, 3)
    await admin(mill).createTopic('orders', { partitions: 3, replicas: 3 })
    await sendAll(mill, 'orders', 0, 100)
    await cluster.kill(1)
    await sendAll(mill, 'orders', 100, 200)
    await cluster.restart(1)
    await cluster.kill(2)
    await sendAll(mill, 'orders', 200, 300)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 300))
    expect(await readAll(mill, 'before')).toEqual(numbers(0, 100))
  })

  it('decides by majority once it has three, whoever began it', async () => {
    cluster = await startTestCluster()
    const mill = client(cluster)
    await cluster.addBroker()
    await cluster.addBroker()
    await untilAlive(mill, 3)
    // Three that decide are there at the latest when one of them is enough of a loss.
    await new Promise((resolve) => setTimeout(resolve, 2_000))
    await cluster.kill(1)
    await vi.waitFor(() => admin(mill).createTopic('after', { partitions: 1, replicas: 2 }), PATIENCE)
    await sendAll(mill, 'after', 0, 50)
    await cluster.restart(1)
    await untilAlive(mill, 3)
    expect(await readAll(mill, 'after')).toEqual(numbers(0, 50))
  })

  it('finds itself again when all of it was stopped, and grows on', async () => {
    cluster = await startTestCluster()
    await cluster.addBroker()
    await cluster.addBroker({ rack: 'b' })
    const mill = client(cluster)
    await untilAlive(mill, 3)
    await Promise.all(cluster.brokers.map((broker) => broker.stop()))
    await Promise.all(cluster.brokers.map((broker) => broker.restart()))
    await untilAlive(mill, 3)
    expect((await cluster.addBroker()).nodeId).toBe(4)
    await untilAlive(mill, 4)
  })
})
