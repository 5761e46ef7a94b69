// Random clusters in random trouble: whatever leaders do, each record is in the log at most once and in the order it was
// sent, every outcome told is true, consumers get all of it once, and nothing goes where a leader was known to be gone.
import { type Delivery, MillraceError } from '@millrace/client'
import { connectWith } from '@millrace/client/environment'
import { describe, expect, test } from 'vitest'
import { FakeWorld } from './support/fake-world.js'
import { RouteObserver } from './support/observed-environment.js'
import { ReplicatedCluster, type Trouble } from './support/replicated-cluster.js'
import { Texts } from './support/setting.js'

const NO_TROUBLE: Trouble = { cut: 0, overload: 0, push: 0, zombie: 0 }
const PARTITIONS = 4

interface Run {
  readonly world: FakeWorld
  readonly cluster: ReplicatedCluster
  readonly observer: RouteObserver
  readonly outcomes: ('acknowledged' | 'failed' | 'unknown')[]
  readonly offsets: (number | null)[]
  /** What the consumer got, by partition, in order. */
  readonly consumed: { readonly offset: number; readonly value: string }[][]
  readonly logs: string[][]
  readonly statistics: { readonly misroutes: number; readonly refusals: number; readonly refreshes: number }
}

const partitionOf = (n: number): number => n % PARTITIONS

async function run(seed: number, trouble: Trouble, elections: boolean, deliveryTimeoutMs: number): Promise<Run> {
  const world = new FakeWorld()
  const cluster = new ReplicatedCluster(world, seed, trouble)
  cluster.begin(3, 'orders', PARTITIONS)
  const observer = new RouteObserver()
  const environment = observer.watch(world.environment)
  const mill = connectWith(environment, { bootstrap: 'broker:7420', requestTimeoutMs: 3_000 })
  const consumed: Run['consumed'] = Array.from({ length: PARTITIONS }, () => [])
  const errors: unknown[] = []
  const stream = mill.consumer({ inFlightBytes: 4_000 }).subscribe(Texts, { from: 'earliest' })
  stream.subscribe({
    next: ({ partition, offset, value }) => consumed[partition]!.push({ offset, value: value! }),
    error: (error) => errors.push(error),
  })
  const producer = mill.producer(Texts, { batchBytes: 300, deliveryTimeoutMs })
  const outcomes: Run['outcomes'] = []
  const offsets: (number | null)[] = []
  const sends: Promise<void>[] = []
  for (let n = 0; n < 400; n++) {
    const sent = producer.send('k', `${n}`.padStart(60, '0'), { partition: partitionOf(n) })
    sends.push(
      sent.then(
        (delivery) => acknowledged(n, delivery),
        (error) => refused(n, error),
      ),
    )
    if (n % 8 === 0) await world.run(1 + cluster.below(30))
    if (!elections || !cluster.chance(0.08)) continue
    const partition = cluster.at(1, cluster.below(PARTITIONS))
    partition.elect(1 + cluster.below(3))
    if (cluster.chance(0.1)) cluster.crash(cluster.brokers[cluster.below(3)]!, 100 + cluster.below(2_000))
  }
  function acknowledged(n: number, { offset }: Delivery): void {
    outcomes[n] = 'acknowledged'
    offsets[n] = offset
  }
  function refused(n: number, error: unknown): void {
    if (!MillraceError.is(error)) throw error
    outcomes[n] = error.outcome!
    offsets[n] = null
  }
  await world.result(Promise.all(sends), 3_600_000)
  cluster.trouble = NO_TROUBLE
  const ends = Array.from({ length: PARTITIONS }, (_, partition) => cluster.partition(1, partition).end)
  await world.until(() => consumed.every((records, partition) => records.length >= ends[partition]!), 120_000)
  expect(errors).toEqual([])
  const statistics = mill.statistics()
  const logs = consumed.map((records) => records.map(({ value }) => value))
  // It tells once more of the sends whose outcomes are noted above.
  await world.result(Promise.allSettled([mill.close()]))
  return { world, cluster, observer, outcomes, offsets, consumed, logs, statistics }
}

/** What must be true of every run. */
function check({ world, cluster, observer, outcomes, offsets, consumed, logs, statistics }: Run): void {
  expect(observer.offences).toEqual([])
  expect(cluster.ahead).toEqual([])
  expect(statistics.misroutes).toBe(0)
  expect(world.changedBuffers).toBe(0)
  for (const records of consumed) expect(records.map(({ offset }) => offset)).toEqual([...records.keys()])
  for (const [partition, values] of logs.entries()) {
    const numbers = values.map(Number)
    expect(numbers).toEqual([...numbers].sort((a, b) => a - b))
    expect(new Set(numbers).size).toBe(numbers.length)
    expect(numbers.every((n) => partitionOf(n) === partition)).toBe(true)
  }
  outcomes.forEach((outcome, n) => {
    const log = logs[partitionOf(n)]!
    const at = log.indexOf(`${n}`.padStart(60, '0'))
    if (outcome === 'failed') expect(at).toBe(-1)
    if (outcome === 'acknowledged') expect(at).toBeGreaterThanOrEqual(0)
    if (outcome === 'acknowledged' && offsets[n] !== null) expect(at).toBe(offsets[n])
  })
}

const seeds = (count: number, from = 1): number[] => Array.from({ length: count }, (_, i) => from + i)
const some = (outcomes: Run['outcomes'], outcome: string): number => outcomes.filter((one) => one === outcome).length

describe('a replicated cluster', () => {
  test('steady: no misroute, no refusal, no refresh', async () => {
    const steady = await run(1, NO_TROUBLE, false, 600_000)
    check(steady)
    expect(steady.statistics).toMatchObject({ misroutes: 0, refusals: 0, refreshes: 0 })
    expect(some(steady.outcomes, 'acknowledged')).toBe(400)
  })

  test.each(seeds(10))('leaders change, seed %i: everything is acknowledged, once, in order', async (seed) => {
    const moved = await run(seed, NO_TROUBLE, true, 600_000)
    check(moved)
    expect(some(moved.outcomes, 'acknowledged')).toBe(400)
  })

  test.each(seeds(18, 100))('leaders change among cuts, zombies and lost pushes, seed %i', async (seed) => {
    const trouble = { cut: 0.03, overload: 0.03, push: 0.3, zombie: 0.5 }
    const troubled = await run(seed, trouble, true, 600_000)
    check(troubled)
    expect(some(troubled.outcomes, 'acknowledged')).toBe(400)
  })

  test.each(seeds(12, 200))('with little time for delivery every outcome told is true, seed %i', async (seed) => {
    check(await run(seed, { cut: 0.1, overload: 0.1, push: 0.5, zombie: 0.7 }, true, 400))
  })
})
