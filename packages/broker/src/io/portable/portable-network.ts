// TCP listeners of the portable environment on node:net.
import { createServer, type Server } from 'node:net'
import {
  type Listener,
  type ListenOptions,
  type Logger,
  type Network,
  NetworkError,
  type Stream,
  type StreamHandler,
} from '../../environment.js'
import { networkErrorFrom } from './network-errors.js'
import { PortableStream } from './portable-stream.js'
import type { Turn } from './turn.js'

export class PortableNetwork implements Network {
  private readonly servers = new Set<Server>()
  private readonly streams = new Set<PortableStream>()

  constructor(
    private readonly turn: Turn,
    private readonly logger: Logger,
  ) {}

  async listen(options: ListenOptions, accept: (stream: Stream) => StreamHandler): Promise<Listener> {
    const server = createServer({ noDelay: true }, (socket) => {
      const stream = new PortableStream(socket, this.turn, () => this.streams.delete(stream))
      this.streams.add(stream)
      stream.begin(accept(stream))
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

  /** Destroys what is still connected; resolves when every stream has told its handler. */
  async close(): Promise<void> {
    for (const server of this.servers) this.stopListening(server)
    await Promise.all([...this.streams].map((stream) => stream.destroyAndWait()))
  }

  /** Node's own callback of `close` waits for every connection; listening stops at once. */
  private stopListening(server: Server): void {
    if (!this.servers.delete(server)) return
    server.close()
  }
}
