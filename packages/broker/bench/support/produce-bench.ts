// One produce workload from start to figures: broker process, topic, closed loop, limit of the same run.
import { connect, type Mill, type ProducerOptions } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { type BenchOptions, benchOptions, type RunOptions } from './bench-options.js'
import { BrokerUnderTest } from './broker-under-test.js'
import { diskWrites, type Limit, loopbackTcp, onBareDisk } from './limits.js'
import { percentileMs, produceLoad, wait } from './produce-load.js'
import { round } from './session.js'

export interface ProduceWorkload {
  readonly name: string
  readonly partitions: number
  readonly durability: 'flushed' | 'buffered'
  readonly recordBytes: number
  readonly recordsPerCall: number
  readonly callsInFlight: number
  readonly oneKeyPerCall?: boolean
  readonly options?: ProducerOptions
  /** What the result is held against. */
  readonly limit: 'loopback' | 'flushedWrites'
}

const MEGABYTE = 1e6
const GIGABYTE = 1e9
const SECONDS = 12
/** The load and its limit are measured in turn so many times, each for its share of the seconds. */
const ROUNDS = 5

export async function produceBench(workload: ProduceWorkload, run: RunOptions): Promise<Record<string, unknown>> {
  const options = benchOptions(run, SECONDS)
  const { reserve } = options
  const broker = await BrokerUnderTest.start(options.prefer, reserve === null ? [] : ['--reserve', reserve])
  const mill = connect({ bootstrap: broker.bootstrap, bufferBytes: 64 * 1024 * 1024 })
  try {
    const control = admin(mill)
    const { partitions, durability } = workload
    if (reserve !== null) await reserveFilled(control)
    await control.createTopic('bench', { partitions, durability, retentionBytes: options.retentionBytes })
    const rounds: Round[] = []
    for (let i = 0; i < (run.tiny ? 1 : ROUNDS); i++) rounds.push(await oneRound(workload, options, broker, mill))
    return {
      name: workload.name,
      ...summary(rounds),
      environment: broker.environment,
      rounds: rounds.map(({ mbPerSecond, limit }) => [round(mbPerSecond, 1), round(limit.mbPerSecond, 1)]),
      brokerPeakRssMb: round(broker.peakRssMb() ?? Number.NaN, 0),
    }
  } finally {
    await mill.close()
    await broker.stop()
  }
}

interface Round {
  readonly recordsPerSecond: number
  readonly mbPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly brokerCpuSecondsPerGb: number
  readonly groupBytes: number
  /** Bytes written to the disk for each byte of batches, zeros that make slots ready apart. */
  readonly writtenPerIngested: number
  readonly filledPerIngested: number
  readonly limit: Limit
  /** With as many groups under way as calls, each as large as a call; null where the disk is not the limit. */
  readonly limitInFlight: Limit | null
}

/** The load, and right after it the limit: on a shared machine both change from one second to the next. */
async function oneRound(
  workload: ProduceWorkload,
  options: BenchOptions,
  broker: BrokerUnderTest,
  mill: Mill,
): Promise<Round> {
  const control = admin(mill)
  const before = await groups(control)
  let cpu = Number.NaN
  const figures = await produceLoad(mill, {
    ...workload,
    callsInFlight: options.callsInFlight ?? workload.callsInFlight,
    topic: 'bench',
    keys: 1000,
    seconds: options.seconds / ROUNDS,
    warmUpSeconds: options.warmUpSeconds / ROUNDS,
    onMeasure: () => broker.mark(),
    onMeasured: () => {
      cpu = broker.cpuSinceMark() ?? Number.NaN
    },
  })
  const after = await groups(control)
  const written = after.bytesWritten - before.bytesWritten
  const appended = after.bytesAppended - before.bytesAppended
  const groupBytes = written / Math.max(1, after.flushes - before.flushes)
  return {
    recordsPerSecond: figures.records / figures.seconds,
    mbPerSecond: figures.bytes / MEGABYTE / figures.seconds,
    p50Ms: percentileMs(figures.latency, 50),
    p99Ms: percentileMs(figures.latency, 99),
    brokerCpuSecondsPerGb: cpu / (figures.bytes / GIGABYTE),
    groupBytes,
    writtenPerIngested: written / appended,
    filledPerIngested: (after.bytesFilled - before.bytesFilled) / appended,
    limit: await limitOf(workload, groupBytes, options),
    limitInFlight: await limitInFlightOf(workload, options),
  }
}

/** The median round of each figure; `ofLimit` is the median of the rounds' own ratios. */
function summary(rounds: readonly Round[]): Record<string, unknown> {
  const median = (figure: (one: Round) => number): number => {
    const sorted = rounds.map(figure).sort((a, b) => a - b)
    return sorted[sorted.length >> 1]!
  }
  return {
    recordsPerSecond: Math.round(median((one) => one.recordsPerSecond)),
    mbPerSecond: round(
      median((one) => one.mbPerSecond),
      1,
    ),
    p50Ms: round(median((one) => one.p50Ms)),
    p99Ms: round(median((one) => one.p99Ms)),
    brokerCpuSecondsPerGb: round(median((one) => one.brokerCpuSecondsPerGb)),
    groupBytes: Math.round(median((one) => one.groupBytes)),
    writtenPerIngested: round(
      median((one) => one.writtenPerIngested),
      3,
    ),
    filledPerIngested: round(
      median((one) => one.filledPerIngested),
      3,
    ),
    limit: {
      name: rounds[0]!.limit.name,
      mbPerSecond: round(
        median((one) => one.limit.mbPerSecond),
        1,
      ),
    },
    ofLimit: round(median((one) => one.mbPerSecond / one.limit.mbPerSecond)),
    ...inFlightSummary(rounds, median),
  }
}

function inFlightSummary(
  rounds: readonly Round[],
  median: (figure: (one: Round) => number) => number,
): Record<string, unknown> {
  const limit = rounds[0]!.limitInFlight
  if (limit === null) return {}
  return {
    limitInFlight: {
      name: limit.name,
      mbPerSecond: round(
        median((one) => one.limitInFlight!.mbPerSecond),
        1,
      ),
    },
    ofLimitInFlight: round(median((one) => one.mbPerSecond / one.limitInFlight!.mbPerSecond)),
  }
}

/** Waits until the broker has filled no slot for a second. */
async function reserveFilled(control: ReturnType<typeof admin>): Promise<void> {
  let before = -1
  while (true) {
    const { storage } = await control.brokerStatus()
    const { freeSlots } = storage as { readonly freeSlots: number }
    if (freeSlots === before) return
    before = freeSlots
    await wait(2)
  }
}

interface GroupFigures {
  readonly bytesAppended: number
  readonly bytesWritten: number
  readonly bytesFilled: number
  readonly flushes: number
}

async function groups(control: ReturnType<typeof admin>): Promise<GroupFigures> {
  const { storage } = await control.brokerStatus()
  const { bytesAppended, bytesWritten, bytesFilled, flushes } = storage as Partial<GroupFigures>
  if (bytesAppended === undefined || bytesWritten === undefined || bytesFilled === undefined || flushes === undefined) {
    throw new Error('the broker does not tell what it wrote')
  }
  return { bytesAppended, bytesWritten, bytesFilled, flushes }
}

const limitSeconds = (options: BenchOptions): number => Math.max(0.3, options.seconds / ROUNDS / 2)

async function limitOf(workload: ProduceWorkload, groupBytes: number, options: BenchOptions): Promise<Limit> {
  const seconds = limitSeconds(options)
  if (workload.limit === 'loopback') return loopbackTcp(seconds)
  return onBareDisk(options.prefer, (environment, directory) =>
    diskWrites(environment, directory, { groupBytes, seconds, flushed: true }),
  )
}

/** A broker may have several groups under way where one loop has one: what the disk gives then is told beside it. */
async function limitInFlightOf(workload: ProduceWorkload, options: BenchOptions): Promise<Limit | null> {
  if (workload.limit === 'loopback') return null
  const groupBytes = workload.recordsPerCall * workload.recordBytes
  const inFlight = options.callsInFlight ?? workload.callsInFlight
  return onBareDisk(options.prefer, (environment, directory) =>
    diskWrites(environment, directory, { groupBytes, seconds: limitSeconds(options), flushed: true, inFlight }),
  )
}
