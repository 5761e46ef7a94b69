// A byte flips on the disk of a running broker: the scrubber reports it, and consumers are told what is lost.
import { connect, type MillraceError } from '@millrace/client'
import { describe, expect, it, onTestFinished } from 'vitest'
import { type Broker, startBroker } from '#src/broker.js'
import type { Environment } from '#src/environment.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { ENVIRONMENTS } from '../broker/environments.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { LogCapture } from '../server/running-broker.js'
import { flip, groupAt, log, scratch } from './directories.js'

interface Running {
  readonly broker: Broker
  readonly environment: Environment
  readonly log: LogCapture
  stop(): Promise<void>
}

async function start(directory: string, prefer: 'portable' | 'ring', scrubBytesPerSecond: number): Promise<Running> {
  const capture = new LogCapture()
  const environment = await chooseEnvironment({ prefer, memoryBytes: 128 * 1024 * 1024, logger: capture })
  const limits = { scrubBytesPerSecond, scrubRestMs: 20 }
  const broker = await startBroker(environment, { dataDirectory: directory, port: 0 }, (env, volume, options) =>
    openLogStore(env, volume, options, limits),
  )
  let stopped: Promise<void> | null = null
  const stop = async (): Promise<void> => {
    await broker.stop({ timeoutMs: 200 })
    await environment.close()
  }
  const stopOnce = (): Promise<void> => {
    stopped ??= stop()
    return stopped
  }
  onTestFinished(stopOnce)
  return { broker, environment, log: capture, stop: stopOnce }
}

const storageOf = ({ broker }: Running) => broker.status().storage as Record<string, unknown>

async function fill({ broker }: Running): Promise<void> {
  const client = await RawClient.open(broker.address)
  const topicId = await client.createTopic('orders', { partitions: 2 })
  for (let sequence = 0; sequence < 6; sequence++) {
    const list = [0, 1, 2].map((i) => ({ value: `${sequence}.${i}` }))
    for (const partition of [0, 1]) await client.produce([batchOf(list, { topicId, partition, sequence })])
  }
  client.socket.destroy()
}

/** What a consumer of one partition gets, up to `count` records or the error that ends it. */
async function consume({ broker }: Running, partition: number, offset: number, count: number) {
  const { host, port } = broker.address
  const mill = connect({ bootstrap: `${host}:${port}` })
  const values: string[] = []
  try {
    const subscription = mill.consumer().subscribe('orders', { from: { offset }, partitions: [partition] })
    for await (const record of subscription) {
      values.push(new TextDecoder().decode(record.value as Uint8Array))
      if (values.length === count) break
    }
    return { values, error: null }
  } catch (cause) {
    return { values, error: cause as MillraceError }
  } finally {
    await mill.close()
  }
}

const ALL = Array.from({ length: 18 }, (_, i) => `${Math.floor(i / 3)}.${i % 3}`)

describe.each(ENVIRONMENTS)('a flipped byte below a running broker on the %s environment', (environment) => {
  it('is found by the scrubber, and only what is lost is refused', { timeout: 30_000 }, async () => {
    const directory = scratch()
    const first = await start(directory, environment, 64 * 1024 * 1024)
    await fill(first)
    await expect.poll(() => storageOf(first).scrubPasses, { timeout: 10_000 }).toBeGreaterThan(1)
    expect(storageOf(first)).toMatchObject({ damagedGroups: 0 })
    const group = groupAt(directory, 0, 6)
    flip(directory, group.slot, group.at + 96 + 40 + 90)
    await expect.poll(() => storageOf(first).damagedGroups, { timeout: 10_000 }).toBe(1)
    const { message, fields } = first.log.lines.find(({ level }) => level === 'error')!
    expect(message).toContain('run `millrace-broker log verify`')
    expect(fields).toMatchObject({
      topicId: 1,
      partition: 0,
      slot: group.slot,
      position: group.envelope.position,
      filePosition: group.at,
      firstOffset: 6,
      nextOffset: 9,
    })
    // Memory still holds what was written.
    expect(await consume(first, 0, 0, 18)).toEqual({ values: ALL, error: null })
    await first.stop()
    expect((await log('verify', directory)).code).toBe(1)
    await expectRefused(await start(directory, environment, 64 * 1024 * 1024))
  })

  it('is found by a reader where nothing is scrubbed', { timeout: 30_000 }, async () => {
    const directory = scratch()
    const first = await start(directory, environment, 0)
    await fill(first)
    await first.stop()
    const group = groupAt(directory, 0, 6)
    flip(directory, group.slot, group.at + 20)
    const second = await start(directory, environment, 0)
    await expectRefused(second)
    expect(storageOf(second)).toMatchObject({ scrubbedBytes: 0, scrubPasses: 0, damagedGroups: 1 })
  })
})

async function expectRefused(running: Running): Promise<void> {
  const { values, error } = await consume(running, 0, 0, 18)
  expect(values).toEqual(ALL.slice(0, 6))
  expect(error).toMatchObject({ code: 'ERR_MILLRACE_DAMAGED' })
  expect(error?.message).toContain('records 6 to 8 of log 1/0/0 are damaged on disk')
  expect(error?.message).toContain('go on from offset 9')
  expect(await consume(running, 0, 9, 9)).toEqual({ values: ALL.slice(9), error: null })
  expect(await consume(running, 1, 0, 18)).toEqual({ values: ALL, error: null })
  // The log goes on taking records.
  const client = await RawClient.open(running.broker.address)
  const { results } = await client.produce([batchOf([{ value: 'later' }], { producer: [8, 8, 8, 8] })])
  expect(results[0]).toMatchObject({ code: 0, baseOffset: 18 })
  client.socket.destroy()
  expect(await consume(running, 0, 18, 1)).toEqual({ values: ['later'], error: null })
}
