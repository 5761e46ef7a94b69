// A history arranged for questions: sends by record, final logs by partition, what each topic promises.
import type { FinalLog, History, LastStart, ReadFact, SendFact, TopicFact } from './history.js'
import { nameOf, Promises } from './promises.js'

export interface Place {
  readonly topic: string
  readonly read: ReadFact
}

const NOWHERE: readonly Place[] = []

export class RecordIndex {
  readonly promises: Promises
  readonly sendOf = new Map<number, SendFact>()
  private readonly logs = new Map<string, FinalLog>()
  private readonly lastStarts = new Map<string, LastStart>()
  private readonly finalReads = new Map<string, Map<number, ReadFact>>()
  /** Where each record is at the end. */
  private readonly places = new Map<number, Place[]>()

  constructor(readonly history: History) {
    this.promises = new Promises(history)
    for (const send of history.sends) this.sendOf.set(send.recordId, send)
    for (const log of history.finalLogs) this.addLog(log)
    for (const last of history.lastStarts ?? []) this.lastStarts.set(nameOf(last.topic, last.partition), last)
  }

  topic(name: string): TopicFact {
    return this.promises.topic(name)
  }

  /** Whether a final log of this partition was read; deleted topics have none. */
  hasFinalLog(topic: string, partition: number): boolean {
    return this.logs.has(nameOf(topic, partition))
  }

  /** Where a log begins at the end. */
  finalStart(topic: string, partition: number): number {
    return this.logs.get(nameOf(topic, partition))?.startOffset ?? 0
  }

  /** The last word on where a log begins; null for one that nobody has read at the end. */
  lastStart(topic: string, partition: number): Pick<LastStart, 'askedAtMs' | 'startOffset'> | null {
    if (!this.hasFinalLog(topic, partition)) return null
    const last = this.lastStarts.get(nameOf(topic, partition))
    return last ?? { askedAtMs: Number.POSITIVE_INFINITY, startOffset: this.finalStart(topic, partition) }
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

  placesOf(recordId: number): readonly Place[] {
    return this.places.get(recordId) ?? NOWHERE
  }

  sendBehind({ recordId }: ReadFact): SendFact | undefined {
    return recordId === null ? undefined : this.sendOf.get(recordId)
  }

  /** When a record that was read had been sent; a record that nobody sent has no excuse. */
  sentAtMs(read: ReadFact): number {
    return this.sendBehind(read)?.invokedAtMs ?? Number.POSITIVE_INFINITY
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
