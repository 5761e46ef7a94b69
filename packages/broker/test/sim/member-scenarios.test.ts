// Histories with names in which brokers join, go, and lose each other: each is played by the product's own code on simulated
// machines, and then everything that a run is asked at its end is asked.
import { type Admin, admin } from '@millrace/client/admin'
import { describe, expect, it } from 'vitest'
import { mustBeMillraceError } from '../../sim/app-context.js'
import type { BrokerNode } from '../../sim/broker-node.js'
import { ORDERS, play, type Stage } from './stage.js'

const LIMIT = { timeout: 90_000 }

const states = ({ nodes }: Stage): Readonly<Record<number, string>> => {
  const state = nodes.find(({ broker }) => broker?.metadata.leads === true)?.broker?.metadata.state
  return Object.fromEntries((state?.nodes() ?? []).map((node) => [node.nodeId, node.state]))
}

async function untilLedByMetadata(stage: Stage): Promise<void> {
  await stage.run.until('the metadata is led', () => Object.keys(states(stage)).length > 0)
}

async function untilArrived(stage: Stage, to: readonly number[]): Promise<void> {
  await stage.run.until(`the partition is on ${to.join(', ')}`, () => {
    const configuration = stage.leader && stage.replica(stage.leader)?.configuration
    if (configuration === undefined || configuration.outgoing.length + configuration.learners.length > 0) return false
    return [...configuration.voters].sort().join() === [...to].sort().join()
  })
}

async function joined(stage: Stage): Promise<BrokerNode> {
  const node = stage.run.cluster.addNode()
  node.start()
  await stage.run.until('the broker has joined', () => node.state === 'running')
  return node
}

/** Asked for until the cluster lets the broker go. */
async function remove(stage: Stage, operator: Admin, nodeId: number): Promise<void> {
  for (;;) {
    try {
      await operator.removeBroker(nodeId)
      return
    } catch (error) {
      mustBeMillraceError(error)
      expect(error.code).toBe('ERR_MILLRACE_INVALID_CONFIG')
    }
    await stage.pass(50)
  }
}

describe('the metadata group', () => {
  it('that has lost its majority keeps nobody from producing and consuming', LIMIT, async () => {
    const { records, coverage } = await play(
      ORDERS,
      async (stage) => {
        const { cluster } = stage.run
        const client = await stage.clientThatSent(20)
        // The one that is to lead goes with the metadata, so that the partition has to elect another.
        await admin(client.mill).movePartition(ORDERS.name, 0, [1, 4, 5])
        await untilArrived(stage, [1, 4, 5])
        const read = stage.consume(client)
        const during = stage.produce(client, 400, { meanGapMs: 50, deliveryTimeoutMs: 10_000 })
        for (const node of cluster.nodes.slice(0, 3)) node.kill()
        await stage.run.until('everything sent is settled', during.isDone)
        await stage.run.until('everything is read', () => read() === 420)
        // Whoever comes only now finds its way, too.
        await stage.clientThatSent(20)
        expect(cluster.nodes.some(({ broker }) => broker?.metadata.leads)).toBe(false)
        for (const node of cluster.nodes) node.start()
        await untilLedByMetadata(stage)
        await admin(client.mill).alterTopic(ORDERS.name, { partitions: 1, retentionMs: 1_000_000_000 })
      },
      5,
    )
    expect(records).toMatchObject({ acknowledged: 440, failed: 0, unknown: 0 })
    expect(coverage['leader changed']).toBeGreaterThan(0)
  })
})

describe('a broker that joins', () => {
  it('is the same node, however often its start is interrupted', LIMIT, async () => {
    await play(ORDERS, async (stage) => {
      const client = await stage.clientThatSent(20)
      const node = stage.run.cluster.addNode()
      // The answer comes, and what it says is long on its way to the disk.
      node.machine.diskConditions.slowness = 1000
      node.start()
      await stage.run.until('it is let in', () => states(stage)[4] === 'active')
      expect(node.state).toBe('starting')
      node.kill()
      node.machine.diskConditions.slowness = 1
      node.start()
      await stage.run.until('it has joined', () => node.state === 'running')
      expect(states(stage)).toEqual({ 1: 'active', 2: 'active', 3: 'active', 4: 'active' })
      await admin(client.mill).movePartition(ORDERS.name, 0, [4, 1, 2])
      await untilArrived(stage, [1, 2, 4])
      await stage.run.until('it leads', () => stage.leader === node)
      await stage.send(client, 20)
    })
  })

  it('finds the others again after a restart, also when those are gone that let it in', LIMIT, async () => {
    const { records } = await play(
      ORDERS,
      async (stage) => {
        const { cluster } = stage.run
        const client = await stage.clientThatSent(20)
        const added = [await joined(stage), await joined(stage)]
        await admin(client.mill).alterTopic(ORDERS.name, { replicas: 3 })
        await untilArrived(stage, [1, 2, 3])
        const first = cluster.nodes[0]!
        const during = stage.produce(client, 300, { meanGapMs: 20 })
        await admin(client.mill).movePartition(ORDERS.name, 0, [2, 3])
        await admin(client.mill).drainBroker(1)
        await remove(stage, admin(client.mill), 1)
        cluster.removeNode(first)
        for (const node of added) node.kill()
        for (const node of added) node.start()
        await stage.run.until('everything sent is settled', during.isDone)
        expect(states(stage)).toEqual({ 1: 'removed', 2: 'active', 3: 'active' })
      },
      1,
    )
    expect(records).toMatchObject({ acknowledged: 320, failed: 0, unknown: 0 })
  })
})

describe('a broker that was removed', () => {
  it('although it is dead and decides on the metadata is done without before anybody is told so', LIMIT, async () => {
    await play(
      ORDERS,
      async (stage) => {
        const { cluster } = stage.run
        const client = await stage.clientThatSent(20)
        await untilLedByMetadata(stage)
        const metadata = () => cluster.nodes.map(({ broker }) => broker?.metadata).find((one) => one?.leads === true)
        await stage.run.until('three decide', () => metadata()?.configuration.voters.length === 3)
        const voters = metadata()!.configuration.voters
        const [dead, other] = voters.filter((nodeId) => nodeId !== metadata()!.leader)
        const others = [1, 2, 3, 4].filter((nodeId) => nodeId !== dead)
        await admin(client.mill).movePartition(ORDERS.name, 0, others)
        await untilArrived(stage, others)
        const node = cluster.nodes.find(({ nodeId }) => nodeId === dead)!
        cluster.removeNode(node)
        expect(await admin(client.mill).removeBroker(dead!, { force: true })).toEqual({ decides: false })
        expect(metadata()!.configuration.voters).not.toContain(dead)
        // Another one may be lost at once.
        const second = cluster.nodes.find(({ nodeId }) => nodeId === other)!
        second.kill()
        await admin(client.mill).alterTopic(ORDERS.name, { retentionMs: 1_000_000_000 })
        second.start()
      },
      4,
    )
  })

  it('is let in by nobody, neither as the node it was nor as another', LIMIT, async () => {
    await play(
      ORDERS,
      async (stage) => {
        const { cluster } = stage.run
        const client = await stage.clientThatSent(20)
        await untilLedByMetadata(stage)
        const node = await joined(stage)
        const { nodeId } = node
        await admin(client.mill).drainBroker(nodeId)
        await remove(stage, admin(client.mill), nodeId)
        node.kill()
        // Whoever is removed is given a moment to hear of it.
        await stage.pass(3_000)
        await stage.send(client, 20)
        node.start()
        await stage.pass(5_000)
        expect(node.broker?.status().isReady ?? false).toBe(false)
        expect(states(stage)[nodeId]).toBe('removed')
        // Another broker gets another id.
        const other = await joined(stage)
        expect(other.nodeId).toBe(nodeId + 1)
        cluster.removeNode(node)
      },
      3,
    )
  })
})
