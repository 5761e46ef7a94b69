// Links between brokers of a test: whole, cut one way or both, slow, and what is held meanwhile.
import { connect, createServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { type Environment, type Network, NetworkError, type Stream } from '#src/environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { freePorts } from '#src/io/free-ports.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { LinkProxy } from '#src/testing/link-proxy.js'
import { Links } from '#src/testing/links.js'
import { Recorder } from '../contract/network-contract.js'

const logger = createConsoleLogger({ level: 'silent', format: 'text' })
const closing: (() => Promise<void> | void)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 5000
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`never became true: ${what}`)
    await sleep(2)
  }
}

/** One end of a connection on node:net, with what it has received. */
class End {
  received = ''
  ended = false
  closed: 'in order' | 'by a reset' | null = null

  constructor(readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => {
      this.received += chunk.toString('latin1')
    })
    socket.on('end', () => {
      this.ended = true
    })
    let error = false
    socket.on('error', () => {
      error = true
    })
    socket.on('close', () => {
      this.closed = error ? 'by a reset' : 'in order'
    })
    closing.push(() => void socket.destroy())
  }
}

async function connectThrough(): Promise<{ proxy: LinkProxy; dialer: End; acceptor: End }> {
  const acceptors: End[] = []
  const server: Server = createServer({ noDelay: true }, (socket) => acceptors.push(new End(socket)))
  await new Promise<void>((resolve) => server.listen({ host: '127.0.0.1', port: 0 }, resolve))
  closing.push(() => void server.close())
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no address')
  const proxy = await LinkProxy.open({ host: '127.0.0.1', port: address.port })
  closing.push(() => proxy.close())
  const dialer = new End(connect({ host: '127.0.0.1', port: proxy.port, noDelay: true }))
  await until('it is accepted', () => acceptors.length === 1)
  return { proxy, dialer, acceptor: acceptors[0]! }
}

describe('a proxy of a link', () => {
  it('carries bytes and ends both ways', async () => {
    const { dialer, acceptor } = await connectThrough()
    const text = 'x'.repeat(3_000_000)
    dialer.socket.write(`${text}!`)
    acceptor.socket.write('pong')
    await until('both have it', () => acceptor.received.length === 3_000_001 && dialer.received === 'pong')
    dialer.socket.end()
    await until('the end arrives', () => acceptor.ended && dialer.closed !== null)
    expect([dialer.closed, acceptor.closed]).toEqual(['in order', 'in order'])
  })

  it('carries a reset as one', async () => {
    const { dialer, acceptor } = await connectThrough()
    dialer.socket.resetAndDestroy()
    await until('it arrives', () => acceptor.closed !== null)
    expect(acceptor.closed).toBe('by a reset')
  })

  it('holds one direction while it is cut, and the other goes on', async () => {
    const { proxy, dialer, acceptor } = await connectThrough()
    proxy.set({ cutsForward: true })
    expect(proxy.isCut).toBe(true)
    dialer.socket.write('held')
    acceptor.socket.write('heard')
    await until('the other goes on', () => dialer.received === 'heard')
    await sleep(50)
    expect(acceptor.received).toBe('')
    proxy.set({ cutsForward: false })
    await until('it goes on', () => acceptor.received === 'held')
  })

  it('lets neither an end nor a reset through a cut', async () => {
    for (const leave of ['end', 'resetAndDestroy'] as const) {
      const { proxy, dialer, acceptor } = await connectThrough()
      proxy.set({ cutsForward: true, cutsBackward: true })
      dialer.socket[leave]()
      await sleep(50)
      expect(acceptor).toMatchObject({ ended: false, closed: null })
      proxy.set({ cutsForward: false, cutsBackward: false })
      // A kernel that was told nothing learns of it by its next bytes.
      acceptor.socket.write('there?')
      await until('it is told', () => acceptor.closed !== null)
    }
  })

  it('is slow when it is told to, and keeps the order', async () => {
    const { proxy, dialer, acceptor } = await connectThrough()
    proxy.set({ latencyMs: 60 })
    const beganMs = performance.now()
    dialer.socket.write('a')
    await sleep(5)
    proxy.set({ latencyMs: 0 })
    dialer.socket.write('b')
    await until('both arrive', () => acceptor.received.length === 2)
    expect(performance.now() - beganMs).toBeGreaterThanOrEqual(58)
    expect(acceptor.received).toBe('ab')
  })

  it('resets what is connected when it closes, and listens no more', async () => {
    const { proxy, dialer, acceptor } = await connectThrough()
    await proxy.close()
    await until('both are told', () => dialer.closed !== null && acceptor.closed !== null)
    const late = new End(connect({ host: '127.0.0.1', port: proxy.port }))
    await until('it is refused', () => late.closed === 'by a reset')
  })
})

describe('links between brokers', () => {
  interface Peer {
    readonly network: Network
    readonly accepted: { stream: Stream; handler: Recorder }[]
  }

  /** Two brokers' networks, each listening where the members say. */
  async function pair(): Promise<{ links: Links; one: Peer; two: Peer; port: number; running: Set<number> }> {
    const [first = 0, second = 0] = await freePorts('127.0.0.1', 2)
    const members = [
      { nodeId: 1, host: '127.0.0.1', port: first },
      { nodeId: 2, host: '127.0.0.1', port: second },
    ]
    const links = new Links(members)
    closing.push(() => links.close())
    const running = new Set([1, 2])
    const peers = []
    for (const { nodeId, host, port } of members) {
      const environment: Environment = createPortableEnvironment({ memoryBytes: 64 * 1024 * 1024, logger })
      closing.push(() => environment.close())
      const network = links.networkOf(nodeId, environment.network, (other) => running.has(other))
      const accepted: Peer['accepted'] = []
      await network.listen({ host, port }, (stream) => {
        const handler = new Recorder()
        accepted.push({ stream, handler })
        return handler
      })
      peers.push({ network, accepted })
    }
    return { links, one: peers[0]!, two: peers[1]!, port: second, running }
  }

  async function dial(from: Peer, port: number, timeoutMs = 2000) {
    const opened: { stream: Stream; handler: Recorder }[] = []
    await from.network.dial({ host: '127.0.0.1', port, timeoutMs }, (stream) => {
      const handler = new Recorder()
      opened.push({ stream, handler })
      return handler
    })
    return opened[0]!
  }

  it('are cut one way, and what was sent meanwhile arrives when they heal', async () => {
    const { links, one, two, port } = await pair()
    const dialed = await dial(one, port)
    await until('it is accepted', () => two.accepted.length === 1)
    await links.cut(1, 2)
    dialed.stream.write(new Uint8Array(10))
    two.accepted[0]!.stream.write(new Uint8Array(20))
    await until('the other way goes on', () => dialed.handler.receivedBytes === 20)
    await sleep(30)
    expect(two.accepted[0]!.handler.receivedBytes).toBe(0)
    await links.heal()
    await until('it arrives', () => two.accepted[0]!.handler.receivedBytes === 10)
  })

  it('give no answer to a dial while either way is cut', async () => {
    const { links, one, port } = await pair()
    await links.cut(2, 1)
    const error = await dial(one, port, 60).then(
      () => null,
      (cause: unknown) => cause,
    )
    expect(error).toBeInstanceOf(NetworkError)
    expect(error).toMatchObject({ code: 'TIMED_OUT' })
    const waiting = dial(one, port, 2000)
    await sleep(20)
    await links.heal()
    const { handler } = await waiting
    expect(handler.closed).toBeNull()
  })

  it('refuse a dial to a broker that is gone', async () => {
    const { one, running } = await pair()
    const [port = 0] = await freePorts('127.0.0.1', 1)
    running.delete(2)
    await expect(dial(one, port)).rejects.toMatchObject({ code: 'REFUSED' })
  })
})
