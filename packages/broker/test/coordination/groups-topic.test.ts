// The topic of consumer groups: made on demand, once; nobody's but the brokers'; and it grows with the cluster.
import { errorName, GROUPS_TOPIC } from '@millrace/protocol'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { batchOf } from '../server/batches.js'
import { startInMemory } from '../server/in-memory-server.js'
import { RawClient } from '../server/raw-client.js'
import { runBroker } from '../server/running-broker.js'

let cluster: TestCluster | null = null
afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

describe('the topic of consumer groups', { timeout: 60_000 }, () => {
  it('is made once, however often it is asked for', async () => {
    const { admin } = await startInMemory()
    const made = await admin('createGroupsTopic', {})
    expect(made).toEqual({ topicId: 1, name: GROUPS_TOPIC, partitions: 8 })
    expect(await Promise.all([admin('createGroupsTopic', {}), admin('createGroupsTopic', {})])).toEqual([made, made])
    const described = { durability: 'flushed', retentionMs: null, retentionBytes: null, codecs: ['none'] }
    expect(await admin('describeTopic', { name: GROUPS_TOPIC })).toMatchObject(described)
  })

  it('is written, made and changed by brokers only', async () => {
    const { broker } = await runBroker({ config: { groupPartitions: 2 } })
    const raw = await RawClient.open(broker.address)
    onTestFinished(() => void raw.socket.destroy())
    const codeOf = async (...request: Parameters<RawClient['admin']>) => errorName((await raw.admin(...request)).code)
    expect(await codeOf('createTopic', { name: '__mine' })).toBe('INVALID_TOPIC_NAME')
    expect((await raw.admin('createGroupsTopic', {})).fields).toEqual({ topicId: 1, name: GROUPS_TOPIC, partitions: 2 })
    expect(await codeOf('createTopic', { name: GROUPS_TOPIC })).toBe('INVALID_TOPIC_NAME')
    expect(await codeOf('alterTopic', { name: GROUPS_TOPIC, partitions: 9, breakKeyOrder: true })).toBe(
      'INVALID_CONFIG',
    )
    expect(await codeOf('createGroupsTopic', { partitions: 2 })).toBe('INVALID_REQUEST')
    expect((await raw.produce([batchOf(1)])).codes).toEqual(['INVALID_REQUEST'])
  })

  it('gets three replicas by itself once there are three brokers', async () => {
    cluster = await startTestCluster({ environment: 'portable' })
    const raw = await RawClient.open(cluster.brokers[0]!.address)
    await raw.admin('createGroupsTopic', {})
    await cluster.addBroker()
    await cluster.addBroker()
    await vi.waitFor(
      async () => {
        const { fields } = await raw.admin('describeTopic', { name: GROUPS_TOPIC })
        const partitions = fields.partitions as {
          readonly leader: number
          readonly replicas: readonly { readonly nodeId: number; readonly isLearner: boolean }[]
        }[]
        const voters = partitions.map(({ replicas }) =>
          replicas.filter((one) => !one.isLearner).map((one) => one.nodeId),
        )
        expect(voters.map((nodes) => [...nodes].sort())).toEqual(new Array(8).fill([1, 2, 3]))
        // Whoever was alone does not lead all of them for ever.
        expect(new Set(partitions.map(({ leader }) => leader))).toEqual(new Set([1, 2, 3]))
      },
      { timeout: 30_000, interval: 200 },
    )
    raw.socket.destroy()
  })
})
