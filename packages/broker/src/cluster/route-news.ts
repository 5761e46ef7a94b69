// News of who leads, on their way to clients and, where this node leads, to the other brokers: the first of a moment
// leave with the turn that brought them, since somebody waits for each; those that follow closely leave together.
import type { RouteChange } from '@millrace/protocol'
import type { Clock, Timer } from '../environment.js'
import { ROUTE_BATCH_MS } from '../limits.js'
import type { MapPublisher } from './map-publisher.js'
import type { NodePeers } from './no-peers.js'

interface RouteNewsOptions {
  readonly nodeId: number
  readonly clock: Clock
  readonly map: Pick<MapPublisher, 'putRoutes'>
  readonly peers: Pick<NodePeers, 'announce'>
}

export class RouteNews {
  #news: RouteChange[] = []
  #isScheduled = false
  #timer: Timer | null = null
  #toldAtMs = Number.NEGATIVE_INFINITY
  #stopped = false

  constructor(private readonly options: RouteNewsOptions) {}

  tell(changes: readonly RouteChange[]): void {
    for (const change of changes) this.#news.push(change)
    if (this.#isScheduled || this.#stopped) return
    this.#isScheduled = true
    const { clock } = this.options
    const waitMs = this.#toldAtMs + ROUTE_BATCH_MS - clock.monotonicMs()
    if (waitMs <= 0) clock.defer(() => this.#leave())
    else this.#timer = clock.timer(waitMs, () => this.#leave())
  }

  /** Nobody is told anything any more. */
  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #leave(): void {
    this.#isScheduled = false
    if (this.#stopped) return
    const { nodeId, clock, map, peers } = this.options
    this.#toldAtMs = clock.monotonicMs()
    const news = this.#news
    this.#news = []
    // The other brokers have clients as well, which are a step farther away.
    const own = news.filter(({ route }) => route.nodeId === nodeId)
    if (own.length > 0) peers.announce(own)
    map.putRoutes(news)
  }
}
