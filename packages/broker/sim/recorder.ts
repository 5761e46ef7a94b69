// Writes down what the applications of a run saw, and turns it into the history that the checker reads.
import { crc32 } from 'node:zlib'
import type {
  BoundsFact,
  DiskLoss,
  FinalLog,
  History,
  LastStart,
  LeaderChange,
  ReadFact,
  ReplicaLog,
  SendAcks,
  SendFact,
  SendOutcome,
  SessionFact,
  TopicFact,
} from './checker/history.js'
import type { SeededRandom } from './random.js'

/** A record as an application gives it to `send` and gets it from a subscription. */
export interface PlainRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [string, Uint8Array | null])[]
  readonly timestamp: number
}

/** The record's number travels in this header: keys and values are free to be null or empty. */
const ID_HEADER = 'id'

interface OpenSend {
  fact: SendFact
  settled: boolean
}

class OpenSession {
  readonly reads: ReadFact[] = []
  reachedEnd = false
  /** Code of the error that ended it. */
  failure: string | null = null

  constructor(
    readonly name: string,
    readonly topic: string,
    readonly from: 'earliest' | 'latest',
    readonly openedAtMs: number,
  ) {}
}

export class Recorder {
  readonly diskLosses: DiskLoss[] = []
  readonly bounds: BoundsFact[] = []
  readonly replicaLogs: ReplicaLog[] = []
  /** Lives of a topic whose name is used again and again: each by a name of its own. */
  readonly incarnations: { readonly name: string; readonly partitions: number }[] = []
  /** The last one of each partition. */
  private readonly leaderChanges = new Map<string, LeaderChange>()
  private readonly sends: OpenSend[] = []
  private readonly sessions: OpenSession[] = []
  readonly lastStarts: LastStart[] = []
  private readonly finalLogs: FinalLog[] = []
  private readonly orders = new Map<string, number>()
  private readonly movedKeys = new Set<string>()
  private readonly deletions = new Map<string, number[]>()

  constructor(private readonly nowMs: () => number) {}

  get sendCount(): number {
    return this.sends.length
  }

  get unsettledCount(): number {
    return this.sends.filter(({ settled }) => !settled).length
  }

  countOf(outcome: SendOutcome): number {
    return this.sends.filter(({ settled, fact }) => settled && fact.outcome === outcome).length
  }

  get readCount(): number {
    return this.sessions.reduce((count, { reads }) => count + reads.length, 0)
  }

  /** Notes a send before it happens; `make` builds the record around its number. */
  send(
    producer: string,
    topic: string,
    acks: SendAcks,
    make: (idHeader: readonly [string, Uint8Array]) => PlainRecord,
  ): { readonly recordId: number; readonly record: PlainRecord } {
    const recordId = this.sends.length
    const record = make([ID_HEADER, encodeId(recordId)])
    const order = this.orders.get(producer) ?? 0
    this.orders.set(producer, order + 1)
    const fact: SendFact = {
      recordId,
      topic,
      key: record.key === null ? null : Buffer.from(record.key).toString('hex'),
      producer,
      order,
      digest: digestOf(record),
      acks,
      invokedAtMs: this.nowMs(),
      outcome: 'unknown',
      settledAtMs: Number.POSITIVE_INFINITY,
      position: null,
    }
    this.sends.push({ fact, settled: false })
    return { recordId, record }
  }

  settled(recordId: number, outcome: SendOutcome, position: SendFact['position']): void {
    const send = this.sends[recordId]!
    if (send.settled) throw new Error(`the send of record ${recordId} has settled twice`)
    send.settled = true
    send.fact = { ...send.fact, outcome, position, settledAtMs: this.nowMs() }
  }

  /** The application that sent it is gone; what became of the record nobody has heard. */
  abandoned(recordId: number): void {
    const send = this.sends[recordId]!
    if (!send.settled) this.settled(recordId, 'unknown', null)
  }

  openSession(name: string, topic: string, from: 'earliest' | 'latest'): OpenSession {
    const session = new OpenSession(name, topic, from, this.nowMs())
    this.sessions.push(session)
    return session
  }

  read(session: OpenSession, partition: number, offset: number, record: PlainRecord): void {
    session.reads.push(this.readFact(partition, offset, record))
  }

  finalLog(topic: string, partition: number, startOffset: number, reads: readonly ReadFact[]): void {
    this.finalLogs.push({ topic, partition, startOffset, reads })
  }

  readFact(partition: number, offset: number, record: PlainRecord): ReadFact {
    return { partition, offset, recordId: idOf(record), digest: digestOf(record), atMs: this.nowMs() }
  }

  /** Where acknowledgements say that records are. */
  positions(): { readonly topic: string; readonly partition: number; readonly offset: number }[] {
    return this.sends.flatMap(({ fact: { topic, position } }) => (position === null ? [] : [{ topic, ...position }]))
  }

  /** For each topic, the offset after the last record of each partition in the final logs. */
  finalEnds(): Map<string, number[]> {
    const ends = new Map<string, number[]>()
    for (const { topic, partition, reads } of this.finalLogs) {
      const list = ends.get(topic) ?? []
      list[partition] = (reads.at(-1)?.offset ?? -1) + 1
      ends.set(topic, list)
    }
    return ends
  }

  /** Whether a record that was acknowledged is gone from a topic that may lose its tail. */
  lostTail(topics: readonly { readonly name: string; readonly durability: string }[]): boolean {
    const buffered = new Set(topics.filter(({ durability }) => durability === 'buffered').map(({ name }) => name))
    const there = new Set(this.finalLogs.flatMap(({ reads }) => reads.map(({ recordId }) => recordId)))
    return this.sends.some(
      ({ fact }) =>
        buffered.has(fact.topic) &&
        fact.outcome === 'acknowledged' &&
        fact.acks !== 'none' &&
        !there.has(fact.recordId),
    )
  }

  /** There is a leader in a new term, or one of an older term still takes itself for it. */
  leaderChanged(topic: string, partition: number): void {
    this.leaderChanges.set(`${topic}/${partition}`, { atMs: this.nowMs(), topic, partition })
  }

  topicDeleted(topic: string): void {
    const moments = this.deletions.get(topic)
    if (moments === undefined) this.deletions.set(topic, [this.nowMs()])
    else moments.push(this.nowMs())
  }

  /** The topic is about to have more partitions: keys go to others. */
  keysMoved(topic: string): void {
    this.movedKeys.add(topic)
  }

  /** @param deletionSpreadMs how long a broker may take to hear that a topic is gone. */
  history(
    topics: readonly {
      readonly name: string
      readonly durability: 'flushed' | 'buffered'
      readonly partitions: number
      readonly retentionBytes?: number
      /** Of each partition; 1 when left out. */
      readonly replicas?: number
      readonly hasMorePartitions?: boolean
    }[],
    deletionSpreadMs = 0,
  ): History {
    const facts: TopicFact[] = topics.map(({ retentionBytes, ...topic }) => ({
      ...topic,
      hasRetention: retentionBytes !== undefined,
      hasMorePartitions: topic.hasMorePartitions === true || this.movedKeys.has(topic.name),
      deletedAtMs: (this.deletions.get(topic.name) ?? []).map((atMs) => atMs + deletionSpreadMs),
    }))
    return {
      topics: facts,
      sends: this.sends.map(({ fact }) => fact),
      sessions: this.sessions.map((session): SessionFact => ({ ...session })),
      finalLogs: this.finalLogs,
      lastStarts: this.lastStarts,
      diskLosses: this.diskLosses,
      bounds: this.bounds,
      leaderChanges: [...this.leaderChanges.values()],
      replicaLogs: this.replicaLogs,
    }
  }
}

export type { OpenSession }

/** A record whose content is drawn; `explicitTimestamp` is what makes `timestamp` part of what must come back. */
export function drawRecord(
  random: SeededRandom,
  keys: number,
  largestValueBytes: number,
  nullRate: number,
  wallMs: number,
  idHeader: readonly [string, Uint8Array],
): PlainRecord {
  const key = random.chance(nullRate) ? null : Buffer.from(`key-${random.integer(0, keys - 1)}`)
  const value = random.chance(nullRate) ? null : drawValue(random, largestValueBytes)
  const headers: (readonly [string, Uint8Array | null])[] = [idHeader]
  if (random.chance(0.1)) headers.push(['trace', random.chance(0.5) ? null : Buffer.from('abc')])
  return { key, value, headers, timestamp: random.chance(0.2) ? random.integer(0, 2 ** 40) : wallMs }
}

/** Text to cut values out of: compressible like real data, and different at every place. */
const TEXT = Buffer.from(Array.from({ length: 8192 }, (_, i) => `${i.toString(36)} flows over the wheel; `).join(''))

function drawValue(random: SeededRandom, largestBytes: number): Uint8Array {
  const length = random.integer(0, largestBytes)
  const start = random.integer(0, TEXT.byteLength - length)
  return new Uint8Array(TEXT.subarray(start, start + length))
}

function encodeId(recordId: number): Uint8Array {
  const bytes = new Uint8Array(4)
  new DataView(bytes.buffer).setUint32(0, recordId, true)
  return bytes
}

function idOf(record: PlainRecord): number | null {
  const bytes = record.headers.find(([name]) => name === ID_HEADER)?.[1]
  if (bytes?.byteLength !== 4) return null
  return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true)
}

function digestOf({ key, value, headers, timestamp }: PlainRecord): string {
  let sum = crc32(
    `${key === null ? 'none' : key.byteLength}/${value === null ? 'none' : value.byteLength}/${timestamp}`,
  )
  if (key !== null) sum = crc32(key, sum)
  if (value !== null) sum = crc32(value, sum)
  for (const [name, bytes] of headers) {
    sum = crc32(`${name}=${bytes === null ? 'none' : bytes.byteLength};`, sum)
    if (bytes !== null) sum = crc32(bytes, sum)
  }
  return sum.toString(16)
}
