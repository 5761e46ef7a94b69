// Two and three peers over every kind of network there is: who finds whom, what arrives, in which order, and who gives
// back which memory.
import { encodeFrame, ProtocolError, peerHelloReply, type RouteChange } from '@millrace/protocol'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { LEADERS_WANTED_MS, MAX_FORWARD_BYTES } from '#src/limits.js'
import { ForwardError } from '#src/peers/forward-calls.js'
import { batchesAfter, GROUP, readOf } from './logged-batches.js'
import { CLUSTER_ID, diskOf, type NodeOptions, PeerNode } from './peer-node.js'
import { WORLDS, type World } from './peer-world.js'

const OTHER = { topicId: 2, partition: 7, lane: 0 }
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

for (const [kind, newWorld] of WORLDS) {
  describe(`peers over a ${kind} network`, () => {
    let world: World
    let nodes: PeerNode[] = []

    beforeEach(() => {
      world = newWorld()
      nodes = []
    })
    afterEach(async () => {
      await Promise.all(nodes.map((node) => node.stop()))
      for (const node of nodes) expect(node.bugs).toEqual([])
      await world.until('streams have closed', () => nodes.every((node) => node.frameMemory.usedBytes === 0))
      await world.close()
    })

    /** Nodes 1 to n that know each other; `options` by node id. */
    async function cluster(count: number, options: Readonly<Record<number, NodeOptions>> = {}): Promise<PeerNode[]> {
      nodes = Array.from({ length: count }, (_, i) => new PeerNode(i + 1, world.place(i + 1), options[i + 1]))
      const members = await Promise.all(nodes.map((node) => node.listen()))
      for (const node of nodes) node.start(members)
      return nodes
    }

    async function connected(count: number, options: Readonly<Record<number, NodeOptions>> = {}): Promise<PeerNode[]> {
      await cluster(count, options)
      const ids = nodes.map(({ nodeId }) => nodeId)
      const all = (): boolean =>
        nodes.every(({ network, nodeId }) => ids.every((id) => id === nodeId || network.isConnected(id)))
      await world.until('everybody has found everybody', all)
      return nodes
    }

    it('find each other, and hear of each other all the time', async () => {
      const [one, two, three] = await connected(3)
      await world.until('everybody was heard of', () => one!.network.heardMs(2) > 0 && three!.network.heardMs(2) > 0)
      await world.sleep(1_500)
      for (const { network, environment, lost } of [one!, two!, three!]) {
        expect(lost).toEqual([])
        for (const { connected, heardAgoMs } of network.status()) {
          expect(connected).toBe(true)
          expect(heardAgoMs).toBeLessThan(900)
        }
        expect(network.heardMs(99)).toBe(Number.NEGATIVE_INFINITY)
        expect(network.isConnected(99)).toBe(false)
        expect(environment.clock.monotonicMs()).toBeGreaterThan(1_000)
      }
    })

    it('exchange states of gossip, and hear nothing where there is no answer', async () => {
      const [one, two] = await connected(2)
      expect(one!.connections).toContain(2)
      two!.onGossip = (from, state) => (state.length === 0 ? null : Uint8Array.of(from, ...state))
      expect(await one!.network.exchangeGossip(2, Uint8Array.of(7, 8))).toEqual(Uint8Array.of(1, 7, 8))
      await expect(one!.network.exchangeGossip(2, new Uint8Array(0))).rejects.toMatchObject({ code: 'timedOut' })
      await expect(one!.network.exchangeGossip(9, Uint8Array.of(1))).rejects.toMatchObject({ code: 'notSent' })
      const tooLarge = new Uint8Array(MAX_FORWARD_BYTES + 1)
      await expect(one!.network.exchangeGossip(2, tooLarge)).rejects.toMatchObject({ code: 'FRAME_TOO_LARGE' })
    })

    it('tell all leaders they know to whoever lacks some, and not again and again', async () => {
      const [one, two] = await connected(2)
      two!.known = [{ topicId: 4, partition: 2, route: { nodeId: 3, shard: 0, placement: 0, term: 9 } }]
      for (let asked = 0; asked < 5; asked++) one!.network.askLeaders(2)
      await world.until('they have come', () => one!.leaders.length > 0)
      await world.sleep(50)
      expect(one!.leaders.map(({ from, changes }) => ({ from, changes }))).toEqual([{ from: 2, changes: two!.known }])
      await world.sleep(LEADERS_WANTED_MS)
      one!.network.askLeaders(2)
      await world.until('they have come again', () => one!.leaders.length > 1)
    })

    it('are told of signs of life while there are some, and not after a connection has broken', async () => {
      const [one, two] = await connected(2)
      await world.until('it is heard', () => one!.heard.length > 3)
      await two!.stop()
      await world.until('it is lost', () => one!.lost.length > 0)
      await world.sleep(150)
      const { length } = one!.heard
      await world.sleep(500)
      expect(one!.heard.length).toBe(length)
    })

    it('get small messages of every kind, whole and in order', async () => {
      const [one, two] = await connected(2)
      const common = { from: 1, to: 2, term: 7 }
      const messages = [
        { ...common, kind: 'preVote', lastIndex: 5, lastTerm: 6, isTransfer: false },
        { ...common, kind: 'vote', lastIndex: 5, lastTerm: 6, isTransfer: true },
        { ...common, kind: 'preVoteReply', granted: true, isRepairing: false },
        { ...common, kind: 'voteReply', granted: false, isRepairing: true },
        { ...common, kind: 'append', previousIndex: 4, previousTerm: 6, commit: 3, round: 2, entries: [] },
        { ...common, kind: 'appendReply', round: 2, agrees: true, index: 4, indexTerm: 6, lastIndex: 5 },
        { ...common, kind: 'timeoutNow' },
      ] as const
      for (const message of messages) one!.network.send(2, OTHER, message)
      await world.until('all have come', () => two!.raft.length === messages.length)
      expect(two!.raft).toEqual(messages.map((message) => ({ from: 1, group: OTHER, message })))
    })

    it('gather the small messages of a turn in one frame', async () => {
      const [one, two] = await connected(2)
      const before = one!.metrics.peerFramesSent
      for (let i = 0; i < 500; i++) {
        one!.network.send(2, { ...OTHER, partition: i }, { kind: 'timeoutNow', from: 1, to: 2, term: i })
      }
      await world.until('all have come', () => two!.raft.length === 500)
      expect(two!.raft.map(({ group }) => group.partition)).toEqual(Array.from({ length: 500 }, (_, i) => i))
      // Besides, a beat or two.
      expect(one!.metrics.peerFramesSent - before).toBeLessThan(6)
    })

    it('get entries as they stand in the log, from pieces of any size', async () => {
      const [one, two] = await connected(2)
      for (const [pieceBytes, valueBytes] of [
        [7_000, 3_000],
        [64 * 1024, 100_000],
        [100, 20],
      ] as const) {
        two!.appends.length = 0
        const batches = batchesAfter(10, 8, { valueBytes })
        const read = readOf(one!.environment, batches, pieceBytes)
        expect(one!.network.sendAppend(2, GROUP, HEADER, read)).toBe(true)
        await world.until('the entries have come', () => two!.appends.length === 1)
        const { from, group, append, bytes } = two!.appends[0]!
        expect([from, group]).toEqual([1, GROUP])
        expect(Buffer.compare(bytes, Buffer.concat(batches))).toBe(0)
        const { entries, ...message } = append.message
        expect(message).toEqual(HEADER)
        expect(entries.map(({ part }) => part.index)).toEqual([11, 12, 13, 14, 15, 16, 17, 18])
        expect(entries.map(({ byteLength }) => byteLength)).toEqual(batches.map(({ length }) => length))
        for (const { term, configuration, at, clientAt, header } of entries) {
          expect([term, configuration, clientAt - at, header.topicId]).toEqual([1, null, 40, 1])
        }
        await world.until('the read was released', () => read.released === 1)
      }
      expect(two!.frameMemory.usedBytes).toBe(0)
    })

    it('get what was sent in the order it was sent', async () => {
      const [one, two] = await connected(2)
      const { network, environment } = one!
      const heartbeat = { ...HEADER, entries: [] }
      const expected: string[] = []
      for (let i = 0; i < 20; i++) {
        network.send(2, GROUP, { kind: 'timeoutNow', from: 1, to: 2, term: i })
        network.sendAppend(
          2,
          GROUP,
          HEADER,
          readOf(environment, batchesAfter(10, 1 + (i % 3), { valueBytes: 5_000 * i })),
        )
        network.send(2, GROUP, heartbeat)
        network.sendAppend(2, GROUP, HEADER, null)
        expected.push('timeoutNow', `append of ${1 + (i % 3)}`, 'append', 'append')
      }
      const start = { index: 9, previousTerm: 2, configuration: { voters: [1, 2], outgoing: [], learners: [3] } }
      const install = { kind: 'install', from: 1, to: 2, term: 3, round: 4, start } as const
      const state = new Uint8Array(100_000).fill(7)
      expect(network.sendInstall(2, OTHER, install, state)).toBe(true)
      expect(network.sendInstall(2, OTHER, install, new Uint8Array(0))).toBe(true)
      expected.push('install', 'install')
      await world.until('all have come', () => two!.order.length === expected.length)
      expect(two!.order).toEqual(expected)
      expect(two!.installs.map(({ from, group, message }) => ({ from, group, message }))).toEqual([
        { from: 1, group: OTHER, message: install },
        { from: 1, group: OTHER, message: install },
      ])
      expect(two!.installs.map(({ state: { length } }) => length)).toEqual([state.length, 0])
      expect(Buffer.compare(two!.installs[0]!.state, state)).toBe(0)
    })

    it('hand operations on and get answers, refusals and timeouts', async () => {
      const [one, two] = await connected(2)
      two!.onForward = async (from, payload) => {
        if (payload[0] === 1) throw new ProtocolError('NOT_LEADER', `node ${from} should ask another`)
        if (payload[0] === 2) return new Promise(() => {})
        return payload.map((byte) => byte + 1)
      }
      const ask = (byte: number, timeoutMs = 5_000) => one!.network.forward(2, new Uint8Array([byte]), timeoutMs)
      expect(await Promise.all([ask(5), ask(9)])).toEqual([new Uint8Array([6]), new Uint8Array([10])])
      await expect(ask(1)).rejects.toMatchObject({ code: 'NOT_LEADER', detail: 'node 1 should ask another' })
      await expect(ask(2, 30)).rejects.toMatchObject({ name: 'ForwardError', code: 'timedOut' })
      await expect(one!.network.forward(3, new Uint8Array(1), 10)).rejects.toMatchObject({ code: 'notSent' })
      await expect(one!.network.forward(2, new Uint8Array(300_000), 10)).rejects.toMatchObject({
        code: 'FRAME_TOO_LARGE',
      })
      const unanswered = ask(2)
      await world.sleep(20)
      const stopping = two!.stop()
      await expect(unanswered).rejects.toBeInstanceOf(ForwardError)
      await expect(unanswered).rejects.toMatchObject({ code: 'lost' })
      await stopping
    })

    it('are told of leaders: all at first, then what changes, at once or gathered behind it', async () => {
      const leads = (topicId: number, term: number): RouteChange => ({
        topicId,
        partition: 3,
        route: { nodeId: 1, shard: 0, placement: 0, term },
      })
      await cluster(2)
      const [one, two] = nodes
      one!.leads = Array.from({ length: 5_000 }, (_, i) => leads(i + 1, 1))
      await world.until('all leaders are told', () => two!.leaders.flatMap(({ changes }) => changes).length >= 5_000)
      expect(two!.leaders.flatMap(({ changes }) => changes)).toEqual(one!.leads)
      two!.leaders.length = 0
      one!.network.announce([leads(1, 2), leads(2, 2)])
      one!.network.announce([leads(1, 3)])
      one!.network.announce([leads(1, 4), leads(2, 4)])
      await world.until('the changes are told', () => two!.leaders.length > 1)
      expect(two!.leaders).toMatchObject([
        { from: 1, changes: [leads(1, 2), leads(2, 2)] },
        { from: 1, changes: [leads(1, 4), leads(2, 4)] },
      ])
    })

    it('find a peer again that was stopped and started anew', async () => {
      const [one, two] = await connected(2)
      const port = two!.listener!.port
      await two!.stop()
      await world.until('the loss is noticed', () => one!.lost.length === 1)
      expect(one!.network.isConnected(2)).toBe(false)
      expect(one!.network.sendAppend(2, GROUP, HEADER, readOf(one!.environment, batchesAfter(10, 1)))).toBe(false)
      await world.sleep(1_000)
      const again = new PeerNode(2, { ...two!.place }, { port, starts: 2 })
      nodes.push(again)
      await again.listen()
      const begun = world.nowMs()
      again.start([{ nodeId: 1, host: one!.place.host, port: one!.listener!.port }])
      await world.until('they are connected again', () => one!.network.isConnected(2) && again.network.isConnected(1))
      // A busy machine takes its time for things that have nothing to do with it.
      expect(world.nowMs() - begun).toBeLessThan(kind === 'simulated' ? 250 : 2_500)
      one!.network.send(2, GROUP, { kind: 'timeoutNow', from: 1, to: 2, term: 1 })
      await world.until('a message comes', () => again.raft.length === 1)
    })

    it('give up one that accepts and then says nothing', async () => {
      const place = world.place(2)
      const mute = await place.environment.network.listen({ host: place.host, port: 0 }, (stream) => ({
        onBytes(chunk) {
          if (chunk.length < 60) return
          const reply = { version: 1, features: 0, clusterId: CLUSTER_ID, nodeId: 2, diskId: diskOf(2), starts: 1 }
          stream.write(encodeFrame(peerHelloReply, { ...reply, software: 'mute' }, { id: 0 }))
        },
        onFilled() {},
        onClosed() {},
      }))
      const one = new PeerNode(1, world.place(1))
      nodes = [one]
      one.start([await one.listen(), { nodeId: 2, host: place.host, port: mute.port }])
      await world.until('it has accepted', () => one.network.isConnected(2))
      const begun = world.nowMs()
      await world.until('it is given up', () => one.lost.length === 1)
      expect(world.nowMs() - begun).toBeGreaterThan(900)
      expect(world.nowMs() - begun).toBeLessThan(kind === 'simulated' ? 1_200 : 3_000)
      // It is dialled again and again, and missed once.
      await world.until('it is given up again', () => one.lost.length === 2)
      expect(one.warnings('a peer is silent: its connections are cut')).toHaveLength(1)
      await mute.close()
    })
  })
}
