// A connection of the listener that turns out to be a peer's: handed over by its first frame, and kept apart from those of
// clients; a broker that is not who it should be is refused by name.
import {
  ERROR_TABLE,
  encodeFrame,
  errorName,
  failure,
  hello,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  MESSAGES,
  type PeerHello,
  peerBeat,
  peerHello,
  peerHelloReply,
  ping,
  pong,
  raft,
  raftAppend,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { HELLO as CLIENT_HELLO, startInMemory } from '../server/in-memory-server.js'
import { CLUSTER_ID, HELLO, HELLO_REPLY, OWN_DISK, PEER_DISK, startPeers } from './in-memory-peers.js'
import { batchesAfter, GROUP } from './logged-batches.js'

const BEAT = encodeFrame(peerBeat, { wallMs: 1_700_000_000_000 }, { id: 0 })
const MESSAGE = encodeFrame(raft, { messages: [{ group: GROUP, message: { kind: 'timeoutNow', term: 1 } }] }, { id: 0 })

describe('a connection that begins with PEER_HELLO', () => {
  it('is handed over, with what came together with it', async () => {
    const { server, network, handed } = await startPeers()
    for (const pieceBytes of [1_000, 7, 1]) {
      handed.length = 0
      const stream = server.dial()
      stream.receive(
        new Uint8Array(Buffer.concat([encodeFrame(peerHello, HELLO, { id: 0 }), MESSAGE, BEAT, MESSAGE])),
        pieceBytes,
      )
      expect(stream.take(peerHelloReply)).toEqual([
        { ...HELLO_REPLY, nodeId: 1, diskId: OWN_DISK, starts: 1, software: expect.any(String) },
      ])
      expect(handed).toEqual(['timeoutNow', 'timeoutNow'])
      expect(network.heardMs(2)).toBe(server.clock.nowMs)
      expect(stream.ended).toBe(false)
    }
  })

  it('outlives the patience a server has with clients', async () => {
    const { server, open } = await startPeers()
    const stream = open()
    for (let i = 0; i < 20; i++) {
      server.clock.advance(60_000)
      stream.receive(BEAT)
      stream.connection!.tick()
    }
    expect(stream.ended).toBe(false)
    stream.connection!.drain()
    expect(stream.frames.map(({ header }) => header.kind)).toEqual([peerHelloReply.kind])
    stream.connection!.close()
    expect(stream.ended).toBe(true)
  })

  it('takes nothing that clients say', async () => {
    const { server, open } = await startPeers()
    const kinds = [...MESSAGES.filter(({ sender }) => sender !== 'peer').map(({ kind }) => kind), peerHello.kind, 999]
    for (const kind of [...kinds, peerHelloReply.kind]) {
      const stream = open()
      const frame = encodeFrame(ping, {}, { id: 3 })
      new DataView(frame.buffer).setUint16(4, kind, true)
      stream.receive(frame)
      expect([kind, ...stream.failures]).toEqual([kind, 'UNKNOWN_KIND'])
      expect(stream.ended).toBe(true)
    }
    expect(server.bugs).toEqual([])
  })

  it('is not what a client says: not one kind of a peer is taken from it', async () => {
    const { server, handed } = await startPeers()
    for (const { kind } of MESSAGES.filter(({ sender }) => sender === 'peer')) {
      const stream = server.open()
      const frame = encodeFrame(ping, {}, { id: 3 })
      new DataView(frame.buffer).setUint16(4, kind, true)
      stream.receive(frame)
      expect([kind, ...stream.failures]).toEqual([kind, 'UNKNOWN_KIND'])
      expect(stream.ended).toBe(true)
    }
    const late = server.open()
    late.receive(encodeFrame(peerHello, HELLO, { id: 0 }))
    expect(late.failures).toEqual(['UNKNOWN_KIND'])
    expect(handed).toEqual([])
  })

  it('has to begin with it, whole and short', async () => {
    const { server } = await startPeers()
    const first = server.dial()
    first.receive(MESSAGE)
    expect(first.failures).toEqual(['NOT_MILLRACE'])
    const long = server.dial()
    const frame = encodeFrame(peerHello, HELLO, { id: 0 })
    new DataView(frame.buffer).setUint32(0, MAX_FRAME_BYTES_BEFORE_HELLO + 1, true)
    long.receive(frame)
    expect(long.failures).toEqual(['FRAME_TOO_LARGE'])
    const featured = server.dial()
    const required = encodeFrame(peerHello, HELLO, { id: 0 })
    new DataView(required.buffer).setUint16(6, 0x100, true)
    featured.receive(required)
    expect(featured.failures).toEqual(['UNSUPPORTED_FEATURE'])
    const mute = server.dial()
    mute.receive(encodeFrame(peerHello, HELLO, { id: 0 }).subarray(0, 20))
    server.clock.advance(6_000)
    mute.connection!.tick()
    expect(mute.failures).toEqual(['HELLO_REQUIRED'])
  })

  it('is refused by a broker that has no peers', async () => {
    const server = await startInMemory()
    const stream = server.dial()
    stream.receive(encodeFrame(peerHello, HELLO, { id: 0 }))
    expect(stream.failures).toEqual(['WRONG_NODE'])
    const client = server.open()
    client.send(ping, {}, 1)
    expect(client.take(pong, 1)).toHaveLength(1)
  })
})

describe('a broker that is not who it should be', () => {
  const wrong: readonly (readonly [string, Partial<PeerHello>, string])[] = [
    ['of another cluster', { clusterId: 'e'.repeat(32) }, 'WRONG_CLUSTER'],
    ['who looks for another node', { expectedNodeId: 2 }, 'WRONG_NODE'],
    ['who is no member', { nodeId: 3 }, 'WRONG_NODE'],
    ['who is this node itself', { nodeId: 1 }, 'WRONG_NODE'],
    ['of a later version only', { minVersion: 2, maxVersion: 3 }, 'UNSUPPORTED_VERSION'],
    ['of an earlier version only', { minVersion: 0, maxVersion: 0 }, 'UNSUPPORTED_VERSION'],
    ['with another disk', { diskId: 'a'.repeat(32) }, 'WRONG_DISK'],
  ]
  for (const [who, fields, code] of wrong) {
    it(`is refused by name: one ${who}`, async () => {
      const { server, open, network, handed } = await startPeers({ knownDisk: PEER_DISK })
      const stream = open(fields)
      expect(stream.failures).toEqual([code])
      expect(stream.ended).toBe(true)
      stream.receive(MESSAGE)
      expect([handed, network.heardMs(2), server.bugs]).toEqual([[], Number.NEGATIVE_INFINITY, []])
    })
  }

  it('is known by the disk it has shown first, and by its latest start', async () => {
    const { open } = await startPeers()
    expect(open().failures).toEqual([])
    expect(open({ diskId: 'a'.repeat(32) }).failures).toEqual(['WRONG_DISK'])
    expect(open({ starts: 4 }).failures).toEqual([])
    expect(open({ starts: 3 }).failures).toEqual(['WRONG_NODE'])
  })

  it('does not take the place of one that is', async () => {
    const { open, handed } = await startPeers()
    const stream = open()
    open({ clusterId: 'e'.repeat(32) })
    open({ starts: 1 })
    stream.receive(MESSAGE)
    expect([stream.ended, handed]).toEqual([false, ['timeoutNow']])
    // A second connection of the same start does: the first one is probably dead.
    open()
    expect(stream.ended).toBe(true)
  })

  it('speaks the highest version that both know', async () => {
    const { open } = await startPeers({ versions: { min: 1, max: 3 } })
    const versionFor = (minVersion: number, maxVersion: number) =>
      open({ minVersion, maxVersion }).take(peerHelloReply)[0]?.version
    expect([versionFor(1, 1), versionFor(1, 2), versionFor(3, 9), versionFor(4, 9)]).toEqual([1, 2, 3, undefined])
  })
})

describe('a frame of a version to come', () => {
  const isNamed = async (
    bytes: Uint8Array,
    code: 'UNKNOWN_KIND' | 'UNSUPPORTED_FEATURE',
    detail: string,
  ): Promise<void> => {
    const { open, handed } = await startPeers({ versions: { min: 1, max: 2 } })
    const stream = open({ minVersion: 1, maxVersion: 2 })
    expect(stream.take(peerHelloReply)[0]?.version).toBe(2)
    stream.receive(MESSAGE)
    stream.receive(bytes)
    const [refusal] = stream.take(failure)
    expect(refusal).toMatchObject({ code: ERROR_TABLE[code].code })
    expect(refusal?.detail).toContain(detail)
    expect([stream.ended, handed]).toEqual([true, ['timeoutNow']])
  }

  it('is refused by its kind, in words, and what came before it counts', async () => {
    const frame = encodeFrame(ping, {}, { id: 0 })
    new DataView(frame.buffer).setUint16(4, 99, true)
    await isNamed(frame, 'UNKNOWN_KIND', '99')
  })

  it('is refused by the feature that it requires', async () => {
    const frame = MESSAGE.slice()
    new DataView(frame.buffer).setUint16(6, 0x200, true)
    await isNamed(frame, 'UNSUPPORTED_FEATURE', '0x200')
  })
})

describe('a broker that was dialled', () => {
  const reply = (fields: object): Uint8Array => encodeFrame(peerHelloReply, { ...HELLO_REPLY, ...fields }, { id: 0 })
  const wrong: readonly (readonly [string, Uint8Array])[] = [
    ['another cluster', reply({ clusterId: 'e'.repeat(32) })],
    ['another node', reply({ nodeId: 3 })],
    ['another disk', reply({ diskId: 'a'.repeat(32) })],
    ['a version that was not offered', reply({ version: 2 })],
    ['a refusal', encodeFrame(failure, { code: 8, answeredKind: 64, detail: 'who are you' }, { id: 0 })],
    ['a frame of a client', encodeFrame(hello, CLIENT_HELLO, { id: 1 })],
    ['a frame of a peer', MESSAGE],
    ['another protocol', new TextEncoder().encode('HTTP/1.1 400 Bad Request\r\n')],
    ['a frame without end', new Uint8Array(16).fill(0x7f)],
  ]
  for (const [what, bytes] of wrong) {
    it(`and answers with ${what} is left, and tried again`, async () => {
      const peers = await startPeers({ knownDisk: PEER_DISK })
      const { server, network, dialled } = peers
      peers.answers = true
      network.start()
      await server.settle()
      expect(dialled).toHaveLength(1)
      dialled[0]!.receive(bytes)
      await server.settle()
      expect([dialled[0]!.destroyed, network.isConnected(2), server.bugs]).toEqual([true, false, []])
      server.clock.advance(20)
      await server.settle()
      expect(dialled).toHaveLength(2)
      dialled[1]!.receive(reply({}))
      expect(network.isConnected(2)).toBe(true)
      expect(dialled[1]!.take(peerHello)).toMatchObject([{ clusterId: CLUSTER_ID, nodeId: 1, expectedNodeId: 2 }])
    })
  }

  it('hears something every 100 ms, and nothing idle while there is something to say', async () => {
    const peers = await startPeers()
    const { server, network, dialled, open } = peers
    peers.answers = true
    network.start()
    await server.settle()
    const stream = dialled[0]!
    stream.receive(reply({}))
    const session = open()
    const beatsWithin = (ms: number, stepMs: number, work: () => void): number => {
      stream.frames.length = 0
      for (let passed = 0; passed < ms; passed += stepMs) {
        work()
        server.clock.turn()
        session.receive(BEAT)
        server.clock.advance(stepMs)
      }
      return stream.take(peerBeat).length
    }
    expect(beatsWithin(1_000, 100, () => {})).toBeGreaterThanOrEqual(9)
    const speak = (): void => network.send(2, GROUP, { kind: 'timeoutNow', from: 1, to: 2, term: 1 })
    expect(beatsWithin(2_000, 20, speak)).toBe(2)
  })

  it('and says nothing is left after a second', async () => {
    const peers = await startPeers()
    const { server, network, dialled } = peers
    peers.answers = true
    network.start()
    await server.settle()
    server.clock.advance(900)
    expect(dialled[0]!.destroyed).toBe(false)
    server.clock.advance(300)
    expect(dialled[0]!.destroyed).toBe(true)
  })

  it('and closes with a reason later has that reason logged, and is dialled anew', async () => {
    const peers = await startPeers()
    const { server, network, dialled, handed } = peers
    peers.answers = true
    network.start()
    await server.settle()
    dialled[0]!.receive(reply({}))
    dialled[0]!.receive(encodeFrame(failure, { code: 20, answeredKind: 68, detail: 'bad' }, { id: 0 }))
    expect([handed, network.isConnected(2)]).toEqual([['lost'], false])
    server.clock.advance(30)
    await server.settle()
    expect(dialled).toHaveLength(2)
  })
})

describe('the clock of a peer', () => {
  it('that differs is spoken of once, and again when it was right in between', async () => {
    const warnings: number[] = []
    const { server, open } = await startPeers({ onWarning: ({ aheadMs }) => void warnings.push(Number(aheadMs)) })
    const stream = open()
    const { wall } = server.clock
    for (const ahead of [0, 4_000, 6_000, 7_000, -9_000, 100, -9_000]) {
      stream.receive(encodeFrame(peerBeat, { wallMs: wall + ahead }, { id: 0 }))
    }
    expect(warnings).toEqual([6_000, -9_000])
  })
})

describe('what a peer says that makes no sense', () => {
  const good = batchesAfter(10, 2)
  const append = (batches: readonly Uint8Array[], fields: object = {}): Uint8Array => {
    const bytes = Buffer.concat(batches)
    const header = { group: GROUP, term: 1, previousIndex: 10, previousTerm: 1, commit: 0, round: 1, batchesStart: 0 }
    const message = { ...header, batchCount: batches.length, ...fields }
    const extraPayloadBytes = bytes.length
    return new Uint8Array(Buffer.concat([encodeFrame(raftAppend, message, { id: 0, extraPayloadBytes }), bytes]))
  }

  it('ends its connection with a reason, and nothing of the frame is used', async () => {
    const { server, open, handed, appends, frameMemory } = await startPeers()
    const damaged = append(good)
    damaged[damaged.length - good[1]!.length + 5]! += 1
    for (const [frame, code] of [
      [damaged, 'CORRUPT_BATCH'],
      [append(good, { previousIndex: 9 }), 'CORRUPT_BATCH'],
      [append(good, { batchCount: 1 }), 'CORRUPT_BATCH'],
      [append(good, { batchCount: 3 }), 'CORRUPT_FRAME'],
      [append(good, { batchCount: 0xffff }), 'CORRUPT_FRAME'],
    ] as const) {
      const stream = open()
      stream.receive(frame)
      const [refusal] = stream.take(failure)
      expect([errorName(refusal!.code), refusal!.answeredKind, stream.ended]).toEqual([code, raftAppend.kind, true])
      stream.receive(MESSAGE)
    }
    expect([handed, appends, frameMemory.usedBytes, server.bugs]).toEqual([[], [], 0, []])
    open().receive(append(good))
    expect(handed).toEqual(['append with entries'])
    appends[0]!.release()
    expect(() => appends[0]!.release()).toThrow('released once')
    expect(frameMemory.usedBytes).toBe(0)
  })

  it('finds no memory: the peer waits, and is not called silent for that', async () => {
    const { server, open, appends, frameMemory, network } = await startPeers({ frameBytes: 64 * 1024 })
    network.start()
    const frame = append(batchesAfter(10, 1, { valueBytes: 40_000 }))
    const stream = open()
    stream.receive(frame)
    stream.receive(frame)
    expect([appends.length, stream.paused, frameMemory.waiters]).toEqual([1, true, 1])
    server.clock.advance(5_000)
    expect(stream.ended || stream.destroyed).toBe(false)
    appends.shift()!.release()
    server.clock.turn()
    expect([appends.length, stream.paused]).toEqual([1, false])
    // One whose connection is lost meanwhile leaves the line.
    stream.receive(frame)
    expect(frameMemory.waiters).toBe(1)
    stream.destroy()
    appends.shift()!.release()
    server.clock.advance(10)
    expect([appends.length, frameMemory.waiters, frameMemory.usedBytes]).toEqual([0, 0, 0])
  })

  it('gives back memory that waiting frames take when it comes back, whoever they come from', async () => {
    const { server, open, appends, frameMemory, network } = await startPeers({ frameBytes: 64 * 1024 })
    network.start()
    const frame = append(batchesAfter(10, 1, { valueBytes: 40_000 }))
    const first = open()
    first.receive(frame)
    first.receive(frame)
    // The peer has dialled anew: what waits on its old connection is dropped, what was handed on is still out.
    const second = open()
    second.receive(frame)
    expect([first.ended, appends.length, frameMemory.waiters]).toEqual([true, 1, 2])
    appends.shift()!.release()
    await server.settle()
    expect([appends.length, frameMemory.waiters, second.paused]).toEqual([1, 0, false])
    second.destroy()
    expect(frameMemory.usedBytes).toBeGreaterThan(40_000)
    appends.shift()!.release()
    await server.settle()
    expect([appends.length, frameMemory.usedBytes, server.bugs]).toEqual([0, 0, []])
  })
})
