// Peers that fall silent, die, stall and come back, and connections that are lost while everything flows: noticed in
// time, found again at once, and no memory is given back twice or never.
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { MAX_PEER_UNSENT_BYTES } from '#src/limits.js'
import { batchesAfter, type CountedRead, GROUP, readOf } from './logged-batches.js'
import { type NodeOptions, PeerNode } from './peer-node.js'
import { type SimulatedWorld, simulatedWorld, WORLD_MEMORY_BYTES } from './peer-world.js'

const HEADER = {
  kind: 'append',
  from: 1,
  to: 2,
  term: 3,
  previousIndex: 10,
  previousTerm: 1,
  commit: 9,
  round: 5,
} as const
const TIMEOUT_NOW = { kind: 'timeoutNow', from: 1, to: 2, term: 1 } as const
const SEEDS = [1, 2, 3]

describe.each(SEEDS)('peers of a network that fails, seed %i', (seed) => {
  let world: SimulatedWorld
  let nodes: Map<number, PeerNode>

  beforeEach(() => {
    world = simulatedWorld(seed)
    nodes = new Map()
  })
  afterEach(async () => {
    world.network.heal()
    await Promise.all([...nodes.values()].map((node) => node.stop()))
    for (const [nodeId, node] of nodes) {
      expect(node.bugs).toEqual([])
      await world.until('all memory is given back', () => world.usedBytes(nodeId) === 0)
    }
    await world.close()
  })

  const node = (nodeId: number): PeerNode => nodes.get(nodeId)!
  const members = [1, 2, 3].map((nodeId) => ({ nodeId, host: `broker-${nodeId}`, port: 7420 }))

  async function begin(nodeId: number, starts: number, options: NodeOptions = {}): Promise<void> {
    const begun = new PeerNode(nodeId, world.place(nodeId), { ...options, port: 7420, starts })
    nodes.set(nodeId, begun)
    await begun.listen()
    begun.start(members.slice(0, 2))
  }

  const areConnected = (): boolean => node(1).network.isConnected(2) && node(2).network.isConnected(1)

  async function pair(options: NodeOptions = {}): Promise<void> {
    await begin(1, 1)
    await begin(2, 1, options)
    await world.until('both are connected', areConnected)
    await world.sleep(300)
  }

  const below = (limit: number): number => world.random.integer(0, limit - 1)

  /** Milliseconds until something holds. */
  async function timeUntil(what: string, holds: () => boolean): Promise<number> {
    const since = world.nowMs()
    await world.until(what, holds)
    return world.nowMs() - since
  }

  it('notice within about a second that nothing comes any more, and find each other when it does', async () => {
    await pair()
    world.split(1, 2)
    // A kernel that gives up earlier may hand out what it still had: the silence begins with that.
    const ms = await timeUntil('both have noticed', () => node(1).lost.length > 0 && node(2).lost.length > 0)
    expect(ms).toBeLessThan(2_200)
    expect(node(1).network.isConnected(2)).toBe(false)
    await world.sleep(3_000)
    world.network.heal()
    expect(await timeUntil('they are connected again', areConnected)).toBeLessThan(900)
  })

  it('are lost for both when one way is cut', async () => {
    await pair()
    world.network.cut('broker-1', 'broker-2')
    const ms = await timeUntil('the one that hears nothing has noticed', () => node(2).lost.length === 1)
    expect(ms).toBeLessThan(1_300)
    // The reset of the other one gets through.
    await world.until('the other one knows', () => node(1).lost.length >= 1)
    world.network.heal()
    expect(await timeUntil('they are connected again', areConnected)).toBeLessThan(900)
  })

  it('are found at once after they were killed and started anew', async () => {
    await pair()
    world.kill(2)
    nodes.delete(2)
    expect(await timeUntil('the death is noticed', () => node(1).lost.length === 1)).toBeLessThan(50)
    await world.sleep(1 + below(5_000))
    await begin(2, 2)
    expect(await timeUntil('they are connected again', areConnected)).toBeLessThan(200)
    node(1).network.send(2, GROUP, TIMEOUT_NOW)
    await world.until('a message comes', () => node(2).raft.length === 1)
  })

  it('are missed within about a second when the power fails', async () => {
    await pair()
    world.cutPower(2)
    nodes.delete(2)
    expect(await timeUntil('the silence is noticed', () => node(1).lost.length === 1)).toBeLessThan(1_300)
    await world.sleep(2_000)
    await begin(2, 2)
    expect(await timeUntil('they are connected again', areConnected)).toBeLessThan(900)
  })

  it('that come back before anybody missed them replace what is left of them', async () => {
    await pair()
    world.cutPower(2)
    nodes.delete(2)
    await world.sleep(100)
    await begin(2, 2)
    expect(await timeUntil('they are connected again', areConnected)).toBeLessThan(900)
    const heard = node(2).raft.length
    node(1).network.send(2, GROUP, TIMEOUT_NOW)
    await world.until('a message comes to the new one', () => node(2).raft.length > heard)
    await world.sleep(3_000)
    expect(areConnected()).toBe(true)
  })

  it('forgive a short stall, and give up one that lasts', async () => {
    await pair()
    world.stall(2, 600)
    await world.sleep(3_000)
    expect([node(1).lost, node(2).lost]).toEqual([[], []])
    world.stall(2, 4_000)
    expect(await timeUntil('the stall is noticed', () => node(1).lost.length === 1)).toBeLessThan(1_300)
    await world.sleep(4_000)
    await world.until('they are connected again', areConnected)
  })

  it('do not take their own stall for the silence of others', async () => {
    await pair()
    // As long as the other one is patient.
    world.stall(1, 950)
    await world.sleep(3_000)
    expect(node(1).warnings('a peer is silent: its connections are cut')).toEqual([])
  })

  it('release every read and block once, whatever connections are lost', async () => {
    await pair()
    const reads: CountedRead[] = []
    let sent = 0
    for (let step = 0; step < 150; step++) {
      for (let i = below(6); i > 0; i--) {
        const batches = batchesAfter(10, 1 + below(4), { valueBytes: below(120_000) })
        const read = readOf(node(1).environment, batches, 1_000 + below(90_000))
        reads.push(read)
        if (node(1).network.sendAppend(2, GROUP, HEADER, read)) sent++
      }
      node(1).network.send(2, GROUP, TIMEOUT_NOW)
      // Now what this node has dialled, now what it has accepted, now both.
      if (step % 12 === 0)
        for (const connection of [...world.network.connections].slice(0, 1 + below(2))) connection.lose()
      await world.sleep(below(30))
    }
    expect(sent).toBeGreaterThan(50)
    expect(node(1).lost.length).toBeGreaterThan(0)
    await world.until('every read is released', () => reads.every(({ released }) => released === 1))
    for (const { append } of node(2).appends) expect(append.message.entries.length).toBeGreaterThan(0)
    expect(node(2).frameMemory.usedBytes).toBe(0)
  })

  it('hold back one that sends more than is taken, and lose nothing that was sent', async () => {
    await pair({ keepsAppends: true, frameBytes: 2 * 1024 * 1024 })
    const [one, two] = [node(1), node(2)]
    const reads: CountedRead[] = []
    const send = (): boolean => {
      const read = readOf(one.environment, batchesAfter(10, 1, { valueBytes: 250_000 }))
      reads.push(read)
      return one.network.sendAppend(2, GROUP, HEADER, read)
    }
    while (send()) await world.sleep(1)
    const accepted = reads.length - 1
    expect(accepted * 250_000).toBeGreaterThan(MAX_PEER_UNSENT_BYTES)
    expect(one.network.status()[0]!.unsentBytes).toBeLessThan(MAX_PEER_UNSENT_BYTES + 300_000)
    expect(world.usedBytes(1)).toBeLessThan(WORLD_MEMORY_BYTES)
    expect(reads.at(-1)!.released).toBe(1)
    const dropped = one.metrics.peerMessagesDropped
    one.network.send(2, GROUP, TIMEOUT_NOW)
    expect(one.metrics.peerMessagesDropped).toBe(dropped + 1)
    // Back-pressure is no silence, however long it lasts.
    await world.sleep(5_000)
    expect([one.lost, two.lost, two.appends.length]).toEqual([[], [], expect.any(Number)])
    expect(two.frameMemory.usedBytes).toBeLessThanOrEqual(2.5 * 1024 * 1024)
    let taken = 0
    while (taken < accepted) {
      await world.until('more comes', () => two.appends.length > taken)
      two.appends[taken++]!.append.release()
    }
    await world.until('every read is released', () => reads.every(({ released }) => released === 1))
    expect(two.appends).toHaveLength(accepted)
    expect(one.lost).toEqual([])
  })

  it('hear a frame that takes seconds to come', async () => {
    await pair()
    // A window of one megabyte for each way there and back.
    const slow = world.network.path('broker-1', 'broker-2')
    const read = readOf(node(1).environment, batchesAfter(10, 1, { valueBytes: 4_000_000 }), 1_000_000)
    for (const extraLatencyMs of [350, 700]) {
      slow.extraLatencyMs = extraLatencyMs
      await world.sleep(1_000)
    }
    const sentMs = world.nowMs()
    expect(node(1).network.sendAppend(2, GROUP, HEADER, read)).toBe(true)
    await world.until('it has come', () => node(2).appends.length === 1)
    expect(world.nowMs() - sentMs).toBeGreaterThan(2_000)
    expect([node(1).lost, node(2).lost]).toEqual([[], []])
  })
})
