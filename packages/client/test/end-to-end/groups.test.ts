// Consumer groups on real brokers, named after what people suffer from with other clients: rebalances that stop the world,
// members expelled for being slow, offsets that move although a handler failed, consumers that fall silent.
import type { TestCluster } from '@millrace/broker/testing'
import {
  type Assignment,
  type Consumer,
  type ConsumerOptions,
  type Mill,
  type MillraceError,
  type PartitionLag,
  processByKey,
  topic,
  utf8,
} from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { expect, test, vi } from 'vitest'
import { clusterOfTest } from '../support/real-cluster.js'

vi.setConfig({ testTimeout: 90_000 })

const Orders = topic('orders', { key: utf8, value: utf8 })
const LEASE_MS = 3_000

const real = clusterOfTest()

interface Member {
  readonly mill: Mill
  readonly consumer: Consumer
  readonly values: string[]
  readonly assignments: Assignment[]
  readonly owned: () => readonly number[]
  error: MillraceError | null
}

async function begin(brokers: number, partitions: number): Promise<TestCluster> {
  await real.start({ brokers })
  await admin(real.mill).createTopic(Orders.name, { partitions, replicas: Math.min(3, brokers) })
  return real.cluster
}

async function send(from: number, to: number): Promise<void> {
  const producer = real.mill.producer(Orders)
  const numbers = Array.from({ length: to - from }, (_, i) => from + i)
  await producer.sendBatch(numbers.map((n) => ({ key: `k${n % 50}`, value: String(n) })))
  await producer.close()
}

function join(
  options: Partial<ConsumerOptions> = {},
  work: (value: string, member: Member) => Promise<void> = async () => {},
): Member {
  const mill = real.connect({ logger: { info() {}, warn() {} } })
  const consumer = mill.consumer({ group: 'billing', leaseMs: LEASE_MS, commitIntervalMs: 100, ...options })
  const assignments: Assignment[] = []
  const owned = () => assignments.at(-1)?.partitions ?? []
  const member: Member = { mill, consumer, values: [], assignments, owned, error: null }
  consumer.assignment$.subscribe((assignment) => assignments.push(assignment))
  consumer
    .subscribe(Orders)
    .pipe(
      processByKey(
        async ({ value }) => {
          await work(value!, member)
          member.values.push(value!)
        },
        { concurrency: 32 },
      ),
    )
    .subscribe({ error: (error) => (member.error = error) })
  return member
}

const until = (what: () => boolean | Promise<boolean>, timeout = 30_000): Promise<void> =>
  vi.waitFor(async () => expect(await what()).toBe(true), { timeout, interval: 25 })

const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms))
const all = (count: number) => Array.from({ length: count }, (_, n) => String(n)).sort()
const distinct = (...members: Member[]) => [...new Set(members.flatMap(({ values }) => values))].sort()

test('complaint 3: a rebalance stops nobody: what stays is not touched, what moves is done once', async () => {
  await begin(1, 8)
  await send(0, 400)
  const first = join()
  await until(() => first.values.length === 400)
  const second = join({}, () => sleep(1))
  await until(() => second.owned().length === 4 && first.owned().length === 4)
  await send(400, 1_200)
  await until(() => first.values.length + second.values.length >= 1_200)
  expect(distinct(first, second)).toEqual(all(1_200))
  expect(first.values.length + second.values.length).toBe(1_200)
  const kept = first.owned()
  for (const { partitions } of first.assignments.slice(1)) for (const p of kept) expect(partitions).toContain(p)
})

test('complaint 1: a member that dies is missed after its lease, and its partitions do not stay silent', async () => {
  await begin(1, 4)
  await send(0, 100)
  const lives = join()
  // A member with a name does not leave: closed at once, it is gone as far as the brokers can tell.
  const dies = join({ memberName: 'dies' }, () => sleep(5))
  await until(() => lives.owned().length === 2 && dies.owned().length === 2)
  const diedMs = performance.now()
  await dies.mill.close({ timeoutMs: 0 })
  await send(100, 300)
  await until(() => lives.owned().length === 4)
  expect(performance.now() - diedMs).toBeGreaterThan(LEASE_MS / 2)
  await until(() => distinct(lives, dies).length === 300)
  expect(distinct(lives, dies)).toEqual(all(300))
})

test('complaint 2: a slow handler is no dead member: it works for longer than its lease and keeps its partitions', async () => {
  await begin(1, 2)
  await send(0, 20)
  const slow = join({ leaseMs: 1_000 }, (value) => sleep(value === '3' ? 4_000 : 1))
  await until(() => slow.values.length === 20, 20_000)
  expect(slow.values).toHaveLength(20)
  expect(distinct(slow)).toEqual(all(20))
  expect(slow.assignments.filter(({ partitions }) => partitions.length === 0)).toEqual([])
})

test('static members: a rolling restart moves nothing', async () => {
  await begin(1, 6)
  await send(0, 60)
  const options = (n: number) => ({ memberName: `billing-${n}` })
  const stays = join(options(0))
  const restarts = join(options(1))
  await until(() => stays.owned().length === 3 && restarts.owned().length === 3)
  const [hers, his] = [restarts.owned(), stays.owned()]
  const before = stays.assignments.length
  await restarts.mill.close()
  const back = join(options(1))
  await until(() => back.owned().length === 3)
  expect([back.owned(), stays.owned(), stays.assignments.length]).toEqual([hers, his, before])
  await send(60, 120)
  await until(() => distinct(stays, restarts, back).length === 120)
  expect(stays.values.length + restarts.values.length + back.values.length).toBe(120)
})

test('complaint 18: an offset does not move although the handler failed, and goes on where it failed', async () => {
  await begin(1, 1)
  await send(0, 50)
  const fails = join({}, async (value) => {
    if (value === '20') throw new Error('the handler failed')
  })
  await until(() => fails.error !== null)
  expect(String(fails.error)).toContain('the handler failed')
  await fails.mill.close()
  const next = join()
  await until(() => next.values.includes('49'))
  const values = next.values.map(Number)
  expect(values).toContain(20)
  expect(distinct(fails, next)).toEqual(all(50))
})

test('complaint 19: more than one handler per partition, in order for each key, and the commit is the lowest unfinished', async () => {
  await begin(1, 1)
  await send(0, 500)
  let active = 0
  let most = 0
  const member = join({}, async () => {
    most = Math.max(most, ++active)
    await sleep(2)
    active--
  })
  await until(() => member.values.length === 500)
  expect(most).toBeGreaterThan(8)
  for (let key = 0; key < 50; key++) {
    const ofKey = member.values.map(Number).filter((n) => n % 50 === key)
    expect(ofKey).toEqual([...ofKey].sort((a, b) => a - b))
  }
  const lags: (readonly PartitionLag[])[] = []
  member.consumer.lag$.subscribe((lag) => lags.push(lag))
  await until(() => lags.at(-1)?.[0]?.lag === 0)
  expect(lags.at(-1)).toMatchObject([{ partition: 0, highWatermark: 500, committedOffset: 500, undelivered: 0 }])
})

test('complaint 12: close() ends in time, commits, leaves, and the next member goes on without a gap or a repetition', async () => {
  await begin(1, 4)
  await send(0, 200)
  const first = join({}, () => sleep(3))
  await until(() => first.values.length > 40)
  const startMs = performance.now()
  await first.mill.close()
  expect(performance.now() - startMs).toBeLessThan(5_000)
  const seen = first.values.length
  const next = join()
  await until(() => distinct(first, next).length === 200)
  // The others of a partition are finished later than one that another was waiting for: these alone come twice.
  expect(first.values.length).toBe(seen)
  expect(first.values.length + next.values.length).toBeLessThanOrEqual(200 + 32)
})

test('complaint 24: leaders are killed under commits: every record is done at least once, nothing committed goes back', async () => {
  const brokers = await begin(3, 6)
  await send(0, 300)
  const [one, two] = [join({ leaseMs: 10_000 }), join({ leaseMs: 10_000 })]
  await until(() => distinct(one, two).length === 300)
  const wentBack: string[] = []
  const committed = new Map<number, number>()
  for (const { consumer } of [one, two]) {
    consumer.lag$.subscribe((lags) => {
      for (const { partition, committedOffset } of lags) {
        const before = committed.get(partition) ?? 0
        if (committedOffset !== null && committedOffset < before) wentBack.push(`${partition}: ${committedOffset}`)
        if (committedOffset !== null) committed.set(partition, committedOffset)
      }
    })
  }
  let sent = 300
  for (const { nodeId } of brokers.brokers) {
    await brokers.kill(nodeId)
    await send(sent, sent + 200)
    sent += 200
    await until(() => distinct(one, two).length === sent)
    await brokers.restart(nodeId)
    await until(async () => (await admin(real.mill).clusterStatus()).leaderless === 0)
  }
  expect(distinct(one, two)).toEqual(all(sent))
  expect([one.error, two.error]).toEqual([null, null])
  expect(wentBack).toEqual([])
  await until(() => [...committed.values()].reduce((sum, offset) => sum + offset, 0) === sent)
})
