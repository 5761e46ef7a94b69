// Producers and consumers of the real client, whose sends and reads are written down.
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, connect, type Mill, MillraceError, type Producer, topic } from '@millrace/client'
import type { ReadFact } from '../../sim/checker/history.js'
import type { SeededRandom } from '../../sim/random.js'
import { drawRecord, type OpenSession, type Recorder } from '../../sim/recorder.js'

/** Keys of the records of a topic. */
export const KEYS = 16
const LARGEST_VALUE_BYTES = 600
const NULL_RATE = 0.05
const MEAN_GAP_MS = 90
const LARGEST_BURST = 8
const MOST_OPEN_SENDS = 1_000
const LOOK_MS = 50
const FINAL_READ_MS = 60_000

/** A topic that is made anew under its old name is another one in the history. */
export interface AppTopic {
  readonly name: string
  readonly label: string
}

interface AppOptions {
  readonly mill: Mill
  readonly topic: AppTopic
  /** In the history. */
  readonly name: string
  readonly recorder: Recorder
  readonly isOver: () => boolean
}

export interface ProduceOptions extends AppOptions {
  readonly random: SeededRandom
  readonly deliveryTimeoutMs: number
  readonly onSend?: () => void
  /** @param afterMs since it was sent. */
  readonly onAcknowledged?: (afterMs: number) => void
}

export interface FollowOptions extends AppOptions {
  readonly from: 'earliest' | 'latest'
  readonly untilEnd: boolean
  readonly onRecord?: () => void
}

export function newMill(bootstrap: readonly string[], requestTimeoutMs = 5_000): Mill {
  return connect({
    bootstrap,
    retry: { initialMs: 50, maxMs: 500 },
    requestTimeoutMs,
    wait: true,
    logger: { info() {}, warn() {} },
  })
}

/** Sends until it is over; resolves when every send has its outcome. */
export async function produce(options: ProduceOptions): Promise<void> {
  const { mill, random, deliveryTimeoutMs, isOver } = options
  const producer = mill.producer(topic(options.topic.name, { key: bytes, value: bytes }), { deliveryTimeoutMs })
  const open = new Set<Promise<void>>()
  while (!isOver()) {
    await sleep(random.exponential(MEAN_GAP_MS))
    if (open.size > MOST_OPEN_SENDS) continue
    const burst = random.integer(1, LARGEST_BURST)
    for (let i = 0; i < burst; i++) {
      const sent = send(producer, options)
      open.add(sent)
      void sent.finally(() => open.delete(sent))
    }
  }
  await Promise.all(open)
  await producer.close().catch(mustBeMillraceError)
}

async function send(producer: Producer<Uint8Array, Uint8Array>, options: ProduceOptions): Promise<void> {
  const { name, random, recorder, onSend, onAcknowledged } = options
  onSend?.()
  const { recordId, record } = recorder.send(name, options.topic.label, 'all', (idHeader) =>
    drawRecord(random, KEYS, LARGEST_VALUE_BYTES, NULL_RATE, Date.now(), idHeader),
  )
  const { key, value, headers, timestamp } = record
  const sentAtMs = performance.now()
  try {
    const { partition, offset } = await producer.send(key, value, { headers, timestamp })
    recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition, offset })
    onAcknowledged?.(performance.now() - sentAtMs)
  } catch (error) {
    mustBeMillraceError(error)
    recorder.settled(recordId, error.outcome ?? 'unknown', null)
  }
}

/** One session; resolves when it has ended by itself, or when it is over. */
export async function follow(options: FollowOptions): Promise<OpenSession> {
  const { mill, name, recorder, from, untilEnd, isOver, onRecord } = options
  const session = recorder.openSession(name, options.topic.label, from)
  const consumer = mill.consumer()
  const source = consumer.subscribe(topic(options.topic.name, { key: bytes, value: bytes }), {
    from,
    ...(untilEnd && { until: 'end' }),
  })
  await new Promise<void>((resolve) => {
    const subscription = source.subscribe({
      next: (record) => {
        recorder.read(session, record.partition, record.offset, record)
        onRecord?.()
      },
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
      if (!isOver()) return
      clearInterval(watch)
      subscription.unsubscribe()
      resolve()
    }, LOOK_MS)
    void subscription.add(() => clearInterval(watch))
  })
  await consumer.close({ timeoutMs: 1_000 }).catch(mustBeMillraceError)
  return session
}

/** Notes everything that is in a topic as what it holds at its end. @throws Error when that cannot be read in time. */
export async function readFinalLog(
  mill: Mill,
  { name, label }: AppTopic,
  partitions: number,
  recorder: Recorder,
): Promise<void> {
  const reads: ReadFact[][] = Array.from({ length: partitions }, () => [])
  const source = mill
    .consumer()
    .subscribe(topic(name, { key: bytes, value: bytes }), { from: 'earliest', until: 'end' })
  const whole = new Promise<void>((resolve, reject) => {
    source.subscribe({
      next: (record) => {
        const list = reads[record.partition]
        if (list === undefined) reject(new Error(`${label} has a partition ${record.partition}`))
        list?.push(recorder.readFact(record.partition, record.offset, record))
      },
      error: reject,
      complete: resolve,
    })
  })
  await within(`the final read of ${label}`, FINAL_READ_MS, whole)
  for (const [partition, list] of reads.entries()) recorder.finalLog(label, partition, 0, list)
}

/** Everything the client rejects with is an error of its own kind; anything else is a bug. */
export function mustBeMillraceError(error: unknown): asserts error is MillraceError {
  if (!MillraceError.is(error)) throw error
}

/** @throws Error when it takes longer. */
export async function within<T>(what: string, limitMs: number, work: Promise<T>): Promise<T> {
  const late = new AbortController()
  const limit = sleep(limitMs, null, { signal: late.signal }).then(
    () => {
      throw new Error(`${what} was not done within ${limitMs} ms`)
    },
    () => new Promise<never>(() => {}),
  )
  try {
    return await Promise.race([work, limit])
  } finally {
    late.abort()
  }
}
