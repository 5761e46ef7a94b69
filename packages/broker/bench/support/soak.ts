// A broker under a steady, moderate load for a long time: producers, consumers at the tail, readers that come, read
// everything that is kept and go, and retention throwing the old away. What is asked is whether its memory stays flat.
import { bytes, connect, type Mill, MillraceError, type Producer, topic } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { BrokerUnderTest, type Preference } from './broker-under-test.js'
import { type MemorySample, type MemoryTrend, trendOf } from './memory-trend.js'
import { keyPool, payloadPool } from './payloads.js'
import { round } from './session.js'

export interface SoakOptions {
  readonly minutes: number
  /** Bytes of records a second, over all topics. */
  readonly bytesPerSecond: number
  readonly memoryMb: number
  readonly prefer: Preference
  /** Told of each sample of memory, about once a second. */
  readonly onSample: (seconds: number, mb: number) => void
}

export interface SoakResult {
  readonly name: 'soak'
  readonly ok: boolean
  readonly failure: string | null
  readonly minutes: number
  readonly environment: string
  readonly memorySettingMb: number
  readonly limitMb: number
  readonly rssStartMb: number
  readonly rssWarmMb: number
  readonly rssEndMb: number
  readonly rssHighestMb: number
  readonly slopeMbPerHour: number
  /** False for a run that is too short to tell a leak from memory that fills up. */
  readonly slopeJudged: boolean
  readonly quartersMb: readonly number[]
  readonly recordsPerSecond: number
  readonly consumedRecordsPerSecond: number
  readonly recordsReadAgain: number
  readonly readersOvertaken: number
  readonly recordsExpired: number
  readonly mbOnDisk: number
}

const RECORD_BYTES = 1024
const PARTITIONS = 4
const KEYS = 1_000
const TICK_MS = 20
const SAMPLE_MS = 1_000
const REREAD_PAUSE_MS = 3_000
const RETENTION_BYTES = 24 * 1024 * 1024
/** What a process may take beside its setting: the promise of the issue. */
const EXTRA_PART = 0.15
const EXTRA_MB = 80
/** Until then memory fills up: pool, heap and what compiled code takes. */
const MOST_WARM_UP_MS = 240_000
/** In less the slope is shown and not judged. */
const JUDGED_AFTER_MS = 300_000
const TOPICS = [
  ['soak-flushed', 'flushed'],
  ['soak-buffered', 'buffered'],
] as const

const recordsOf = (name: string) => topic(name, { key: bytes, value: bytes })

/** Counts of everything that went on, added to by all parts. */
class Soak {
  sent = 0
  consumed = 0
  readAgain = 0
  /** Readers that retention was faster than. */
  overtaken = 0
  stopped = false
  private readonly values = payloadPool(RECORD_BYTES)
  private readonly keys = keyPool(KEYS)

  constructor(
    private readonly mill: Mill,
    private readonly bootstrap: string,
  ) {}

  /** Sends what is due by the clock, so that a slow moment is made up for. @throws when a record is not delivered. */
  async produce(name: string, bytesPerSecond: number): Promise<void> {
    const producer: Producer<Uint8Array, Uint8Array> = this.mill.producer(recordsOf(name))
    const failures: unknown[] = []
    const startedMs = performance.now()
    let sent = 0
    while (!this.stopped) {
      const due = (((performance.now() - startedMs) / 1000) * bytesPerSecond) / RECORD_BYTES
      for (; sent < due && !this.stopped; sent++) {
        await producer.ready()
        const key = this.keys[sent % KEYS]!
        void producer.send(key, this.values[sent % this.values.length]!).then(
          () => void this.sent++,
          (error: unknown) => void failures.push(error),
        )
      }
      if (failures.length > 0) throw failures[0]
      await sleep(TICK_MS)
    }
    await producer.flush()
  }

  /** Follows the tail. @throws when an offset is missing or comes twice. */
  async follow(name: string): Promise<void> {
    const next = new Map<number, number>()
    const consumer = this.mill.consumer()
    const ending = setInterval(() => {
      if (this.stopped) void consumer.close({ timeoutMs: 1_000 })
    }, 100)
    try {
      for await (const { partition, offset } of consumer.subscribe(recordsOf(name), { from: 'earliest' })) {
        const expected = next.get(partition) ?? 0
        if (offset !== expected) throw new Error(`partition ${partition} of ${name}: ${offset} follows ${expected - 1}`)
        next.set(partition, offset + 1)
        this.consumed++
      }
    } finally {
      clearInterval(ending)
    }
  }

  /** Comes as a new client again and again, and reads from wherever the log begins now. */
  async rereadFrom(name: string): Promise<void> {
    while (!this.stopped) {
      const mill = connect({ bootstrap: this.bootstrap })
      try {
        const consumer = mill.consumer({ inFlightBytes: 1024 * 1024 })
        const records = consumer.subscribe(recordsOf(name), { from: 'earliest', until: 'end' })
        for await (const _ of records) {
          this.readAgain++
          if (this.stopped) break
        }
      } catch (error) {
        // Whoever reads slower than retention deletes is told where the log begins now, and comes again.
        if (!MillraceError.is(error) || error.code !== 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE') throw error
        this.overtaken++
      } finally {
        await mill.close({ timeoutMs: 1_000 })
      }
      for (let waited = 0; waited < REREAD_PAUSE_MS && !this.stopped; waited += 100) await sleep(100)
    }
  }
}

/** Runs for the given time. @throws when a record is lost, comes twice or is not delivered. */
export async function soak(options: SoakOptions): Promise<SoakResult> {
  const broker = await BrokerUnderTest.start(options.prefer, ['--memory', `${options.memoryMb}m`])
  // However this process ends, the broker does not go on without it.
  const orphaned = (): void => void process.kill(broker.pid, 'SIGKILL')
  process.once('exit', orphaned)
  try {
    const mill = connect({ bootstrap: broker.bootstrap })
    try {
      return await soakOn(broker, mill, options)
    } finally {
      await mill.close({ timeoutMs: 5_000 })
    }
  } finally {
    process.removeListener('exit', orphaned)
    await broker.stop()
  }
}

async function soakOn(broker: BrokerUnderTest, mill: Mill, options: SoakOptions): Promise<SoakResult> {
  const { minutes, memoryMb, bytesPerSecond } = options
  const operator = admin(mill)
  for (const [name, durability] of TOPICS) {
    await operator.createTopic(name, { partitions: PARTITIONS, durability, retentionBytes: RETENTION_BYTES })
  }
  const run = new Soak(mill, broker.bootstrap)
  const parts = TOPICS.flatMap(([name]) => [
    run.produce(name, bytesPerSecond / TOPICS.length),
    run.follow(name),
    run.rereadFrom(name),
  ])
  // One part that fails ends all: nobody waits a quarter of an hour for what is known.
  const failed = Promise.all(parts.map((part) => part.catch((error: unknown) => stopWith(run, error))))
  const durationMs = minutes * 60_000
  const samples = await sample(broker, run, durationMs, options.onSample)
  const described = await Promise.all(TOPICS.map(([name]) => operator.describeTopic(name)))
  run.stopped = true
  await failed
  const limitMb = (memoryMb * 1024 * 1024 * (1 + EXTRA_PART)) / 1e6 + EXTRA_MB
  const trend = trendOf(samples, Math.min(durationMs / 4, MOST_WARM_UP_MS), limitMb, durationMs >= JUDGED_AFTER_MS)
  const partitions = described.flatMap((one) => one.partitions)
  const expired = partitions.reduce((sum, { logStartOffset }) => sum + (logStartOffset ?? 0), 0)
  const onDisk = partitions.reduce((sum, { bytesOnDisk }) => sum + (bytesOnDisk ?? 0), 0)
  return resultOf(options, broker.environment, limitMb, trend, run, expired, onDisk)
}

function stopWith(run: Soak, error: unknown): never {
  run.stopped = true
  throw error
}

async function sample(
  broker: BrokerUnderTest,
  run: Soak,
  durationMs: number,
  onSample: SoakOptions['onSample'],
): Promise<MemorySample[]> {
  const samples: MemorySample[] = []
  const startedMs = performance.now()
  const everyMs = Math.min(SAMPLE_MS, durationMs / 10)
  while (!run.stopped) {
    const atMs = performance.now() - startedMs
    const mb = broker.rssMb()
    if (mb === null) throw new Error('the memory of the broker cannot be seen: this needs /proc')
    samples.push({ atMs, mb })
    onSample(atMs / 1000, mb)
    if (atMs >= durationMs) break
    await sleep(everyMs)
  }
  return samples
}

function resultOf(
  { minutes, memoryMb }: SoakOptions,
  environment: string,
  limitMb: number,
  trend: MemoryTrend,
  { sent, consumed, readAgain, overtaken }: Soak,
  recordsExpired: number,
  bytesOnDisk: number,
): SoakResult {
  const seconds = minutes * 60
  return {
    name: 'soak',
    ok: trend.failure === null,
    failure: trend.failure,
    minutes,
    environment,
    memorySettingMb: round((memoryMb * 1024 * 1024) / 1e6, 0),
    limitMb: round(limitMb, 0),
    rssStartMb: round(trend.startMb, 1),
    rssWarmMb: round(trend.warmMb, 1),
    rssEndMb: round(trend.endMb, 1),
    rssHighestMb: round(trend.highestMb, 1),
    slopeMbPerHour: round(trend.mbPerHour, 1),
    slopeJudged: minutes * 60_000 >= JUDGED_AFTER_MS,
    quartersMb: trend.quartersMb.map((mb) => round(mb, 1)),
    recordsPerSecond: Math.round(sent / seconds),
    consumedRecordsPerSecond: Math.round(consumed / seconds),
    recordsReadAgain: readAgain,
    readersOvertaken: overtaken,
    recordsExpired,
    mbOnDisk: round(bytesOnDisk / 1e6, 1),
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}
