// The cluster as this client knows it: the map, the control connection that keeps it fresh, and one data connection to
// each core in use. Whoever routes asks here.
import { ClusterMap, type RouteChange, type TopicInfo } from '@millrace/protocol'
import { type Address, showAddress } from './address.js'
import { Backoff } from './backoff.js'
import { BrokerLink, type LinkOwner, type LinkPurpose } from './broker-link.js'
import type { Connection } from './connection.js'
import { Control, type ControlOwner, noContact } from './control.js'
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { closedError, type MillraceError } from './errors.js'
import { FrameBuffers } from './frame-buffers.js'
import { Notifier } from './notifier.js'
import type { ResolvedConnectOptions } from './options.js'
import { Router, type RouterOwner } from './router.js'
import type { MillStatus, MutableStatistics, StatusKind } from './status.js'

/** What has changed of the map: the routes of some partitions and nothing else, or, as null, anything. */
export type MapChange = readonly Pick<RouteChange, 'topicId' | 'partition'>[] | null

/** The partitions of a topic whose routes have changed, or `all` of them where anything may have. */
export function changedPartitions(change: MapChange, topicId: number, all: Iterable<number>): Iterable<number> {
  if (change === null) return all
  return change.filter((one) => one.topicId === topicId).map(({ partition }) => partition)
}

/** Waits for the first map, or for a fresh one. */
export interface MapWaiter {
  onMap(): void
  /** The first contact failed, or the client was closed. */
  onNoMap(error: MillraceError): void
}

export class Cluster implements LinkOwner, ControlOwner, RouterOwner {
  readonly map = new ClusterMap()
  /** Fires after every change of the map. */
  readonly changes = new Notifier<MapChange>()
  readonly status = new Notifier<MillStatus>()
  readonly statistics: MutableStatistics = { misroutes: 0, refusals: 0, refreshes: 0, reconnects: 0 }
  readonly clientId: string
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly bootstrap: readonly Address[]
  readonly router: Router
  readonly frames: FrameBuffers
  readonly #control: Control
  readonly #links = new Map<string, BrokerLink>()
  #firstWaiters: MapWaiter[] = []
  #snapshotWaiters: MapWaiter[] = []
  #laterSnapshotWaiters: MapWaiter[] = []
  #contactTimer: ClientTimer | null = null
  #wasConnected = false
  #closed = false

  constructor(
    readonly environment: ClientEnvironment,
    readonly options: ResolvedConnectOptions,
  ) {
    this.clientId = options.clientId ?? environment.defaultClientId
    this.connectTimeoutMs = options.connectTimeoutMs
    this.requestTimeoutMs = options.requestTimeoutMs
    this.bootstrap = options.bootstrap
    this.frames = new FrameBuffers(environment.allocate)
    this.router = new Router(this)
    this.#control = new Control(this)
  }

  get hasMap(): boolean {
    return this.map.clusterId !== null
  }

  get clusterId(): string | null {
    return this.map.clusterId
  }

  /** The control connection while it is up, for rare requests. */
  get controlConnection(): Connection | null {
    return this.#control.connection
  }

  newBackoff(): Backoff {
    return new Backoff(this.environment, this.options.retry)
  }

  addressOf(nodeId: number): Address | undefined {
    return this.map.node(nodeId)
  }

  /** Calls back at once when a map is held, else after the first contact or its failure. */
  whenMap(waiter: MapWaiter): void {
    if (this.#closed) {
      waiter.onNoMap(closedError('the client'))
      return
    }
    if (this.hasMap) {
      waiter.onMap()
      return
    }
    this.#firstWaiters.push(waiter)
    this.#control.start()
    if (this.#contactTimer !== null || this.options.wait) return
    this.#contactTimer = this.environment.timer(this.connectTimeoutMs, () => this.#giveUp())
  }

  /** Calls back with a map that was asked for after this call, so that something missing from it is really missing. */
  whenFresh(waiter: MapWaiter): void {
    if (!this.hasMap || this.#closed) {
      this.whenMap(waiter)
      return
    }
    if (this.refresh(true)) this.#snapshotWaiters.push(waiter)
    else this.#laterSnapshotWaiters.push(waiter)
  }

  /** Resolves like `whenMap` calls back, for those who never stop waiting. */
  mapHeld(): Promise<void> {
    return new Promise((onMap, onNoMap) => this.whenMap({ onMap, onNoMap }))
  }

  /** The same for `whenFresh`. */
  freshMapHeld(): Promise<void> {
    return new Promise((onMap, onNoMap) => this.whenFresh({ onMap, onNoMap }))
  }

  /** Stops waiting without being called back. */
  forget(waiter: MapWaiter): void {
    this.#firstWaiters = this.#firstWaiters.filter((other) => other !== waiter)
    this.#snapshotWaiters = this.#snapshotWaiters.filter((other) => other !== waiter)
    this.#laterSnapshotWaiters = this.#laterSnapshotWaiters.filter((other) => other !== waiter)
  }

  get isRefreshing(): boolean {
    return this.#control.isRefreshing
  }

  /** Asks for the map anew; false when that is under way already or nobody is there to ask. */
  refresh(again = false): boolean {
    const asked = this.#control.refresh(again)
    if (asked) this.statistics.refreshes++
    return asked
  }

  /** The connection to one core of a node, made when it is first asked for. */
  linkTo(nodeId: number, shard: number, purpose: LinkPurpose = 'data'): BrokerLink | null {
    if (this.#closed) return null
    const key = `${purpose}/${nodeId}/${shard}`
    let link = this.#links.get(key)
    if (link === undefined) {
      link = new BrokerLink(this, nodeId, shard, purpose)
      this.#links.set(key, link)
    }
    return link
  }

  /** Leaders of these partitions, and nothing else: a broker that stops hands over hundreds, one after the other. */
  routesChanged(changes: NonNullable<MapChange>): void {
    this.changes.notify(changes)
  }

  topic(name: string): TopicInfo | undefined {
    return this.map.topic(name)
  }

  report(kind: StatusKind, message: string, rest: Partial<MillStatus> = {}): void {
    this.status.notify({ ...rest, kind, message, timestamp: this.environment.wallMs() })
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#contactTimer?.cancel()
    this.#control.stop()
    this.router.stop()
    const error = closedError('the client')
    for (const link of this.#links.values()) link.close(error)
    this.#links.clear()
    const waiters = [...this.#firstWaiters, ...this.#snapshotWaiters, ...this.#laterSnapshotWaiters]
    this.#firstWaiters = []
    this.#snapshotWaiters = []
    this.#laterSnapshotWaiters = []
    for (const waiter of waiters) waiter.onNoMap(error)
    this.report('closed', 'the client is closed')
  }

  // What the control connection tells.

  mapChanged(snapshot: boolean): void {
    if (snapshot) this.router.snapshotTaken()
    if (snapshot) this.#tookSnapshot()
    for (const link of [...this.#links.values()]) link.mapChanged()
    this.changes.notify(null)
  }

  controlUp(nodeId: number): void {
    if (this.#wasConnected) this.statistics.reconnects++
    this.#wasConnected = true
    // Where the control connection got through, data connections will.
    for (const link of [...this.#links.values()]) if (link.nodeId === nodeId) link.nodeIsUp()
  }

  controlStatus(kind: StatusKind, message: string, error?: MillraceError, nodeId?: number): void {
    this.report(kind, message, { ...(error && { error }), ...(nodeId && { nodeId }) })
  }

  // What links tell.

  linkUp({ nodeId, shard }: BrokerLink, again: boolean): void {
    if (again) this.statistics.reconnects++
    this.report('link-up', `connected to node ${nodeId}, core ${shard}`, { nodeId, shard })
  }

  linkLost({ nodeId, shard }: BrokerLink, error: MillraceError): void {
    this.report('link-lost', error.message, { nodeId, shard, error })
    // Any transport error makes the routes over this link suspect: nothing is sent there before HELLO is answered
    // again, and the map is asked for at once, whatever number of links is lost together.
    this.router.suspect()
  }

  linkIdle({ nodeId, shard, purpose }: BrokerLink): void {
    this.#links.delete(`${purpose}/${nodeId}/${shard}`)
  }

  #tookSnapshot(): void {
    this.#contactTimer?.cancel()
    this.#contactTimer = null
    const waiters = [...this.#firstWaiters, ...this.#snapshotWaiters]
    this.#firstWaiters = []
    this.#snapshotWaiters = []
    // Those who came after this snapshot was asked for wait for the next one, if it is asked for already.
    if (this.#control.asksAgain) this.#snapshotWaiters = this.#laterSnapshotWaiters
    else waiters.push(...this.#laterSnapshotWaiters)
    this.#laterSnapshotWaiters = []
    for (const waiter of waiters) waiter.onMap()
  }

  #giveUp(): void {
    this.#contactTimer = null
    const attempts = this.#control.attempts
    for (const address of this.bootstrap.map(showAddress)) {
      if (!attempts.some((attempt) => attempt.address === address)) {
        attempts.push({ address, error: new Error('not tried in time') })
      }
    }
    const error = noContact(this.connectTimeoutMs, attempts)
    this.#control.stop()
    const waiters = this.#firstWaiters
    this.#firstWaiters = []
    this.report('unreachable', error.message, { error })
    for (const waiter of waiters) waiter.onNoMap(error)
  }
}
