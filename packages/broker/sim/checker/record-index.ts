// A history arranged for questions: sends by record, final logs by partition, what each topic promises.
import type { FinalLog, History, ReadFact, SendFact, TopicFact } from './history.js'

export class RecordIndex {
  readonly sendOf = new Map<number, SendFact>()
  private readonly topics = new Map<string, TopicFact>()
  private readonly logs = new Map<string, FinalLog>()
  private readonly finalReads = new Map<string, Map<number, ReadFact>>()
  /** Where each record is at the end. */
  private readonly places = new Map<number, { readonly topic: string; readonly read: ReadFact }[]>()

  constructor(readonly history: History) {
    for (const send of history.sends) this.sendOf.set(send.recordId, send)
    for (const topic of history.topics) this.topics.set(topic.name, topic)
    for (const log of history.finalLogs) this.addLog(log)
  }

  topic(name: string): TopicFact {
    const topic = this.topics.get(name)
    if (topic === undefined) throw new Error(`the history names the topic ${name} and does not declare it`)
    return topic
  }

  /** Whether a final log of this partition was read; deleted topics have none. */
  hasFinalLog(topic: string, partition: number): boolean {
    return this.logs.has(nameOf(topic, partition))
  }

  /** Where a log begins at the end. */
  finalStart(topic: string, partition: number): number {
    return this.logs.get(nameOf(topic, partition))?.startOffset ?? 0
  }

  /** Whether an offset lies in what retention has taken at the end. */
  isExpired(topic: string, partition: number, offset: number): boolean {
    return offset < this.finalStart(topic, partition)
  }

  /** Whether an acknowledged record may have been taken by retention; nobody knows where some of them were. */
  mayBeExpired({ topic, position }: Pick<SendFact, 'topic' | 'position'>): boolean {
    if (this.topic(topic).hasRetention !== true) return false
    return position === null || this.isExpired(topic, position.partition, position.offset)
  }

  finalAt(topic: string, partition: number, offset: number): ReadFact | null {
    return this.finalReads.get(nameOf(topic, partition))?.get(offset) ?? null
  }

  placesOf(recordId: number): readonly { readonly topic: string; readonly read: ReadFact }[] {
    return this.places.get(recordId) ?? []
  }

  /**
   * Whether a record that was sent at `sentAtMs` may be gone at the end: a `buffered` topic may lose its tail when the
   * power or a flush fails afterwards, and a deleted topic loses everything. Nothing else excuses a loss. The moment of sending
   * counts, not that of the acknowledgement: it may still have been on its way when the power failed.
   */
  mayBeGone(topic: string, sentAtMs: number): boolean {
    const { durability, deletedAtMs } = this.topic(topic)
    if (deletedAtMs.length > 0) return true
    return durability === 'buffered' && this.history.diskLosses.some((cut) => cut.atMs >= sentAtMs)
  }

  /** When a record that was read had been sent; a record that nobody sent has no excuse. */
  sentAtMs({ recordId }: ReadFact): number {
    const send = recordId === null ? undefined : this.sendOf.get(recordId)
    return send?.invokedAtMs ?? Number.POSITIVE_INFINITY
  }

  private addLog(log: FinalLog): void {
    const name = nameOf(log.topic, log.partition)
    this.logs.set(name, log)
    const reads = new Map<number, ReadFact>()
    for (const read of log.reads) {
      reads.set(read.offset, read)
      if (read.recordId === null) continue
      const places = this.places.get(read.recordId)
      if (places === undefined) this.places.set(read.recordId, [{ topic: log.topic, read }])
      else places.push({ topic: log.topic, read })
    }
    this.finalReads.set(name, reads)
  }
}

function nameOf(topic: string, partition: number): string {
  return `${topic}/${partition}`
}
