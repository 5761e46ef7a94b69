// Brokers for tests: started, used, killed, cut off from each other, stopped and started again.
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { temporaryDirectory } from '../server/running-broker.js'
import { ENVIRONMENTS } from './environments.js'

let cluster: TestCluster | null = null
afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

function refusal(port: number): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port })
    socket.once('connect', () => {
      socket.destroy()
      resolve('connected')
    })
    socket.once('error', (error) => resolve('code' in error ? String(error.code) : error.message))
  })
}

describe.each(ENVIRONMENTS)('a test cluster on the %s environment', (environment) => {
  it('keeps what was acknowledged over a restart, and cleans up', async () => {
    cluster = await startTestCluster({ environment })
    const [broker] = cluster.brokers
    expect(broker).toMatchObject({ environment, nodeId: 1 })
    const client = await RawClient.open(broker!.address)
    await client.createTopic('flights', { partitions: 4 })
    expect((await client.produce([0, 1, 2, 3].map((partition) => batchOf(5, { partition })))).codes).toEqual(
      Array(4).fill(null),
    )
    const { address } = broker!
    await broker!.restart()
    expect(broker!.address).toEqual(address)
    const again = await RawClient.open(broker!.address)
    const { fields } = await again.admin('describeTopic', { name: 'flights' })
    expect(fields.partitions).toMatchObject(Array(4).fill({ highWatermark: 5, term: 2 }))
    const retry = await again.produce([batchOf(5)])
    expect(retry.results[0]).toMatchObject({ code: 0, baseOffset: 0 })
    const next = await again.produce([batchOf(1, { sequence: 1 })])
    expect(next.results[0]).toMatchObject({ code: 0, baseOffset: 5 })
    await cluster.stop()
    await cluster.stop()
    await expect(stat(broker!.dataDirectory)).rejects.toThrow('ENOENT')
  })

  it('kills a broker: connections break, nobody listens, and what was acknowledged is there again', async () => {
    cluster = await startTestCluster({ environment })
    const broker = cluster.broker(1)
    const client = await RawClient.open(broker.address)
    await client.createTopic('flights')
    for (let sequence = 0; sequence < 20; sequence++) {
      expect((await client.produce([batchOf(5, { sequence })])).codes).toEqual([null])
    }
    await cluster.kill(1)
    await cluster.kill(1)
    expect(broker.isRunning).toBe(false)
    expect(() => broker.status()).toThrow('stopped')
    await client.whenClosed()
    expect(await refusal(broker.address.port)).toBe('ECONNREFUSED')
    await cluster.restart(1)
    const again = await RawClient.open(broker.address)
    const { fields } = await again.admin('describeTopic', { name: 'flights' })
    expect(fields.partitions).toMatchObject([{ highWatermark: 100, term: 2 }])
    expect(broker.status()).toMatchObject({ starts: 2 })
  })

  it('loses with a kill what was only in memory, and nothing is told of it', async () => {
    cluster = await startTestCluster({ environment })
    const client = await RawClient.open(cluster.broker(1).address)
    await client.createTopic('flights')
    const heard = client.produce([batchOf(5)]).then(
      () => 'answered',
      () => 'closed',
    )
    // The request is on its way; nothing that the broker begins from now on happens.
    await cluster.kill(1)
    await heard
    await cluster.restart(1)
    const again = await RawClient.open(cluster.broker(1).address)
    const { results } = await again.produce([batchOf(5)])
    expect(results[0]).toMatchObject({ code: 0, baseOffset: 0 })
  })

  it('has as many brokers as it is asked for, with a directory each', async () => {
    const dataDirectory = await temporaryDirectory()
    cluster = await startTestCluster({ environment, brokers: 3, dataDirectory })
    expect(cluster.brokers.map(({ nodeId }) => nodeId)).toEqual([1, 2, 3])
    expect(cluster.bootstrap.split(',')).toHaveLength(3)
    const ids = new Set<unknown>()
    for (const broker of cluster.brokers) {
      expect(broker.dataDirectory).toBe(join(dataDirectory, `node-${broker.nodeId}`))
      const client = await RawClient.open(broker.address)
      const { fields } = await client.admin('brokerStatus', {})
      expect(fields.nodeId).toBe(broker.nodeId)
      ids.add(fields.clusterId)
      client.close()
    }
    expect(ids.size).toBe(1)
    await cluster.stop()
    for (const broker of cluster.brokers) expect((await stat(broker.dataDirectory)).isDirectory()).toBe(true)
  })
})

describe('a test cluster', () => {
  it('refuses numbers and nodes that cannot be', async () => {
    for (const brokers of [0, 1.5, -1, 65, Number.NaN]) {
      await expect(startTestCluster({ brokers })).rejects.toThrow(RangeError)
    }
    cluster = await startTestCluster({ environment: 'portable' })
    const { broker, partition } = { broker: cluster.broker.bind(cluster), partition: cluster.partition.bind(cluster) }
    expect(() => broker(2)).toThrow('there is no node 2')
    await expect(partition(1, 2)).rejects.toThrow('there is no node 2')
    await expect(partition(1, 1)).rejects.toThrow('no link to itself')
  })
})
