// Brokers drained and removed, partitions moved and added, while records flow; nothing is lost and nothing is refused.
import type { Mill } from '@millrace/client'
import { type Admin, admin } from '@millrace/client/admin'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { client, numbers, readAll, sendAll } from '../server/numbered-records.js'

const PATIENCE = { timeout: 40_000, interval: 100 }
let cluster: TestCluster | null = null

afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

/** Brokers that know each other, and a client. */
async function grown(brokers: number): Promise<{ cluster: TestCluster; mill: Mill; operator: Admin }> {
  const started = await startTestCluster()
  cluster = started
  while (started.brokers.length < brokers) await started.addBroker()
  const mill = client(started)
  const operator = admin(mill)
  await vi.waitFor(async () => {
    const members = await operator.members()
    expect(members.filter(({ alive, state }) => alive && state === 'active')).toHaveLength(brokers)
    expect(members.filter(({ votes }) => votes)).toHaveLength(brokers < 3 ? 1 : 3)
  }, PATIENCE)
  return { cluster: started, mill, operator }
}

async function untilArrived(operator: Admin): Promise<void> {
  await vi.waitFor(async () => expect(await operator.moves()).toEqual([]), PATIENCE)
}

async function replicasOf(operator: Admin, name: string): Promise<readonly (readonly number[])[]> {
  const { partitions } = await operator.describeTopic(name)
  return partitions.map(({ replicas }) => replicas.map(({ nodeId }) => nodeId).sort())
}

describe('operations', { timeout: 120_000 }, () => {
  it('empty a broker and take it out for good, while records flow', async () => {
    const { cluster, mill, operator } = await grown(4)
    await operator.createTopic('orders', { partitions: 4, replicas: 3 })
    await sendAll(mill, 'orders', 0, 200)
    await expect(operator.removeBroker(2)).rejects.toThrow('drain it first')
    const { moves } = await operator.drainBroker(2)
    expect(moves).toBe(3)
    await sendAll(mill, 'orders', 200, 400)
    await vi.waitFor(async () => {
      const drained = (await operator.members()).find(({ nodeId }) => nodeId === 2)
      expect(drained).toMatchObject({ state: 'draining', replicas: 0, moving: 0, votes: false })
    }, PATIENCE)
    await operator.removeBroker(2)
    await expect(operator.drainBroker(2)).rejects.toMatchObject({ code: 'ERR_MILLRACE_NODE_REMOVED' })
    expect(new Set((await replicasOf(operator, 'orders')).flat())).toEqual(new Set([1, 3, 4]))
    // It stays removed, once it has heard so: nobody lets it in again, and clients are not sent to it.
    await vi.waitFor(() => expect(cluster.restart(2)).rejects.toThrow('removed from the cluster for good'), PATIENCE)
    expect((await operator.members()).find(({ nodeId }) => nodeId === 2)).toMatchObject({ state: 'removed' })
    expect((await operator.clusterStatus()).nodes.map(({ nodeId }) => nodeId)).toEqual([1, 3, 4])
    await sendAll(mill, 'orders', 400, 600)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 600))
  })

  it('replace a broker that is dead', async () => {
    const { cluster, mill, operator } = await grown(4)
    await operator.createTopic('orders', { partitions: 2, replicas: 3 })
    await sendAll(mill, 'orders', 0, 100)
    await cluster.kill(3)
    await operator.drainBroker(3)
    await vi.waitFor(async () => {
      expect((await operator.members()).find(({ nodeId }) => nodeId === 3)).toMatchObject({ moving: 0, votes: false })
    }, PATIENCE)
    await operator.removeBroker(3)
    expect(await replicasOf(operator, 'orders')).toEqual([
      [1, 2, 4],
      [1, 2, 4],
    ])
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 100))
  })

  it('move a partition to others, and take back a move that does not come to an end', async () => {
    const { cluster, mill, operator } = await grown(3)
    await operator.createTopic('orders', { partitions: 1, replicas: 1 })
    await sendAll(mill, 'orders', 0, 100)
    const [[from] = []] = await replicasOf(operator, 'orders')
    const to = [1, 2, 3].filter((nodeId) => nodeId !== from)
    await expect(operator.movePartition('orders', 0, [1, 9])).rejects.toThrow('node 9 is no active broker')
    await expect(operator.movePartition('orders', 1, [1])).rejects.toMatchObject({
      code: 'ERR_MILLRACE_UNKNOWN_PARTITION',
    })
    await expect(operator.cancelMove('orders', 0)).rejects.toThrow('is not on its way')
    await operator.movePartition('orders', 0, to)
    await untilArrived(operator)
    await vi.waitFor(async () => expect(await replicasOf(operator, 'orders')).toEqual([to]), PATIENCE)
    await sendAll(mill, 'orders', 100, 200)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 200))
    const dead = to.find((nodeId) => nodeId !== 1)!
    await operator.movePartition('orders', 0, [1])
    await untilArrived(operator)
    await cluster.kill(dead)
    await operator.movePartition('orders', 0, [dead])
    await vi.waitFor(async () => {
      expect(await operator.moves()).toMatchObject([{ topic: 'orders', target: [dead], voters: [1], learners: [dead] }])
    }, PATIENCE)
    expect(await operator.cancelMove('orders', 0)).toEqual([1])
    await untilArrived(operator)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 200))
  })

  it('show a partition that nobody leads, and keep the broker that may have its only records', async () => {
    const { cluster, mill, operator } = await grown(3)
    await operator.createTopic('orders', { partitions: 1, replicas: 1 })
    await sendAll(mill, 'orders', 0, 100)
    const [[from = 0] = []] = await replicasOf(operator, 'orders')
    await cluster.kill(from)
    const seed = client(cluster)
    const survivor = admin(seed)
    await vi.waitFor(async () => expect(await survivor.drainBroker(from)).toEqual({ moves: 1, waiting: 0 }), PATIENCE)
    const [move] = await survivor.moves()
    expect(move).toMatchObject({ topic: 'orders', partition: 0, hasLeader: false, voters: [], learners: [] })
    expect(move!.target).not.toContain(from)
    await expect(survivor.cancelMove('orders', 0)).rejects.toThrow('has no leader')
    await vi.waitFor(async () => {
      const drained = (await survivor.members()).find(({ nodeId }) => nodeId === from)
      expect(drained).toMatchObject({ state: 'draining', replicas: 0, moving: 1, votes: false })
    }, PATIENCE)
    await expect(survivor.removeBroker(from)).rejects.toThrow(`records on node ${from} that nobody else has`)
    await cluster.restart(from)
    await untilArrived(survivor)
    await vi.waitFor(async () => {
      expect((await survivor.members()).find(({ nodeId }) => nodeId === from)).toMatchObject({
        moving: 0,
        votes: false,
      })
    }, PATIENCE)
    await survivor.removeBroker(from)
    expect(await readAll(seed, 'orders')).toEqual(numbers(0, 100))
  })

  it('leave a partition where it is to begin until it has begun', async () => {
    const { cluster, mill, operator } = await grown(3)
    await cluster.kill(3)
    // The topic is there; that all of it has leaders is not waited for by the caller for long.
    const created = expect(operator.createTopic('orders', { partitions: 3, replicas: 1 })).rejects.toThrow('leaders')
    const target = async (): Promise<number> => {
      const unled = (await operator.moves()).filter(({ hasLeader, target }) => !hasLeader && target.includes(3))
      expect(unled).toHaveLength(1)
      return unled[0]!.partition
    }
    const partition = await vi.waitFor(target, PATIENCE)
    await expect(operator.movePartition('orders', partition, [1])).rejects.toThrow('has had no leader yet')
    await expect(operator.alterTopic('orders', { replicas: 2 })).rejects.toThrow('has had no leader yet')
    expect(await operator.drainBroker(3)).toEqual({ moves: 0, waiting: 1 })
    await created
    await cluster.restart(3)
    await vi.waitFor(async () => expect(await operator.drainBroker(3)).toEqual({ moves: 1, waiting: 0 }), PATIENCE)
    await untilArrived(operator)
    await sendAll(mill, 'orders', 0, 100)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 100))
  })

  it('see a move as soon as it is asked for, whoever leads the partition', async () => {
    const { cluster, operator } = await grown(4)
    await operator.createTopic('orders', { partitions: 4, replicas: 1 })
    const places = await replicasOf(operator, 'orders')
    const movable = [0, 1, 2, 3].filter((partition) => places[partition]![0] !== 4)
    expect(new Set(movable.map((partition) => places[partition]![0])).size).toBe(3)
    await cluster.kill(4)
    for (let round = 0; round < 2; round++) {
      for (const partition of movable) {
        await operator.movePartition('orders', partition, [4])
        expect((await operator.moves()).map((move) => move.partition)).toContain(partition)
      }
      for (const partition of movable) {
        expect(await operator.cancelMove('orders', partition)).toEqual(places[partition])
      }
    }
  })

  it('give the topics of one broker more replicas once there are three', async () => {
    const { cluster, mill, operator } = await grown(1)
    await operator.createTopic('orders', { partitions: 3 })
    await sendAll(mill, 'orders', 0, 100)
    await cluster.addBroker()
    await cluster.addBroker()
    await expect(operator.alterTopic('orders', { replicas: 4 })).rejects.toThrow('4 replicas, and there are 3')
    await operator.alterTopic('orders', { replicas: 3 })
    await vi.waitFor(async () => {
      expect(await replicasOf(operator, 'orders')).toEqual([1, 2, 3].map(() => [1, 2, 3]))
      expect(await operator.moves()).toEqual([])
    }, PATIENCE)
    await vi.waitFor(async () => expect(await operator.clusterStatus()).toMatchObject({ underReplicated: 0 }), PATIENCE)
    await cluster.kill(1)
    await sendAll(mill, 'orders', 100, 200)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 200))
  })

  it('give a topic more partitions only when the order of keys may break, and other limits any time', async () => {
    const { mill, operator } = await grown(3)
    await operator.createTopic('orders', { partitions: 2, retentionMs: 60_000 })
    await sendAll(mill, 'orders', 0, 100)
    await expect(operator.alterTopic('orders', { partitions: 4 })).rejects.toThrow('order of their records breaks')
    await expect(operator.alterTopic('orders', { partitions: 1, breakKeyOrder: true })).rejects.toThrow('fewer')
    expect(await operator.alterTopic('orders', { partitions: 4, breakKeyOrder: true })).toMatchObject({ partitions: 4 })
    await sendAll(mill, 'orders', 100, 200)
    expect(await readAll(mill, 'orders')).toEqual(numbers(0, 200))
    await operator.alterTopic('orders', { retentionMs: null, retentionBytes: 1_000_000 })
    expect(await operator.describeTopic('orders')).toMatchObject({ retentionMs: null, retentionBytes: 1_000_000 })
    expect((await operator.describeTopic('orders')).partitions).toHaveLength(4)
  })
})
