// Consumer groups from the command line, and the administration behind it: the real program against a real broker.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { startTestCluster, type TestCluster } from '@millrace/broker/testing'
import { connect, type Mill, settle } from '@millrace/client'
import { type Admin, admin } from '@millrace/client/admin'
import { afterAll, beforeAll, expect, it, vi } from 'vitest'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace.js', import.meta.url))

vi.setConfig({ testTimeout: 60_000 })

let cluster: TestCluster
let mill: Mill
let operator: Admin

beforeAll(async () => {
  cluster = await startTestCluster({ environment: 'portable' })
  mill = connect({ bootstrap: cluster.bootstrap, clientId: 'tester' })
  operator = admin(mill)
})
afterAll(async () => {
  await mill.close()
  await cluster.stop()
})

interface Result {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

const millrace = (...words: string[]): Promise<Result> =>
  new Promise((resolve) => {
    const env = { ...process.env, MILLRACE_BOOTSTRAP: cluster.bootstrap }
    execFile(process.execPath, [PROGRAM, ...words], { env }, (error, stdout, stderr) =>
      resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    )
  })

async function fill(topic: string, partitions: number, records: number): Promise<void> {
  await operator.createTopic(topic, { partitions })
  const producer = mill.producer(topic)
  for (let p = 0; p < partitions; p++) {
    const list = Array.from({ length: records }, (_, n) => ({
      key: null,
      value: new TextEncoder().encode(`${p}/${n}`),
      partition: p,
      timestamp: 1_000 * n,
    }))
    await producer.sendBatch(list)
  }
  await producer.close()
}

it('there are none before the first, and an unknown one is not found', async () => {
  expect(await operator.listGroups()).toEqual([])
  const { code, stderr } = await millrace('group', 'describe', 'nobody')
  expect([code, stderr]).toEqual([3, expect.stringContaining('group nobody')])
  await expect(operator.describeGroup('a b')).rejects.toMatchObject({ code: 'ERR_MILLRACE_INVALID_REQUEST' })
})

it('consume --group shares, commits what was printed, and goes on there; describe and list tell', async () => {
  await fill('orders', 2, 10)
  const first = await millrace('consume', 'orders', '--group', 'printing', '--count', '15')
  expect(first.code).toBe(0)
  const second = await millrace('consume', 'orders', '--group', 'printing', '--count', '5')
  const lines = `${first.stdout}${second.stdout}`.trim().split('\n')
  expect([lines.length, new Set(lines).size]).toEqual([20, 20])
  const described = JSON.parse((await millrace('group', 'describe', 'printing', '--json')).stdout)
  expect(described).toMatchObject({ group: 'printing', state: 'empty', members: [] })
  expect(described.partitions).toHaveLength(2)
  const committed = described.partitions.reduce(
    (sum: number, one: { committedOffset: number }) => sum + one.committedOffset,
    0,
  )
  expect(committed).toBe(20)
  const listed = await millrace('group', 'list')
  expect(listed.stdout).toBe('printing\tempty\t0\torders\n')
  expect((await millrace('topic', 'list')).stdout).not.toContain('__groups')
  expect((await millrace('topic', 'list', '--internal')).stdout).toContain('__groups')
})

it('members, lag, reset and delete: not while there are members, by offset and by time', async () => {
  await fill('payments', 3, 20)
  const consumer = mill.consumer({ group: 'accounting', commitIntervalMs: 50 })
  consumer.subscribe('payments').pipe(settle()).subscribe()
  await vi.waitFor(
    async () => {
      const { members, partitions, state } = await operator.describeGroup('accounting')
      expect(members).toMatchObject([{ clientId: 'tester', name: null }])
      expect(members[0]?.partitions).toHaveLength(3)
      expect(state).toBe('stable')
      expect(partitions.map(({ lag, member }) => [lag, member])).toEqual(Array(3).fill([0, 'tester']))
    },
    { timeout: 20_000, interval: 100 },
  )
  await expect(operator.deleteGroup('accounting')).rejects.toMatchObject({ code: 'ERR_MILLRACE_GROUP_NOT_EMPTY' })
  expect((await millrace('group', 'reset', 'accounting', 'payments', '--to', 'earliest')).code).toBe(1)
  await consumer.close()
  const reset = await millrace('group', 'reset', 'accounting', 'payments', '--to', '@7000', '-p', '0,2')
  expect([reset.stdout, reset.stderr]).toEqual(['payments/0\t7\npayments/2\t7\n', ''])
  const { partitions } = await operator.describeGroup('accounting')
  expect(partitions.map(({ lag, committedOffset }) => [lag, committedOffset])).toEqual([
    [13, 7],
    [0, 20],
    [13, 7],
  ])
  expect(await operator.resetGroup('accounting', { topic: 'payments', to: 'latest' })).toEqual(
    new Map([
      [0, 20],
      [1, 20],
      [2, 20],
    ]),
  )
  await expect(
    operator.resetGroup('accounting', { topic: 'payments', to: { offset: 0 }, partitions: [9] }),
  ).rejects.toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_PARTITION' })
  expect((await millrace('group', 'delete', 'accounting')).code).toBe(2)
  expect((await millrace('group', 'delete', 'accounting', '--yes')).stdout).toBe('deleted accounting\n')
  await expect(operator.describeGroup('accounting')).rejects.toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_GROUP' })
})
