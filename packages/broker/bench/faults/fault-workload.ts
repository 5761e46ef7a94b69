// Applications of the real client on a cluster that is being hurt: what they send and read is written down.
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, connect, type Mill, MillraceError, type Producer, topic } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { ReadFact } from '../../sim/checker/history.js'
import type { SeededRandom } from '../../sim/random.js'
import { drawRecord, type Recorder } from '../../sim/recorder.js'

export interface FaultTopic {
  readonly name: string
  readonly durability: 'flushed' | 'buffered'
  readonly partitions: number
}

export const FAULT_TOPICS: readonly FaultTopic[] = [
  { name: 'flushed', durability: 'flushed', partitions: 4 },
  { name: 'buffered', durability: 'buffered', partitions: 4 },
]

const CLIENTS = 3
const KEYS = 16
const LARGEST_VALUE_BYTES = 600
const NULL_RATE = 0.05
const MEAN_GAP_MS = 90
const LARGEST_BURST = 8
const MEAN_SESSION_MS = 5_000
const WHOLE_SESSION_CHANCE = 0.1
const AGAIN_MS = 200
const FINAL_READ_MS = 60_000
const CLOSING_MS = 5_000

export class FaultWorkload {
  /** Clients that were made; their counters are summed at the end. */
  readonly mills: Mill[] = []
  longestStallMs = 0
  private lastAckMs = performance.now()
  private stopping = false
  private readonly work: Promise<void>[] = []
  private openSends = 0

  constructor(
    private readonly bootstrap: readonly string[],
    private readonly random: SeededRandom,
    private readonly recorder: Recorder,
  ) {}

  async createTopics(): Promise<void> {
    const mill = this.newMill()
    for (const { name, durability, partitions } of FAULT_TOPICS) {
      await admin(mill).createTopic(name, { durability, partitions })
    }
  }

  begin(): void {
    this.lastAckMs = performance.now()
    for (let client = 1; client <= CLIENTS; client++) {
      const mill = this.newMill()
      for (const { name } of FAULT_TOPICS) {
        const random = this.random.split(`producer-${client}-${name}`)
        this.work.push(this.produce(mill, name, `producer-${client}-${name}`, random))
        this.work.push(this.consume(mill, name, `consumer-${client}-${name}`, client === 1))
      }
    }
  }

  /** The node that leads some partition, as a client knows it. */
  async leader(): Promise<number | null> {
    const mill = this.mills[0]!
    const key = Buffer.from(`key-${this.random.integer(0, KEYS - 1)}`)
    try {
      const { nodeId } = await mill.cluster.whereIs(this.random.pick(FAULT_TOPICS).name, key)
      return nodeId === 0 ? null : nodeId
    } catch (error) {
      mustBeMillraceError(error)
      return null
    }
  }

  /** No further sends; resolves when every one has its outcome and every session has ended. */
  async end(): Promise<void> {
    this.stopping = true
    await Promise.all(this.work)
  }

  /** A client without a past reads everything. @throws Error when that cannot be done in time. */
  async readFinalLogs(): Promise<void> {
    const mill = this.newMill()
    for (const { name, partitions } of FAULT_TOPICS) {
      const reads: ReadFact[][] = Array.from({ length: partitions }, () => [])
      await within(`the final read of ${name}`, this.readAll(mill, name, reads))
      for (const [partition, list] of reads.entries()) this.recorder.finalLog(name, partition, 0, list)
    }
  }

  /** Ends what still runs, which after a failure is everything. */
  async close(): Promise<void> {
    this.stopping = true
    await Promise.race([Promise.allSettled(this.work), sleep(CLOSING_MS)])
    await Promise.all(this.mills.map((mill) => mill.close({ timeoutMs: 2_000 }).catch(mustBeMillraceError)))
  }

  private newMill(): Mill {
    const mill = connect({
      bootstrap: this.bootstrap,
      retry: { initialMs: 50, maxMs: 500 },
      requestTimeoutMs: 5_000,
      wait: true,
      logger: { info() {}, warn() {} },
    })
    this.mills.push(mill)
    return mill
  }

  private async produce(mill: Mill, name: string, producerName: string, random: SeededRandom): Promise<void> {
    // Some give up soon, so that outcomes are unknown while brokers are away.
    const deliveryTimeoutMs = random.pick([3_000, 20_000, 60_000])
    const producer = mill.producer(topic(name, { key: bytes, value: bytes }), { deliveryTimeoutMs })
    const sends: Promise<void>[] = []
    while (!this.stopping) {
      await sleep(random.exponential(MEAN_GAP_MS))
      if (this.openSends > 5_000) continue
      const burst = random.integer(1, LARGEST_BURST)
      for (let i = 0; i < burst; i++) sends.push(this.send(producer, name, producerName, random))
    }
    await Promise.all(sends)
    await producer.close().catch(mustBeMillraceError)
  }

  private async send(
    producer: Producer<Uint8Array, Uint8Array>,
    name: string,
    producerName: string,
    random: SeededRandom,
  ): Promise<void> {
    const { recordId, record } = this.recorder.send(producerName, name, 'all', (idHeader) =>
      drawRecord(random, KEYS, LARGEST_VALUE_BYTES, NULL_RATE, Date.now(), idHeader),
    )
    const { key, value, headers, timestamp } = record
    this.openSends++
    try {
      const { partition, offset } = await producer.send(key, value, { headers, timestamp })
      this.noteAck()
      this.recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition, offset })
    } catch (error) {
      mustBeMillraceError(error)
      this.recorder.settled(recordId, error.outcome ?? 'unknown', null)
    } finally {
      this.openSends--
    }
  }

  private noteAck(): void {
    const now = performance.now()
    this.longestStallMs = Math.max(this.longestStallMs, now - this.lastAckMs)
    this.lastAckMs = now
  }

  /** One session after the other; who `follows` has one, from the first record on. */
  private async consume(mill: Mill, name: string, consumerName: string, follows: boolean): Promise<void> {
    const random = this.random.split(consumerName)
    for (let session = 1; !this.stopping; session++) {
      const untilEnd = !follows && random.chance(WHOLE_SESSION_CHANCE)
      const limitMs = follows || untilEnd ? Number.POSITIVE_INFINITY : random.exponential(MEAN_SESSION_MS)
      await this.session(mill, name, `${consumerName}.${session}`, follows || untilEnd, untilEnd, limitMs)
      await sleep(AGAIN_MS)
    }
  }

  private async session(
    mill: Mill,
    name: string,
    sessionName: string,
    fromEarliest: boolean,
    untilEnd: boolean,
    limitMs: number,
  ): Promise<void> {
    const from = fromEarliest ? 'earliest' : 'latest'
    const session = this.recorder.openSession(sessionName, name, from)
    const consumer = mill.consumer()
    const source = consumer.subscribe(topic(name, { key: bytes, value: bytes }), {
      from,
      ...(untilEnd && { until: 'end' }),
    })
    const endAtMs = performance.now() + limitMs
    await new Promise<void>((resolve) => {
      const subscription = source.subscribe({
        next: (record) => this.recorder.read(session, record.partition, record.offset, record),
        error: (error: unknown) => {
          mustBeMillraceError(error)
          session.failure = error.code
          resolve()
        },
        complete: () => {
          session.reachedEnd = untilEnd
          resolve()
        },
      })
      const watch = setInterval(() => {
        if (!this.stopping && performance.now() < endAtMs) return
        clearInterval(watch)
        subscription.unsubscribe()
        resolve()
      }, 50)
      void subscription.add(() => clearInterval(watch))
    })
    await consumer.close({ timeoutMs: 1_000 }).catch(mustBeMillraceError)
  }

  private readAll(mill: Mill, name: string, reads: readonly ReadFact[][]): Promise<void> {
    const source = mill
      .consumer()
      .subscribe(topic(name, { key: bytes, value: bytes }), { from: 'earliest', until: 'end' })
    return new Promise((resolve, reject) => {
      source.subscribe({
        next: (record) =>
          reads[record.partition]!.push(this.recorder.readFact(record.partition, record.offset, record)),
        error: reject,
        complete: resolve,
      })
    })
  }
}

/** Everything the client rejects with is an error of its own kind; anything else is a bug. */
function mustBeMillraceError(error: unknown): asserts error is MillraceError {
  if (!MillraceError.is(error)) throw error
}

async function within<T>(what: string, work: Promise<T>): Promise<T> {
  const late = new AbortController()
  const limit = sleep(FINAL_READ_MS, null, { signal: late.signal }).then(
    () => {
      throw new Error(`${what} was not done within ${FINAL_READ_MS} ms`)
    },
    () => new Promise<never>(() => {}),
  )
  try {
    return await Promise.race([work, limit])
  } finally {
    late.abort()
  }
}
