// UDP of both real environments, on node:dgram: a few datagrams a second are not worth the ring.
import assert from 'node:assert/strict'
import { createSocket, type Socket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import {
  type DatagramHandler,
  type DatagramSocket,
  type ListenOptions,
  type Logger,
  MAX_DATAGRAM_BYTES,
  NetworkError,
} from '../environment.js'
import { networkErrorFrom } from './portable/network-errors.js'

/** How long a name stands for the same address before it is looked up again; the old one serves meanwhile. */
const NAME_MS = 30_000
const MAX_NAMES = 1_024

interface Name {
  address: string | null
  /** Until it is looked up again. */
  freshUntilMs: number
  looking: Promise<void> | null
}

/** The UDP sockets of one environment. */
export class NodeDatagrams {
  private readonly sockets = new Set<NodeDatagramSocket>()
  private closed = false

  constructor(private readonly logger: Logger) {}

  async open(options: ListenOptions, receive: DatagramHandler): Promise<DatagramSocket> {
    const { host, port } = options
    try {
      if (this.closed) throw new NetworkError('OTHER', 'the environment is closed')
      const address = isIP(host) === 0 ? (await lookup(host)).address : host
      const inner = createSocket({ type: isIP(address) === 6 ? 'udp6' : 'udp4' })
      await new Promise<void>((resolve, reject) => {
        inner.once('error', reject)
        inner.bind({ address, port }, resolve)
      })
      inner.removeAllListeners('error')
      const socket: NodeDatagramSocket = new NodeDatagramSocket(inner, host, receive, this.logger, () =>
        this.sockets.delete(socket),
      )
      this.sockets.add(socket)
      return socket
    } catch (cause) {
      throw networkErrorFrom(cause, `receiving datagrams on ${host}:${port}`)
    }
  }

  async close(): Promise<void> {
    this.closed = true
    await Promise.all([...this.sockets].map((socket) => socket.close()))
  }
}

class NodeDatagramSocket implements DatagramSocket {
  readonly port: number
  private readonly isSix: boolean
  private readonly names = new Map<string, Name>()
  private whenClosed: Promise<void> | null = null

  constructor(
    private readonly inner: Socket,
    readonly host: string,
    receive: DatagramHandler,
    private readonly logger: Logger,
    private readonly onClosed: () => void,
  ) {
    const { port, family } = inner.address()
    this.port = port
    this.isSix = family === 'IPv6'
    inner.on('message', (bytes, { address, port: from }) => {
      if (this.whenClosed === null) receive(bytes, { host: withoutPrefix(address), port: from })
    })
    inner.on('error', (cause) => this.logger.error({ cause, host, port }, 'the datagram socket failed'))
  }

  send(host: string, port: number, bytes: Uint8Array): void {
    assert(bytes.byteLength <= MAX_DATAGRAM_BYTES, `a datagram of ${bytes.byteLength} bytes`)
    const copy = new Uint8Array(bytes)
    if (isIP(host) !== 0) {
      this.sendTo(host, port, copy)
      return
    }
    const name = this.nameOf(host)
    if (name.address !== null) this.sendTo(name.address, port, copy)
    else void name.looking?.then(() => name.address !== null && this.sendTo(name.address, port, copy))
  }

  close(): Promise<void> {
    this.whenClosed ??= new Promise((resolve) => {
      this.inner.close(() => {
        this.onClosed()
        resolve()
      })
    })
    return this.whenClosed
  }

  private sendTo(address: string, port: number, bytes: Uint8Array): void {
    if (this.whenClosed !== null) return
    // A socket of version 6 reaches addresses of version 4 by their mapped form.
    const target = this.isSix && isIP(address) === 4 ? `::ffff:${address}` : address
    this.inner.send(bytes, port, target, (cause) => {
      if (cause !== null) this.logger.debug({ cause, address, port }, 'a datagram could not be sent')
    })
  }

  private nameOf(host: string): Name {
    let name = this.names.get(host)
    if (name === undefined) {
      if (this.names.size >= MAX_NAMES) this.names.clear()
      name = { address: null, freshUntilMs: 0, looking: null }
      this.names.set(host, name)
    }
    if (name.looking === null && performance.now() >= name.freshUntilMs) name.looking = this.look(host, name)
    return name
  }

  /** One lookup at a time for each name: they take threads that the disk may need. */
  private async look(host: string, name: Name): Promise<void> {
    try {
      name.address = (await lookup(host, this.isSix ? {} : { family: 4 })).address
    } catch (cause) {
      this.logger.debug({ cause, host }, 'the address of a node is not known')
    }
    name.freshUntilMs = performance.now() + NAME_MS
    name.looking = null
  }
}

function withoutPrefix(address: string): string {
  return address.startsWith('::ffff:') ? address.slice('::ffff:'.length) : address
}
