// How long it takes from an election until a client that only watches the cluster map knows of it: brokers log when they
// were elected, and all processes read the clock of one machine.
import type { ClusterMapView, Mill } from '@millrace/client'

/** Elections that were logged and have not reached the client after so long count as so late. */
const PATIENCE_MS = 10_000

/** Flags of a broker that make it log what is needed here. */
export const NEWS_FLAGS = ['--log-level=debug', '--log-format=json'] as const

export class LeaderNews {
  /** By partition and term, milliseconds since 1970. */
  readonly #electedAtMs = new Map<string, number>()
  readonly #knownAtMs = new Map<string, number>()
  readonly #following: { unsubscribe(): void }
  #isCounting = false

  /** @param watcher sends and reads nothing, so that no refusal tells it of a leader: it knows what is pushed. */
  constructor(watcher: Mill, topicName: string) {
    const onMap = (map: ClusterMapView): void => this.#look(map, topicName)
    this.#following = watcher.cluster.map$.subscribe({ next: onMap })
  }

  /** From now on: what came before was the beginning of the topic. */
  begin(): void {
    this.#isCounting = true
    this.#electedAtMs.clear()
  }

  onLine(line: string): void {
    if (!this.#isCounting || !line.includes('electedAtMs')) return
    const { topicId, partition, term, electedAtMs } = JSON.parse(line) as Record<string, number>
    if (topicId !== 0) this.#electedAtMs.set(`${topicId}/${partition} ${term}`, electedAtMs!)
  }

  end(): void {
    this.#following.unsubscribe()
  }

  /** Of every election that the client has heard of, or should have: milliseconds, from the election to the push. */
  delaysMs(): readonly number[] {
    const delays: number[] = []
    for (const [name, electedAtMs] of this.#electedAtMs) {
      const knownAtMs = this.#knownAtMs.get(name)
      if (knownAtMs !== undefined) delays.push(Math.max(0, knownAtMs - electedAtMs))
      else if (!this.#isOverrun(name)) delays.push(PATIENCE_MS)
    }
    return delays
  }

  /** Somebody else was elected before the map could show this one. */
  #isOverrun(name: string): boolean {
    const [partition, term] = name.split(' ')
    for (const known of this.#knownAtMs.keys()) {
      const [knownPartition, knownTerm] = known.split(' ')
      if (knownPartition === partition && Number(knownTerm) > Number(term)) return true
    }
    return false
  }

  #look({ topics }: ClusterMapView, topicName: string): void {
    const nowMs = Date.now()
    const topic = topics.find(({ name }) => name === topicName)
    if (topic === undefined) return
    for (const { partition, term } of topic.partitions) {
      const name = `${topic.topicId}/${partition} ${term}`
      if (!this.#knownAtMs.has(name)) this.#knownAtMs.set(name, nowMs)
    }
  }
}
