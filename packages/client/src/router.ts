// Which connection leads to the leader of a partition, as far as anybody has told this client: by the map that is
// pushed, by a reply, or by a refusal. The newest version wins wherever it comes from.
//
// Invariant: once a broker has said that it does not lead a partition, or a newer route is known, no producer and no
// cursor of this client sends anything for that partition there: not before a newer route names the broker again. (Or
// before a map asked for in vain for REFUSAL_DOUBT_MS names it still: a refusal may itself have been a mistake.)
import { type ClusterMap, compareRouteVersions, type Route, type RouteVersion } from '@millrace/protocol'
import type { BrokerLink, LinkPurpose } from './broker-link.js'
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { LEADER_WAIT_MS, MAX_LEADER_WAIT_MS, REFRESH_INTERVAL_MS, REFUSAL_DOUBT_MS } from './limits.js'
import type { MutableStatistics } from './status.js'

export interface RouterOwner {
  readonly environment: ClientEnvironment
  readonly map: ClusterMap
  readonly statistics: MutableStatistics
  /** The connection of its purpose to one core of one node. */
  linkTo(nodeId: number, shard: number, purpose: LinkPurpose): BrokerLink | null
  /** The map has been asked for and has not come yet. */
  readonly isRefreshing: boolean
  /** Asks for the map anew; false when that is under way already or nobody is there to ask. */
  refresh(): boolean
  /** These routes have changed, or lead nowhere any more. */
  routesChanged(changes: readonly { readonly topicId: number; readonly partition: number }[]): void
}

interface Refusal {
  readonly version: RouteVersion
  readonly atMs: number
}

export class Router {
  readonly #owner: RouterOwner
  /** The newest version that was refused where the map says that it is served, by topic id and partition. */
  readonly #refusals = new Map<string, Refusal>()
  #refreshedAtMs = Number.NEGATIVE_INFINITY
  #refreshTimer: ClientTimer | null = null
  #leaderTimer: ClientTimer | null = null
  #leaderWaitMs = LEADER_WAIT_MS
  #stopped = false

  constructor(owner: RouterOwner) {
    this.#owner = owner
  }

  /** The connection to the leader of a partition; null while nobody knows one. */
  linkOf(topicId: number, partition: number, purpose: LinkPurpose = 'data'): BrokerLink | null {
    const route = this.#owner.map.route(topicId, partition)
    if (route === undefined || route.nodeId === 0 || this.#isRefused(topicId, partition, route)) return null
    // A leader elected before its node is in this map: the link dials when it is.
    if (this.#owner.map.node(route.nodeId) === undefined) this.awaitLeader()
    return this.#owner.linkTo(route.nodeId, route.shard, purpose)
  }

  /** Takes a route from a reply or refusal; true when it was news. */
  learn(topicId: number, partition: number, route: Route): boolean {
    if (route.term === 0 || !this.#owner.map.applyRoute({ topicId, partition, route })) return false
    this.#leaderWaitMs = LEADER_WAIT_MS
    this.#owner.routesChanged([{ topicId, partition }])
    return true
  }

  /**
   * A request was answered well by the broker at the other end of `link`, which names `route`. Another core of its node:
   * the request was right but came by a hop. Another node: it leads the partition since, for brokers never relay.
   */
  served(topicId: number, partition: number, link: BrokerLink, route: Route): void {
    if (route.nodeId === link.nodeId && route.shard !== link.shard) this.#owner.statistics.misroutes++
    this.learn(topicId, partition, route)
  }

  /**
   * A broker that was asked under the version `asked` does not lead the partition. After this a newer route is known, or
   * none, and then its push is awaited: either way there is nothing to wait for before the next attempt.
   * @param told the route in its refusal. It may name the broker itself: a leader knows that it has lost a term before it
   * knows who has won the next.
   */
  refused(topicId: number, partition: number, asked: RouteVersion, told: Route): void {
    const { map, statistics, environment } = this.#owner
    statistics.refusals++
    const learned = this.learn(topicId, partition, told)
    const known = map.route(topicId, partition)
    if (learned || known === undefined || compareRouteVersions(known, asked) > 0) return
    // Whoever hands over says so before the next leader is elected: its push is on its way, and a whole map would not
    // know more.
    this.awaitLeader()
    this.#refusals.set(`${topicId}/${partition}`, { version: known, atMs: environment.monotonicMs() })
    this.#owner.routesChanged([{ topicId, partition }])
  }

  /** Something went wrong that a change of leaders would explain: the map is asked for, once for all who say so. */
  suspect(): void {
    const { environment, isRefreshing } = this.#owner
    if (this.#refreshTimer !== null || isRefreshing || this.#stopped) return
    const waitMs = this.#refreshedAtMs + REFRESH_INTERVAL_MS - environment.monotonicMs()
    if (waitMs <= 0) {
      this.#refresh()
      return
    }
    this.#refreshTimer = environment.timer(Math.ceil(waitMs), () => {
      this.#refreshTimer = null
      this.#refresh()
    })
  }

  /**
   * Somebody waits for the leader of a partition. Its push should come by itself; the map is asked for seldom, in case
   * it does not. Whoever still waits when the map has come says so again.
   */
  awaitLeader(): void {
    if (this.#leaderTimer !== null || this.#stopped) return
    this.#leaderTimer = this.#owner.environment.timer(this.#leaderWaitMs, () => {
      this.#leaderTimer = null
      this.#leaderWaitMs = Math.min(MAX_LEADER_WAIT_MS, this.#leaderWaitMs * 2)
      this.suspect()
    })
  }

  /** A whole map was taken over. */
  snapshotTaken(): void {
    const latestMs = this.#owner.environment.monotonicMs() - REFUSAL_DOUBT_MS
    for (const [key, { atMs }] of this.#refusals) if (atMs <= latestMs) this.#refusals.delete(key)
  }

  stop(): void {
    this.#stopped = true
    this.#refreshTimer?.cancel()
    this.#leaderTimer?.cancel()
    this.#refreshTimer = null
    this.#leaderTimer = null
    this.#refusals.clear()
  }

  #refresh(): void {
    this.#refreshedAtMs = this.#owner.environment.monotonicMs()
    this.#owner.refresh()
  }

  #isRefused(topicId: number, partition: number, route: Route): boolean {
    if (this.#refusals.size === 0) return false
    const key = `${topicId}/${partition}`
    const refusal = this.#refusals.get(key)
    if (refusal === undefined) return false
    if (compareRouteVersions(route, refusal.version) <= 0) return true
    this.#refusals.delete(key)
    return false
  }
}
