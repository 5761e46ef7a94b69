// W6: end-to-end latency, records of 1 KiB at a fixed rate over 16 partitions, open loop: a record that is late because
// the one before it was late counts from when it should have been sent.
import { createHistogram } from 'node:perf_hooks'
import { bytes, topic } from '@millrace/client'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { keyPool, payloadPool } from './support/payloads.js'
import { percentileMs, wait } from './support/produce-load.js'
import { round, type Session, withSession } from './support/session.js'

export const name = 'w6'

const RATE = 10_000
const RECORD_BYTES = 1024
const KEYS = 1000
const NANOSECONDS_PER_MS = 1e6

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 10)
  const results: object[] = []
  for (const durability of ['buffered', 'flushed'] as const) {
    results.push(await withSession(bench.prefer, (session) => measure(session, durability, bench)))
  }
  return { name, rate: RATE, results }
}

async function measure(session: Session, durability: 'buffered' | 'flushed', bench: BenchOptions): Promise<object> {
  await session.createTopic('latency', 16, durability)
  const records = topic('latency', { key: bytes, value: bytes })
  const latency = createHistogram()
  let measuring = false
  let received = 0
  const consuming = session.mill
    .consumer()
    .subscribe(records, { from: 'earliest' })
    .subscribe({
      next: ({ value }) => {
        received++
        if (!measuring || value === null) return
        const due = new DataView(value.buffer, value.byteOffset).getFloat64(0, true)
        latency.record(Math.max(1, Math.round((performance.now() - due) * NANOSECONDS_PER_MS)))
      },
      error: (error) => {
        throw error
      },
    })
  const producer = session.mill.producer(records)
  const values = payloadPool(RECORD_BYTES)
  const keys = keyPool(KEYS)
  const began = performance.now()
  const end = began + (bench.warmUpSeconds + bench.seconds) * 1000
  const measureFrom = began + bench.warmUpSeconds * 1000
  let sent = 0
  const sendDue = (now: number): void => {
    for (; began + (sent * 1000) / RATE <= now; sent++) {
      const value = values[sent % values.length]!
      new DataView(value.buffer).setFloat64(0, began + (sent * 1000) / RATE, true)
      producer.send(keys[sent % KEYS]!, value).catch(() => {})
    }
  }
  await new Promise<void>((resolve) => {
    const tick = (): void => {
      const now = performance.now()
      if (now >= end) {
        resolve()
        return
      }
      if (!measuring && now >= measureFrom) {
        measuring = true
        session.broker.mark()
      }
      sendDue(now)
      setTimeout(tick, 1)
    }
    tick()
  })
  const cpu = session.broker.cpuSinceMark()
  await producer.close()
  for (let i = 0; received < sent && i < 600; i++) await wait(0.05)
  consuming.unsubscribe()
  if (received !== sent) throw new Error(`${sent} records sent, ${received} received`)
  return {
    name,
    durability,
    recordsPerSecond: Math.round((sent * 1000) / (end - began)),
    p50Ms: round(percentileMs(latency, 50)),
    p99Ms: round(percentileMs(latency, 99)),
    p999Ms: round(percentileMs(latency, 99.9)),
    brokerCpuSecondsPerGb: cpu === null ? null : round(cpu / ((RATE * bench.seconds * RECORD_BYTES) / 1e9)),
    brokerPeakRssMb: round(session.broker.peakRssMb() ?? 0, 0),
    environment: session.broker.environment,
  }
}
