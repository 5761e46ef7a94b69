// Records sent on: order, what is settled when, and what a full buffer holds back.
import {
  type ConsumerRecord,
  type Delivery,
  type MillraceError,
  processEach,
  type SendRecord,
  toTopic,
} from '@millrace/client'
import { filter, map, mergeMap } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { fill } from '../support/batches.js'
import { begin as beginSetting, type Setting, Texts } from '../support/setting.js'
import { wrong } from '../support/wrong.js'

const Target = { ...Texts, name: 'copies' }
const TARGET_ID = 2

function begin(partitions = 1, options: { readonly bufferBytes?: number } = {}): Setting {
  const setting = beginSetting({ partitions, ...options })
  setting.cluster.addTopic('copies', 3)
  return setting
}

const copy = ({ key, value }: ConsumerRecord<string, string>): SendRecord<string, string> => ({ key, value })

function sentValues({ mill, world }: Setting): Promise<Map<number, string[]>> {
  const found = new Map<number, string[]>([
    [0, []],
    [1, []],
    [2, []],
  ])
  const read = new Promise<Map<number, string[]>>((resolve, reject) => {
    mill
      .consumer()
      .subscribe(Target, { from: 'earliest', until: 'end' })
      .subscribe({
        next: ({ partition, value }) => found.get(partition)!.push(value!),
        error: reject,
        complete: () => resolve(found),
      })
  })
  return world.result(read)
}

describe('toTopic', () => {
  test('sends in order, emits deliveries, completes when all are acknowledged', async () => {
    const setting = begin()
    const { cluster, world, mill } = setting
    fill(cluster, 1, 0, 500, 20)
    const deliveries: Delivery[] = []
    let completed = false
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(
        filter(({ offset }) => offset % 2 === 0),
        map(copy),
        toTopic(mill.producer(Target)),
      )
      .subscribe({ next: (delivery) => deliveries.push(delivery), complete: () => (completed = true) })
    await world.until(() => completed)
    expect(deliveries.length).toBe(250)
    expect(deliveries[0]).toMatchObject({ topic: 'copies', offset: 0 })
    const values = await sentValues(setting)
    expect([...values.values()].flat().length).toBe(250)
    for (const list of values.values()) expect(list).toEqual([...list].sort((a, b) => Number(a) - Number(b)))
  })

  test('settles the source when the record is acknowledged, not before', async () => {
    const { cluster, world, mill } = begin()
    fill(cluster, 1, 0, 2_000, 10)
    cluster.produceRule = () => ({ silent: true })
    const deliveries: Delivery[] = []
    mill
      .consumer({ inFlightBytes: 1_000 })
      .subscribe(Texts, { from: 'earliest' })
      .pipe(map(copy), toTopic(mill.producer(Target)))
      .subscribe((delivery) => deliveries.push(delivery))
    await world.run(5_000)
    const { decodedBytes } = cluster.partition(1, 0).batches.at(-1)!
    expect(cluster.pushedBytes).toBeLessThanOrEqual(1_000 + decodedBytes)
    expect(deliveries).toEqual([])
    cluster.produceRule = () => undefined
    for (const connection of cluster.brokers[0]!.data) connection.cut()
    await world.until(() => deliveries.length === 2_000)
    // Idempotent whatever was sent again.
    expect([0, 1, 2].map((partition) => cluster.partition(TARGET_ID, partition).end).reduce((a, b) => a + b)).toBe(
      2_000,
    )
  })

  test('no more on their way than the concurrency', async () => {
    const { cluster, world, mill } = begin()
    fill(cluster, 1, 0, 100, 100)
    cluster.produceRule = () => ({ silent: true })
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .pipe(map(copy), toTopic(mill.producer(Target), { concurrency: 7 }))
      .subscribe()
    await world.run(1_000)
    expect(cluster.seen.reduce((sum, { recordCount }) => sum + recordCount, 0)).toBe(7)
  })

  test('a full buffer holds back the source; nothing is refused', async () => {
    const setting = begin(1, { bufferBytes: 2_000 })
    const { cluster, world, mill } = setting
    fill(cluster, 1, 0, 5_000, 50)
    const producer = mill.producer(Target, { batchBytes: 1_000 })
    const failures: unknown[] = []
    producer.failures$.subscribe((failure) => failures.push(failure))
    let delivered = 0
    let completed = false
    mill
      .consumer({ inFlightBytes: 4_000 })
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(map(copy), toTopic(producer))
      .subscribe({ next: () => delivered++, complete: () => (completed = true) })
    await world.until(() => completed, 600_000)
    expect(delivered).toBe(5_000)
    expect(failures).toEqual([])
    for (const list of (await sentValues(setting)).values()) {
      expect(list).toEqual([...list].sort((a, b) => Number(a) - Number(b)))
    }
  })

  test('a consumed record as it is: headers and time stay, its key decides the partition', async () => {
    const { cluster, world, mill } = begin(5)
    fill(cluster, 1, 4, 10, 10)
    const deliveries: Delivery[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest', until: 'end' })
      .pipe(toTopic(mill.producer(Target)))
      .subscribe((delivery) => deliveries.push(delivery))
    await world.until(() => deliveries.length === 10)
    expect(deliveries.every(({ partition, timestamp }) => partition < 3 && timestamp === 1)).toBe(true)
    expect(new Set(deliveries.map(({ partition }) => partition)).size).toBeGreaterThan(1)
  })

  test('a send that fails: nothing new is sent, those on their way are awaited, then the error', async () => {
    const { cluster, world, mill } = begin()
    fill(cluster, 1, 0, 50, 50)
    const events: unknown[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .pipe(
        map(({ key, value, offset }) => ({ key, value, partition: offset === 3 ? 99 : 0 })),
        toTopic(mill.producer(Target)),
      )
      .subscribe({
        next: ({ offset }) => events.push(offset),
        error: (error: MillraceError) => events.push(error.code),
      })
    await world.run(500)
    expect(events).toEqual([0, 1, 2, 'ERR_MILLRACE_UNKNOWN_PARTITION'])
    expect(cluster.partition(TARGET_ID, 0).end).toBe(3)
  })

  test('a producer that is closed, and values that are no records', async () => {
    const { cluster, world, mill } = begin()
    fill(cluster, 1, 0, 5, 5)
    const closed = mill.producer(Target)
    await closed.close()
    const codes: string[] = []
    const watch = { error: ({ code }: MillraceError) => codes.push(code) }
    const records = mill.consumer().subscribe(Texts, { from: 'earliest' })
    records.pipe(map(copy), toTopic(closed)).subscribe(watch)
    records
      .pipe(
        map(() => wrong<SendRecord<string, string>>(7)),
        toTopic(mill.producer(Target)),
      )
      .subscribe(watch)
    records
      .pipe(
        mergeMap(async (record) => copy(record)),
        toTopic(mill.producer(Target)),
      )
      .subscribe(watch)
    await world.run(100)
    expect(codes.sort()).toEqual([
      'ERR_MILLRACE_CLOSED',
      'ERR_MILLRACE_INVALID_ARGUMENT',
      'ERR_MILLRACE_NOT_IN_DELIVERY',
    ])
    expect(() => toTopic(closed, { concurrency: 0 })).toThrow('concurrency')
  })

  test('behind processEach it is told that settlement has passed', async () => {
    const { cluster, world, mill } = begin()
    fill(cluster, 1, 0, 5, 5)
    const errors: MillraceError[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .pipe(
        processEach(async (record) => copy(record)),
        toTopic(mill.producer(Target)),
      )
      .subscribe({ error: (error) => errors.push(error) })
    await world.run(100)
    expect(errors).toMatchObject([{ code: 'ERR_MILLRACE_NOT_IN_DELIVERY' }])
  })
})
