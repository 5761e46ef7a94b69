// What `acks`, durability and replication promise together: which losses are none.
import type { History, SendFact, TopicFact } from './history.js'

export class Promises {
  private readonly topics = new Map<string, TopicFact>()
  /** Per number of nodes that make a quorum: the last moment at which so many had still to lose what they had not flushed. */
  private readonly quorumLosses = new Map<number, number>()
  /** The last leader change, by topic and by partition. */
  private readonly lastChanges = new Map<string, number>()

  constructor(private readonly history: History) {
    for (const topic of history.topics) this.topics.set(topic.name, topic)
    for (const { atMs, topic, partition } of history.leaderChanges ?? []) {
      for (const name of [topic, nameOf(topic, partition)]) {
        this.lastChanges.set(name, Math.max(atMs, this.lastChanges.get(name) ?? Number.NEGATIVE_INFINITY))
      }
    }
  }

  topic(name: string): TopicFact {
    const topic = this.topics.get(name)
    if (topic === undefined) throw new Error(`the history names the topic ${name} and does not declare it`)
    return topic
  }

  /**
   * Whether a record that was committed and had been sent at `sentAtMs` may be gone at the end: a `buffered` topic may
   * lose its tail when the power or a flush fails afterwards on a majority of its replicas, and a deleted topic loses
   * everything. Nothing else excuses it. The moment of sending counts, not that of the acknowledgement: it may still
   * have been on its way when the power failed.
   */
  mayVanish(topic: string, sentAtMs: number): boolean {
    const { durability, deletedAtMs, replicas = 1 } = this.topic(topic)
    if (deletedAtMs.length > 0) return true
    return durability === 'buffered' && this.lastQuorumLossMs(Math.floor(replicas / 2) + 1) >= sentAtMs
  }

  /**
   * Whether an acknowledged record may be missing at the end. With `acks: 'none'` always; with `acks: 'leader'` when the
   * partition has got another leader since, which cannot happen to one without other replicas; else like a committed one.
   */
  mayBeLost(send: SendFact): boolean {
    return send.acks === 'none' || this.mayBeSuperseded(send) || this.mayVanish(send.topic, send.invokedAtMs)
  }

  /** With one replica what the leader has is committed. */
  isCommittedWhenAcknowledged({ acks, topic }: SendFact): boolean {
    return acks === 'all' || (acks === 'leader' && (this.topic(topic).replicas ?? 1) === 1)
  }

  /** Whether only the leader of its time may have had it. */
  mayBeSuperseded({ acks, topic, position, invokedAtMs }: SendFact): boolean {
    if (acks !== 'leader' || (this.topic(topic).replicas ?? 1) === 1) return false
    const changedAtMs = this.lastChanges.get(position === null ? topic : nameOf(topic, position.partition))
    return changedAtMs !== undefined && changedAtMs >= invokedAtMs
  }

  /** The first loss of unflushed data at or after a moment, on whatever node. */
  firstLossMs(fromMs: number): number | null {
    let first: number | null = null
    for (const { atMs } of this.history.diskLosses) {
      if (atMs >= fromMs && (first === null || atMs < first)) first = atMs
    }
    return first
  }

  /** What was sent before this moment has seen so many nodes lose what they had not flushed. */
  private lastQuorumLossMs(nodes: number): number {
    let moment = this.quorumLosses.get(nodes)
    if (moment === undefined) {
      const last = new Map<number, number>()
      for (const { atMs, node = 1 } of this.history.diskLosses) {
        last.set(node, Math.max(atMs, last.get(node) ?? Number.NEGATIVE_INFINITY))
      }
      moment = [...last.values()].sort((a, b) => b - a)[nodes - 1] ?? Number.NEGATIVE_INFINITY
      this.quorumLosses.set(nodes, moment)
    }
    return moment
  }
}

export function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
