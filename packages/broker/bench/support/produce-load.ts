// A closed loop of producers' calls: a fixed number in flight, each with the same number of records, for a given time.
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks'
import { bytes, type Mill, type ProducerOptions, topic } from '@millrace/client'
import { keyPool, payloadPool } from './payloads.js'

export interface ProduceLoad {
  readonly topic: string
  readonly recordBytes: number
  readonly recordsPerCall: number
  readonly callsInFlight: number
  readonly seconds: number
  /** Seconds at the beginning that do not count. */
  readonly warmUpSeconds: number
  readonly keys: number
  /** All records of a call have one key, and so go to one partition. */
  readonly oneKeyPerCall?: boolean
  readonly options?: ProducerOptions
  /** Called when the warm-up is over: the figures of the broker are read here and at the end. */
  onMeasure?(): void
  /** Called at the end of the time that counts, while the load is still on. */
  onMeasured?(): void
}

export interface ProduceFigures {
  readonly records: number
  readonly bytes: number
  readonly seconds: number
  readonly latency: RecordableHistogram
}

const NANOSECONDS_PER_MS = 1e6

export async function produceLoad(mill: Mill, load: ProduceLoad): Promise<ProduceFigures> {
  const producer = mill.producer(topic(load.topic, { key: bytes, value: bytes }), load.options ?? {})
  const values = payloadPool(load.recordBytes)
  const keys = keyPool(load.keys)
  const latency = createHistogram()
  let turn = 0
  let records = 0
  let warm = false
  let measuring = false
  let stop = false
  let call = 0
  const oneCall = (): { key: Uint8Array; value: Uint8Array }[] => {
    call++
    return Array.from({ length: load.recordsPerCall }, () => {
      turn++
      return { key: keys[(load.oneKeyPerCall ? call : turn) % keys.length]!, value: values[turn % values.length]! }
    })
  }
  const caller = async (): Promise<void> => {
    while (!stop) {
      const began = performance.now()
      await producer.sendBatch(oneCall())
      warm = true
      if (!measuring) continue
      records += load.recordsPerCall
      latency.record(Math.max(1, Math.round((performance.now() - began) * NANOSECONDS_PER_MS)))
    }
  }
  const callers = Array.from({ length: load.callsInFlight }, caller)
  do await wait(load.warmUpSeconds)
  while (!warm)
  load.onMeasure?.()
  measuring = true
  const began = performance.now()
  do await wait(load.seconds)
  while (records === 0)
  const seconds = (performance.now() - began) / 1000
  const counted = records
  load.onMeasured?.()
  stop = true
  await Promise.all(callers)
  await producer.close()
  return { records: counted, bytes: counted * load.recordBytes, seconds, latency }
}

export const wait = (seconds: number): Promise<void> =>
  new Promise((resolve) => {
    setTimeout(resolve, seconds * 1000)
  })
export const percentileMs = (histogram: RecordableHistogram, percentile: number): number =>
  histogram.percentile(percentile) / NANOSECONDS_PER_MS
