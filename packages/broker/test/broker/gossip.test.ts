// Who is there, as brokers tell each other: one that is killed, one that comes back, one that is stopped, and one that has
// another key.
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { type Broker, type BrokerConfig, startBroker } from '#src/broker.js'
import type { GossipKey } from '#src/gossip/keyring.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { freePorts } from '#src/io/free-ports.js'
import { startTestCluster, type TestBroker, type TestCluster } from '#src/testing.js'
import { LogCapture, temporaryDirectory } from '../server/running-broker.js'
import { ENVIRONMENTS } from './environments.js'

const HOST = '127.0.0.1'
const PATIENCE = { timeout: 15_000, interval: 25 }
const ONE: GossipKey = { id: 1, secret: new Uint8Array(32).fill(1) }
const TWO: GossipKey = { id: 2, secret: new Uint8Array(32).fill(2) }
const FORGED: GossipKey = { id: 1, secret: new Uint8Array(32).fill(9) }

interface GossipStatus {
  readonly keys: readonly number[]
  readonly members: readonly { readonly nodeId: number; readonly state: string }[]
  readonly refused: Readonly<Record<string, number>>
}

const gossipOf = (broker: Broker | TestBroker) => broker.status().gossip as GossipStatus | null

/** How a broker sees another; `unknown` where it has heard nothing of it. */
function stateOf(broker: Broker | TestBroker, nodeId: number): string {
  return gossipOf(broker)?.members.find((member) => member.nodeId === nodeId)?.state ?? 'unknown'
}

describe.each(ENVIRONMENTS)('brokers on the %s environment', { timeout: 60_000 }, (environment) => {
  let cluster: TestCluster | null = null

  afterEach(async () => {
    await cluster?.stop()
    cluster = null
  })

  it('know of a death within five seconds, of a return and of a good-bye at once', async () => {
    cluster = await startTestCluster({ brokers: 3, environment })
    const [one, two, three] = cluster.brokers as [TestBroker, TestBroker, TestBroker]
    const allSee = (nodeId: number, state: string, by: readonly TestBroker[]) =>
      vi.waitFor(() => expect(by.map((broker) => stateOf(broker, nodeId))).toEqual(by.map(() => state)), PATIENCE)
    for (const { nodeId } of cluster.brokers) await allSee(nodeId, 'alive', cluster.brokers)
    const killedAt = performance.now()
    await three.kill()
    await allSee(3, 'dead', [one, two])
    expect(performance.now() - killedAt).toBeLessThan(5_000)
    await three.restart()
    const restartedAt = performance.now()
    await allSee(3, 'alive', [one, two])
    expect(performance.now() - restartedAt).toBeLessThan(2_000)
    await two.stop()
    await allSee(2, 'left', [one])
    await two.restart()
    await allSee(2, 'alive', [one, three])
  })

  it('take nobody with another key for a member, say so once, and change keys without a break', async () => {
    const ports = await freePorts(HOST, 3)
    const members = ports.map((port, i) => ({ nodeId: i + 1, host: HOST, port }))
    async function start(nodeId: number, changes: Partial<BrokerConfig>) {
      const log = new LogCapture()
      const dataDirectory = await temporaryDirectory()
      const own = await chooseEnvironment({ prefer: environment, memoryBytes: 128 * 1024 * 1024, logger: log })
      const broker = await startBroker(own, { dataDirectory, nodeId, members, ...changes })
      onTestFinished(async () => {
        await broker.stop({ timeoutMs: 100 })
        await own.close()
      })
      return { broker, log }
    }
    const one = await start(1, { clusterKeys: [ONE] })
    const two = await start(2, { clusterKeys: [ONE] })
    const three = await start(3, { clusterKeys: [FORGED] })
    await vi.waitFor(() => {
      expect([stateOf(one.broker, 2), stateOf(two.broker, 1)]).toEqual(['alive', 'alive'])
      expect(gossipOf(one.broker)?.refused.FORGED).toBeGreaterThan(2)
      expect(gossipOf(three.broker)?.refused.FORGED).toBeGreaterThan(2)
    }, PATIENCE)
    expect([stateOf(one.broker, 3), stateOf(two.broker, 3), stateOf(three.broker, 1)]).toEqual(Array(3).fill('unknown'))
    const refusals = one.log.lines.filter(({ message }) => message === 'gossip is refused')
    expect(refusals).toHaveLength(1)
    expect(refusals[0]).toMatchObject({ level: 'warn', fields: { code: 'FORGED' } })

    for (const keys of [[ONE, TWO], [TWO, ONE], [TWO]]) {
      for (const { broker } of [one, two]) broker.setClusterKeys(keys)
      await new Promise((resolve) => setTimeout(resolve, 700))
      expect([stateOf(one.broker, 2), stateOf(two.broker, 1)]).toEqual(['alive', 'alive'])
    }
    expect(gossipOf(one.broker)?.keys).toEqual([2])
    expect(() => one.broker.setClusterKeys([{ ...FORGED, id: 2 }])).toThrow('another key has the id 2')
    three.broker.setClusterKeys([TWO])
    await vi.waitFor(() => expect(stateOf(one.broker, 3)).toBe('alive'), PATIENCE)
  })
})
