// The address at which a broker is reached by others, by streams and by datagrams. Who comes by a stream tells it in its first
// frame, and datagrams come from where a broker listens: so the link between any two can be cut by itself.
import { createSocket, type Socket as DatagramSocket, type RemoteInfo } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import { FrameDecoder, MAX_FRAME_BYTES_BEFORE_HELLO, ProtocolError, peerHello, Reader } from '@millrace/protocol'
import { Link } from '#src/testing/link-proxy.js'

const HOST = '127.0.0.1'
/** Clients, and brokers that are not nodes yet. */
const NO_NODE = 0
const PORT_ATTEMPTS = 10

/** Whose broker listens at a port; undefined for nobody's. */
export type NeighbourAt = (port: number) => { readonly nodeId: number; readonly door: BrokerDoor | null } | undefined

export class BrokerDoor {
  private readonly links = new Map<number, Link>()
  private readonly greeting = new Set<Socket>()
  private isClosed = false

  private constructor(
    private readonly server: Server,
    private readonly datagrams: DatagramSocket,
    private readonly behind: { readonly host: string; readonly port: number },
    private readonly neighbourAt: NeighbourAt,
    readonly port: number,
  ) {
    server.on('connection', (socket) => this.greet(socket))
    datagrams.on('message', (bytes, source) => this.forward(bytes, source))
    // A broker that does not listen is told of by its end.
    datagrams.on('error', () => undefined)
  }

  /** In front of the broker that listens at `port`. */
  static async open(port: number, neighbourAt: NeighbourAt): Promise<BrokerDoor> {
    for (let attempt = 1; ; attempt++) {
      const server = createServer({ noDelay: true, allowHalfOpen: true })
      const datagrams = createSocket('udp4')
      try {
        await new Promise<void>((resolve, reject) => {
          server.once('error', reject)
          server.listen({ host: HOST, port: 0 }, () => resolve())
        })
        const address = server.address()
        if (address === null || typeof address === 'string') throw new Error('a listener on TCP has no port')
        // The same number may be taken for datagrams.
        await new Promise<void>((resolve, reject) => {
          datagrams.once('error', reject)
          datagrams.bind({ address: HOST, port: address.port }, () => resolve())
        })
        return new BrokerDoor(server, datagrams, { host: HOST, port }, neighbourAt, address.port)
      } catch (error) {
        server.close()
        if (attempt === PORT_ATTEMPTS) throw error
      }
    }
  }

  /** What the node `from` has dialled. */
  linkFrom(from: number): Link {
    let link = this.links.get(from)
    if (link === undefined) {
      link = new Link(this.behind)
      this.links.set(from, link)
    }
    return link
  }

  heal(): void {
    for (const link of this.links.values()) link.set({ cutsForward: false, cutsBackward: false, latencyMs: 0 })
  }

  async close(): Promise<void> {
    this.isClosed = true
    for (const socket of this.greeting) socket.destroy()
    for (const link of this.links.values()) link.reset()
    await new Promise<void>((resolve) => this.datagrams.close(() => resolve()))
    await new Promise<void>((resolve) => this.server.close(() => resolve()))
  }

  /** The broker sees it come from the door of who has sent it, which is where it knows that one to be. */
  private forward(bytes: Buffer, source: RemoteInfo): void {
    const sender = this.neighbourAt(source.port)
    if (sender === undefined || sender.door === null) return
    const { door, nodeId } = sender
    const { cutsForward, latencyMs } = this.linkFrom(nodeId).current
    if (cutsForward) return
    const send = (): void => {
      if (!door.isClosed) door.datagrams.send(bytes, this.behind.port, this.behind.host, () => undefined)
    }
    if (latencyMs > 0) setTimeout(send, latencyMs)
    else send()
  }

  private greet(socket: Socket): void {
    const chunks: Buffer[] = []
    let from: number | null = null
    const decoder = new FrameDecoder(MAX_FRAME_BYTES_BEFORE_HELLO, ({ kind }, payload) => {
      from ??= kind === peerHello.kind ? peerHello.decode(new Reader(payload)).nodeId : NO_NODE
    })
    const leave = (): void => {
      this.greeting.delete(socket)
      socket.destroy()
    }
    const take = (chunk: Buffer): void => {
      chunks.push(chunk)
      try {
        decoder.push(chunk)
      } catch (error) {
        // The broker itself says what is wrong with it.
        if (!(error instanceof ProtocolError)) throw error
        from ??= NO_NODE
      }
      if (from === null) return
      this.greeting.delete(socket)
      socket.pause()
      socket.off('data', take).off('end', leave).off('error', leave)
      socket.unshift(Buffer.concat(chunks))
      this.linkFrom(from).carry(socket)
    }
    this.greeting.add(socket)
    socket.on('data', take).on('end', leave).on('error', leave)
  }
}
