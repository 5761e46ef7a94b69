// What one core of the client alone can do, with a broker that costs next to nothing: sends one by one, in batches of
// 100, in a loop over ready(); and delivery through an Observable, an operator with settlement, and a loop. 100-byte
// records, counted per second of CPU, so that a busy machine changes little.
import { bytes, type ConsumerRecord, type Mill, processEach, type RecordStream, topic } from '@millrace/client'
import { connectWith } from '@millrace/client/environment'
import { crc32, LOG_PART_BYTES, RecordBatchBuilder, writeLogPart } from '@millrace/protocol'
import { type Backlog, StubBroker } from './support/stub-broker.js'

export const name = 'client-core'

interface RunOptions {
  readonly tiny?: boolean
}

const RECORD_BYTES = 100
const RECORDS_PER_BATCH = 2_000
const Bench = topic('bench', { key: bytes, value: bytes })

type Records = RecordStream<Uint8Array, Uint8Array>

export async function run({ tiny = false }: RunOptions): Promise<object> {
  const sends = tiny ? 2_000 : 300_000
  const deliveries = tiny ? 20_000 : 6_000_000
  // Twice, and the second counts: the first warms the code up.
  for (const warm of [true, false]) {
    const scale = warm ? 0.2 : 1
    const results = {
      name,
      recordBytes: RECORD_BYTES,
      singleSendsPerSecond: await single(sends * scale * 0.3),
      batchedRecordsPerSecond: await batched(sends * scale * 3),
      loopedRecordsPerSecond: await looped(sends * scale * 3),
      observedRecordsPerSecond: await consume(deliveries * scale, observe),
      processedRecordsPerSecond: await consume(deliveries * scale * 0.3, processed),
      iteratedRecordsPerSecond: await consume(deliveries * scale * 0.3, iterate),
      work: 0,
    }
    if (!warm) return { ...results, work: checksum }
  }
  return {}
}

/** Of the work done, so that nothing can be left out unnoticed. */
let checksum = 0

async function withClient<T>(broker: StubBroker, work: (mill: Mill) => Promise<T>): Promise<T> {
  const mill = connectWith(broker.environment, { bootstrap: 'stub' })
  try {
    return await work(mill)
  } finally {
    await mill.close()
  }
}

const perSecond = (count: number, began: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(began)
  return Math.round((count * 1e6) / (user + system))
}

async function single(count: number): Promise<number> {
  return withClient(new StubBroker(1), async (mill) => {
    const producer = mill.producer(Bench)
    const value = new Uint8Array(RECORD_BYTES)
    await producer.ready()
    const began = process.cpuUsage()
    for (let i = 0; i < count; i++) {
      const { partition } = await producer.send(null, value)
      checksum += partition
    }
    return perSecond(count, began)
  })
}

async function batched(count: number): Promise<number> {
  return withClient(new StubBroker(1), async (mill) => {
    const producer = mill.producer(Bench)
    const record = { key: null, value: new Uint8Array(RECORD_BYTES) }
    await producer.ready()
    const began = process.cpuUsage()
    for (let i = 0; i < count; i += 100) {
      const { recordCount } = await producer.sendBatch(Array.from({ length: 100 }, () => record))
      checksum += recordCount
    }
    return perSecond(count, began)
  })
}

async function looped(count: number): Promise<number> {
  return withClient(new StubBroker(6), async (mill) => {
    const producer = mill.producer(Bench)
    const keys = Array.from({ length: 500 }, (_, i) => new TextEncoder().encode(`customer-${i}`))
    const value = new Uint8Array(RECORD_BYTES)
    const began = process.cpuUsage()
    for (let i = 0; i < count; i++) {
      await producer.ready()
      void producer.send(keys[i % keys.length]!, value)
    }
    await producer.flush()
    return perSecond(count, began)
  })
}

async function consume(count: number, read: (records: Records, count: number) => Promise<void>): Promise<number> {
  const broker = new StubBroker(1)
  broker.backlog = makeBacklog(Math.ceil(count / RECORDS_PER_BATCH))
  return withClient(broker, async (mill) => {
    const records = mill.consumer().subscribe(Bench, { from: 'earliest', until: { offset: count } })
    const began = process.cpuUsage()
    await read(records, count)
    return perSecond(count, began)
  })
}

function observe(records: Records): Promise<void> {
  return new Promise((resolve, reject) => {
    records.subscribe({ next: touch, error: reject, complete: resolve })
  })
}

function processed(records: Records): Promise<void> {
  return new Promise((resolve, reject) => {
    const work = async (record: ConsumerRecord<Uint8Array, Uint8Array>): Promise<void> => touch(record)
    records.pipe(processEach(work, { concurrency: 64 })).subscribe({ error: reject, complete: resolve })
  })
}

async function iterate(records: Records): Promise<void> {
  for await (const record of records) touch(record)
}

function touch({ offset, value }: ConsumerRecord<Uint8Array, Uint8Array>): void {
  checksum = (checksum + offset + value!.length) % 1_000_000_007
}

function makeBacklog(copies: number): Backlog {
  const builder = new RecordBatchBuilder(1024 * 1024)
  const value = new Uint8Array(RECORD_BYTES)
  for (let i = 0; i < RECORDS_PER_BATCH; i++) builder.tryAppend(null, value, null, 1)
  const identity = {
    topicId: 1,
    partition: 0,
    lane: 0,
    control: false,
    producer: [1, 2, 3, 4],
    epoch: 0,
    sequence: 0,
  } as const
  const client = builder.seal({ identity, checksum: crc32 })
  const clientChecksum = new DataView(client.buffer, client.byteOffset).getUint32(0, true)
  const at = (copy: number): Uint8Array => {
    const logged = new Uint8Array(LOG_PART_BYTES + client.length)
    logged.set(client, LOG_PART_BYTES)
    const part = {
      term: 1,
      baseOffset: copy * RECORDS_PER_BATCH,
      index: copy + 1,
      appendTime: 1,
      clientLength: client.length,
      clientChecksum,
    }
    writeLogPart(logged, new DataView(logged.buffer), 0, part, crc32)
    return logged
  }
  return { batch: client, decodedBytes: client.length - 80, copies, at }
}
