// The listener of a shard and its connections, from the first to the last.
import { ERROR_TABLE, encodeFrame, failure } from '@millrace/protocol'
import type { Clock, Environment, Listener, ListenOptions, Stream, StreamHandler, Timer } from '../environment.js'
import { FRAME_MEMORY_SHARE, MAX_REFUSALS_UNDER_WAY, MIN_FRAME_MEMORY_BYTES, TICK_MS } from '../limits.js'
import { Connection } from './connection.js'
import {
  addressOf,
  ConnectionAdmission,
  type ConnectionLimits,
  DEFAULT_CONNECTION_LIMITS,
} from './connection-admission.js'
import type { ServerContext } from './context.js'
import { FrameMemory } from './frame-memory.js'

/** @returns the memory for frames on their way in: a share of all there is. */
export function frameMemoryOf(environment: Environment, share = FRAME_MEMORY_SHARE): FrameMemory {
  const { memory, clock } = environment
  return new FrameMemory(memory, clock, Math.max(MIN_FRAME_MEMORY_BYTES, memory.budgetBytes * share))
}

export class Server {
  readonly #context: ServerContext
  readonly #clock: Clock
  readonly #connections = new Set<Connection>()
  readonly #admission: ConnectionAdmission
  /** Connections that are told why they are refused, and have not closed yet. */
  readonly #refused = new Set<Stream>()
  /** Refused since the log last said so, and the last reason. */
  #unreported = { count: 0, reason: '' }
  #listener: Listener | null = null
  #tick: Timer | null = null
  #stopping = false
  #whenEmpty: (() => void) | null = null

  constructor(context: ServerContext, limits: ConnectionLimits = DEFAULT_CONNECTION_LIMITS) {
    this.#context = context
    this.#clock = context.environment.clock
    this.#admission = new ConnectionAdmission(this.#clock, limits)
  }

  get connections(): number {
    return this.#connections.size
  }

  /** @throws NetworkError */
  async listen(options: ListenOptions): Promise<Listener> {
    this.#listener = await this.#context.environment.network.listen(options, (stream) => this.#accept(stream))
    this.#scheduleTick()
    return this.#listener
  }

  #accept(stream: Stream): StreamHandler {
    const { metrics } = this.#context
    if (this.#stopping) {
      metrics.connectionsRefused++
      stream.destroy()
      return IGNORE
    }
    const address = addressOf(stream.peer)
    const reason = this.#admission.admit(address)
    if (reason !== null) return this.#refuse(stream, reason)
    metrics.connectionsAccepted++
    const connection = new Connection(this.#context, stream, (closed) => {
      this.#admission.left(address)
      this.#closed(closed)
    })
    this.#connections.add(connection)
    return connection
  }

  /** Says why and closes. When too many are being told, others are cut without a word: words must not cost much either. */
  #refuse(stream: Stream, reason: string): StreamHandler {
    const { metrics } = this.#context
    metrics.connectionsRefused++
    metrics.refused('OVERLOADED')
    this.#unreported = { count: this.#unreported.count + 1, reason }
    if (this.#refused.size >= MAX_REFUSALS_UNDER_WAY) {
      stream.destroy()
      return IGNORE
    }
    this.#refused.add(stream)
    // The stream has its handler only when this returns.
    this.#clock.defer(() => {
      stream.write(
        encodeFrame(failure, { code: ERROR_TABLE.OVERLOADED.code, answeredKind: 0, detail: reason }, { id: 0 }),
      )
      stream.end()
    })
    return { ...IGNORE, onClosed: () => void this.#refused.delete(stream) }
  }

  #reportRefusals(): void {
    const { count: connections, reason } = this.#unreported
    if (connections === 0) return
    this.#unreported = { count: 0, reason: '' }
    this.#context.environment.log.warn({ connections, reason }, 'connections were refused')
  }

  #closed(connection: Connection): void {
    this.#connections.delete(connection)
    this.#context.metrics.connectionsClosed++
    if (this.#connections.size === 0) this.#whenEmpty?.()
  }

  #scheduleTick(): void {
    this.#tick = this.#clock.timer(TICK_MS, () => {
      this.#scheduleTick()
      for (const connection of this.#connections) this.#guard(() => connection.tick())
      this.#guard(() => this.#context.map.heartbeat(this.#context.view.metadataAgeMs))
      this.#guard(() => this.#context.shard.dropExpired())
      this.#guard(() => this.#reportRefusals())
    })
  }

  /** A bug met for one connection must not keep the others waiting. */
  #guard(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#context.reportBug(error, { during: 'tick' })
    }
  }

  /**
   * Accepts nobody any more, refuses new requests, answers those in flight, then closes every connection. After
   * `timeoutMs` whatever is left is cut. Always resolves.
   */
  async stop(timeoutMs: number): Promise<void> {
    this.#stopping = true
    await this.#listener?.close()
    for (const connection of this.#connections) connection.drain()
    const deadline = this.#clock.monotonicMs() + timeoutMs
    while (this.#requestsInFlight > 0 && this.#clock.monotonicMs() < deadline) await this.#pause(1)
    for (const connection of this.#connections) connection.close()
    await this.#empty(Math.max(1, deadline - this.#clock.monotonicMs()))
    for (const connection of this.#connections) connection.stream.destroy()
    await this.#empty(null)
    for (const stream of this.#refused) stream.destroy()
    this.#tick?.cancel()
  }

  get #requestsInFlight(): number {
    let requests = 0
    for (const connection of this.#connections) requests += connection.requestsInFlight
    return requests
  }

  /** Resolves when the last connection has closed, or after `timeoutMs`. */
  #empty(timeoutMs: number | null): Promise<void> {
    if (this.#connections.size === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const timer = timeoutMs === null ? null : this.#clock.timer(timeoutMs, resolve)
      this.#whenEmpty = () => {
        timer?.cancel()
        resolve()
      }
    })
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#clock.timer(ms, resolve))
  }
}

/** For streams that are destroyed before they begin. */
const IGNORE: StreamHandler = { onBytes() {}, onFilled() {}, onClosed() {} }
