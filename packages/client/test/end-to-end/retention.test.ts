// Retention seen from outside: what is too much goes, and whoever wants it still is told where the log begins now.
import { type Mill, MillraceError, processEach } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { expect, test } from 'vitest'
import { clusterOfTest } from '../support/real-cluster.js'

const VALUE = new Uint8Array(8 * 1024).fill(7)
/** More than the first segment of a log, which is a mebibyte. */
const MANY = 400

const real = clusterOfTest()

async function begin(environment: 'auto' | 'portable'): Promise<Mill> {
  await real.start({ environment })
  return real.mill
}

async function produce(client: Mill, name: string, count: number): Promise<void> {
  const producer = client.producer(name, { batchBytes: 64 * 1024 })
  for (let i = 0; i < count; i += 20) {
    await producer.sendBatch(Array.from({ length: 20 }, () => ({ key: null, value: VALUE })))
  }
  await producer.close()
}

async function startOf(client: Mill, name: string): Promise<number> {
  return (await admin(client).describeTopic(name)).partitions[0]!.logStartOffset!
}

async function startMoves(client: Mill, name: string): Promise<number> {
  for (let i = 0; i < 200; i++) {
    const start = await startOf(client, name)
    if (start > 0) return start
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('the log start does not move')
}

/** Retention may have looked first while records still came: then it looks again within 2.25 s, and what is left stays. */
async function startRests(client: Mill, name: string): Promise<number> {
  let start = await startMoves(client, name)
  for (let looks = 0; looks < 80; looks++) {
    await new Promise((resolve) => setTimeout(resolve, 50))
    const next = await startOf(client, name)
    if (next !== start) looks = 0
    start = next
  }
  return start
}

async function firstOffset(client: Mill, name: string, from: 'earliest' | { offset: number }): Promise<number> {
  for await (const { offset } of client.consumer().subscribe(name, { from })) return offset
  throw new Error('the subscription ended')
}

test.each(['portable', 'auto'] as const)('what is too much goes (%s environment)', async (environment) => {
  const client = await begin(environment)
  await admin(client).createTopic('kept', { retentionBytes: 1, durability: 'buffered' })
  expect(await admin(client).describeTopic('kept')).toMatchObject({ retentionMs: null, retentionBytes: 1 })

  // A consumer that takes its time: the log start overtakes it.
  const lagging: { read: number; error: unknown; go: () => void } = { read: 0, error: null, go: () => {} }
  const going = new Promise<void>((resolve) => {
    lagging.go = resolve
  })
  const consumer = client.consumer({ inFlightBytes: 64 * 1024 })
  const ended = new Promise<void>((resolve) => {
    consumer
      .subscribe('kept', { from: 'earliest' })
      .pipe(
        processEach(async () => {
          lagging.read++
          await going
        }),
      )
      .subscribe({
        error: (error: unknown) => {
          lagging.error = error
          resolve()
        },
      })
  })

  await produce(client, 'kept', MANY)
  const start = await startRests(client, 'kept')
  expect(start).toBeLessThan(MANY)
  expect(await firstOffset(client, 'kept', 'earliest')).toBe(start)
  const below = firstOffset(client, 'kept', { offset: start - 1 })
  await expect(below).rejects.toMatchObject({ code: 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE', logStartOffset: start })

  lagging.go()
  await ended
  expect(MillraceError.is(lagging.error)).toBe(true)
  expect(lagging.error).toMatchObject({
    code: 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE',
    topic: 'kept',
    partition: 0,
    logStartOffset: start,
    fatal: true,
  })
  expect(String(lagging.error)).toContain(`${start} to ${MANY}`)
  expect(lagging.read).toBeLessThan(start)

  // The start is the same after a restart, and a session that goes on there misses nothing.
  await real.cluster.brokers[0]!.restart()
  expect(await firstOffset(client, 'kept', 'earliest')).toBe(start)
  await produce(client, 'kept', 20)
  expect(await firstOffset(client, 'kept', { offset: MANY })).toBe(MANY)
})

test('what is too old goes, from a quiet topic too', async () => {
  const client = await begin('portable')
  await admin(client).createTopic('short', { retentionMs: 300 })
  await produce(client, 'short', 20)
  expect(await startMoves(client, 'short')).toBe(20)
  const next = firstOffset(client, 'short', 'earliest')
  await produce(client, 'short', 20)
  expect(await next).toBe(20)
})
