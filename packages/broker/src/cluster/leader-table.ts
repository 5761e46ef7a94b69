// Who leads each partition, as far as this node knows: from its own replicas and from what the others announce. Entries
// only move forward, by route version.
import { compareRouteVersions, type Route, type RouteChange } from '@millrace/protocol'
import { routeHash } from './leadership-digest.js'

export const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }

export class LeaderTable {
  readonly #routes = new Map<number, Route[]>()
  /** Of each topic, the sum of what its routes add to the digest. */
  readonly #hashes = new Map<number, number>()
  /** Topics and partitions that are announced before the metadata names them. */
  readonly #early = new Map<number, Map<number, Route>>()
  #changes = 0

  /** @param onChange told of everything that was news, whoever brought it. */
  constructor(private readonly onChange: (changes: readonly RouteChange[]) => void) {}

  /** How often what is known here has changed. */
  get changes(): number {
    return this.#changes
  }

  /** The topic is there now, or has more partitions than before. */
  addTopic(topicId: number, partitions: number): void {
    const routes = this.#routes.get(topicId) ?? []
    while (routes.length < partitions) routes.push(NO_ROUTE)
    this.#routes.set(topicId, routes)
    for (const [partition, route] of this.#early.get(topicId) ?? []) {
      if (partition < partitions) this.#put(topicId, routes, partition, route)
    }
    this.#early.delete(topicId)
    this.#changes++
  }

  removeTopic(topicId: number): void {
    this.#routes.delete(topicId)
    this.#hashes.delete(topicId)
    this.#early.delete(topicId)
    this.#changes++
  }

  route(topicId: number, partition: number): Route {
    return this.#routes.get(topicId)?.[partition] ?? NO_ROUTE
  }

  routes(topicId: number): readonly Route[] {
    return this.#routes.get(topicId) ?? []
  }

  /** What the routes of a topic add to the digest of all that is known: kept up to date, so that asking costs nothing. */
  hashOf(topicId: number): number {
    return this.#hashes.get(topicId) ?? 0
  }

  /** @returns those that were news. */
  learn(changes: readonly RouteChange[]): readonly RouteChange[] {
    const news = changes.filter((change) => this.#learnOne(change))
    if (news.length === 0) return news
    this.#changes++
    this.onChange(news)
    return news
  }

  /** How many partitions each node leads. */
  ledBy(): ReadonlyMap<number, number> {
    const counts = new Map<number, number>()
    for (const routes of this.#routes.values()) {
      for (const { nodeId } of routes) counts.set(nodeId, (counts.get(nodeId) ?? 0) + 1)
    }
    return counts
  }

  #learnOne({ topicId, partition, route }: RouteChange): boolean {
    const routes = this.#routes.get(topicId)
    if (routes === undefined || partition >= routes.length) {
      const early = this.#early.get(topicId) ?? new Map<number, Route>()
      const known = early.get(partition)
      if (known === undefined || compareRouteVersions(route, known) > 0) early.set(partition, route)
      this.#early.set(topicId, early)
      return false
    }
    const known = routes[partition]
    if (known === undefined || compareRouteVersions(route, known) <= 0) return false
    this.#put(topicId, routes, partition, route)
    return true
  }

  #put(topicId: number, routes: Route[], partition: number, route: Route): void {
    const before = routeHash(topicId, partition, routes[partition] ?? NO_ROUTE)
    this.#hashes.set(topicId, (this.hashOf(topicId) - before + routeHash(topicId, partition, route)) >>> 0)
    routes[partition] = route
  }
}
