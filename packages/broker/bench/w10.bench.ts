// W10: the loads of W2 (buffered) and W4 (flushed) on three brokers with three replicas of each partition, and on one broker by
// itself, in turns of the same run: what replication costs. `--seconds N` for each of the four together with its turns.
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { BrokerUnderTest } from './support/broker-under-test.js'
import { ProcessCluster } from './support/process-cluster.js'
import { cpuSeconds } from './support/process-figures.js'
import { percentileMs, produceLoad } from './support/produce-load.js'
import { round } from './support/session.js'

export const name = 'w10'

const PARTITIONS = 16
const BROKERS = 3
const RECORD_BYTES = 1024
const ROUNDS = 5
const BUFFER_BYTES = 64 * 1024 * 1024
const LOADS = {
  buffered: { recordsPerCall: 256, callsInFlight: 64, oneKeyPerCall: false },
  flushed: { recordsPerCall: 64, callsInFlight: 8, oneKeyPerCall: true },
} as const

type Durability = keyof typeof LOADS

interface Side {
  readonly mill: Mill
  readonly pids: () => readonly number[]
}

interface Turn {
  readonly mbPerSecond: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly cpuSecondsPerGb: number
}

export async function run(options: RunOptions): Promise<object> {
  const { prefer, seconds } = benchOptions(options, 12)
  const rounds = options.tiny ? 1 : ROUNDS
  const single = await BrokerUnderTest.start(prefer)
  const flags = ['--log-level=warn']
  const cluster = await ProcessCluster.start({ brokers: BROKERS, prefer, hasProxies: false, memory: '512m', flags })
  const sides: { readonly single: Side; readonly replicated: Side } = {
    single: {
      mill: connect({ bootstrap: single.bootstrap, bufferBytes: BUFFER_BYTES }),
      pids: () => [single.pid],
    },
    replicated: {
      mill: connect({ bootstrap: cluster.bootstrap, bufferBytes: BUFFER_BYTES }),
      pids: () => cluster.nodes.map(({ pid }) => pid ?? 0),
    },
  }
  try {
    for (const { mill } of [sides.single, sides.replicated]) {
      for (const durability of ['buffered', 'flushed'] as const) {
        await admin(mill).createTopic(durability, { partitions: PARTITIONS, durability })
      }
    }
    const turns = { buffered: [] as Pair[], flushed: [] as Pair[] }
    for (let i = 0; i < rounds; i++) {
      for (const durability of ['buffered', 'flushed'] as const) {
        const alone = await oneTurn(sides.single, durability, seconds / rounds)
        const replicated = await oneTurn(sides.replicated, durability, seconds / rounds)
        turns[durability].push({ alone, replicated })
      }
    }
    return {
      name,
      environment: single.environment,
      brokers: BROKERS,
      partitions: PARTITIONS,
      buffered: summary(turns.buffered),
      flushed: summary(turns.flushed),
    }
  } finally {
    await Promise.all([sides.single.mill.close(), sides.replicated.mill.close()])
    await Promise.all([single.stop(), cluster.stop()])
  }
}

interface Pair {
  readonly alone: Turn
  readonly replicated: Turn
}

async function oneTurn({ mill, pids }: Side, durability: Durability, seconds: number): Promise<Turn> {
  const cpu = (): number => pids().reduce((sum, pid) => sum + (cpuSeconds(pid) ?? Number.NaN), 0)
  let before = Number.NaN
  let used = Number.NaN
  const figures = await produceLoad(mill, {
    ...LOADS[durability],
    topic: durability,
    recordBytes: RECORD_BYTES,
    keys: 1000,
    seconds,
    warmUpSeconds: seconds / 4,
    onMeasure: () => {
      before = cpu()
    },
    onMeasured: () => {
      used = cpu() - before
    },
  })
  return {
    mbPerSecond: figures.bytes / 1e6 / figures.seconds,
    p50Ms: percentileMs(figures.latency, 50),
    p99Ms: percentileMs(figures.latency, 99),
    cpuSecondsPerGb: used / (figures.bytes / 1e9),
  }
}

/** Medians; the ratio is the median of those of the rounds. */
function summary(pairs: readonly Pair[]): object {
  const of = (figure: (pair: Pair) => number): number => {
    const sorted = pairs.map(figure).sort((left, right) => left - right)
    return sorted[sorted.length >> 1]!
  }
  const side = (pick: (pair: Pair) => Turn): object => ({
    recordsPerSecond: Math.round((of((pair) => pick(pair).mbPerSecond) * 1e6) / RECORD_BYTES),
    mbPerSecond: round(
      of((pair) => pick(pair).mbPerSecond),
      1,
    ),
    p50Ms: round(of((pair) => pick(pair).p50Ms)),
    p99Ms: round(of((pair) => pick(pair).p99Ms)),
    /** Of all brokers together. */
    brokerCpuSecondsPerGb: round(of((pair) => pick(pair).cpuSecondsPerGb)),
  })
  return {
    ...side(({ replicated }) => replicated),
    single: side(({ alone }) => alone),
    ratio: round(of(({ alone, replicated }) => replicated.mbPerSecond / alone.mbPerSecond)),
    rounds: pairs.map(({ alone, replicated }) => [round(replicated.mbPerSecond, 1), round(alone.mbPerSecond, 1)]),
  }
}
