// Contract of Network, Listener and Stream.
import { describe, expect, it } from 'vitest'
import { type Block, type Listener, NetworkError, type Stream, type StreamHandler } from '#src/environment.js'
import type { ContractSideFactory, DialedPeer } from './contract-side.js'
import { concatenate, eventually, mustAllocate, pattern, sameBytes, sleep, useSide } from './fixture.js'

const MIB = 1024 * 1024

/** A handler that notes what it is told and checks the order of it. */
export class Recorder implements StreamHandler {
  readonly chunks: Uint8Array[] = []
  receivedBytes = 0
  filled = 0
  closed: { error: Error | null } | null = null

  onBytes(chunk: Uint8Array): void {
    expect(this.closed).toBeNull()
    expect(chunk.byteLength).toBeGreaterThan(0)
    this.chunks.push(chunk.slice())
    this.receivedBytes += chunk.byteLength
  }

  onFilled(): void {
    expect(this.closed).toBeNull()
    this.filled++
  }

  onClosed(error: Error | null): void {
    expect(this.closed).toBeNull()
    this.closed = { error }
  }
}

class PeerRecorder {
  readonly chunks: Uint8Array[] = []
  receivedBytes = 0
  constructor(peer: DialedPeer) {
    peer.onBytes((chunk) => {
      this.chunks.push(chunk)
      this.receivedBytes += chunk.byteLength
    })
  }
  bytes(): Uint8Array {
    return concatenate(this.chunks)
  }
}

export function describeNetworkContract(factory: ContractSideFactory): void {
  describe('network', () => {
    const side = useSide(factory)

    /** Listens and connects one peer; `prepare` sees the stream before any byte arrives. */
    async function connectOne<H extends StreamHandler>(
      prepare: (stream: Stream) => H,
    ): Promise<{ listener: Listener; stream: Stream; handler: H; peer: DialedPeer }> {
      const accepted: { stream: Stream; handler: H }[] = []
      const listener = await side().environment.network.listen({ host: side().host, port: 0 }, (stream) => {
        const handler = prepare(stream)
        accepted.push({ stream, handler })
        return handler
      })
      const peer = await side().dial(listener.port)
      await eventually(side().environment, 'the connection is accepted', () => accepted.length === 1)
      return { listener, peer, ...accepted[0]! }
    }

    const until = (what: string, holds: () => boolean) => eventually(side().environment, what, holds)

    it('listens on a free port, refuses one in use and an address that is not here', async () => {
      const { network } = side().environment
      const listener = await network.listen({ host: side().host, port: 0 }, () => new Recorder())
      expect(listener.port).toBeGreaterThan(0)
      expect(listener.host).toBe(side().host)
      const codeOf = (host: string, port: number) =>
        network
          .listen({ host, port }, () => new Recorder())
          .then(
            () => 'listening',
            (cause: unknown) => (cause instanceof NetworkError ? cause.code : cause),
          )
      expect(await codeOf(side().host, listener.port)).toBe('ADDRESS_IN_USE')
      expect(await codeOf('203.0.113.77', 0)).toBe('BAD_ADDRESS')
      await listener.close()
      await listener.close()
    })

    it('stops accepting when the listener closes, and keeps what is connected', async () => {
      const { listener, peer, handler, stream } = await connectOne(() => new Recorder())
      await listener.close()
      await expect(side().dial(listener.port)).rejects.toThrow()
      const received = new PeerRecorder(peer)
      peer.write(pattern(1000, 1))
      await until('bytes arrive', () => handler.receivedBytes === 1000)
      stream.write(pattern(500, 2))
      await until('the reply arrives', () => received.receivedBytes === 500)
      const again = await side().environment.network.listen(
        { host: side().host, port: listener.port },
        () => new Recorder(),
      )
      expect(again.port).toBe(listener.port)
    })

    it('tells who the peer is', async () => {
      const { stream } = await connectOne(() => new Recorder())
      expect(stream.peer).toMatch(/.+:\d+/)
    })

    it('echoes any size in order', async () => {
      const { peer } = await connectOne((stream) => {
        const recorder = new Recorder()
        const handler: StreamHandler = {
          onBytes(chunk) {
            recorder.onBytes(chunk)
            stream.write(chunk)
          },
          onFilled: () => recorder.onFilled(),
          onClosed: (error) => recorder.onClosed(error),
        }
        return handler
      })
      const received = new PeerRecorder(peer)
      const sent: Uint8Array[] = []
      let total = 0
      for (const [i, size] of [1, 2, 15, 16, 100, 4095, 4096, 65_535, 65_536, 70_001, MIB + 7, 3 * MIB].entries()) {
        sent.push(pattern(size, i))
        total += size
        peer.write(sent[i]!)
        if (i % 3 === 0) await until('the echo arrives', () => received.receivedBytes === total)
      }
      await until('all of it comes back', () => received.receivedBytes === total)
      expect(sameBytes(received.bytes(), concatenate(sent))).toBe(true)
    })

    it('sends a copy with write, and the block itself in order with it', async () => {
      const { peer, stream } = await connectOne(() => new Recorder())
      const received = new PeerRecorder(peer)
      const expected: Uint8Array[] = []
      const releases: number[] = []
      const blocks: Block[] = []
      for (let i = 0; i < 50; i++) {
        const small = pattern(30 + i, i)
        expected.push(small.slice())
        stream.write(small)
        small.fill(0)
        const block = mustAllocate(side().environment, 65_536)
        block.bytes.set(pattern(65_536, 1000 + i))
        blocks.push(block)
        expected.push(block.bytes.slice(i * 3, i * 3 + 40_000 + i))
        stream.writeBlock(block, i * 3, 40_000 + i, () => releases.push(i))
      }
      const total = expected.reduce((sum, bytes) => sum + bytes.byteLength, 0)
      await until('all arrives', () => received.receivedBytes === total)
      expect(sameBytes(received.bytes(), concatenate(expected))).toBe(true)
      await until('all are released', () => releases.length === 50)
      await sleep(side().environment, 10)
      expect(releases).toEqual(Array.from({ length: 50 }, (_, i) => i))
      expect(stream.unsentBytes).toBe(0)
      for (const block of blocks) side().environment.memory.release(block)
    })

    it('runs the same release function once for each write', async () => {
      const { peer, stream } = await connectOne(() => new Recorder())
      const received = new PeerRecorder(peer)
      const block = mustAllocate(side().environment, 4096)
      block.bytes.fill(1)
      let released = 0
      const release = () => released++
      for (let i = 0; i < 10; i++) stream.writeBlock(block, 0, 1000, release)
      await until('all are released', () => released === 10)
      await until('all arrives', () => received.receivedBytes === 10_000)
      side().environment.memory.release(block)
    })

    it('receives runs straight into blocks, whatever chunks they arrive in', async () => {
      const sizes = [1, 5, 4096, 100_000, 65_536, 3, 300_000, 17, 4095, 1_000_000, 2, 2, 2, 60_000]
      const { peer, handler } = await connectOne(
        (stream) => new FramedReceiver(stream, side().environment.memory.allocate.bind(side().environment.memory)),
      )
      const wire = concatenate(
        sizes.flatMap((size, i) => {
          const header = new Uint8Array(4)
          new DataView(header.buffer).setUint32(0, size, true)
          return [header, pattern(size, i)]
        }),
      )
      for (let at = 0, step = 1; at < wire.byteLength; step = (step * 7 + 3) % 90_001) {
        peer.write(wire.slice(at, at + step))
        at += step
        if (step % 4 === 0) await sleep(side().environment, 1)
      }
      await until('every frame is received', () => handler.frames.length === sizes.length)
      for (const [i, block] of handler.frames.entries()) {
        expect(sameBytes(block.bytes.subarray(0, sizes[i]!), pattern(sizes[i]!, i))).toBe(true)
        side().environment.memory.release(block)
      }
    })

    it('counts what the kernel has not taken, and is relieved when the peer reads', async () => {
      const { peer, stream } = await connectOne(() => new Recorder())
      peer.pause()
      const received = new PeerRecorder(peer)
      peer.pause()
      const block = mustAllocate(side().environment, MIB)
      block.bytes.set(pattern(MIB, 3))
      let released = 0
      for (let i = 0; i < 32; i++) stream.writeBlock(block, 0, MIB, () => released++)
      expect(stream.unsentBytes).toBeGreaterThan(0)
      await sleep(side().environment, 50)
      expect(stream.unsentBytes).toBeGreaterThan(MIB)
      expect(released).toBeLessThan(32)
      peer.resume()
      await until('all arrives', () => received.receivedBytes === 32 * MIB)
      await until('nothing is unsent', () => stream.unsentBytes === 0 && released === 32)
      side().environment.memory.release(block)
    })

    it('holds the peer back while it is paused', async () => {
      const { peer, handler } = await connectOne((stream) => {
        const recorder = new Recorder()
        let paused = false
        return {
          recorder,
          stream,
          onBytes(chunk: Uint8Array) {
            recorder.onBytes(chunk)
            if (!paused) stream.pause()
            paused = true
          },
          onFilled: () => recorder.onFilled(),
          onClosed: (error: Error | null) => recorder.onClosed(error),
        }
      })
      const sent = pattern(MIB, 4)
      for (let i = 0; i < 24; i++) peer.write(sent)
      await until('delivery has begun', () => handler.recorder.receivedBytes > 0)
      await sleep(side().environment, 50)
      expect(handler.recorder.receivedBytes).toBeLessThan(4 * MIB)
      handler.stream.resume()
      await until('the rest arrives', () => handler.recorder.receivedBytes === 24 * MIB)
    })

    it('sends what is queued before it ends', async () => {
      const { peer, stream, handler } = await connectOne(() => new Recorder())
      const received = new PeerRecorder(peer)
      const block = mustAllocate(side().environment, MIB)
      block.bytes.set(pattern(MIB, 5))
      let released = 0
      stream.writeBlock(block, 0, MIB, () => released++)
      stream.write(pattern(10, 6))
      stream.end()
      stream.write(pattern(10, 7))
      stream.writeBlock(block, 0, 100, () => released++)
      await peer.closed
      expect(received.receivedBytes).toBe(MIB + 10)
      await until('the handler is told', () => handler.closed !== null)
      expect(handler.closed?.error).toBeNull()
      await until('both are released', () => released === 2)
      side().environment.memory.release(block)
    })

    it('delivers nothing after end, even if the peer keeps sending', async () => {
      const { peer, stream, handler } = await connectOne(() => new Recorder())
      peer.write(pattern(10, 1))
      const received = new PeerRecorder(peer)
      await until('bytes arrive', () => handler.receivedBytes === 10)
      stream.write(pattern(20, 2))
      stream.end()
      peer.write(pattern(5000, 3))
      await peer.closed
      await until('the handler is told', () => handler.closed !== null)
      expect(handler.receivedBytes).toBe(10)
      expect(received.receivedBytes).toBe(20)
    })

    it('closes at once on destroy, and releases what was queued before it says so', async () => {
      const order: string[] = []
      const { peer, stream, handler } = await connectOne(() => {
        const recorder = new Recorder()
        const close = recorder.onClosed.bind(recorder)
        recorder.onClosed = (error) => {
          order.push('closed')
          close(error)
        }
        return recorder
      })
      peer.pause()
      const block = mustAllocate(side().environment, MIB)
      block.bytes.fill(9)
      for (let i = 0; i < 24; i++) stream.writeBlock(block, 0, MIB, () => order.push('released'))
      await sleep(side().environment, 20)
      stream.destroy()
      stream.destroy()
      await until('the handler is told', () => handler.closed !== null)
      expect(order.filter((entry) => entry === 'released')).toHaveLength(24)
      expect(order.at(-1)).toBe('closed')
      expect(handler.closed?.error).toBeNull()
      side().environment.memory.release(block)
      peer.resume()
      await peer.closed
    })

    it('ignores calls after it has closed, but still releases', async () => {
      const { peer, stream, handler } = await connectOne(() => new Recorder())
      peer.end()
      await until('the handler is told', () => handler.closed !== null)
      const block = mustAllocate(side().environment, 4096)
      let released = 0
      stream.write(pattern(10, 1))
      stream.writeBlock(block, 0, 100, () => released++)
      stream.pause()
      stream.resume()
      stream.end()
      stream.destroy()
      await until('the block is released', () => released === 1)
      expect(stream.unsentBytes).toBe(0)
      side().environment.memory.release(block)
    })

    it('releases once when the peer vanishes in the middle', async () => {
      const { peer, stream, handler } = await connectOne(() => new Recorder())
      peer.pause()
      const block = mustAllocate(side().environment, MIB)
      block.bytes.fill(9)
      let released = 0
      for (let i = 0; i < 24; i++) stream.writeBlock(block, 0, MIB, () => released++)
      await sleep(side().environment, 20)
      peer.reset()
      await until('the handler is told', () => handler.closed !== null)
      expect(released).toBe(24)
      expect(handler.closed?.error).toBeInstanceOf(NetworkError)
      await sleep(side().environment, 20)
      expect(released).toBe(24)
      side().environment.memory.release(block)
    })

    it('delivers what a peer sent before it left in the middle of a frame', async () => {
      const { peer, handler } = await connectOne(() => new Recorder())
      peer.write(pattern(777, 1))
      peer.end()
      await until('the handler is told', () => handler.closed !== null)
      expect(handler.closed?.error).toBeNull()
      expect(sameBytes(concatenate(handler.chunks), pattern(777, 1))).toBe(true)
    })

    it('never calls a run filled that was cut short', async () => {
      const block = mustAllocate(side().environment, 8192)
      const { peer, handler } = await connectOne((stream) => {
        stream.receiveInto(block, 0, 8000)
        return new Recorder()
      })
      peer.write(pattern(7999, 1))
      peer.end()
      await until('the handler is told', () => handler.closed !== null)
      expect(handler.filled).toBe(0)
      expect(handler.receivedBytes).toBe(0)
      side().environment.memory.release(block)
    })

    it('tells a reset from an orderly end', async () => {
      const { peer, handler } = await connectOne(() => new Recorder())
      peer.write(pattern(10, 1))
      await until('bytes arrive', () => handler.receivedBytes === 10)
      peer.reset()
      await until('the handler is told', () => handler.closed !== null)
      expect(handler.closed?.error).toMatchObject({ name: 'NetworkError', code: 'RESET' })
    })

    it('serves 64 connections at once', async () => {
      const handlers: Recorder[] = []
      const listener = await side().environment.network.listen({ host: side().host, port: 0 }, (stream) => {
        const recorder = new Recorder()
        handlers.push(recorder)
        return {
          onBytes(chunk) {
            recorder.onBytes(chunk)
            stream.write(chunk)
          },
          onFilled: () => recorder.onFilled(),
          onClosed: (error) => recorder.onClosed(error),
        }
      })
      const peers = await Promise.all(Array.from({ length: 64 }, () => side().dial(listener.port)))
      const received = peers.map((peer) => new PeerRecorder(peer))
      for (let round = 0; round < 5; round++) {
        for (const [i, peer] of peers.entries()) peer.write(pattern(5000 + i, i * 10 + round))
      }
      await until('every echo is back', () =>
        received.every(({ receivedBytes }, i) => receivedBytes === 5 * (5000 + i)),
      )
      for (const [i, recorder] of received.entries()) {
        const expected = concatenate([0, 1, 2, 3, 4].map((round) => pattern(5000 + i, i * 10 + round)))
        expect(sameBytes(recorder.bytes(), expected)).toBe(true)
      }
      for (const [i, peer] of peers.entries()) i % 2 === 0 ? peer.end() : peer.reset()
      await until(
        'every handler is told',
        () => handlers.length === 64 && handlers.every(({ closed }) => closed !== null),
      )
    })

    it('ends what is still connected when the environment closes', async () => {
      const { peer, handler } = await connectOne(() => new Recorder())
      const received = new PeerRecorder(peer)
      peer.write(pattern(10, 1))
      await until('bytes arrive', () => handler.receivedBytes === 10)
      await side().environment.close()
      expect(handler.closed).not.toBeNull()
      await peer.closed
      expect(received.receivedBytes).toBe(0)
    })
  })
}

/** Frames of a length and as many bytes: the header through `onBytes`, the rest into a block. */
class FramedReceiver implements StreamHandler {
  readonly frames: Block[] = []
  private readonly header = new Uint8Array(4)
  private headerBytes = 0
  private body: Block | null = null

  constructor(
    private readonly stream: Stream,
    private readonly allocate: (byteLength: number) => Block | null,
  ) {}

  onBytes(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength) {
      const count = Math.min(4 - this.headerBytes, chunk.byteLength - at)
      this.header.set(chunk.subarray(at, at + count), this.headerBytes)
      this.headerBytes += count
      at += count
      if (this.headerBytes < 4) return
      this.headerBytes = 0
      const length = new DataView(this.header.buffer).getUint32(0, true)
      const block = this.allocate(length)
      if (block === null) throw new Error('no memory for a frame')
      const here = Math.min(length, chunk.byteLength - at)
      block.bytes.set(chunk.subarray(at, at + here))
      at += here
      if (here === length) this.frames.push(block)
      else {
        this.body = block
        this.stream.receiveInto(block, here, length - here)
        expect(at).toBe(chunk.byteLength)
      }
    }
  }

  onFilled(): void {
    expect(this.body).not.toBeNull()
    this.frames.push(this.body!)
    this.body = null
  }

  onClosed(): void {}
}
