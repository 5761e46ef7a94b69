// TCP listeners and dials of the portable environment on node:net.
import { connect, createServer, type Server, type Socket } from 'node:net'
import {
  type DatagramHandler,
  type DatagramSocket,
  type DialOptions,
  type Listener,
  type ListenOptions,
  type Logger,
  type Network,
  NetworkError,
  type Stream,
  type StreamHandler,
} from '../../environment.js'
import { NodeDatagrams } from '../node-datagrams.js'
import { dialAbandoned, dialErrorFrom, dialTimedOut, networkErrorFrom } from './network-errors.js'
import { PortableStream } from './portable-stream.js'
import type { Turn } from './turn.js'

export class PortableNetwork implements Network {
  private readonly servers = new Set<Server>()
  private readonly streams = new Set<PortableStream>()
  private readonly dialling = new Set<{ readonly socket: Socket; readonly address: string }>()
  private readonly sockets: NodeDatagrams
  private closed = false

  constructor(
    private readonly turn: Turn,
    private readonly logger: Logger,
  ) {
    this.sockets = new NodeDatagrams(logger)
  }

  datagrams(options: ListenOptions, receive: DatagramHandler): Promise<DatagramSocket> {
    return this.sockets.open(options, receive)
  }

  async listen(options: ListenOptions, accept: (stream: Stream) => StreamHandler): Promise<Listener> {
    const server = createServer({ noDelay: true }, (socket) => {
      this.connected(socket, accept)
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      try {
        server.listen({ host: options.host, port: options.port }, resolve)
      } catch (cause) {
        reject(cause)
      }
    }).catch((cause: unknown) => {
      throw networkErrorFrom(cause, `listening on ${options.host}:${options.port}`)
    })
    server.removeAllListeners('error')
    server.on('error', (cause) => this.logger.error({ cause, host: options.host }, 'the listener failed'))
    const address = server.address()
    if (address === null || typeof address === 'string') throw new NetworkError('OTHER', 'the listener has no address')
    this.servers.add(server)
    return {
      host: options.host,
      port: address.port,
      close: async () => this.stopListening(server),
    }
  }

  async dial(options: DialOptions, open: (stream: Stream) => StreamHandler): Promise<void> {
    const { host, port, timeoutMs } = options
    const address = `${host}:${port}`
    if (this.closed) throw dialAbandoned(address)
    try {
      const dial = { socket: connect({ host, port, noDelay: true }), address }
      this.dialling.add(dial)
      const { socket } = dial
      const limit = setTimeout(() => socket.destroy(dialTimedOut(address, timeoutMs)), timeoutMs)
      try {
        await new Promise<void>((resolve, reject) => {
          socket.once('error', reject)
          socket.once('connect', () => {
            socket.off('error', reject)
            this.connected(socket, open)
            resolve()
          })
        })
      } finally {
        clearTimeout(limit)
        this.dialling.delete(dial)
      }
    } catch (cause) {
      throw dialErrorFrom(cause, address)
    }
  }

  /** Destroys what is still connected; resolves when every stream has told its handler. */
  async close(): Promise<void> {
    this.closed = true
    for (const { socket, address } of this.dialling) socket.destroy(dialAbandoned(address))
    for (const server of this.servers) this.stopListening(server)
    await this.sockets.close()
    await Promise.all([...this.streams].map((stream) => stream.destroyAndWait()))
  }

  private connected(socket: Socket, open: (stream: Stream) => StreamHandler): void {
    const stream = new PortableStream(socket, this.turn, () => this.streams.delete(stream))
    this.streams.add(stream)
    stream.begin(open(stream))
  }

  /** Node's own callback of `close` waits for every connection; listening stops at once. */
  private stopListening(server: Server): void {
    if (!this.servers.delete(server)) return
    server.close()
  }
}
