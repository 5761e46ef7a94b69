// Rebalance: 100 partitions over the ten members of a group, records of each all the time, and one member dies without a
// word. How long was the longest wait between two records of a partition: of those of the other members, which should
// notice nothing, and of those of the dead one, which wait for its lease. `--partitions N`, `--members N`, `--lease MS`.
import { parseArgs } from 'node:util'
import { type Consumer, connect, type Mill, settle } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { BrokerUnderTest } from './support/broker-under-test.js'
import { wait } from './support/produce-load.js'
import { round } from './support/session.js'

export const name = 'rebalance'

const TOPIC = 'rebalance'
const RECORD_EVERY_MS = 20
const MOST_WAIT_MS = 60_000

interface Member {
  readonly mill: Mill
  readonly consumer: Consumer
  partitions: readonly number[]
}

export async function run(options: RunOptions): Promise<object> {
  const { prefer, seconds } = benchOptions(options, 5)
  const { values } = parseArgs({
    args: [...options.argv],
    options: { partitions: { type: 'string' }, members: { type: 'string' }, lease: { type: 'string' } },
    strict: false,
  })
  const partitions = Number(values.partitions ?? (options.tiny ? 10 : 100))
  const count = Number(values.members ?? (options.tiny ? 2 : 10))
  const leaseMs = Number(values.lease ?? (options.tiny ? 1_000 : 5_000))
  const broker = await BrokerUnderTest.start(prefer)
  const mill = connect({ bootstrap: broker.bootstrap })
  const clock = new Waits(partitions)
  const members: Member[] = []
  try {
    await admin(mill).createTopic(TOPIC, { partitions })
    for (let i = 0; i < count; i++) members.push(join(broker.bootstrap, i, leaseMs, clock))
    const share = Math.floor(partitions / count)
    await until(() => members.every((member) => member.partitions.length >= share))
    const startMs = performance.now()
    const stopSending = send(mill, partitions)
    await until(() => clock.haveAll)
    clock.begin()
    await wait(seconds)
    const before = clock.worst(all(partitions))
    const [dead, ...others] = members
    const lost = dead?.partitions ?? []
    const kept = others.flatMap((member) => [...member.partitions])
    clock.begin()
    const diedMs = performance.now()
    // A member with a name does not leave: for the coordinator it is gone without a word.
    await dead?.mill.close({ timeoutMs: 0 })
    await until(() => lost.every((partition) => others.some((member) => member.partitions.includes(partition))))
    const takenOverMs = performance.now() - diedMs
    await wait(seconds)
    clock.end()
    await stopSending()
    const moved = kept.filter((partition) => !others.some((member) => member.partitions.includes(partition)))
    return {
      name,
      environment: broker.environment,
      partitions,
      members: count,
      leaseMs,
      longestWaitBeforeMs: round(before, 1),
      longestWaitOfOthersMs: round(clock.worst(kept), 1),
      longestWaitOfDeadMs: round(clock.worst(lost), 1),
      takenOverMs: round(takenOverMs, 1),
      movedOfOthers: moved.length,
      consumedRecordsPerSecond: round((clock.records / (performance.now() - startMs)) * 1_000, 1),
      checksum: clock.records,
    }
  } finally {
    await Promise.all(members.map((member) => member.mill.close({ timeoutMs: 1_000 })))
    // It throws for records that are still under way: only after a failure, which is what is to be told.
    await mill.close({ timeoutMs: 1_000 }).catch(() => {})
    await broker.stop()
  }
}

const all = (partitions: number): number[] => Array.from({ length: partitions }, (_, partition) => partition)

function join(bootstrap: string, index: number, leaseMs: number, clock: Waits): Member {
  const mill = connect({ bootstrap })
  const consumer = mill.consumer({ group: 'rebalance', memberName: `member-${index}`, leaseMs, commitIntervalMs: 100 })
  const member: Member = { mill, consumer, partitions: [] }
  consumer.assignment$.subscribe(({ partitions }) => {
    member.partitions = partitions
  })
  consumer
    .subscribe(TOPIC)
    .pipe(settle())
    .subscribe({
      next: ({ partition }) => clock.seen(partition),
      error: (error) => {
        throw error
      },
    })
  return member
}

/** A record for each partition, again and again. @returns what stops it. */
function send(mill: Mill, partitions: number): () => Promise<void> {
  const producer = mill.producer(TOPIC)
  const value = new Uint8Array(100)
  const timer = setInterval(() => {
    for (let partition = 0; partition < partitions; partition++) {
      // What fails is counted by `close`, which throws then.
      producer.send(null, value, { partition }).catch(() => {})
    }
  }, RECORD_EVERY_MS)
  return async () => {
    clearInterval(timer)
    await producer.close()
  }
}

async function until(what: () => boolean): Promise<void> {
  const endMs = performance.now() + MOST_WAIT_MS
  while (!what()) {
    if (performance.now() > endMs) throw new Error(`not within ${MOST_WAIT_MS} ms`)
    await wait(0.01)
  }
}

/** When each partition was heard of last, and its longest wait. */
class Waits {
  records = 0
  readonly #lastMs: number[]
  readonly #worstMs: number[]

  constructor(partitions: number) {
    this.#lastMs = Array<number>(partitions).fill(0)
    this.#worstMs = Array<number>(partitions).fill(0)
  }

  get haveAll(): boolean {
    return this.#lastMs.every((ms) => ms > 0)
  }

  seen(partition: number): void {
    const nowMs = performance.now()
    const lastMs = this.#lastMs[partition] ?? 0
    this.#worstMs[partition] = Math.max(this.#worstMs[partition] ?? 0, nowMs - lastMs)
    this.#lastMs[partition] = nowMs
    this.records++
  }

  /** Longest waits are of what comes from now on. */
  begin(): void {
    this.#worstMs.fill(0)
  }

  /** What nobody hears of any more waits until now. */
  end(): void {
    const nowMs = performance.now()
    this.#lastMs.forEach((lastMs, partition) => {
      this.#worstMs[partition] = Math.max(this.#worstMs[partition] ?? 0, nowMs - lastMs)
    })
  }

  worst(partitions: readonly number[]): number {
    return Math.max(0, ...partitions.map((partition) => this.#worstMs[partition] ?? 0))
  }
}
