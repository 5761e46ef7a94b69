// W11: what the client does on one connection and partition: single awaited sends, awaited batches of 100, and
// consuming a backlog. Buffered topic, acks `all`.
import { bytes, type ConsumerRecord, topic } from '@millrace/client'
import { fill } from './support/backlog.js'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { payloadPool } from './support/payloads.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w11'

const BATCH = 100

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 4)
  const backlog = options.tiny ? 20_000 : 2_000_000
  const results: object[] = []
  for (const recordBytes of [100, 1024]) {
    const records = recordBytes === 100 ? backlog : Math.floor(backlog / 4)
    results.push(await withSession(bench.prefer, (session) => measure(session, recordBytes, records, bench)))
  }
  return { name, results }
}

async function measure(session: Session, recordBytes: number, backlog: number, bench: BenchOptions): Promise<object> {
  await session.createTopic('client', 1, 'buffered')
  const values = payloadPool(recordBytes)
  const producer = session.mill.producer(topic('client', { key: bytes, value: bytes }))
  const single = await perSecond(bench.seconds, 1, async (i) => {
    await producer.send(null, values[i % values.length]!)
  })
  const batched = await perSecond(bench.seconds, BATCH, async (i) => {
    await producer.sendBatch(batchOf(values, i, BATCH))
  })
  await producer.close()
  await fill(session, { topic: 'backlog', partitions: 1, recordBytes, keys: 0 }, backlog)
  const consumed = await consume(session, backlog)
  return {
    name,
    recordBytes,
    singleSendsPerSecond: Math.round(single),
    batchedRecordsPerSecond: Math.round(batched),
    consumedRecordsPerSecond: Math.round(consumed),
    consumedMbPerSecond: round((consumed * recordBytes) / 1e6, 1),
    environment: session.broker.environment,
  }
}

const batchOf = (values: readonly Uint8Array[], turn: number, count: number) =>
  Array.from({ length: count }, (_, i) => ({ key: null, value: values[(turn * count + i) % values.length]! }))

async function perSecond(seconds: number, each: number, call: (turn: number) => Promise<void>): Promise<number> {
  for (let i = 0; i < 50; i++) await call(i)
  const began = performance.now()
  const end = began + seconds * 1000
  let calls = 0
  while (performance.now() < end) await call(calls++)
  return (calls * each * 1000) / (performance.now() - began)
}

/** Records a second from the first one delivered to the last. */
function consume(session: Session, count: number): Promise<number> {
  const stream = session.mill.consumer().subscribe(topic('backlog', { key: bytes, value: bytes }), { from: 'earliest' })
  return new Promise((resolve, reject) => {
    let received = 0
    let began = 0
    const subscription = stream.subscribe({
      next: (_record: ConsumerRecord<Uint8Array, Uint8Array>) => {
        if (received++ === 0) began = performance.now()
        if (received < count) return
        subscription.unsubscribe()
        resolve((received * 1000) / (performance.now() - began))
      },
      error: reject,
    })
  })
}
