// A process of its own that consumes a topic and says how much, how fast, and how late.
import { createHistogram } from 'node:perf_hooks'
import { bytes, type ConsumerRecord, connect, type Mill, processEach, topic } from '@millrace/client'
import { type DrainFigures, type DrainOrder, type DrainQuestion, dueOf, wallNowMs } from './drain-messages.js'
import { percentileMs, wait } from './produce-load.js'

const NANOSECONDS_PER_MS = 1e6
/** How far a paced reader may be ahead of its rate before it waits. */
const AHEAD_MS = 5
/** One record in so many is timed: looking at the clock for each would cost the consumer more than the record. */
const TIMED_EACH = 8
/** The clock is asked once in so many records for the rate. */
const CLOCK_EACH = 64

let latency = createHistogram()
let records = 0
let consumed = 0
let firstAtMs = 0
let lastAtMs = 0

function note(value: Uint8Array | null, timed: boolean): void {
  const length = value?.length ?? 0
  if (records % CLOCK_EACH === 0) lastAtMs = wallNowMs()
  if (records++ === 0) firstAtMs = lastAtMs
  consumed += length
  if (timed && value !== null && records % TIMED_EACH === 0) {
    latency.record(Math.max(1, Math.round((wallNowMs() - dueOf(value)) * NANOSECONDS_PER_MS)))
  }
}

function figures(): DrainFigures {
  return {
    records,
    bytes: consumed,
    elapsedMs: lastAtMs - firstAtMs,
    p50Ms: percentileMs(latency, 50),
    p99Ms: percentileMs(latency, 99),
    p999Ms: percentileMs(latency, 99.9),
  }
}

function restart(): void {
  records = consumed = 0
  latency = createHistogram()
}

async function paced(mill: Mill, order: DrainOrder): Promise<void> {
  const began = wallNowMs()
  let taken = 0
  const stream = mill.consumer().subscribe(topic(order.topic, { key: bytes, value: bytes }), { from: order.from })
  for await (const { value } of stream) {
    note(value, order.timed)
    taken += value?.length ?? 0
    const aheadMs = (taken / order.bytesPerSecond) * 1000 - (wallNowMs() - began)
    if (aheadMs > AHEAD_MS) await wait(aheadMs / 1000)
  }
}

const fail = (error: unknown): never => {
  throw error
}

function begin(order: DrainOrder): Mill[] {
  return Array.from({ length: order.consumers }, () => {
    const mill = connect({ bootstrap: order.bootstrap })
    if (order.bytesPerSecond > 0) {
      void paced(mill, order)
      return mill
    }
    const stream = mill.consumer().subscribe(topic(order.topic, { key: bytes, value: bytes }), { from: order.from })
    const { handler } = order
    if (handler !== undefined) {
      const handle = async ({ value }: ConsumerRecord<Uint8Array, Uint8Array>): Promise<void> => {
        await wait(handler.ms / 1000)
        note(value, order.timed)
      }
      stream.pipe(processEach(handle, { concurrency: handler.concurrency })).subscribe({ error: fail })
      return mill
    }
    stream.subscribe({
      next: ({ value }) => note(value, order.timed),
      error: fail,
    })
    return mill
  })
}

let mills: Mill[] = []
process.on('message', (message: DrainOrder | DrainQuestion) => {
  if (message === 'figures' || message === 'restart') {
    process.send!(figures())
    if (message === 'restart') restart()
  } else if (message === 'stop') void Promise.all(mills.map((mill) => mill.close())).then(() => process.disconnect())
  else mills = begin(message)
})
