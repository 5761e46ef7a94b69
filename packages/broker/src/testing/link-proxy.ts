// Connections on their way to one address, whose two directions can be cut and slowed, each by itself, and a TCP proxy of them.
import { connect, createServer, type Server, type Socket } from 'node:net'

/** `forward` is from who dials the proxy to who is behind it. */
export interface LinkState {
  readonly cutsForward: boolean
  readonly cutsBackward: boolean
  /** Added to what goes either way, in milliseconds. */
  readonly latencyMs: number
}

const WHOLE: LinkState = { cutsForward: false, cutsBackward: false, latencyMs: 0 }
/** Bytes of one direction that wait for their time; more stay with the sender. */
const MOST_DELAYED_BYTES = 4 * 1024 * 1024

/**
 * What is cut is not lost: as with a cable that was pulled, the kernels hold it, and it goes on when the link is whole
 * again, unless an end has given up meanwhile. Ends and resets do not get through a cut either.
 */
export class Link {
  private state = WHOLE
  private readonly pairs = new Set<Pair>()

  constructor(private readonly target: { readonly host: string; readonly port: number }) {}

  get isCut(): boolean {
    return this.state.cutsForward || this.state.cutsBackward
  }

  get current(): LinkState {
    return this.state
  }

  set(change: Partial<LinkState>): void {
    this.state = { ...this.state, ...change }
    for (const pair of this.pairs) pair.apply(this.state)
  }

  /** Takes a connection that was accepted in place of the target. */
  carry(dialer: Socket): void {
    const { host, port } = this.target
    const behind = connect({ host, port, noDelay: true, allowHalfOpen: true })
    const pair = new Pair(dialer, behind, () => this.pairs.delete(pair))
    this.pairs.add(pair)
    pair.apply(this.state)
  }

  /** Resets what is connected. */
  reset(): void {
    for (const pair of this.pairs) pair.reset()
  }
}

/** A link with a listener of its own. */
export class LinkProxy {
  private constructor(
    private readonly server: Server,
    private readonly link: Link,
    /** Where it listens, on the loopback address. */
    readonly port: number,
  ) {
    server.on('connection', (socket) => this.link.carry(socket))
  }

  static async open(target: { readonly host: string; readonly port: number }, port = 0): Promise<LinkProxy> {
    const server = createServer({ noDelay: true, allowHalfOpen: true })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen({ host: '127.0.0.1', port }, () => resolve())
    })
    const address = server.address()
    if (address === null || typeof address === 'string') throw new Error('a listener on TCP has no port')
    return new LinkProxy(server, new Link(target), address.port)
  }

  get isCut(): boolean {
    return this.link.isCut
  }

  set(change: Partial<LinkState>): void {
    this.link.set(change)
  }

  /** Resets what is connected and stops listening. */
  async close(): Promise<void> {
    this.link.reset()
    await new Promise<void>((resolve) => this.server.close(() => resolve()))
  }
}

class Pair {
  private readonly forward: Direction
  private readonly backward: Direction
  private open = 2

  constructor(
    private readonly dialer: Socket,
    private readonly behind: Socket,
    private readonly onGone: () => void,
  ) {
    this.forward = new Direction(dialer, behind)
    this.backward = new Direction(behind, dialer)
    for (const socket of [dialer, behind]) {
      socket.once('close', () => {
        this.open--
        if (this.open === 0) this.onGone()
      })
    }
  }

  apply({ cutsForward, cutsBackward, latencyMs }: LinkState): void {
    this.forward.set(cutsForward, latencyMs)
    this.backward.set(cutsBackward, latencyMs)
  }

  reset(): void {
    this.dialer.resetAndDestroy()
    this.behind.resetAndDestroy()
  }
}

/** What waits for its time: bytes, or the end of them in order (null) or by a reset. */
interface Delayed {
  readonly atMs: number
  readonly bytes: Buffer | null
  readonly resets: boolean
}

class Direction {
  private isCut = false
  private latencyMs = 0
  private readonly delayed: Delayed[] = []
  private delayedBytes = 0
  private timer: NodeJS.Timeout | null = null
  private hasEnded = false

  constructor(
    private readonly from: Socket,
    private readonly to: Socket,
  ) {
    from.on('data', (chunk: Buffer) => this.push(chunk, false))
    from.on('end', () => this.push(null, false))
    // How it ended is told by `close`.
    from.on('error', () => undefined)
    from.on('close', (hadError: boolean) => {
      if (hadError || !this.hasEnded) this.push(null, true)
    })
    to.on('drain', () => this.steer())
  }

  set(isCut: boolean, latencyMs: number): void {
    this.isCut = isCut
    this.latencyMs = latencyMs
    this.steer()
    this.deliver()
  }

  private push(bytes: Buffer | null, resets: boolean): void {
    if (bytes === null && !resets) this.hasEnded = true
    // Never before what was sent earlier, when the latency has fallen since.
    const earliestMs = this.delayed.at(-1)?.atMs ?? 0
    this.delayed.push({ atMs: Math.max(earliestMs, performance.now() + this.latencyMs), bytes, resets })
    this.delayedBytes += bytes?.byteLength ?? 0
    this.deliver()
    this.steer()
  }

  /** Reads on unless the line is cut, or too much is under way. */
  private steer(): void {
    if (this.isCut || this.to.writableNeedDrain || this.delayedBytes > MOST_DELAYED_BYTES) this.from.pause()
    else this.from.resume()
  }

  private deliver(): void {
    if (this.isCut) return
    for (let next = this.delayed[0]; next !== undefined; next = this.delayed[0]) {
      const waitMs = next.atMs - performance.now()
      if (waitMs > 0) {
        this.deliverIn(waitMs)
        return
      }
      this.delayed.shift()
      this.delayedBytes -= next.bytes?.byteLength ?? 0
      if (next.bytes !== null) this.to.write(next.bytes)
      else if (next.resets) this.to.resetAndDestroy()
      else this.to.end()
    }
  }

  private deliverIn(waitMs: number): void {
    this.timer ??= setTimeout(() => {
      this.timer = null
      this.deliver()
      this.steer()
    }, waitMs)
  }
}
