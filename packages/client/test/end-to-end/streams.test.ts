// Web and Node streams over a real broker: records pass, back-pressure reaches the broker, errors and ends are passed on.
import { Readable, Transform, Writable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import {
  bytes,
  type ConsumerRecord,
  DeliveryError,
  type SendRecord,
  type Topic,
  topic,
  toReadableStream,
  toWritableStream,
  utf8,
} from '@millrace/client'
import { toReadable, toWritable } from '@millrace/client/node'
import { map } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { clusterOfFile } from '../support/real-cluster.js'

const real = clusterOfFile()
const WINDOW_BYTES = 300_000
const BATCH_BYTES = 260_000

type Text = Topic<string, string>
type TextRecord = ConsumerRecord<string, string>

async function newTopic(): Promise<Text> {
  return topic(await real.newTopic({ partitions: 1, durability: 'buffered' }), { key: utf8, value: utf8 })
}

async function fill(to: Text, count: number, size = 1_000): Promise<void> {
  const producer = real.mill.producer(to)
  for (let at = 0; at < count; at += 250) {
    await producer.sendBatch(
      Array.from({ length: Math.min(250, count - at) }, (_, i) => ({ key: `${at + i}`, value: 'x'.repeat(size) })),
    )
  }
}

/** Resolves when the broker has pushed nothing for some turns of the event loop. */
async function quiet(): Promise<number> {
  for (let seen = -1, turns = 0; turns < 50; ) {
    await new Promise((resolve) => setTimeout(resolve, 2))
    const now = real.pushedBytes
    turns = now === seen ? turns + 1 : 0
    seen = now
  }
  return real.pushedBytes
}

const records = (of: Text, until = false) =>
  real.mill
    .consumer({ inFlightBytes: WINDOW_BYTES })
    .subscribe(of, { from: 'earliest', ...(until && { until: 'end' }) })

describe('complaint 7: streams with real back-pressure: a slow reader holds back the broker', () => {
  test.each(['web', 'node', 'a pipeline of Node streams'] as const)('%s', async (kind) => {
    const from = await newTopic()
    await fill(from, 10_000)
    const before = real.pushedBytes
    const seen: string[] = []
    const finish: (() => void)[] = []
    const one = async ({ key }: TextRecord): Promise<void> => {
      seen.push(key!)
      if (seen.length < 10_000) await new Promise<void>((resolve) => finish.push(resolve))
    }
    const stream = records(from, true)
    const read = async (): Promise<void> => {
      if (kind === 'web') for await (const record of toReadableStream(stream)) await one(record)
      else if (kind === 'node') for await (const record of toReadable(stream)) await one(record as TextRecord)
      else {
        const slow = new Writable({
          objectMode: true,
          highWaterMark: 1,
          write: (record: TextRecord, _encoding, done) => void one(record).then(() => done(), done),
        })
        await pipeline(toReadable(stream), slow)
      }
    }
    const reading = read()
    await quiet()
    expect(seen).toEqual(['0'])
    expect(real.pushedBytes - before).toBeLessThan(WINDOW_BYTES + 2 * BATCH_BYTES)
    while (seen.length < 10_000) {
      for (const resolve of finish.splice(0)) resolve()
      await new Promise((resolve) => setImmediate(resolve))
    }
    await reading
    expect(seen).toEqual(Array.from({ length: 10_000 }, (_, i) => String(i)))
    expect(real.pushedBytes - before).toBeGreaterThan(10_000_000)
  })
})

describe('ends and errors', () => {
  test.each(['web', 'node'] as const)('%s: leaving ends the subscription', async (kind) => {
    const from = await newTopic()
    await fill(from, 5, 10)
    const seen: string[] = []
    const stream = records(from)
    if (kind === 'web') {
      const reader = toReadableStream(stream).getReader()
      seen.push((await reader.read()).value!.key!)
      const waiting = [reader.read(), reader.read(), reader.read(), reader.read(), reader.read()]
      await Promise.all(waiting.slice(0, 4))
      await reader.cancel()
      expect(await waiting[4]).toMatchObject({ done: true })
    } else {
      for await (const record of toReadable(stream)) {
        seen.push((record as TextRecord).key!)
        break
      }
    }
    expect(seen).toEqual(['0'])
    // Nothing waits for anything any more.
    const startMs = performance.now()
    await real.mill.close()
    expect(performance.now() - startMs).toBeLessThan(1_000)
  })

  test.each(['web', 'node'] as const)('%s: what ends the subscription errors the stream', async (kind) => {
    const nowhere = topic(real.newName(), { key: utf8, value: utf8 })
    const failed = expect(
      (async () => {
        for await (const _ of kind === 'web' ? toReadableStream(records(nowhere)) : toReadable(records(nowhere)));
      })(),
    ).rejects.toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_TOPIC' })
    await failed
  })

  test('a pipeline that was mapped, and null', async () => {
    const from = await newTopic()
    await fill(from, 3, 10)
    const keys = records(from, true).pipe(map(({ key }) => key))
    const seen: unknown[] = []
    for await (const key of toReadableStream(keys)) seen.push(key)
    for await (const key of toReadable(keys)) seen.push(key)
    expect(seen).toEqual(['0', '1', '2', '0', '1', '2'])
    const reading = async (): Promise<void> => {
      for await (const _ of toReadable(records(from, true).pipe(map(() => null))));
    }
    await expect(reading()).rejects.toMatchObject({ code: 'ERR_MILLRACE_INVALID_ARGUMENT' })
  })
})

describe('writing', () => {
  const rows = (count: number): SendRecord<string, string>[] =>
    Array.from({ length: count }, (_, i) => ({ key: 'k', value: String(i) }))

  const valuesOf = async (of: Text): Promise<(string | null)[]> => {
    const values: (string | null)[] = []
    for await (const { value } of real.mill.consumer().subscribe(of, { from: 'earliest', until: 'end' }))
      values.push(value)
    return values
  }

  test.each(['web', 'node'] as const)('%s: everything written is acknowledged at the end, in order', async (kind) => {
    const to = await newTopic()
    const producer = real.mill.producer(to)
    if (kind === 'node') await pipeline(Readable.from(rows(2_000)), toWritable(producer))
    else {
      const writer = toWritableStream(producer).getWriter()
      for (const row of rows(2_000)) {
        await writer.ready
        void writer.write(row)
      }
      await writer.close()
    }
    expect(await valuesOf(to)).toEqual(rows(2_000).map(({ value }) => value))
    // The producer stays open.
    await producer.send('k', 'more')
  })

  test.each(['web', 'node'] as const)('%s: a full buffer holds the writer back', async (kind) => {
    const to = await newTopic()
    const tight = real.connect({ bufferBytes: 20_000 })
    const producer = tight.producer(to, { batchBytes: 4_000 })
    const failures: unknown[] = []
    producer.failures$.subscribe((failure) => failures.push(failure))
    const wide = rows(3_000).map((row) => ({ ...row, value: `${row.value}${'.'.repeat(500)}` }))
    if (kind === 'node') await pipeline(Readable.from(wide), toWritable(producer))
    else
      await new ReadableStream({
        pull: (out) => {
          const row = wide.shift()
          if (row) out.enqueue(row)
          else out.close()
        },
      }).pipeTo(toWritableStream(producer))
    expect(failures).toEqual([])
    expect((await valuesOf(to)).length).toBe(3_000)
  })

  test.each(['web', 'node'] as const)('%s: a record that fails errors the stream', async (kind) => {
    const to = await newTopic()
    const producer = real.mill.producer(to)
    const bad = [...rows(3), { key: 'k', value: 'x', partition: 9 }, ...rows(3)]
    const written =
      kind === 'node'
        ? pipeline(Readable.from(bad), toWritable(producer))
        : (async () => {
            const writer = toWritableStream(producer).getWriter()
            for (const row of bad) await writer.write(row)
            await writer.close()
          })()
    await expect(written).rejects.toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_PARTITION' })
    await expect(producer.flush()).rejects.toBeInstanceOf(DeliveryError)
  })

  test('abort: nothing more is sent', async () => {
    const to = await newTopic()
    const controller = new AbortController()
    const endless = async function* (): AsyncGenerator<SendRecord<string, string>> {
      for (let i = 0; ; i++) {
        if (i === 50) controller.abort(new Error('enough'))
        await new Promise((resolve) => setImmediate(resolve))
        yield { key: 'k', value: String(i) }
      }
    }
    const { signal } = controller
    await expect(pipeline(Readable.from(endless()), toWritable(real.mill.producer(to)), { signal })).rejects.toThrow()
    const sent = await valuesOf(to)
    expect(sent.length).toBeLessThanOrEqual(50)
    await quiet()
    expect((await valuesOf(to)).length).toBeLessThanOrEqual(50)
    expect(sent).toEqual([...sent.keys()].map(String))
  })

  test('from one topic through a Transform into another, and as web streams', async () => {
    const [from, byNode, byWeb] = [await newTopic(), await newTopic(), await newTopic()]
    await fill(from, 1_000, 10)
    const upper = new Transform({
      objectMode: true,
      transform: ({ key, value }: TextRecord, _encoding, done) => done(null, { key, value: value!.toUpperCase() }),
    })
    await pipeline(toReadable(records(from, true)), upper, toWritable(real.mill.producer(byNode)))
    await toReadableStream(records(from, true)).pipeTo(toWritableStream(real.mill.producer(byWeb)))
    expect((await valuesOf(byNode)).every((value) => value === 'X'.repeat(10))).toBe(true)
    expect((await valuesOf(byWeb)).length).toBe(1_000)
    const raw = topic(byWeb.name, { key: bytes, value: bytes })
    const { value } = await real.mill.consumer().subscribe(raw, { from: 'earliest' })[Symbol.asyncIterator]().next()
    expect(value!.key).toEqual(new TextEncoder().encode('0'))
  })
})
