// The simulated network: listeners, connections between processes, and the ways in which they are lost.
import {
  type DatagramHandler,
  type DatagramSocket,
  type Listener,
  type ListenOptions,
  NetworkError,
  type NetworkErrorCode,
} from '#src/environment.js'
import { NetworkPath } from './network-path.js'
import { type NetworkConditions, Pipe } from './pipe.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'
import { SimulatedDatagrams } from './simulated-datagrams.js'

/** After `end`, how long the other side may take to close. */
const LINGER_MS = 1000
const FIRST_EPHEMERAL_PORT = 40_000
/** A SYN without an answer is sent again after this long, then after twice as long, and so on. */
const FIRST_KNOCK_MS = 1000
const MOST_KNOCKS = 6

export interface EndpointHandler {
  onBytes(chunk: Uint8Array): void
  onClosed(error: Error | null): void
}

/** One end of a connection. */
export class Endpoint {
  private handler: EndpointHandler | null = null
  private error: Error | null = null
  private state: 'open' | 'ending' | 'closing' | 'closed' = 'open'
  /** The other end hears of it when it sends something. */
  hasGivenUp = false

  constructor(
    readonly process: SimulatedProcess,
    readonly address: string,
    private readonly scheduler: Scheduler,
    readonly outgoing: Pipe,
    readonly incoming: Pipe,
    private readonly connection: Connection,
  ) {}

  get isOpen(): boolean {
    return this.state === 'open'
  }

  /** Begins delivery. */
  attach(handler: EndpointHandler): void {
    this.handler = handler
    // A connection can be lost before its owner has heard of it.
    if (this.state === 'closed') this.scheduler.schedule(this.process, 0, 'closed', () => handler.onClosed(this.error))
    this.incoming.attach({
      process: this.process,
      onBytes: (chunk) => {
        if (this.state === 'open') handler.onBytes(chunk)
        // Whoever has closed its socket answers further bytes with a reset.
        else if (this.state === 'closed') this.connection.other(this).lose('the peer has closed the connection')
      },
      onEnd: () => {
        if (this.state === 'closed' || this.state === 'closing') return
        this.outgoing.end()
        this.closeSoon(null)
      },
    })
  }

  /** Sends what is queued, then closes, or gives up on a peer that does not. */
  end(): void {
    if (this.state !== 'open') return
    this.state = 'ending'
    this.incoming.resume()
    this.outgoing.end()
    this.scheduler.schedule(this.process, LINGER_MS, 'linger', () => {
      if (this.state === 'ending') this.closeSoon(null)
    })
  }

  destroy(): void {
    if (this.state === 'closed' || this.state === 'closing') return
    // A kernel that closes a socket with unread bytes sends a reset instead of an end.
    if (this.incoming.hasUndelivered) this.reset()
    else this.closeSoon(null)
  }

  /** The peer hears of a reset. */
  reset(): void {
    if (this.state === 'closed' || this.state === 'closing') return
    this.connection.other(this).lose('the peer has reset the connection')
    this.closeSoon(null, 'silently')
  }

  /** The connection is lost for this end, after an unknown part of what was on the way to it. */
  lose(reason: string): void {
    this.scheduler.schedule(this.process, this.connection.latencyMs(), 'reset', () => {
      if (this.state === 'closed' || this.state === 'closing') return
      // A reset on a path that is cut is lost: the next one answers what this end sends once it is whole again.
      if (this.incoming.path.isCut) {
        this.incoming.path.whenHealed(() => this.lose(reason))
        return
      }
      this.incoming.cut()
      this.fail(reason)
    })
  }

  /** The kernel of this end has lost patience with a peer that does not answer. What comes later is answered by a reset. */
  giveUp(): void {
    if (this.state === 'closed' || this.state === 'closing') return
    this.hasGivenUp = true
    this.fail('timed out')
  }

  private fail(reason: string): void {
    this.closeSoon(
      new NetworkError('RESET', `the connection with ${this.connection.other(this).address} failed: ${reason}`),
      'silently',
    )
  }

  private closeSoon(error: Error | null, how: 'with an end' | 'silently' = 'with an end'): void {
    if (this.state === 'closed' || this.state === 'closing') return
    this.state = 'closing'
    this.error = error
    this.scheduler.schedule(this.process, 0, 'closed', () => {
      this.outgoing.abandon(how === 'with an end')
      this.state = 'closed'
      // Bytes of the peer must not stay in the pipe: what arrives from now on is answered by a reset.
      this.incoming.resume()
      this.connection.forgetIfOver()
      this.handler?.onClosed(error)
    })
  }

  get isClosed(): boolean {
    return this.state === 'closed' || !this.process.alive
  }
}

export class Connection {
  readonly dialer: Endpoint
  readonly acceptor: Endpoint

  constructor(
    private readonly network: SimulatedNetwork,
    scheduler: Scheduler,
    private readonly conditions: NetworkConditions,
    private readonly random: SeededRandom,
    dialer: { process: SimulatedProcess; address: string },
    acceptor: { process: SimulatedProcess; address: string },
    paths: { there: NetworkPath; back: NetworkPath },
  ) {
    const there = new Pipe(scheduler, dialer.process, conditions, paths.there, random, () => network.onArrival())
    const back = new Pipe(scheduler, acceptor.process, conditions, paths.back, random, () => network.onArrival())
    this.dialer = new Endpoint(dialer.process, dialer.address, scheduler, there, back, this)
    this.acceptor = new Endpoint(acceptor.process, acceptor.address, scheduler, back, there, this)
  }

  other(end: Endpoint): Endpoint {
    return end === this.dialer ? this.acceptor : this.dialer
  }

  latencyMs(): number {
    return this.conditions.minLatencyMs + this.random.exponential(this.conditions.meanLatencyMs)
  }

  /** Both ends learn of the loss, each at its own time. */
  lose(): void {
    this.dialer.lose('connection reset')
    this.acceptor.lose('connection reset')
  }

  /** Nothing arrives any more in either direction; each end learns of it only after its own kernel's patience. */
  goSilent(scheduler: Scheduler): void {
    for (const { incoming } of [this.dialer, this.acceptor]) incoming.sever()
    this.timeOut(scheduler)
  }

  /** One end is without power: what it had sent arrives, what is sent to it does not. */
  wentDark(scheduler: Scheduler): void {
    for (const end of [this.dialer, this.acceptor]) {
      if (end.process.alive) end.incoming.stopLaunching()
      else end.incoming.sever()
    }
    this.timeOut(scheduler)
  }

  private timeOut(scheduler: Scheduler): void {
    for (const end of [this.dialer, this.acceptor]) {
      scheduler.schedule(end.process, this.random.logBetween(300, 8000), 'timed out', () => end.giveUp())
    }
  }

  /** The ends may lose patience with a path that stays cut: both or none, since nobody looks for half-open connections. */
  pathCut(scheduler: Scheduler): void {
    if (!this.random.chance(0.3)) return
    let isGivenUp = false
    for (const end of [this.dialer, this.acceptor]) {
      scheduler.schedule(end.process, this.random.logBetween(300, 8000), 'timed out', () => {
        // Also when the path is whole again meanwhile: the other end would not answer any more.
        if (!isGivenUp && !end.incoming.path.isCut && !end.outgoing.path.isCut) return
        isGivenUp = true
        end.giveUp()
      })
    }
  }

  uses(path: NetworkPath): boolean {
    return this.dialer.outgoing.path === path || this.dialer.incoming.path === path
  }

  forgetIfOver(): void {
    if (this.dialer.isClosed && this.acceptor.isClosed) this.network.connections.delete(this)
  }
}

interface Listening {
  readonly process: SimulatedProcess
  readonly accept: (end: Endpoint, from: string) => void
}

export class SimulatedNetwork {
  readonly connections = new Set<Connection>()
  /** Called whenever bytes arrive somewhere. */
  onArrival: () => void = () => {}
  /** Hosts without power: what is sent there gets no answer at all. */
  readonly darkHosts = new Set<string>()
  private readonly listeners = new Map<string, Listening>()
  private readonly hosts = new Set<string>()
  private readonly paths = new Map<string, NetworkPath>()
  private nextPort = FIRST_EPHEMERAL_PORT
  private readonly udp: SimulatedDatagrams

  constructor(
    private readonly scheduler: Scheduler,
    readonly conditions: NetworkConditions,
    private readonly random: SeededRandom,
  ) {
    this.udp = new SimulatedDatagrams(scheduler, this, random.split('datagrams'))
  }

  /** Binds a UDP address of a host. */
  datagrams(process: SimulatedProcess, options: ListenOptions, receive: DatagramHandler): Promise<DatagramSocket> {
    return this.udp.open(process, options, receive)
  }

  isHost(host: string): boolean {
    return this.hosts.has(host)
  }

  addHost(host: string): void {
    this.hosts.add(host)
  }

  /** From one host to another; those of clients are named like their processes. */
  path(from: string, to: string): NetworkPath {
    const name = `${from} ${to}`
    let path = this.paths.get(name)
    if (path === undefined) {
      path = new NetworkPath(from, to)
      this.paths.set(name, path)
    }
    return path
  }

  cut(from: string, to: string): void {
    const path = this.path(from, to)
    if (path.isCut) return
    path.sever()
    for (const connection of this.connections) if (connection.uses(path)) connection.pathCut(this.scheduler)
  }

  get brokenPaths(): readonly NetworkPath[] {
    return [...this.paths.values()].filter(({ isCut }) => isCut)
  }

  /** Every path is whole and as quick as the network. */
  heal(): void {
    for (const path of this.paths.values()) path.heal()
  }

  listen(
    process: SimulatedProcess,
    options: ListenOptions,
    accept: (end: Endpoint, from: string) => void,
  ): Promise<Listener> {
    return new Promise((resolve, reject) => {
      this.scheduler.schedule(process, this.random.between(0, 0.1), 'listen', () => {
        if (!this.hosts.has(options.host)) {
          reject(new NetworkError('BAD_ADDRESS', `${options.host} is not an address of this machine`))
          return
        }
        const port = options.port === 0 ? this.nextPort++ : options.port
        const address = `${options.host}:${port}`
        if (this.listeners.get(address)?.process.alive) {
          reject(new NetworkError('ADDRESS_IN_USE', `${address} is in use`))
          return
        }
        const listening = { process, accept }
        this.listeners.set(address, listening)
        resolve({
          host: options.host,
          port,
          close: async () => {
            if (this.listeners.get(address) === listening) this.listeners.delete(address)
          },
        })
      })
    })
  }

  /**
   * Connects; `opened` gets the dialer's end, or `refused` the reason. A host without power answers nothing, and the
   * dialer's kernel gives up only after two minutes.
   */
  dial(
    process: SimulatedProcess,
    from: string,
    host: string,
    port: number,
    opened: (end: Endpoint) => void,
    refused: (reason: NetworkError) => void,
  ): void {
    const address = `${host}:${port}`
    const paths = { there: this.path(from, host), back: this.path(host, from) }
    const fail = (delayMs: number, code: NetworkErrorCode, reason: string) =>
      this.scheduler.schedule(process, delayMs, 'refused', () =>
        refused(new NetworkError(code, `connecting to ${address} failed: ${reason}`)),
      )
    const connect = (attempt: number) => {
      // No way there or none back: the dialer's kernel knocks again and again, ever more slowly.
      if (paths.there.isCut || paths.back.isCut) {
        if (attempt > MOST_KNOCKS) fail(0, 'TIMED_OUT', 'timed out')
        else this.scheduler.schedule(null, FIRST_KNOCK_MS * 2 ** attempt, 'connect', () => connect(attempt + 1))
        return
      }
      if (this.darkHosts.has(host)) {
        fail(120_000, 'TIMED_OUT', 'timed out')
        return
      }
      const listening = this.listeners.get(address)
      if (listening === undefined || !listening.process.alive) {
        fail(this.latencyMs(), 'REFUSED', 'connection refused')
        return
      }
      const dialer = { process, address: `${from}:${this.nextPort++}` }
      const acceptor = { process: listening.process, address }
      const connection = new Connection(this, this.scheduler, this.conditions, this.random, dialer, acceptor, paths)
      this.connections.add(connection)
      this.scheduler.schedule(listening.process, 0, 'accept', () =>
        listening.accept(connection.acceptor, dialer.address),
      )
      const answerMs = this.latencyMs() + paths.back.extraLatencyMs
      this.scheduler.schedule(process, answerMs, 'connected', () => opened(connection.dialer))
    }
    this.scheduler.schedule(null, this.latencyMs() + paths.there.extraLatencyMs, 'connect', () => connect(0))
  }

  /** The process was killed: its kernel resets every connection. */
  processDied(process: SimulatedProcess): void {
    this.eachOf(process, (connection) => {
      connection.dialer.lose('connection reset')
      connection.acceptor.lose('connection reset')
    })
  }

  /** The machine lost power: peers hear nothing until their own patience ends. */
  hostDied(process: SimulatedProcess): void {
    this.eachOf(process, (connection) => connection.wentDark(this.scheduler))
  }

  /** The process takes no more connections. */
  stopListening(process: SimulatedProcess): void {
    for (const [address, listening] of this.listeners) {
      if (listening.process === process) this.listeners.delete(address)
    }
  }

  private eachOf(process: SimulatedProcess, visit: (connection: Connection) => void): void {
    for (const connection of [...this.connections]) {
      if (connection.dialer.process !== process && connection.acceptor.process !== process) continue
      visit(connection)
      connection.forgetIfOver()
    }
  }

  private latencyMs(): number {
    return this.conditions.minLatencyMs + this.random.exponential(this.conditions.meanLatencyMs)
  }
}
