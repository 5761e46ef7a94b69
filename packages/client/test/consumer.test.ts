// Subscriptions: where they begin and end, what they deliver, and how they go on after a break.
import { type ConsumerRecord, type MillraceError, type SubscribeOptions, topic, utf8 } from '@millrace/client'
import { ATTRIBUTE_CONTROL, cursorCredit, cursorOpen, cursorOpened, LOG_PART_BYTES, Reader } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { buildBatch, fill } from './support/batches.js'
import { begin, Orders, type Setting, Texts } from './support/setting.js'

type TextRecord = ConsumerRecord<string, string>

interface Watched {
  readonly records: TextRecord[]
  readonly offsets: () => string[]
  error: MillraceError | null
  completed: boolean
  unsubscribe(): void
}

function watch({ mill }: Setting, options: SubscribeOptions = {}, name = 'orders'): Watched {
  const records: TextRecord[] = []
  const stream = mill.consumer().subscribe(topic(name, { key: utf8, value: utf8 }), options)
  const watched: Watched = {
    records,
    offsets: () => records.map(({ partition, offset }) => `${partition}/${offset}`),
    error: null,
    completed: false,
    unsubscribe: () => subscription.unsubscribe(),
  }
  const subscription = stream.subscribe({
    next: (record) => records.push(record),
    error: (error) => (watched.error = error),
    complete: () => (watched.completed = true),
  })
  return watched
}

const upTo = (partition: number, from: number, to: number): string[] =>
  Array.from({ length: to - from }, (_, i) => `${partition}/${from + i}`)

describe('where it begins and ends', () => {
  test('latest by default: records sent from now on', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 10, 3)
    const watched = watch(setting)
    await setting.world.run(20)
    fill(setting.cluster, 1, 0, 5, 2)
    await setting.world.run(20)
    expect(watched.offsets()).toEqual(upTo(0, 10, 15))
    expect(watched.completed).toBe(false)
  })

  test('cold: nothing happens before it is subscribed to, and each subscription is a session of its own', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 4, 2)
    const stream = setting.mill.consumer().subscribe(Texts, { from: 'earliest', until: 'end' })
    await setting.world.run(100)
    expect(setting.world.dials).toEqual([])
    const counts = [0, 0]
    stream.subscribe(() => counts[0]!++)
    stream.subscribe(() => counts[1]!++)
    await setting.world.run(100)
    expect(counts).toEqual([4, 4])
  })

  test.each([
    [{ from: 'earliest' as const }, 0],
    [{ from: { offset: 7 } }, 7],
    [{ from: { offsets: { 0: 3 } } }, 3],
    [{ from: { timestamp: 500 } }, 4],
  ])('%j until the end, which is that of the moment it opened', async (options, first) => {
    const setting = begin({ partitions: 2 })
    const { cluster, world } = setting
    cluster.append(
      1,
      0,
      buildBatch(
        1,
        0,
        [1, 2, 3, 4].map((n) => ({ value: `${n}`, timestamp: n })),
      ),
    )
    cluster.append(
      1,
      0,
      buildBatch(
        1,
        0,
        [1, 2, 3, 4, 5, 6].map((n) => ({ value: `${n}`, timestamp: 500 + n })),
      ),
    )
    const watched = watch(setting, { ...options, until: 'end', partitions: [0] })
    await world.until(() => watched.records.length > 0)
    fill(cluster, 1, 0, 5, 5)
    await world.run(100)
    expect(watched.offsets()).toEqual(upTo(0, first, 10))
    expect(watched.completed).toBe(true)
  })

  test('until an offset, until a time', async () => {
    const setting = begin({ partitions: 2 })
    const { cluster, world } = setting
    for (const partition of [0, 1]) {
      cluster.append(
        1,
        partition,
        buildBatch(
          1,
          partition,
          [1, 2, 3].map((n) => ({ value: 'v', timestamp: n })),
        ),
      )
      cluster.append(
        1,
        partition,
        buildBatch(
          1,
          partition,
          [1, 2, 3].map((n) => ({ value: 'v', timestamp: 100 + n })),
        ),
      )
    }
    const byOffset = watch(setting, { from: 'earliest', until: { offset: 2 } })
    const byTime = watch(setting, { from: 'earliest', until: { timestamp: 50 } })
    const future = watch(setting, { from: 'earliest', until: { timestamp: 1_000_000 } })
    await world.run(100)
    expect(byOffset.offsets().sort()).toEqual([...upTo(0, 0, 2), ...upTo(1, 0, 2)])
    expect(byTime.offsets().sort()).toEqual([...upTo(0, 0, 3), ...upTo(1, 0, 3)])
    expect(future.records.length).toBe(12)
    expect([byOffset.completed, byTime.completed, future.completed]).toEqual([true, true, true])
    expect(cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test('until the end of an empty topic completes at once', async () => {
    const setting = begin({ partitions: 3 })
    const watched = watch(setting, { from: 'earliest', until: 'end' })
    await setting.world.run(20)
    expect(watched.completed).toBe(true)
  })

  test.each([
    [{ from: 'yesterday' }, 'from'],
    [{ from: { offset: -1 } }, 'from.offset'],
    [{ from: { offsets: {} } }, 'from.offsets'],
    [{ until: 'never' }, 'until'],
    [{ until: { offset: 1.5 } }, 'until.offset'],
    [{ partitions: [] }, 'partitions'],
    [{ partitions: ['a'] }, 'partitions'],
    [{ inFlightBytes: 0 }, 'inFlightBytes'],
    [{ onDecodeError: 'ignore' }, 'onDecodeError'],
    [{ group: 'g' }, 'group'],
  ])('%j is refused and named', (options, named) => {
    const { mill } = begin()
    expect(() => mill.consumer().subscribe(Orders, options as SubscribeOptions)).toThrow(named)
  })
})

describe('records', () => {
  test('keys, values, tombstones, headers, timestamps', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const headers = [
      ['a', new Uint8Array([1])],
      ['a', null],
      ['é', new Uint8Array(0)],
    ] as const
    const written = [
      { key: 'k', value: 'v', timestamp: 5 },
      { key: null, value: 'w', headers, timestamp: 3 },
      { key: 'k', value: null, timestamp: 9 },
    ]
    cluster.append(1, 0, buildBatch(1, 0, written))
    const watched = watch(setting, { from: 'earliest', until: 'end' })
    await world.run(20)
    expect(watched.records.map(({ key, value, timestamp }) => ({ key, value, timestamp }))).toEqual([
      { key: 'k', value: 'v', timestamp: 5 },
      { key: null, value: 'w', timestamp: 3 },
      { key: 'k', value: null, timestamp: 9 },
    ])
    expect(watched.records[0]!.headers).toEqual([])
    expect(watched.records[1]!.headers).toEqual(headers)
    expect(watched.records[1]!.header('a')).toEqual(new Uint8Array([1]))
    expect(watched.records[1]!.header('none')).toBeUndefined()
    expect(watched.records[1]!.copy()).toMatchObject({ key: null, value: 'w', offset: 1, timestamp: 3 })
    expect(watched.records[1]!.copy().headers).toEqual(headers)
  })

  test('copy() detaches bytes from their batch', async () => {
    const { cluster, world, mill } = begin({ partitions: 1 })
    fill(cluster, 1, 0, 1, 1)
    const stream = mill.consumer().subscribe('orders', { from: 'earliest', until: 'end' })
    const { value: record } = await world.result(stream[Symbol.asyncIterator]().next())
    expect(record!.value!.buffer.byteLength).toBeGreaterThan(record!.value!.byteLength)
    const copy = record!.copy()
    expect(copy.value).toEqual(record!.value)
    expect(copy.value!.buffer.byteLength).toBe(copy.value!.byteLength)
  })

  test('gzip batches, control batches, and the head of a batch before the wanted offset', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const { gzip } = world.environment.codec
    const big = 'x'.repeat(500)
    cluster.append(1, 0, buildBatch(1, 0, [{ value: `0${big}` }, { value: `1${big}` }, { value: `2${big}` }], { gzip }))
    cluster.append(1, 0, buildBatch(1, 0, [{ value: 'never delivered' }], { control: true }))
    cluster.append(1, 0, buildBatch(1, 0, [{ value: '3' }]))
    expect(ATTRIBUTE_CONTROL).toBe(1)
    const watched = watch(setting, { from: { offset: 1 }, until: 'end' })
    await world.run(20)
    expect(watched.offsets()).toEqual(upTo(0, 1, 4))
    expect(watched.records.map(({ value }) => value![0])).toEqual(['1', '2', '3'])
    expect(watched.completed).toBe(true)
  })

  test('partitions take turns, a batch each', async () => {
    const { world, cluster, mill } = begin({ partitions: 3 })
    for (const partition of [0, 1, 2]) fill(cluster, 1, partition, 20, 5)
    const stream = mill.consumer().subscribe(Texts, { from: 'earliest', until: 'end' })
    const iterator = stream[Symbol.asyncIterator]()
    const records = [(await world.result(iterator.next())).value!]
    // Everything has arrived before the second record is asked for.
    await world.run(20)
    for (let next = await iterator.next(); !next.done; next = await iterator.next()) records.push(next.value)
    const turns = records.map(({ partition }) => partition).filter((p, i, all) => p !== all[i - 1])
    expect(turns.length).toBe(12)
    for (const partition of [0, 1, 2]) {
      const own = records.filter((record) => record.partition === partition).map(({ offset }) => offset)
      expect(own).toEqual([...Array(20).keys()])
    }
  })

  test('onDecodeError', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, mill, statuses } = setting
    cluster.append(1, 0, buildBatch(1, 0, [{ value: '{"n":1}' }, { value: 'no json' }, { value: '{"n":3}' }]))
    const read = (onDecodeError: 'fail' | 'skip'): { values: unknown[]; errors: unknown[] } => {
      const values: unknown[] = []
      const errors: unknown[] = []
      const stream = mill.consumer({ onDecodeError }).subscribe(Orders, { from: 'earliest' })
      stream.subscribe({ next: ({ value }) => values.push(value), error: (error) => errors.push(error) })
      return { values, errors }
    }
    const failing = read('fail')
    const skipping = read('skip')
    await world.run(50)
    expect(failing.values).toEqual([{ n: 1 }])
    expect(failing.errors).toMatchObject([
      { code: 'ERR_MILLRACE_DESERIALIZATION', topic: 'orders', partition: 0, offset: 1, fatal: true },
    ])
    expect(skipping.values).toEqual([{ n: 1 }, { n: 3 }])
    expect(statuses.find(({ kind }) => kind === 'record-skipped')).toMatchObject({ partition: 0, offset: 1 })
  })
})

describe('errors that are final', () => {
  test('an unknown topic, an unknown partition', async () => {
    const setting = begin({ partitions: 2 })
    const unknown = watch(setting, {}, 'missing')
    const partition = watch(setting, { partitions: [5] })
    await setting.world.run(20)
    expect(unknown.error).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_TOPIC', topic: 'missing', fatal: true })
    expect(partition.error).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_PARTITION', partition: 5, fatal: true })
  })

  test('an offset that is not there, with the range that is', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 10, 10)
    setting.cluster.partition(1, 0).logStart = 4
    const watched = watch(setting, { from: { offset: 99 } })
    await setting.world.run(20)
    expect(watched.error).toMatchObject({ code: 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE', partition: 0, fatal: true })
    expect(String(watched.error)).toContain('4 to 10')
    expect(watched.error).toMatchObject({ logStartOffset: 4 })
  })

  test('a session that resumes below the log start, with the new start', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 10, 5)
    const watched = watch(setting, { from: 'earliest' })
    await setting.world.run(20)
    expect(watched.records.length).toBe(10)
    setting.cluster.partition(1, 0).logStart = 25
    setting.cluster.brokers[0]!.data[0]!.closeCursors('OFFSET_OUT_OF_RANGE')
    await setting.world.run(20)
    expect(watched.error).toMatchObject({
      code: 'ERR_MILLRACE_OFFSET_OUT_OF_RANGE',
      offset: 10,
      logStartOffset: 25,
      fatal: true,
    })
    expect(watched.records.length).toBe(10)
  })

  test.each(['LOG_DIVERGED', 'TOPIC_DELETED', 'DAMAGED', 'TOO_MANY_CURSORS', 'UNKNOWN_LANE'] as const)(
    '%s, after everything received before was delivered',
    async (name) => {
      const setting = begin({ partitions: 1 })
      fill(setting.cluster, 1, 0, 10, 5)
      const watched = watch(setting, { from: 'earliest' })
      await setting.world.run(20)
      setting.cluster.brokers[0]!.data[0]!.closeCursors(name)
      await setting.world.run(20)
      expect(watched.records.length).toBe(10)
      expect(watched.error).toMatchObject({
        code: `ERR_MILLRACE_${name}`,
        topic: 'orders',
        partition: 0,
        offset: 10,
        fatal: true,
      })
    },
  )

  test('a deleted topic, told by the map', async () => {
    const setting = begin({ partitions: 1 })
    const watched = watch(setting)
    await setting.world.run(20)
    setting.cluster.removeTopic('orders')
    await setting.world.run(20)
    expect(watched.error).toMatchObject({ code: 'ERR_MILLRACE_TOPIC_DELETED', topic: 'orders', fatal: true })
  })

  test.each([
    ['the client part', (bytes: Uint8Array) => (bytes[bytes.length - 1]! ^= 1)],
    ['the client header', (bytes: Uint8Array) => (bytes[LOG_PART_BYTES + 50]! ^= 1)],
    ['the log part', (bytes: Uint8Array) => (bytes[10]! ^= 1)],
    ['the magic', (bytes: Uint8Array) => (bytes[LOG_PART_BYTES + 8]! ^= 1)],
  ])('damage in %s of a batch, named by partition and offset', async (_where, damage) => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 10, 5)
    damage(setting.cluster.partition(1, 0).batches[1]!.bytes)
    const watched = watch(setting, { from: 'earliest' })
    await setting.world.run(20)
    expect(watched.offsets()).toEqual(upTo(0, 0, 5))
    expect(watched.error).toMatchObject({ topic: 'orders', partition: 0, offset: 5, fatal: true })
    expect(watched.error!.code).toMatch(/CORRUPT_BATCH|INVALID_BATCH/)
  })

  test('a decompression bomb and a body that lies about its size', async () => {
    const { gzipSync } = await import('node:zlib')
    for (const gzip of [
      () => new Uint8Array(gzipSync(new Uint8Array(8_000_000))),
      () => new Uint8Array(gzipSync('x')),
    ]) {
      const setting = begin({ partitions: 1 })
      const records = [{ value: 'y'.repeat(100_000) }]
      setting.cluster.append(1, 0, buildBatch(1, 0, records, { gzip }))
      const watched = watch(setting, { from: 'earliest' })
      await setting.world.run(20)
      expect(watched.error).toMatchObject({ code: 'ERR_MILLRACE_INVALID_BATCH', partition: 0, offset: 0, fatal: true })
    }
  })

  test('a signal', async () => {
    const setting = begin({ partitions: 1 })
    const controller = new AbortController()
    const watched = watch(setting, { signal: controller.signal })
    await setting.world.run(20)
    controller.abort()
    expect(watched.error).toMatchObject({ code: 'ERR_MILLRACE_ABORTED', fatal: true })
    const late = watch(setting, { signal: controller.signal })
    expect(late.error).toMatchObject({ code: 'ERR_MILLRACE_ABORTED' })
  })
})

describe('breaks', () => {
  test('goes on at the next undelivered offset, without loss or duplicates, and says so', async () => {
    const setting = begin({ partitions: 2 })
    const { cluster, world, statuses } = setting
    const watched = watch(setting, { from: 'earliest' })
    for (let round = 0; round < 30; round++) {
      for (const partition of [0, 1]) fill(cluster, 1, partition, 7, 3)
      await world.run(round % 3)
      if (round % 4 === 1) for (const connection of [...cluster.brokers[0]!.data]) connection.cut()
      await world.run(40)
    }
    await world.run(20_000)
    for (const partition of [0, 1]) {
      const own = watched.records.filter((record) => record.partition === partition).map(({ offset }) => offset)
      expect(own).toEqual([...Array(210).keys()])
    }
    expect(statuses.map(({ kind }) => kind)).toContain('cursor-reopened')
    expect(watched.error).toBe(null)
  })

  test('opens again with the term of the last record read', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const opens: ReturnType<typeof cursorOpen.decode>[] = []
    cluster.brokers[0]!.intercept = (_connection, header, payload) => {
      if (header.kind === cursorOpen.kind) opens.push(cursorOpen.decode(new Reader(payload)))
      return false
    }
    cluster.partition(1, 0).term = 6
    fill(cluster, 1, 0, 5, 5)
    watch(setting, { from: 'earliest' })
    await world.run(20)
    cluster.brokers[0]!.data[0]!.cut()
    await world.run(1_000)
    expect(opens).toMatchObject([
      { start: 'earliest', lastTerm: 0 },
      { start: 'offset', position: 5, lastTerm: 6 },
    ])
  })

  test('latest stays where it was first opened', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 5, 5)
    const watched = watch(setting)
    await world.run(20)
    cluster.brokers[0]!.data[0]!.cut()
    await world.run(1)
    fill(cluster, 1, 0, 5, 5)
    await world.run(1_000)
    expect(watched.offsets()).toEqual(upTo(0, 5, 10))
  })

  test.each(['MOVED', 'NOT_LEADER'] as const)('%s: opened on the new route at once', async (name) => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { cluster, world, mill } = setting
    const watched = watch(setting, { from: 'earliest' })
    fill(cluster, 1, 0, 5, 5)
    await world.run(20)
    const route = cluster.move(1, 0, 2, false)
    cluster.brokers[0]!.data[0]!.closeCursors(name, route)
    fill(cluster, 1, 0, 5, 5)
    await world.run(20)
    expect(watched.offsets()).toEqual(upTo(0, 0, 10))
    expect(mill.statistics().refusals).toBe(1)
    expect(cluster.brokers[1]!.data[0]!.cursors.size).toBe(1)
  })

  test('a route that is pushed moves the cursor', async () => {
    const setting = begin({ brokers: 2, partitions: 1 })
    const { cluster, world } = setting
    const watched = watch(setting, { from: 'earliest' })
    fill(cluster, 1, 0, 5, 5)
    await world.run(20)
    cluster.move(1, 0, 2)
    await world.run(20)
    fill(cluster, 1, 0, 5, 5)
    await world.run(20)
    expect(watched.offsets()).toEqual(upTo(0, 0, 10))
    expect(cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })

  test.each(['OVERLOADED', 'SHUTTING_DOWN', 'STORAGE_FAILED', 'INTERNAL'] as const)(
    '%s: again after a while',
    async (name) => {
      const setting = begin({ partitions: 1 })
      const { cluster, world, statuses } = setting
      const watched = watch(setting, { from: 'earliest' })
      await world.run(20)
      cluster.brokers[0]!.data[0]!.closeCursors(name)
      fill(cluster, 1, 0, 5, 5)
      await world.run(2_000)
      expect(watched.offsets()).toEqual(upTo(0, 0, 5))
      expect(statuses.find(({ kind }) => kind === 'cursor-retry')?.error?.code).toBe(`ERR_MILLRACE_${name}`)
    },
  )

  test('a cursor from which nothing comes, though the link lives, is opened anew', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const watched = watch(setting, { from: 'earliest' })
    await world.run(2_000)
    // The broker forgets the cursor without a word.
    cluster.brokers[0]!.data[0]!.cursors.clear()
    fill(cluster, 1, 0, 5, 5)
    await world.run(15_000)
    expect(watched.offsets()).toEqual(upTo(0, 0, 5))
  })

  test('an answer to CURSOR_OPEN that does not come is asked for again', async () => {
    const setting = begin({ partitions: 1, requestTimeoutMs: 2_000 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 5, 5)
    let swallowed = 0
    cluster.brokers[0]!.intercept = (_connection, header) => header.kind === cursorOpen.kind && swallowed++ === 0
    const watched = watch(setting, { from: 'earliest' })
    await world.run(6_000)
    expect(watched.offsets()).toEqual(upTo(0, 0, 5))
  })

  test('batches of a cursor never opened, or opened twice, end the connection and not the subscription', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world, statuses } = setting
    const watched = watch(setting, { from: 'earliest' })
    await world.run(20)
    const [data] = cluster.brokers[0]!.data
    const [id] = data!.cursors.keys()
    data!.send(cursorOpened, { startOffset: 0, logStartOffset: 0, highWatermark: 0, route: cluster.route(1, 0) }, id!)
    await world.run(1_000)
    fill(cluster, 1, 0, 5, 5)
    await world.run(20)
    expect(statuses.find(({ kind }) => kind === 'link-lost')?.error?.code).toBe('ERR_MILLRACE_CORRUPT_FRAME')
    expect(watched.offsets()).toEqual(upTo(0, 0, 5))
  })

  test('unsubscribe is synchronous', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    fill(cluster, 1, 0, 50, 5)
    const seen: number[] = []
    const subscription = setting.mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(({ offset }) => {
        seen.push(offset)
        if (offset === 11) subscription.unsubscribe()
      })
    await world.run(50)
    expect(seen).toEqual([...Array(12).keys()])
    expect(cluster.brokers[0]!.data[0]!.cursors.size).toBe(0)
  })
})

describe('credit', () => {
  /** Positions granted, by cursor id. */
  function credits({ cluster }: Setting): number[] {
    const granted: number[] = []
    cluster.brokers[0]!.intercept = (_connection, header, payload) => {
      if (header.kind === cursorOpen.kind) granted.push(cursorOpen.decode(new Reader(payload)).credit)
      if (header.kind === cursorCredit.kind) granted.push(cursorCredit.decode(new Reader(payload)).credit)
      return false
    }
    return granted
  }

  test('is a cumulative position in decoded bytes and never goes back', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    const granted = credits(setting)
    fill(cluster, 1, 0, 2_000, 10)
    const watched = watch(setting, { from: 'earliest', inFlightBytes: 1_000 })
    await world.run(2_000)
    expect(watched.records.length).toBe(2_000)
    expect(granted).toEqual([...granted].sort((a, b) => a - b))
    const total = cluster.partition(1, 0).batches.reduce((sum, { decodedBytes }) => sum + decodedBytes, 0)
    expect(granted.at(-1)).toBeLessThanOrEqual(total + 1_000)
    // Not a frame for every batch.
    expect(granted.length).toBeLessThan(150)
  })

  test('a window smaller than a batch still moves', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 100, 10)
    const watched = watch(setting, { from: 'earliest', inFlightBytes: 1 })
    await setting.world.run(500)
    expect(watched.records.length).toBe(100)
  })

  test('is shared among partitions', async () => {
    const setting = begin({ partitions: 4 })
    const granted = credits(setting)
    watch(setting, { inFlightBytes: 4_000 })
    await setting.world.run(20)
    expect(granted).toEqual([1_000, 1_000, 1_000, 1_000])
  })

  test('control batches give their credit back', async () => {
    const setting = begin({ partitions: 1 })
    const { cluster, world } = setting
    for (let i = 0; i < 200; i++) cluster.append(1, 0, buildBatch(1, 0, [{ value: 'x'.repeat(50) }], { control: true }))
    fill(cluster, 1, 0, 3, 1)
    const watched = watch(setting, { from: 'earliest', inFlightBytes: 200 })
    cluster.partition(1, 0).batches.forEach(() => {})
    await world.run(2_000)
    expect(watched.offsets()).toEqual(upTo(0, 0, 3))
  })
})

describe('fairness', () => {
  test('synchronous delivery yields after about a thousand records', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 5_000, 1_000)
    let turns = 0
    let count = 0
    const spans: number[] = []
    const { defer } = world.environment
    expect(defer).toBeTypeOf('function')
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(() => {
        if (count++ === 0)
          queueMicrotask(() => {
            spans.push(count)
            count = 0
            turns++
          })
      })
    await world.run(50)
    expect(turns).toBeGreaterThan(3)
    expect(Math.max(...spans)).toBeLessThanOrEqual(1_024)
    expect(spans.reduce((sum, span) => sum + span, 0)).toBe(5_000)
  })

  test('a slow synchronous handler yields after about five milliseconds', async () => {
    const setting = begin({ partitions: 1 })
    const { world, cluster, mill } = setting
    fill(cluster, 1, 0, 500, 500)
    let count = 0
    const spans: number[] = []
    mill
      .consumer()
      .subscribe(Texts, { from: 'earliest' })
      .subscribe(() => {
        world.block(0.2)
        if (count++ === 0)
          queueMicrotask(() => {
            spans.push(count)
            count = 0
          })
      })
    await world.run(500)
    expect(spans[0]).toBe(64)
  })
})
