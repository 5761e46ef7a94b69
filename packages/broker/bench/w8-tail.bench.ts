// W8 beside the tail: tail consumers at a fixed 50 MB/s, alone and then while a cold reader capped at 200 MB/s passes
// through a backlog that is not in memory. What counts is how far their p99 moves: in turns of both, since the machine's
// other work moves it too. `--consumers N` of the tail (they share a process) and `--turns N`.
import { parseArgs } from 'node:util'
import { bytes, type Producer, topic } from '@millrace/client'
import { fill } from './support/backlog.js'
import { type BenchOptions, benchOptions, type RunOptions } from './support/bench-options.js'
import { Drain } from './support/drain.js'
import { openLoop } from './support/open-loop.js'
import { cpuSeconds, readySeconds } from './support/process-figures.js'
import { wait } from './support/produce-load.js'
import { pagePoolSince, round, type Session, withSession } from './support/session.js'

export const name = 'w8-tail'

const MEGABYTE = 1e6
const RECORD_BYTES = 1024
const TAIL_BYTES_PER_SECOND = 50 * MEGABYTE
const COLD_BYTES_PER_SECOND = 200 * MEGABYTE
/** So little that the backlog never stays in memory: each reader of it finds it cold. */
const FLAGS = ['--memory', '512m']

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 5)
  return withSession(bench.prefer, (session) => measure(session, bench, options), FLAGS)
}

async function measure(session: Session, bench: BenchOptions, options: RunOptions): Promise<object> {
  const { consumers, turns } = tailOptions(options)
  const { bootstrap } = session.broker
  const coldBytes = (bench.warmUpSeconds + bench.seconds) * COLD_BYTES_PER_SECOND
  const backlog = { topic: 'cold', partitions: 4, recordBytes: RECORD_BYTES, keys: 1000 }
  await fill(session, backlog, options.tiny ? 2000 : Math.ceil((coldBytes * 1.2) / RECORD_BYTES))
  await session.broker.restart('SIGTERM')
  await session.createTopic('tail', 1, 'buffered')
  const tail = Drain.start({ bootstrap, topic: 'tail', consumers, from: 'earliest', timed: true, bytesPerSecond: 0 })
  const producer = session.mill.producer(topic('tail', { key: bytes, value: bytes }))
  const rate = options.tiny ? 1000 : Math.round(TAIL_BYTES_PER_SECOND / RECORD_BYTES)
  const measured = (seconds: number) => tailFigures(tail, producer, { rate, seconds, consumers })
  try {
    const shares = (seconds: number) => waitingFor(session, tail, () => measured(seconds))
    await measured(bench.warmUpSeconds)
    const results = []
    for (let turn = 1; turn <= turns; turn++) {
      const alone = await shares(bench.seconds)
      results.push({ turn, ...alone, p99Ratio: null, coldMbPerSecond: null })
      const poolBefore = await session.pagePool()
      const order = { bootstrap, topic: 'cold', consumers: 1, from: 'earliest', timed: false } as const
      const cold = Drain.start({ ...order, bytesPerSecond: COLD_BYTES_PER_SECOND })
      try {
        await measured(bench.warmUpSeconds)
        await cold.restart()
        const beside = await shares(bench.seconds)
        const pool = await session.pagePool()
        const read = await cold.figures()
        results.push({
          turn,
          ...beside,
          p99Ratio: round(beside.p99Ms / alone.p99Ms),
          coldMbPerSecond: round(read.bytes / 1000 / Math.max(1, read.elapsedMs), 1),
          pagePool: pagePoolSince(poolBefore, pool),
        })
      } finally {
        await cold.stop()
      }
    }
    const ratios = results.flatMap(({ p99Ratio }) => p99Ratio ?? []).sort((a, b) => a - b)
    return { name, consumers, p99Ratio: ratios[ratios.length >> 1], environment: session.broker.environment, results }
  } finally {
    await producer.close()
    await tail.stop()
  }
}

function tailOptions({ tiny, argv }: RunOptions): { readonly consumers: number; readonly turns: number } {
  const { values } = parseArgs({
    args: [...argv],
    options: { consumers: { type: 'string', default: '2' }, turns: { type: 'string', default: tiny ? '1' : '3' } },
    strict: false,
  })
  const [consumers, turns] = [Number(values.consumers), Number(values.turns)]
  for (const count of [consumers, turns])
    if (!Number.isSafeInteger(count) || count < 1) throw new Error('--consumers and --turns take whole numbers above 0')
  return { consumers, turns }
}

/**
 * Beside the figures the share of the time in which broker and tail were ready to run and waited for a core: there the
 * machine and not the broker makes the tail late.
 */
async function waitingFor<T>({ broker }: Session, tail: Drain, work: () => Promise<T>) {
  const began = performance.now()
  const before = [readySeconds(broker.pid), readySeconds(tail.pid), cpuSeconds(broker.pid), cpuSeconds(tail.pid)]
  const figures = await work()
  const after = [readySeconds(broker.pid), readySeconds(tail.pid), cpuSeconds(broker.pid), cpuSeconds(tail.pid)]
  const seconds = (performance.now() - began) / 1000
  const [brokerWaits, tailWaits, brokerCpu, tailCpu] = after.map((now, at) =>
    round(((now ?? 0) - (before[at] ?? 0)) / seconds),
  )
  return { ...figures, brokerCpu, brokerWaits, tailCpu, tailWaits }
}

async function tailFigures(
  tail: Drain,
  producer: Producer<Uint8Array, Uint8Array>,
  load: { readonly rate: number; readonly seconds: number; readonly consumers: number },
) {
  await tail.restart()
  const { sent, notTaken, lateMs } = await openLoop(producer, { ...load, recordBytes: RECORD_BYTES })
  const { records, elapsedMs, p50Ms, p99Ms } = await tail.until(sent * load.consumers)
  await wait(0.1)
  return {
    recordsPerSecond: Math.round((records * 1000) / Math.max(1, elapsedMs)),
    p50Ms: round(p50Ms),
    p99Ms: round(p99Ms),
    notTaken,
    lateMs,
  }
}
