// The control connection: finds a broker, subscribes to the cluster map and follows it. When the connection breaks, falls
// silent, or its node has lost touch with the metadata leader, it moves to another broker; after the first contact it
// knows them all, and needs no bootstrap address any more.
import {
  adminReply,
  type ClusterMap,
  encodeFrame,
  type FrameHeader,
  type MapDelta,
  type MapSnapshot,
  mapDelta,
  mapHeartbeat,
  mapSnapshot,
  mapSubscribe,
  messageName,
  ProtocolError,
  Reader,
  type RouteChange,
} from '@millrace/protocol'
import { type Address, showAddress } from './address.js'
import type { Backoff } from './backoff.js'
import { Connection, type ConnectionTarget } from './connection.js'
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { ConnectionError, closedError, type FailedAttempt, MillraceError } from './errors.js'
import { HEARTBEAT_MISSING_MS, MAP_STALE_MS, MAX_STALE_PATIENCE_MS, STALE_PATIENCE_MS } from './limits.js'
import type { StatusKind } from './status.js'

export interface ControlOwner {
  readonly environment: ClientEnvironment
  readonly clientId: string
  readonly connectTimeoutMs: number
  readonly bootstrap: readonly Address[]
  readonly map: ClusterMap
  newBackoff(): Backoff
  /** The map has changed, or has been confirmed by a snapshot. */
  mapChanged(snapshot: boolean): void
  /** Leaders of these partitions, and nothing else. */
  routesChanged(changes: readonly RouteChange[]): void
  /** The map of this node is followed from now on. */
  controlUp(nodeId: number): void
  controlStatus(kind: StatusKind, message: string, error?: MillraceError, nodeId?: number): void
}

/** A single address may not use up the whole time for the first contact. */
const MAX_ATTEMPTS_AT_ONCE = 4
const MIN_ATTEMPT_MS = 500

export class Control {
  readonly #owner: ControlOwner
  readonly #backoff: Backoff
  readonly #attempts = new Map<string, Error>()
  #round: ConnectionTarget[] = []
  #candidateCount = 1
  #connection: Connection | null = null
  #retryTimer: ClientTimer | null = null
  #watchTimer: ClientTimer | null = null
  #subscriptionId = 0
  #subscribed = false
  #refreshing = false
  #refreshAgain = false
  #subscribedAtMs = 0
  /** Nodes that had lost touch when they were asked last; #isStale: no node is known that is better. */
  readonly #staleNodes = new Set<number>()
  #isStale = false
  #patienceMs = STALE_PATIENCE_MS
  #patientUntilMs = 0
  #running = false

  constructor(owner: ControlOwner) {
    this.#owner = owner
    this.#backoff = owner.newBackoff()
  }

  /** Every address tried since the last success, with the last cause. */
  get attempts(): FailedAttempt[] {
    const attempts = [...this.#attempts].map(([address, error]) => ({ address, error }))
    const target = this.#connection?.target
    if (target !== undefined && !this.#attempts.has(showAddress(target))) {
      attempts.push({ address: showAddress(target), error: new Error('no answer yet') })
    }
    return attempts
  }

  /** The connection while the map subscription is up. */
  get connection(): Connection | null {
    return this.#subscribed ? this.#connection : null
  }

  get isRefreshing(): boolean {
    return this.#refreshing
  }

  /** A snapshot is asked for right after the one on its way. */
  get asksAgain(): boolean {
    return this.#refreshAgain
  }

  start(): void {
    if (this.#running) return
    this.#running = true
    this.#owner.controlStatus('connecting', 'looking for a broker')
    this.#tryNext()
  }

  /** Asks for a snapshot, unless one is on its way; then another follows it when `again` is set. */
  refresh(again: boolean): boolean {
    const connection = this.connection
    if (connection === null) return false
    if (this.#refreshing) {
      this.#refreshAgain ||= again
      return false
    }
    this.#subscribe(connection)
    return true
  }

  /** Stops and leaves nothing behind; `start` begins anew. */
  stop(): void {
    this.#running = false
    this.#retryTimer?.cancel()
    this.#retryTimer = null
    this.#drop(closedError('the client'))
    this.#round = []
    this.#attempts.clear()
  }

  #drop(error: MillraceError): void {
    this.#watchTimer?.cancel()
    this.#watchTimer = null
    this.#subscribed = false
    this.#isStale = false
    this.#refreshing = false
    this.#refreshAgain = false
    const connection = this.#connection
    this.#connection = null
    connection?.destroy(error)
  }

  #candidates(): ConnectionTarget[] {
    const { map, bootstrap } = this.#owner
    const { clusterId } = map
    const known = map.nodes().map(({ host, port, nodeId }) => ({ host, port, clusterId, nodeId, shard: 0 }))
    const seeds = bootstrap.map(({ host, port }) => ({ host, port, clusterId, nodeId: 0, shard: 0 }))
    const isFresh = ({ nodeId }: ConnectionTarget): boolean => !this.#staleNodes.has(nodeId)
    const inTouch = this.#shuffle(known.filter(isFresh))
    const outOfTouch = this.#shuffle(known.filter((target) => !isFresh(target)))
    const seen = new Set<string>()
    return [...inTouch, ...this.#shuffle(seeds), ...outOfTouch].filter((target) => {
      const address = showAddress(target)
      return seen.size !== seen.add(address).size
    })
  }

  #shuffle<T>(list: readonly T[]): T[] {
    const shuffled = [...list]
    for (let i = shuffled.length - 1; i > 0; i--) {
      const j = Math.floor(this.#owner.environment.random() * (i + 1))
      ;[shuffled[i], shuffled[j]] = [shuffled[j]!, shuffled[i]!]
    }
    return shuffled
  }

  /** @param avoid address to try last, because it has just failed. */
  #tryNext(avoid?: string): void {
    if (!this.#running || this.#connection !== null || this.#retryTimer !== null) return
    if (this.#round.length === 0) {
      const all = this.#candidates()
      this.#candidateCount = all.length
      this.#round = [
        ...all.filter((target) => showAddress(target) !== avoid),
        ...all.filter((target) => showAddress(target) === avoid),
      ]
    }
    const target = this.#round.shift()!
    const { environment, clientId, connectTimeoutMs } = this.#owner
    const shares = Math.min(MAX_ATTEMPTS_AT_ONCE, this.#candidateCount)
    const openTimeoutMs = Math.min(connectTimeoutMs, Math.max(MIN_ATTEMPT_MS, Math.floor(connectTimeoutMs / shares)))
    const connection: Connection = new Connection(
      environment,
      target,
      { clientId, openTimeoutMs },
      {
        onReady: () => this.#subscribe(connection),
        onPush: (header, payload) => this.#push(connection, header, payload),
        onDrain: () => {},
        onClosed: (error) => this.#lost(connection, error),
      },
    )
    this.#connection = connection
  }

  #lost(connection: Connection, error: MillraceError): void {
    if (this.#connection !== connection) return
    const wasUp = this.#subscribed
    this.#drop(error)
    this.#attempts.set(connection.address, error)
    if (wasUp) this.#owner.controlStatus('control-lost', error.message, error, connection.nodeId)
    if (wasUp) this.#round = []
    // Another node may have come to this address: whoever it is can show the way.
    if (error.code === 'ERR_MILLRACE_WRONG_NODE') this.#round.unshift({ ...connection.target, nodeId: 0 })
    if (wasUp || this.#round.length > 0) {
      this.#tryNext(connection.address)
      return
    }
    this.#retryTimer = this.#owner.environment.timer(this.#backoff.next(), () => {
      this.#retryTimer = null
      this.#tryNext()
    })
  }

  #subscribe(connection: Connection): void {
    this.#subscriptionId = connection.nextId()
    this.#refreshing = true
    this.#subscribedAtMs = this.#owner.environment.monotonicMs()
    connection.send([encodeFrame(mapSubscribe, {}, { id: this.#subscriptionId })])
    this.#watch(connection)
  }

  #push(connection: Connection, header: FrameHeader, payload: Uint8Array): void {
    const { kind } = header
    if (kind === adminReply.kind) return
    if (kind !== mapSnapshot.kind && kind !== mapDelta.kind && kind !== mapHeartbeat.kind) {
      throw new ProtocolError('UNKNOWN_KIND', `${messageName(kind)} on the control connection`)
    }
    if (connection !== this.#connection) return
    const reader = new Reader(payload)
    // Pushes of a subscription that was replaced by a newer one are late, not wrong.
    if (header.id !== this.#subscriptionId) {
      if (kind === mapDelta.kind) this.#takeRoutes(mapDelta.decode(reader).routes)
      else if (kind === mapSnapshot.kind) this.#takeRoutes(routesOf(mapSnapshot.decode(reader)))
      return
    }
    if (kind === mapSnapshot.kind) this.#takeSnapshot(connection, reader)
    else if (kind === mapDelta.kind) this.#takeDelta(connection, reader)
    else this.#takeHeartbeat(connection, reader)
  }

  #takeSnapshot(connection: Connection, reader: Reader): void {
    const snapshot = mapSnapshot.decode(reader)
    this.#owner.map.applySnapshot(snapshot)
    this.#refreshing = false
    const first = !this.#subscribed
    this.#subscribed = true
    if (first) {
      this.#backoff.reset()
      this.#attempts.clear()
      this.#round = []
      this.#owner.controlUp(connection.nodeId)
      this.#sayConnected(connection)
    }
    this.#owner.mapChanged(true)
    if (this.#refreshAgain && this.#connection === connection) {
      this.#refreshAgain = false
      this.#subscribe(connection)
    }
  }

  #takeDelta(connection: Connection, reader: Reader): void {
    const delta = mapDelta.decode(reader)
    if (this.#refreshing) {
      this.#takeRoutes(delta.routes)
    } else if (this.#owner.map.applyDelta(delta)) {
      if (isAboutRoutes(delta)) this.#owner.routesChanged(delta.routes)
      else this.#owner.mapChanged(false)
    } else {
      this.#subscribe(connection)
      this.#takeRoutes(delta.routes)
    }
  }

  /** A whole map is on its way, but news of a leader need not wait for it: routes carry their own versions. */
  #takeRoutes(routes: readonly RouteChange[]): void {
    const { map } = this.#owner
    const news = map.applyRoutes(routes)
    if (news.length > 0) this.#owner.routesChanged(news)
  }

  #sayConnected({ address, nodeId }: Connection): void {
    this.#owner.controlStatus('connected', `following the cluster map of ${address}`, undefined, nodeId)
  }

  #takeHeartbeat(connection: Connection, reader: Reader): void {
    const { metadataAgeMs } = mapHeartbeat.decode(reader)
    if (metadataAgeMs > MAP_STALE_MS) {
      this.#lostTouch(connection, metadataAgeMs)
      return
    }
    this.#staleNodes.clear()
    this.#patienceMs = STALE_PATIENCE_MS
    if (!this.#isStale) return
    this.#isStale = false
    this.#sayConnected(connection)
  }

  // The watch.

  #watch(connection: Connection): void {
    if (this.#watchTimer !== null) return
    const { environment } = this.#owner
    const delayMs = Math.max(1, Math.ceil(HEARTBEAT_MISSING_MS - this.#silentMs(connection)))
    this.#watchTimer = environment.timer(delayMs, () => {
      this.#watchTimer = null
      // Timers run before input after the loop was blocked: read what has arrived before judging.
      environment.defer(() => this.#judge(connection))
    })
  }

  #judge(connection: Connection): void {
    if (this.#connection !== connection || this.#watchTimer !== null) return
    const silentMs = this.#silentMs(connection)
    if (silentMs < HEARTBEAT_MISSING_MS) this.#watch(connection)
    else if (this.#subscribed)
      this.#leave(connection, `${connection.address} was silent for ${Math.round(silentMs)} ms`)
    else this.#leave(connection, `${connection.address} has no cluster map yet, as long as most brokers are down`)
  }

  /** Since bytes arrived: a large map takes its time. */
  #silentMs(connection: Connection): number {
    const heardAtMs = Math.max(this.#subscribedAtMs, connection.lastReceivedMs)
    return this.#owner.environment.monotonicMs() - heardAtMs
  }

  /**
   * The node is there, but it has not heard from the metadata leader for long: others may know more. When they know no
   * more either, the client stays: records flow on without metadata, and going round would only cost everybody maps.
   */
  #lostTouch(connection: Connection, ageMs: number): void {
    const nowMs = this.#owner.environment.monotonicMs()
    const { map } = this.#owner
    const detail = `${connection.address} has not heard from the metadata leader for ${Math.round(ageMs)} ms`
    this.#staleNodes.add(connection.nodeId)
    if (this.#isStale) {
      if (nowMs < this.#patientUntilMs) return
      this.#staleNodes.clear()
      this.#staleNodes.add(connection.nodeId)
    }
    if (map.nodes().some(({ nodeId }) => !this.#staleNodes.has(nodeId))) {
      this.#isStale = false
      this.#leave(connection, detail)
      return
    }
    const wasStale = this.#isStale
    this.#isStale = true
    this.#patientUntilMs = nowMs + this.#patienceMs
    this.#patienceMs = Math.min(MAX_STALE_PATIENCE_MS, this.#patienceMs * 2)
    if (!wasStale) this.#sayStale(connection, `${detail}, nor has any other node`)
  }

  #leave(connection: Connection, detail: string): void {
    const wasUp = this.#subscribed
    const error = new MillraceError('ERR_MILLRACE_TIMEOUT', detail)
    this.#drop(error)
    this.#attempts.set(connection.address, error)
    if (wasUp) this.#sayStale(connection, detail, error)
    this.#round = []
    this.#tryNext(connection.address)
  }

  #sayStale(connection: Connection, detail: string, error = new MillraceError('ERR_MILLRACE_TIMEOUT', detail)): void {
    this.#owner.controlStatus('control-stale', error.message, error, connection.nodeId)
  }
}

const isAboutRoutes = ({ nodes, removedNodes, topics, removedTopics }: MapDelta): boolean =>
  nodes.length + removedNodes.length + topics.length + removedTopics.length === 0

const routesOf = ({ topics }: MapSnapshot): RouteChange[] =>
  topics.flatMap(({ topicId, routes }) => routes.map((route, partition) => ({ topicId, partition, route })))

/** What everything pending gets when the first contact fails. */
export function noContact(timeoutMs: number, attempts: readonly FailedAttempt[]): ConnectionError {
  return new ConnectionError(`no broker answered within ${timeoutMs} ms`, attempts, { outcome: 'failed' })
}
