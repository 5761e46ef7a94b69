// Clusters for tests that lose brokers and links: what was acknowledged stays, and a majority goes on.
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { afterEach, describe, expect, it } from 'vitest'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { client, numbers, readAll, sendAll } from '../server/numbered-records.js'
import { ENVIRONMENTS } from './environments.js'

let cluster: TestCluster | null = null
afterEach(async () => {
  await cluster?.stop()
  cluster = null
})

async function leaderOf(mill: Mill, name: string): Promise<number> {
  const { partitions } = await admin(mill).describeTopic(name)
  return partitions[0]!.leader
}

const others = (nodeId: number): number[] => [1, 2, 3].filter((other) => other !== nodeId)

async function threeBrokers(
  environment: 'auto' | 'ring' | 'portable' = 'auto',
): Promise<{ cluster: TestCluster; mill: Mill }> {
  const started = await startTestCluster({ environment, brokers: 3 })
  cluster = started
  const mill = client(started)
  await admin(mill).createTopic('flights', { partitions: 3 })
  await sendAll(mill, 'flights', 0, 100)
  return { cluster: started, mill }
}

describe('three brokers', { timeout: 60_000 }, () => {
  it.each(ENVIRONMENTS)('go on without a leader that was killed, and take it back, on %s', async (environment) => {
    const { cluster, mill } = await threeBrokers(environment)
    const killed = await leaderOf(mill, 'flights')
    await cluster.kill(killed)
    await sendAll(mill, 'flights', 100, 200)
    expect(await leaderOf(mill, 'flights')).not.toBe(killed)
    await cluster.restart(killed)
    // Whoever was away is needed now: another one goes.
    await cluster.kill(others(killed)[0]!)
    await sendAll(mill, 'flights', 200, 300)
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 300))
  })

  it('go on without a leader that is cut off, and agree with it when links are whole again', async () => {
    const { cluster, mill } = await threeBrokers()
    const cutOff = await leaderOf(mill, 'flights')
    await cluster.partition(cutOff, others(cutOff))
    await sendAll(mill, 'flights', 100, 200)
    await cluster.heal()
    await sendAll(mill, 'flights', 200, 300)
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 300))
  })

  it('go on when a leader is heard and does not hear', async () => {
    const { cluster, mill } = await threeBrokers()
    const deaf = await leaderOf(mill, 'flights')
    await cluster.partition(others(deaf), deaf, { oneWay: true })
    await sendAll(mill, 'flights', 100, 200)
    await cluster.heal()
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 200))
  })

  it('wait for a majority, and go on with it', async () => {
    const { cluster, mill } = await threeBrokers()
    await cluster.kill(1)
    await cluster.kill(2)
    let isDone = false
    const sent = sendAll(mill, 'flights', 100, 150).then(() => {
      isDone = true
    })
    await new Promise((resolve) => setTimeout(resolve, 1_500))
    expect(isDone).toBe(false)
    await cluster.restart(2)
    await sent
    expect(await readAll(mill, 'flights')).toEqual(numbers(0, 150))
  })
})
