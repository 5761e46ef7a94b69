// The address at which a broker is reached by others. Who comes tells it in its first frame, so that the link between any
// two brokers can be cut by itself, whichever way they have learnt of each other.
import { createServer, type Server, type Socket } from 'node:net'
import { FrameDecoder, MAX_FRAME_BYTES_BEFORE_HELLO, ProtocolError, peerHello, Reader } from '@millrace/protocol'
import { Link } from '#src/testing/link-proxy.js'

const HOST = '127.0.0.1'
/** Clients, and brokers that are not nodes yet. */
const NO_NODE = 0

export class BrokerDoor {
  private readonly links = new Map<number, Link>()
  private readonly greeting = new Set<Socket>()

  private constructor(
    private readonly server: Server,
    private readonly behind: { readonly host: string; readonly port: number },
    readonly port: number,
  ) {
    server.on('connection', (socket) => this.greet(socket))
  }

  /** In front of the broker that listens at `port`. */
  static async open(port: number): Promise<BrokerDoor> {
    const server = createServer({ noDelay: true, allowHalfOpen: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: HOST, port: 0 }, () => resolve())
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a listener on TCP has no port')
    return new BrokerDoor(server, { host: HOST, port }, address.port)
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
    for (const socket of this.greeting) socket.destroy()
    for (const link of this.links.values()) link.reset()
    await new Promise<void>((resolve) => this.server.close(() => resolve()))
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
