// Brokers for tests: started, used, killed, cut off from each other, stopped and started again.
import { stat } from 'node:fs/promises'
import { connect } from 'node:net'
import { join } from 'node:path'
import { admin } from '@millrace/client/admin'
import { afterEach, describe, expect, it } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { client, numbers, readAll, sendAll } from '../server/numbered-records.js'
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
    const broker = cluster.broker(1)
    expect(broker).toMatchObject({ environment, nodeId: 1 })
    const mill = client(cluster)
    await admin(mill).createTopic('flights', { partitions: 4 })
    await sendAll(mill, 'flights', 0, 40)
    const { address } = broker
    await broker.restart()
    expect(broker.address).toEqual(address)
    await sendAll(mill, 'flights', 40, 60)
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 60))
    await cluster.stop()
    await cluster.stop()
    await expect(stat(broker.dataDirectory)).rejects.toThrow('ENOENT')
  })

  it('kills a broker: connections break, nobody listens, and what was acknowledged is there again', async () => {
    cluster = await startTestCluster({ environment })
    const broker = cluster.broker(1)
    const mill = client(cluster)
    await admin(mill).createTopic('flights', { partitions: 2 })
    await sendAll(mill, 'flights', 0, 40)
    const raw = await RawClient.open(broker.address)
    await cluster.kill(1)
    await cluster.kill(1)
    expect(broker.isRunning).toBe(false)
    expect(() => broker.status()).toThrow('stopped')
    await raw.whenClosed()
    expect(await refusal(broker.address.port)).toBe('ECONNREFUSED')
    await cluster.restart(1)
    expect(broker.status()).toMatchObject({ starts: 2 })
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 40))
  })

  it('takes what was under way when it was killed, once it is there again', async () => {
    cluster = await startTestCluster({ environment })
    const mill = client(cluster)
    await admin(mill).createTopic('flights', { partitions: 2 })
    const sent = sendAll(mill, 'flights', 0, 200)
    await cluster.kill(1)
    await cluster.restart(1)
    await sent
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 200))
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
