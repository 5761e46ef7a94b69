// TCP on the ring: listeners, one multishot accept each, and dials; completions become streams.
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { CQE_MORE, closeDescriptor, errnoName, listenOn } from '@millrace/native'
import type {
  DatagramHandler,
  DatagramSocket,
  DialOptions,
  Listener,
  ListenOptions,
  Logger,
  Network,
  Stream,
  StreamHandler,
} from '../../environment.js'
import { NodeDatagrams } from '../node-datagrams.js'
import { networkErrorFrom } from '../portable/network-errors.js'
import { RingDialer } from './ring-dialer.js'
import type { OperationTarget, RingLoop } from './ring-loop.js'
import { RingStream, type StreamContext } from './ring-stream.js'

const BACKLOG = 511
const ACCEPT_AGAIN_MS = 100
const ECANCELED = -125
/** One connection failed before it was accepted; the next may be fine. */
const PASSING = new Set(['ECONNABORTED', 'EINTR', 'EAGAIN', 'EPROTO'])

/** Called with each new stream, accepted or dialled; answers with the handler of its events. */
type Open = (stream: Stream) => StreamHandler

export class RingNetwork implements Network {
  private readonly listeners = new Set<RingListener>()
  private readonly streams = new Set<RingStream>()
  private readonly dialer: RingDialer
  private readonly sockets: NodeDatagrams
  private whenEmpty: (() => void) | null = null

  constructor(
    private readonly context: StreamContext,
    private readonly logger: Logger,
  ) {
    this.dialer = new RingDialer(context.loop, context.buffers)
    this.sockets = new NodeDatagrams(logger)
  }

  datagrams(options: ListenOptions, receive: DatagramHandler): Promise<DatagramSocket> {
    return this.sockets.open(options, receive)
  }

  async listen(options: ListenOptions, accept: Open): Promise<Listener> {
    try {
      const address = isIP(options.host) === 0 ? (await lookup(options.host)).address : options.host
      this.context.loop.assertOpen()
      const { descriptor, port } = listenOn(address, options.port, BACKLOG)
      const listener = new RingListener(this.context.loop, this.logger, descriptor, options.host, port, {
        accepted: (accepted) => this.connected(accepted, accept),
        closed: () => this.listeners.delete(listener),
      })
      this.listeners.add(listener)
      return listener
    } catch (cause) {
      throw networkErrorFrom(cause, `listening on ${options.host}:${options.port}`)
    }
  }

  dial(options: DialOptions, open: Open): Promise<void> {
    return this.dialer.dial(options, (descriptor) => this.connected(descriptor, open))
  }

  /** Destroys what is still connected; resolves when every stream has told its handler. */
  async close(): Promise<void> {
    await Promise.all([this.dialer.close(), this.sockets.close()])
    await Promise.all([...this.listeners].map((listener) => listener.close()))
    for (const stream of this.streams) stream.destroy()
    if (this.streams.size === 0) return
    await new Promise<void>((resolve) => {
      this.whenEmpty = resolve
    })
  }

  private connected(descriptor: number, open: Open): void {
    const stream = new RingStream(descriptor, this.context, (forgotten) => {
      this.streams.delete(forgotten)
      // After the handler has been told, which comes next.
      if (this.streams.size === 0 && this.whenEmpty !== null) queueMicrotask(this.whenEmpty)
    })
    this.streams.add(stream)
    stream.begin(open(stream))
  }
}

interface ListenerEvents {
  accepted(descriptor: number): void
  closed(): void
}

class RingListener implements Listener, OperationTarget {
  private slot = 0
  private generation = 0
  private armed = false
  private whenClosed: Promise<void> | null = null
  private onFinal: (() => void) | null = null

  constructor(
    private readonly loop: RingLoop,
    private readonly logger: Logger,
    private readonly descriptor: number,
    readonly host: string,
    readonly port: number,
    private readonly events: ListenerEvents,
  ) {
    this.arm()
  }

  close(): Promise<void> {
    this.whenClosed ??= this.closeOnce()
    return this.whenClosed
  }

  onCompletion(result: number, flags: number): void {
    if ((flags & CQE_MORE) === 0) this.armed = false
    const closing = this.whenClosed !== null
    if (result >= 0) {
      // Re-armed even when the handler throws, which is a bug that somebody may survive.
      try {
        if (closing) closeDescriptor(result)
        else this.events.accepted(result)
      } finally {
        if (!this.armed && !closing) this.arm()
      }
    } else if (!closing) this.refused(result)
    if (!this.armed) this.onFinal?.()
  }

  private arm(): void {
    if (this.armed || this.whenClosed !== null) return
    this.armed = true
    this.slot = this.loop.acquire(this)
    this.generation = this.loop.generation(this.slot)
    this.loop.ring.acceptAll(this.descriptor, this.slot, this.generation)
  }

  private refused(errno: number): void {
    if (errno === ECANCELED) return
    if (PASSING.has(errnoName(errno))) {
      this.arm()
      return
    }
    this.logger.error(
      { error: errnoName(errno), host: this.host, port: this.port },
      'a connection could not be accepted; trying again (EMFILE: raise the limit on open files)',
    )
    setTimeout(() => this.arm(), ACCEPT_AGAIN_MS)
  }

  private async closeOnce(): Promise<void> {
    if (this.armed) {
      await new Promise<void>((resolve) => {
        this.onFinal = resolve
        this.loop.ring.cancel(this.slot, this.generation)
      })
    }
    closeDescriptor(this.descriptor)
    this.events.closed()
  }
}
