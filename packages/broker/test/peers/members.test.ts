// Members that come, go and move while brokers run: found, left alone and refused by name.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ForwardError } from '#src/peers/forward-calls.js'
import { GROUP } from './logged-batches.js'
import { PeerNode } from './peer-node.js'
import { type SimulatedWorld, simulatedWorld } from './peer-world.js'

const TIMEOUT_NOW = { kind: 'timeoutNow', from: 1, to: 3, term: 1 } as const
const memberOf = (nodeId: number, port = 7420) => ({ nodeId, host: `broker-${nodeId}`, port })
const PAIR = [memberOf(1), memberOf(2)]
const ALL = [...PAIR, memberOf(3)]

describe('members of a cluster that runs', () => {
  let world: SimulatedWorld
  let nodes: Map<number, PeerNode>

  beforeEach(async () => {
    world = simulatedWorld(1)
    nodes = new Map()
    await begin(1, PAIR)
    await begin(2, PAIR)
    await world.until('both are connected', () => areConnected(1, 2))
  })
  afterEach(async () => {
    await Promise.all([...nodes.values()].map((one) => one.stop()))
    for (const [nodeId, { bugs }] of nodes) {
      expect(bugs).toEqual([])
      await world.until('all memory is given back', () => world.usedBytes(nodeId) === 0)
    }
    await world.close()
  })

  const node = (nodeId: number): PeerNode => nodes.get(nodeId)!
  const areConnected = (a: number, b: number): boolean =>
    node(a).network.isConnected(b) && node(b).network.isConnected(a)

  async function begin(nodeId: number, members: typeof PAIR, port = 7420): Promise<void> {
    const begun = new PeerNode(nodeId, world.place(nodeId), { port })
    nodes.set(nodeId, begun)
    await begun.listen()
    begun.start(members)
  }

  it('come: whoever is told of them finds them', async () => {
    await begin(3, ALL)
    await world.sleep(500)
    expect(node(3).network.isConnected(1)).toBe(false)
    expect(node(1).warnings('a broker that wants to be a peer is refused')[0]?.fields).toMatchObject({
      node: 3,
      code: 'WRONG_NODE',
    })
    for (const nodeId of [1, 2]) node(nodeId).network.setMembers(ALL)
    await world.until('all are connected', () => areConnected(1, 3) && areConnected(2, 3))
    node(1).network.send(3, GROUP, TIMEOUT_NOW)
    await world.until('it is heard', () => node(3).raft.length === 1)
  })

  it('stay connected when others come and go', async () => {
    node(1).network.setMembers(ALL)
    node(1).network.setMembers(PAIR)
    await world.sleep(2_000)
    expect([node(1).lost, node(2).lost, areConnected(1, 2)]).toEqual([[], [], true])
  })

  it('go: what waits for them ends, nothing more is heard of them, and they are told that they were removed', async () => {
    node(2).onForward = () => new Promise(() => {})
    const asked = node(1).network.forward(2, new Uint8Array(1), 60_000)
    asked.catch(() => {})
    await world.sleep(50)
    node(1).network.setMembers([memberOf(1)], [2])
    await expect(asked).rejects.toBeInstanceOf(ForwardError)
    expect(node(1).network.isConnected(2)).toBe(false)
    const refused = () =>
      node(2)
        .warnings('no connection with a peer')
        .map(({ fields }) => fields.code)
    await world.until('it is refused by name', () => refused().includes('NODE_REMOVED'))
    expect(node(2).refusedAsRemoved).toBeGreaterThan(0)
    expect(node(1).refusedAsRemoved).toBe(0)
    expect(node(1).network.heardMs(2)).toBe(Number.NEGATIVE_INFINITY)
    expect(node(1).network.status()).toEqual([])
  })

  it('move: they are dialled where they are now', async () => {
    world.kill(2)
    await begin(2, PAIR, 7421)
    await world.sleep(500)
    expect(node(1).network.isConnected(2)).toBe(false)
    node(1).network.setMembers([memberOf(1), memberOf(2, 7421)])
    await world.until('both are connected again', () => areConnected(1, 2))
  })
})
