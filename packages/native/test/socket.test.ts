// Sockets by hand: listening, accepting, provided buffers, scatter lists, and what is refused.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { expect, it } from 'vitest'
import { Arena } from '#src/arena.js'
import { BufferRing } from '#src/buffer-ring.js'
import { errnoName } from '#src/errors.js'
import { closeDescriptor } from '#src/file.js'
import * as layout from '#src/layout.js'
import { MESSAGE_RANGES, MessageHeaders } from '#src/messages.js'
import { listenOn, peerOf, shutdownBoth, shutdownWriting, socketToConnect } from '#src/socket.js'
import { describeNative, HandDrivenRing } from './native-suite.js'

const GROUP = { group: 5, count: 8, bufferBytes: 4096 }

async function withConnection(
  body: (parts: { driven: HandDrivenRing; accepted: number; peer: Socket; arena: Arena }) => Promise<void>,
): Promise<void> {
  const driven = new HandDrivenRing()
  const arena = new Arena(1024 * 1024, driven.ring)
  const { descriptor, port } = listenOn('127.0.0.1', 0, 16)
  driven.ring.acceptAll(descriptor, 1, 1)
  driven.ring.submit()
  const peer = connect(port, '127.0.0.1')
  const accepted = (await driven.collect(1))[0]!.result
  expect(accepted).toBeGreaterThan(2)
  try {
    await body({ driven, accepted, peer, arena })
  } finally {
    peer.destroy()
    closeDescriptor(accepted)
    closeDescriptor(descriptor)
    expect(driven.ring.close(2000)).toBe(0)
    arena.close()
  }
}

describeNative('sockets', () => {
  it('listen on a port of their own choice and know their peers', async () => {
    await withConnection(async ({ accepted, peer }) => {
      if (peer.connecting) await once(peer, 'connect')
      expect(peerOf(accepted)).toBe(`127.0.0.1:${peer.localPort}`)
      expect(peerOf(0x7fffffff)).toBe('')
    })
  })

  it('take IPv6 and refuse names, wrong addresses and ports in use', () => {
    const six = listenOn('::1', 0, 16)
    expect(six.port).toBeGreaterThan(0)
    expect(() => listenOn('::1', six.port, 16)).toThrow(expect.objectContaining({ code: 'EADDRINUSE' }))
    closeDescriptor(six.descriptor)
    for (const address of ['', 'localhost', '256.1.1.1', '127.0.0.1:80']) {
      expect(() => listenOn(address, 0, 16)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
    }
    expect(() => listenOn('203.0.113.1', 0, 16)).toThrow(expect.objectContaining({ code: 'EADDRNOTAVAIL' }))
    expect(() => listenOn('127.0.0.1', 65_536, 16)).toThrow(RangeError)
  })

  it('receive into provided buffers, which go around', async () => {
    await withConnection(async ({ driven, accepted, peer, arena }) => {
      const buffers = new BufferRing(driven.ring, arena, 0, GROUP)
      const sent = Buffer.alloc(100_000)
      for (let i = 0; i < sent.length; i++) sent[i] = (i * 31) >>> 3
      peer.write(sent)
      const received: Buffer[] = []
      let count = 0
      while (count < sent.length) {
        driven.ring.receiveProvided(accepted, GROUP.group, false, 2, 1)
        const [completion] = await driven.collect(1)
        expect(completion!.flags & layout.CQE_BUFFER).toBe(layout.CQE_BUFFER)
        const id = completion!.flags >>> layout.CQE_BUFFER_SHIFT
        received.push(Buffer.from(buffers.bytes(id, completion!.result)))
        buffers.give(id)
        count += completion!.result
      }
      expect(Buffer.compare(Buffer.concat(received), sent)).toBe(0)
    })
  })

  it('say so when no provided buffer is left', async () => {
    await withConnection(async ({ driven, accepted, peer, arena }) => {
      const buffers = new BufferRing(driven.ring, arena, 0, GROUP)
      peer.write(Buffer.alloc(20 * GROUP.bufferBytes, 1))
      const taken: number[] = []
      for (;;) {
        driven.ring.receiveProvided(accepted, GROUP.group, false, 2, 1)
        const [completion] = await driven.collect(1)
        if (completion!.result < 0) {
          expect(errnoName(completion!.result)).toBe('ENOBUFS')
          break
        }
        taken.push(completion!.flags >>> layout.CQE_BUFFER_SHIFT)
      }
      expect(new Set(taken)).toEqual(new Set([0, 1, 2, 3, 4, 5, 6, 7]))
      buffers.give(taken[3]!)
      driven.ring.receiveProvided(accepted, GROUP.group, false, 2, 1)
      const [again] = await driven.collect(1)
      expect(again!.flags >>> layout.CQE_BUFFER_SHIFT).toBe(taken[3])
    })
  })

  it('receive straight into memory until it is full', async () => {
    await withConnection(async ({ driven, accepted, peer, arena }) => {
      driven.ring.receive(accepted, arena.address, 300_000, layout.MSG_WAITALL, false, 2, 1)
      driven.ring.submit()
      for (let i = 0; i < 10; i++) {
        peer.write(Buffer.alloc(30_000, i + 1))
        await new Promise((resolve) => setTimeout(resolve, 2))
      }
      expect(await driven.collect(1)).toMatchObject([{ result: 300_000 }])
      const bytes = new Uint8Array(arena.buffer)
      for (let i = 0; i < 10; i++) expect([bytes[i * 30_000], bytes[i * 30_000 + 29_999]]).toEqual([i + 1, i + 1])
    })
  })

  it('send scatter lists whose headers are used again', async () => {
    await withConnection(async ({ driven, accepted, peer, arena }) => {
      const headers = new MessageHeaders(driven.ring, arena, 0)
      const received: Buffer[] = []
      let count = 0
      peer.on('data', (chunk: Buffer) => {
        received.push(chunk)
        count += chunk.length
      })
      const base = MessageHeaders.BYTES
      const bytes = new Uint8Array(arena.buffer)
      for (let i = 0; i < 400_000; i++) bytes[base + i] = (i * 7) >>> 2
      const expected: Buffer[] = []
      for (let message = 0; message < 200; message++) {
        expect(headers.begin()).toBe(true)
        for (let range = 0; range < MESSAGE_RANGES; range++) {
          const from = base + message * 1000 + range * 50
          expect(headers.add(arena.address + from, 20 + range)).toBe(true)
          expected.push(Buffer.from(bytes.subarray(from, from + 20 + range)))
        }
        expect(headers.add(arena.address, 1)).toBe(false)
        driven.ring.sendMessage(accepted, headers.finish(), layout.MSG_WAITALL, 3, 1)
      }
      const wanted = Buffer.concat(expected)
      await driven.collect(200)
      const deadline = performance.now() + 5000
      while (count < wanted.length && performance.now() < deadline) await new Promise((go) => setTimeout(go, 1))
      expect(Buffer.compare(Buffer.concat(received), wanted)).toBe(0)
    })
  })

  it('connect by an address in an arena, which is checked', async () => {
    const driven = new HandDrivenRing()
    const arena = new Arena(4096, driven.ring)
    const { descriptor: listening, port } = listenOn('::1', 0, 16)
    const last = 4096 - layout.SOCKET_ADDRESS_BYTES
    const connecting = socketToConnect('::1', port, arena, last)
    driven.ring.connect(connecting, arena.address + last, 1, 1)
    expect(await driven.collect(1)).toMatchObject([{ slot: 1, result: 0 }])
    expect(peerOf(connecting)).toBe(`[::1]:${port}`)
    closeDescriptor(connecting)
    closeDescriptor(listening)
    const refused = socketToConnect('127.0.0.1', port, arena, 0)
    driven.ring.connect(refused, arena.address, 2, 1)
    expect((await driven.collect(1)).map(({ result }) => errnoName(result))).toEqual(['ECONNREFUSED'])
    closeDescriptor(refused)
    expect(() => socketToConnect('127.0.0.1', port, arena, last + 1)).toThrow(RangeError)
    expect(() => socketToConnect('127.0.0.1', 65_536, arena, 0)).toThrow(RangeError)
    for (const address of ['', 'localhost', '256.1.1.1']) {
      expect(() => socketToConnect(address, port, arena, 0)).toThrow(expect.objectContaining({ code: 'EINVAL' }))
    }
    expect(driven.ring.close(2000)).toBe(0)
    arena.close()
  })

  it('end in both directions', async () => {
    await withConnection(async ({ driven, accepted, peer, arena }) => {
      const ended = once(peer, 'end')
      peer.resume()
      shutdownWriting(accepted)
      await ended
      driven.ring.receive(accepted, arena.address, 10, 0, false, 2, 1)
      driven.ring.submit()
      shutdownBoth(accepted)
      expect(await driven.collect(1)).toMatchObject([{ result: 0 }])
      driven.ring.send(accepted, arena.address, 10, layout.MSG_WAITALL, 3, 1)
      expect((await driven.collect(1)).map(({ result }) => errnoName(result))).toEqual(['EPIPE'])
    })
  })
})
