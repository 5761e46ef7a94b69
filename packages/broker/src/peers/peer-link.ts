// The way to one peer: dials it, again and again until it answers, and again when it is lost.
import { type PeerHelloReply, ProtocolError, type RouteChange } from '@millrace/protocol'
import { NetworkError, type Stream, type Timer } from '../environment.js'
import { PEER_DIAL_TIMEOUT_MS, PEER_STOP_MS, SILENT_PEER_MS } from '../limits.js'
import { OutgoingConnection, type OutgoingOptions } from './outgoing-connection.js'
import { RedialPause } from './redial-pause.js'

/** A member of the cluster as the configuration names it. */
export interface Member {
  readonly nodeId: number
  readonly host: string
  readonly port: number
}

export interface LinkOwner {
  /** @throws ProtocolError */
  checkReply(reply: PeerHelloReply): void
  onOpen(): void
  /** A connection that was open is lost. */
  onLost(): void
  /** The peer says that this node was removed from the cluster. */
  onRefusedAsRemoved(): void
  allLeaderships(): readonly RouteChange[]
  /** Something was thrown that is nobody's fault but our own. */
  reportBug(error: unknown): void
}

/** Attempts that end in the same way are logged once in so long. */
const REPEAT_LOG_MS = 60_000

export class PeerLink {
  #member: Member
  readonly #options: OutgoingOptions
  readonly #owner: LinkOwner
  readonly #pause: RedialPause
  /** The connection in use, or on its way to be. */
  #current: OutgoingConnection | null = null
  /** Connections whose streams have not closed yet, the current one among them. */
  readonly #living = new Set<OutgoingConnection>()
  #dialling: Promise<void> | null = null
  #timer: Timer | null = null
  #stopped = false
  #awaySinceMs: number
  #logged = { reason: '', atMs: Number.NEGATIVE_INFINITY }
  #whenQuiet: (() => void) | null = null

  constructor(member: Member, options: OutgoingOptions, owner: LinkOwner) {
    this.#member = member
    this.#options = options
    this.#owner = owner
    this.#pause = new RedialPause(options.environment.random)
    this.#awaySinceMs = options.environment.clock.monotonicMs()
  }

  /** The connection that can be written to; null while there is none. */
  get open(): OutgoingConnection | null {
    return this.#current?.isOpen === true ? this.#current : null
  }

  /** Dials now, unless that is under way or done: at the start, and when the peer has shown that it is there. */
  wake(): void {
    if (this.#stopped || this.#current !== null || this.#dialling !== null) return
    this.#timer?.cancel()
    this.#timer = null
    this.#dialling = this.#dial().finally(() => {
      this.#dialling = null
      if (this.#current === null) this.#redialLater()
      if (this.#stopped) this.#quiet()
    })
  }

  /** The peer is reached elsewhere from now on. A connection that stands is left alone. */
  moveTo(member: Member): void {
    const { host, port } = this.#member
    if (member.host === host && member.port === port) return
    this.#member = member
    this.#pause.reset()
    if (this.open !== null) return
    this.#current?.end(null)
    this.wake()
  }

  tick(nowMs: number): void {
    this.#current?.tick(nowMs)
  }

  /** Gives up the connection, if there is one; another is dialled soon. */
  drop(reason: Error): void {
    this.#current?.end(reason)
  }

  /** Resolves when every connection has closed and given back its memory. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#timer?.cancel()
    this.#current?.close()
    if (this.#isQuiet) return
    const patience = this.#options.environment.clock.timer(PEER_STOP_MS, () => {
      for (const connection of this.#living) connection.end(null)
    })
    await new Promise<void>((resolve) => {
      this.#whenQuiet = resolve
    })
    patience.cancel()
  }

  get #isQuiet(): boolean {
    return this.#living.size === 0 && this.#dialling === null
  }

  #quiet(): void {
    if (this.#isQuiet) this.#whenQuiet?.()
  }

  /** Always resolves. */
  async #dial(): Promise<void> {
    const { host, port, nodeId } = this.#member
    const { environment } = this.#options
    try {
      const where = { host, port, timeoutMs: PEER_DIAL_TIMEOUT_MS }
      await environment.network.dial(where, (stream) => this.#take(stream))
      this.#current?.greet(nodeId)
    } catch (error) {
      if (!(error instanceof NetworkError)) this.#owner.reportBug(error)
      else this.#log(error)
    }
  }

  #take(stream: Stream): OutgoingConnection {
    let openedAtMs: number | null = null
    const connection: OutgoingConnection = new OutgoingConnection(stream, this.#options, {
      checkReply: (reply) => this.#owner.checkReply(reply),
      allLeaderships: () => this.#owner.allLeaderships(),
      onOpen: () => {
        openedAtMs = this.#options.environment.clock.monotonicMs()
        this.#opened()
      },
      reportBug: (error) => this.#owner.reportBug(error),
      onLost: (reason) => this.#lost(reason, openedAtMs),
      onClosed: () => {
        this.#living.delete(connection)
        this.#quiet()
      },
    })
    this.#living.add(connection)
    this.#current = connection
    // The handler is the stream's only when this returns.
    if (this.#stopped) this.#options.environment.clock.defer(() => connection.end(null))
    return connection
  }

  #opened(): void {
    const { environment, metrics } = this.#options
    this.#logged = { reason: '', atMs: Number.NEGATIVE_INFINITY }
    metrics.peersConnected++
    environment.log.info({ node: this.#member.nodeId }, 'connected to a peer')
    this.#owner.onOpen()
  }

  #lost(reason: Error | null, openedAtMs: number | null): void {
    this.#current = null
    if (!this.#stopped) this.#log(reason ?? new Error('the peer has closed the connection'))
    const isRemoved = reason instanceof ProtocolError && reason.code === 'NODE_REMOVED'
    if (isRemoved && !this.#stopped) this.#owner.onRefusedAsRemoved()
    if (openedAtMs !== null) {
      const now = this.#options.environment.clock.monotonicMs()
      this.#awaySinceMs = now
      // One that never lasts is not dialled in haste.
      if (now - openedAtMs > SILENT_PEER_MS / 2) this.#pause.reset()
      this.#options.metrics.peersLost++
      this.#owner.onLost()
    }
    this.#redialLater()
  }

  #redialLater(): void {
    if (this.#stopped || this.#timer !== null || this.#dialling !== null) return
    const { clock } = this.#options.environment
    this.#timer = clock.timer(this.#pause.next(clock.monotonicMs() - this.#awaySinceMs), () => {
      this.#timer = null
      this.wake()
    })
  }

  #log(reason: Error): void {
    const { clock, log } = this.#options.environment
    const now = clock.monotonicMs()
    if (reason.message === this.#logged.reason && now - this.#logged.atMs < REPEAT_LOG_MS) return
    this.#logged = { reason: reason.message, atMs: now }
    const fields = { node: this.#member.nodeId, reason: reason.message }
    log.warn('code' in reason ? { ...fields, code: reason.code } : fields, 'no connection with a peer')
  }
}
