// Brokers for tests: started, used, stopped and started again on the environments there are.
import { stat } from 'node:fs/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { ENVIRONMENTS } from './environments.js'

let cluster: TestCluster | null = null
afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

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
})

it('of several brokers does not exist yet', async () => {
  await expect(startTestCluster({ brokers: 3 })).rejects.toThrow(RangeError)
})
