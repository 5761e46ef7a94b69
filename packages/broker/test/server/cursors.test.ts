// Cursors: credit, fairness, the push window, wake-ups, heartbeats, and every way they end.
import {
  BATCH_HEADER_BYTES,
  type CursorOpen,
  crc32,
  cursorBatches,
  cursorClose,
  cursorClosed,
  cursorCredit,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
  errorName,
  loggedBatches,
  MAX_CURSORS_PER_CONNECTION,
  offsets,
  offsetsReply,
  ping,
  pong,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { MAX_PUSHED_BYTES_UNSENT } from '#src/limits.js'
import { StorageError } from '#src/storage/log-store.js'
import type { MemoryLog } from '../partition/memory-log.js'
import { batchOf, type TestRecord } from './batches.js'
import { type InMemoryOptions, type InMemoryServer, startInMemory, type TestStream } from './in-memory-server.js'
import { RawClient } from './raw-client.js'

const CREDIT = 1_000_000_000

interface WithTopic extends InMemoryServer {
  readonly log: MemoryLog
  readonly producer: TestStream
  /** Appends one batch to a partition and commits it. */
  produce(records: readonly TestRecord[] | number, partition?: number): Promise<void>
}

async function withTopic(options: InMemoryOptions = {}, partitions = 1): Promise<WithTopic> {
  const server = await startInMemory(options)
  await server.admin('createTopic', { name: 'flights', partitions })
  const producer = server.open()
  const sequences = new Map<number, number>()
  return {
    ...server,
    producer,
    log: server.store.logs.get('1/0/0')!,
    async produce(records, partition = 0) {
      const sequence = sequences.get(partition) ?? 0
      sequences.set(partition, sequence + 1)
      producer.receive(RawClient.produceFrame([batchOf(records, { sequence, partition })], { id: 1 }))
      await server.settle()
    },
  }
}

function openCursor(stream: TestStream, id: number, changes: Partial<CursorOpen> = {}): void {
  const message: CursorOpen = {
    topicId: 1,
    partition: 0,
    lane: 0,
    routeVersion: { term: 1, placement: 0 },
    start: 'earliest',
    position: 0,
    lastTerm: 0,
    credit: CREDIT,
    ...changes,
  }
  stream.send(cursorOpen, message, id)
}

/** Base offsets of all batches pushed to a cursor since the last look. */
function offsetsOf(stream: TestStream, id: number): number[] {
  return stream.take(cursorBatches, id).flatMap(({ batches, batchCount }) => {
    const found = [...loggedBatches(batches, crc32)].map(({ baseOffset }) => baseOffset)
    expect(found).toHaveLength(batchCount)
    return found
  })
}

describe('a cursor begins', () => {
  it.each([
    ['at the earliest record', { start: 'earliest' }, 0, [0, 2, 4]],
    ['at the latest', { start: 'latest' }, 6, []],
    ['at an offset', { start: 'offset', position: 2 }, 2, [2, 4]],
    ['in the middle of a batch', { start: 'offset', position: 3 }, 3, [2, 4]],
    ['at the end', { start: 'offset', position: 6 }, 6, []],
    ['at a time', { start: 'timestamp', position: 2_000 }, 2, [2, 4]],
    ['at a time nobody has reached', { start: 'timestamp', position: 9_000 }, 6, []],
    ['behind what it has read', { start: 'offset', position: 4, lastTerm: 1 }, 4, [4]],
  ] as const)('%s', async (_name, changes, startOffset, pushed) => {
    const { open, produce, settle } = await withTopic()
    for (const timestamp of [1_000, 2_000, 3_000]) {
      await produce([
        { value: 'a', timestamp },
        { value: 'b', timestamp },
      ])
    }
    const stream = open()
    openCursor(stream, 5, changes)
    await settle()
    const route = { nodeId: 1, shard: 0, placement: 0, term: 1 }
    expect(stream.take(cursorOpened, 5)).toEqual([{ startOffset, logStartOffset: 0, highWatermark: 6, route }])
    expect(offsetsOf(stream, 5)).toEqual(pushed)
  })

  it('not behind records of another term', async () => {
    const { open, produce, settle } = await withTopic()
    await produce(4)
    const stream = open()
    openCursor(stream, 5, { start: 'offset', position: 3, lastTerm: 7 })
    await settle()
    const [closed] = stream.take(cursorClosed, 5)
    expect(errorName(closed!.code)).toBe('LOG_DIVERGED')
    expect(closed).toMatchObject({ logStartOffset: 0, highWatermark: 4 })
  })

  it('and its first batch comes behind CURSOR_OPENED', async () => {
    const { open, produce, settle } = await withTopic()
    await produce(1)
    const stream = open()
    openCursor(stream, 5)
    await settle()
    expect(stream.frames.map(({ header }) => header.kind)).toEqual([cursorOpened.kind, cursorBatches.kind])
  })
})

describe('credit', () => {
  it('is overdrawn by at most one batch, and repeating it is harmless', async () => {
    const { open, produce, settle } = await withTopic()
    const records = [{ value: 'x'.repeat(94) }]
    for (let i = 0; i < 6; i++) await produce(records)
    const size = batchOf(records).length - BATCH_HEADER_BYTES
    const stream = open()
    openCursor(stream, 5, { credit: size + 1 })
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([0, 1])
    for (const credit of [size, 2 * size, 2 * size]) stream.send(cursorCredit, { credit }, 5)
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([])
    stream.send(cursorCredit, { credit: 2 * size + 1 }, 5)
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([2])
    stream.send(cursorCredit, { credit: CREDIT }, 5)
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([3, 4, 5])
  })

  it('counts what a batch decodes to, not its size on the wire', async () => {
    const { open, settle, store, admin } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const log = store.logs.get('1/0/0')!
    const producer = open()
    for (let sequence = 0; sequence < 8; sequence++) {
      const batch = batchOf(1, { sequence }).slice()
      const view = new DataView(batch.buffer)
      // It says gzip: the broker does not look inside.
      view.setUint8(11, 1)
      view.setUint32(56, 10_000, true)
      view.setUint32(0, crc32(batch.subarray(4), 0), true)
      producer.receive(RawClient.produceFrame([batch], { id: 1 }))
    }
    await settle()
    expect(log.filled.nextOffset).toBe(8)
    const stream = open()
    openCursor(stream, 5, { credit: 25_000 })
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([0, 1, 2])
  })

  it('of none pushes nothing', async () => {
    const { open, produce, settle } = await withTopic()
    await produce(3)
    const stream = open()
    openCursor(stream, 5, { credit: 0 })
    await settle()
    expect(stream.take(cursorOpened, 5)).toHaveLength(1)
    expect(stream.frames).toEqual([])
  })
})

describe('the push window', () => {
  it('holds back what the connection has not taken, and replies overtake it', async () => {
    const { open, produce, settle } = await withTopic()
    const bytes = 60_000
    for (let i = 0; i < 12; i++) await produce([{ value: 'x'.repeat(bytes) }])
    const stream = open()
    stream.takes = false
    openCursor(stream, 5)
    await settle()
    const first = offsetsOf(stream, 5)
    expect(first.length * bytes).toBeLessThanOrEqual(MAX_PUSHED_BYTES_UNSENT + bytes)
    stream.send(ping, {}, 9)
    expect(stream.take(pong, 9)).toHaveLength(1)
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([])
    const rest: number[] = []
    for (let i = 0; i < 12; i++) {
      stream.takeAll()
      await settle()
      rest.push(...offsetsOf(stream, 5))
    }
    expect([...first, ...rest]).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  })

  it('is shared fairly', async () => {
    const { open, produce, settle } = await withTopic({}, 4)
    for (let partition = 0; partition < 4; partition++) {
      for (let i = 0; i < 20; i++) await produce([{ value: 'x'.repeat(30_000) }], partition)
    }
    const stream = open()
    stream.takes = false
    for (let partition = 0; partition < 4; partition++) openCursor(stream, 10 + partition, { partition })
    const counts = [0, 0, 0, 0]
    for (let round = 0; round < 4; round++) {
      await settle()
      counts.forEach((_, partition) => {
        counts[partition]! += offsetsOf(stream, 10 + partition).length
      })
      stream.takeAll()
    }
    expect(Math.min(...counts)).toBeGreaterThan(0)
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(4)
  })
})

describe('a cursor at the end', () => {
  it('is sent what is committed, when it is committed', async () => {
    const { open, settle, store, ...server } = await startInMemory({ store: { flush: 'manual' } })
    const created = server.admin('createTopic', { name: 'flights' })
    for (let i = 0; i < 30; i++) {
      await settle()
      for (const log of store.logs.values()) log.complete()
    }
    await created
    const log = store.logs.get('1/0/0')!
    const stream = open()
    openCursor(stream, 5)
    await settle()
    open().receive(RawClient.produceFrame([batchOf(1)], { id: 1 }))
    await settle()
    log.complete('written')
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([])
    log.complete('flushed')
    await settle()
    expect(offsetsOf(stream, 5)).toEqual([0])
  })

  it('gets a heartbeat with each tick in which it got nothing', async () => {
    const { open, produce, settle } = await withTopic()
    const stream = open()
    openCursor(stream, 5)
    await settle()
    stream.connection?.tick()
    expect(stream.take(cursorHeartbeat, 5)).toEqual([{ logStartOffset: 0, highWatermark: 0 }])
    await produce(2)
    stream.connection?.tick()
    expect(stream.take(cursorHeartbeat, 5)).toEqual([])
    stream.connection?.tick()
    expect(stream.take(cursorHeartbeat, 5)).toEqual([{ logStartOffset: 0, highWatermark: 2 }])
  })
})

describe('a cursor ends', () => {
  it('when it is closed: nothing follows, not even what was being read', async () => {
    const { open, produce, settle } = await withTopic()
    await produce(1)
    const stream = open()
    openCursor(stream, 5)
    stream.send(cursorClose, {}, 5)
    await settle()
    await produce(1)
    expect(stream.take(cursorBatches, 5)).toEqual([])
    expect(stream.connection?.cursors.size).toBe(0)
  })

  it('when its topic is deleted', async () => {
    const { open, settle, admin } = await withTopic()
    const stream = open()
    openCursor(stream, 5)
    await settle()
    await admin('deleteTopic', { name: 'flights' })
    await settle()
    expect(stream.take(cursorClosed, 5).map(({ code }) => errorName(code))).toEqual(['TOPIC_DELETED'])
    openCursor(stream, 6)
    expect(stream.take(cursorClosed, 6).map(({ code }) => errorName(code))).toEqual(['TOPIC_DELETED'])
  })

  it('when what it reads is damaged', async () => {
    const { open, produce, settle, log } = await withTopic()
    await produce(1)
    log.read = () => Promise.reject(new StorageError('DAMAGED', 'rotten'))
    const stream = open()
    openCursor(stream, 5)
    await settle()
    expect(stream.take(cursorClosed, 5)).toMatchObject([{ code: 45, detail: 'rotten' }])
  })

  it('when a log holds nothing where records should be', async () => {
    const { open, produce, settle, log } = await withTopic()
    await produce(1)
    log.batches.length = 0
    const stream = open()
    openCursor(stream, 5)
    await settle()
    expect(stream.take(cursorClosed, 5)).toMatchObject([{ code: 45 }])
  })

  it('with the connection, and gives back what it was reading', async () => {
    const { open, produce, settle, log } = await withTopic()
    await produce(1)
    let released = 0
    const read = log.read.bind(log)
    log.read = async (...args) => ({ ...(await read(...args)), release: () => released++ })
    const stream = open()
    openCursor(stream, 5)
    stream.destroy()
    await settle()
    expect(released).toBe(0)
    const other = open()
    openCursor(other, 5)
    other.connection?.cursors.find(5)
    await Promise.resolve()
    await Promise.resolve()
    other.destroy()
    await settle()
    expect(released).toBeLessThanOrEqual(1)
  })

  it('alone: a bug in one read is reported and the others go on', async () => {
    const { open, produce, settle, log, bugs } = await withTopic({}, 2)
    await produce(1)
    await produce(1, 1)
    log.read = () => Promise.reject(new TypeError('planted'))
    const stream = open()
    openCursor(stream, 5)
    openCursor(stream, 6, { partition: 1 })
    await settle()
    expect(bugs).toMatchObject([{ message: 'planted' }])
    expect(stream.take(cursorClosed, 5).map(({ code }) => errorName(code))).toEqual(['INTERNAL'])
    expect(offsetsOf(stream, 6)).toEqual([0])
  })

  it('before it begins, when there are too many', async () => {
    const { open, settle } = await withTopic()
    const stream = open()
    for (let id = 1; id <= MAX_CURSORS_PER_CONNECTION; id++) {
      openCursor(stream, id, { credit: 0 })
      if (id % 50 === 0) await settle()
    }
    await settle()
    expect(stream.take(cursorOpened)).toHaveLength(MAX_CURSORS_PER_CONNECTION)
    openCursor(stream, 20_000)
    expect(stream.take(cursorClosed, 20_000).map(({ code }) => errorName(code))).toEqual(['TOO_MANY_CURSORS'])
    stream.send(cursorClose, {}, 7)
    openCursor(stream, 20_001)
    await settle()
    expect(stream.take(cursorOpened, 20_001)).toHaveLength(1)
  })
})

describe('offsets', () => {
  it('are told for the beginning, the end and a time', async () => {
    const { open, produce, settle } = await withTopic()
    for (const timestamp of [1_000, 2_000]) await produce([{ value: 'a', timestamp }])
    const stream = open()
    const place = { topicId: 1, partition: 0, lane: 0 }
    const queries = [
      { ...place, kind: 'earliest', timestamp: 0 },
      { ...place, kind: 'latest', timestamp: 0 },
      { ...place, kind: 'timestamp', timestamp: 1_500 },
      { ...place, kind: 'timestamp', timestamp: 5_000 },
    ] as const
    stream.send(offsets, { queries }, 9)
    await settle()
    const [reply] = stream.take(offsetsReply, 9)
    expect(reply?.answers.map(({ offset, timestamp }) => [offset, timestamp])).toEqual([
      [0, null],
      [2, null],
      [1, 2_000],
      [2, null],
    ])
  })
})
