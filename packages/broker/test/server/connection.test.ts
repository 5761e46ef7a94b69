// One connection and its limits: each has a test that goes one over.
import {
  cursorOpen,
  encodeFrame,
  failure,
  hello,
  helloReply,
  mapHeartbeat,
  mapSnapshot,
  mapSubscribe,
  ping,
  pong,
  produceReply,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import {
  HELLO_TIMEOUT_MS,
  IDLE_CONNECTION_MS,
  MAX_REQUESTS_IN_FLIGHT,
  MAX_UNSENT_BYTES,
  MEMORY_RETRY_MS,
  RECEIVE_IN_PLACE_BYTES,
  SLOW_READER_MS,
  SLOW_WRITER_MS,
} from '#src/limits.js'
import { batchOf } from './batches.js'
import { HELLO, startInMemory } from './in-memory-server.js'
import { RawClient } from './raw-client.js'

const large = (sequence: number, bytes = 100_000) => batchOf([{ value: 'x'.repeat(bytes) }], { sequence })
const CURSOR = { partition: 0, lane: 0, routeVersion: { term: 1, placement: 0 }, position: 0, lastTerm: 0, credit: 9 }

describe('HELLO', () => {
  it('has to come in time', async () => {
    const { dial, clock } = await startInMemory()
    const stream = dial()
    clock.advance(HELLO_TIMEOUT_MS)
    stream.connection?.tick()
    expect(stream.ended).toBe(false)
    clock.advance(1)
    stream.connection?.tick()
    expect(stream.failures).toEqual(['HELLO_REQUIRED'])
    expect(stream.ended).toBe(true)
  })

  it('may come in any pieces', async () => {
    const { dial } = await startInMemory()
    const bytes = encodeFrame(hello, HELLO, { id: 1 })
    for (let piece = 1; piece <= bytes.length; piece++) {
      const stream = dial()
      stream.receive(bytes, piece)
      expect(stream.take(helloReply, 1)).toMatchObject([{ version: 1, nodeId: 1 }])
    }
  })
})

describe('a connection', () => {
  it('that says nothing for long is closed, unless it follows something', async () => {
    const { open, clock, admin } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const idle = open()
    const mapped = open()
    mapped.send(mapSubscribe, {}, 2)
    const reading = open()
    reading.send(cursorOpen, { topicId: 1, ...CURSOR, start: 'earliest' }, 3)
    const talking = open()
    for (let minute = 0; minute <= IDLE_CONNECTION_MS / 60_000; minute++) {
      clock.advance(60_000)
      talking.send(ping, {}, 5)
      for (const stream of [idle, mapped, reading, talking]) stream.connection?.tick()
    }
    expect([idle, mapped, reading, talking].map(({ ended }) => ended)).toEqual([true, false, false, false])
  })

  it('answers out of order, each by its id', async () => {
    const { open, admin, store, settle } = await startInMemory({ store: { flush: 'manual' } }).then(async (server) => {
      const created = server.admin('createTopic', { name: 'flights' })
      for (let i = 0; i < 30; i++) {
        await server.settle()
        for (const log of server.store.logs.values()) log.complete()
      }
      await created
      return server
    })
    expect(admin).toBeDefined()
    const stream = open()
    stream.receive(RawClient.produceFrame([batchOf(1)], { id: 10 }))
    stream.send(ping, {}, 11)
    expect(stream.frames.map(({ header }) => header.id)).toEqual([11])
    store.logs.get('1/0/0')?.complete()
    await settle()
    expect(stream.frames.map(({ header }) => header.id)).toEqual([11, 10])
  })

  it('is not read while too many of its requests are in flight', async () => {
    const { open, admin, store, settle, metrics } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const log = store.logs.get('1/0/0')!
    log.full = true
    const stream = open()
    for (let sequence = 0; sequence < MAX_REQUESTS_IN_FLIGHT; sequence++) {
      stream.receive(RawClient.produceFrame([batchOf(1, { sequence })], { id: 100 + sequence }))
    }
    expect(stream.paused).toBe(false)
    stream.send(ping, {}, 50)
    expect(stream.paused).toBe(true)
    expect(stream.frames).toEqual([])
    expect(metrics.readsPaused).toBe(1)
    log.makeRoom()
    await settle()
    expect(stream.paused).toBe(false)
    expect(stream.take(pong)).toHaveLength(1)
    expect(stream.take(produceReply)).toHaveLength(MAX_REQUESTS_IN_FLIGHT)
  })

  it('is not read while it takes no answers', async () => {
    const { open, clock } = await startInMemory()
    const stream = open()
    stream.takes = false
    stream.unsentBytes = MAX_UNSENT_BYTES
    stream.send(ping, {}, 50)
    expect(stream.paused).toBe(true)
    stream.takeAll()
    clock.advance(MEMORY_RETRY_MS)
    expect(stream.paused).toBe(false)
    expect(stream.take(pong)).toHaveLength(1)
  })

  it('that takes nothing for long is cut', async () => {
    const { open, clock } = await startInMemory()
    const stream = open()
    stream.takes = false
    stream.send(ping, {}, 50)
    for (let passed = 0; passed <= SLOW_READER_MS; passed += 1_000) {
      stream.connection?.tick()
      clock.advance(1_000)
    }
    expect(stream.destroyed).toBe(false)
    clock.advance(1_000)
    stream.connection?.tick()
    expect(stream.destroyed).toBe(true)
  })

  it('that takes not even the reason why it is closed is cut', async () => {
    const { open, clock, connections } = await startInMemory()
    const stream = open()
    stream.takes = false
    stream.send(hello, HELLO, 50)
    expect([stream.ended, stream.destroyed]).toEqual([true, false])
    clock.advance(SLOW_READER_MS + 1)
    for (const connection of connections) connection.tick()
    expect(stream.destroyed).toBe(true)
    expect(connections.size).toBe(0)
  })

  it('that sends a frame too slowly is closed', async () => {
    const { open, clock } = await startInMemory()
    const stream = open()
    const bytes = encodeFrame(ping, {}, { id: 4 })
    stream.receive(bytes.subarray(0, 5))
    clock.advance(SLOW_WRITER_MS)
    stream.connection?.tick()
    expect(stream.ended).toBe(false)
    clock.advance(1)
    stream.connection?.tick()
    expect(stream.failures).toEqual(['CORRUPT_FRAME'])
    expect(stream.ended).toBe(true)
  })

  it('gives heartbeats of the map, for the last subscription', async () => {
    const { open, context } = await startInMemory()
    const stream = open()
    stream.send(mapSubscribe, {}, 2)
    expect(stream.take(mapSnapshot, 2)).toHaveLength(1)
    context.map.heartbeat(3)
    expect(stream.take(mapHeartbeat, 2)).toEqual([{ version: context.map.version, metadataAgeMs: 3 }])
    stream.send(mapSubscribe, {}, 3)
    expect(stream.take(mapSnapshot, 3)).toHaveLength(1)
    context.map.heartbeat(5)
    expect(stream.frames.map(({ header }) => header.id)).toEqual([3])
    stream.frames.length = 0
    stream.end()
    context.map.heartbeat(4)
    expect(stream.frames).toEqual([])
  })

  it('that meets a bug says INTERNAL and is closed, and the bug is reported', async () => {
    const { open, context, bugs } = await startInMemory()
    context.map.subscribe = () => {
      throw new TypeError('planted')
    }
    const stream = open()
    stream.send(mapSubscribe, {}, 2)
    expect(stream.take(failure)).toMatchObject([{ code: 60, answeredKind: mapSubscribe.kind }])
    expect(stream.ended).toBe(true)
    expect(bugs).toMatchObject([{ message: 'planted' }])
  })
})

describe('frame memory', () => {
  it('takes large frames in place, and is given back', async () => {
    const { open, admin, memory, settle } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const stream = open()
    const bytes = RawClient.produceFrame([large(0)], { id: 10 })
    stream.receive(bytes.subarray(0, 1_000))
    expect(stream.runs).toHaveLength(1)
    expect(memory.usedBytes).toBeGreaterThan(100_000)
    stream.receive(bytes.subarray(1_000))
    await settle()
    expect(stream.take(produceReply, 10)).toMatchObject([{ results: [{ code: 0, baseOffset: 0 }] }])
    expect(memory.usedBytes).toBe(0)
  })

  it('takes frames in any pieces', async () => {
    const { open, admin, memory, settle } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const stream = open()
    let sequence = 0
    for (const piece of [1, 7, 16, 17, 1_000, 4_096, RECEIVE_IN_PLACE_BYTES, 200_000]) {
      const frames = [large(sequence++, 50_000), batchOf(2, { sequence: sequence++ }), large(sequence++, 70_000)]
      const bytes = Buffer.concat(frames.map((batch, at) => RawClient.produceFrame([batch], { id: 10 + at })))
      stream.receive(bytes, piece)
      await settle()
      expect(stream.take(produceReply).map(({ results }) => results[0]?.code)).toEqual([0, 0, 0])
    }
    expect(memory.usedBytes).toBe(0)
  })

  it('makes connections wait in line when it is used up', async () => {
    const { open, admin, memory, settle, store } = await startInMemory({ frameBytes: 150_000 })
    await admin('createTopic', { name: 'flights', partitions: 3 })
    for (const log of store.logs.values()) log.full = true
    const streams = [0, 1, 2].map((partition) => {
      const stream = open()
      const batch = batchOf([{ value: 'x'.repeat(100_000) }], { partition, producer: [partition, 1, 1, 1] })
      stream.receive(RawClient.produceFrame([batch], { id: 10 }), 5_000)
      return stream
    })
    expect(streams.map(({ paused }) => paused)).toEqual([false, true, true])
    for (const log of store.logs.values()) log.makeRoom()
    await settle()
    expect(streams.map(({ paused }) => paused)).toEqual([false, false, false])
    await settle()
    for (const stream of streams) expect(stream.take(produceReply, 10)).toMatchObject([{ results: [{ code: 0 }] }])
    expect(memory.usedBytes).toBe(0)
  })

  it('makes a connection wait while others hold the arena', async () => {
    const { open, admin, memory, settle, clock } = await startInMemory({ memoryBytes: 300_000 })
    await admin('createTopic', { name: 'flights' })
    const held = memory.allocate(250_000)!
    const stream = open()
    stream.receive(RawClient.produceFrame([large(0)], { id: 10 }), 5_000)
    expect(stream.paused).toBe(true)
    clock.advance(10 * MEMORY_RETRY_MS)
    expect(stream.paused).toBe(true)
    memory.release(held)
    clock.advance(MEMORY_RETRY_MS)
    await settle()
    expect(stream.paused).toBe(false)
    expect(stream.take(produceReply, 10)).toMatchObject([{ results: [{ code: 0 }] }])
  })

  it('is given back when a connection goes in the middle of a frame, or while it waits', async () => {
    const { open, admin, memory, settle } = await startInMemory({ frameBytes: 150_000 })
    await admin('createTopic', { name: 'flights' })
    const [first, second, third] = [open(), open(), open()]
    const bytes = RawClient.produceFrame([large(0)], { id: 10 })
    first.receive(bytes.subarray(0, 5_000))
    second.receive(bytes)
    third.receive(bytes)
    expect([second.paused, third.paused]).toEqual([true, true])
    second.destroy()
    first.destroy()
    await settle()
    expect(third.take(produceReply, 10)).toHaveLength(1)
    expect(memory.usedBytes).toBe(0)
  })

  it('lets the largest frame through, whatever its budget', async () => {
    const { open, admin, settle, memory } = await startInMemory({ frameBytes: 1_000 })
    await admin('createTopic', { name: 'flights' })
    const stream = open()
    stream.receive(RawClient.produceFrame([large(0, 900_000)], { id: 10 }))
    await settle()
    expect(stream.take(produceReply, 10)).toMatchObject([{ results: [{ code: 0 }] }])
    expect(memory.usedBytes).toBe(0)
  })
})

describe('draining', () => {
  it('answers what is in flight, refuses what comes, and says so', async () => {
    const { open, admin, store, settle } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    const log = store.logs.get('1/0/0')!
    log.full = true
    const stream = open()
    stream.receive(RawClient.produceFrame([batchOf(1)], { id: 10 }))
    stream.connection?.drain()
    expect(stream.take(failure, 0)).toMatchObject([{ code: 44, answeredKind: 0 }])
    stream.receive(RawClient.produceFrame([batchOf(1, { sequence: 1 })], { id: 11 }))
    stream.send(ping, {}, 12)
    expect(stream.take(failure).map(({ answeredKind }) => answeredKind)).toEqual([20, ping.kind])
    log.makeRoom()
    await settle()
    expect(stream.take(produceReply, 10)).toMatchObject([{ results: [{ code: 0 }] }])
    expect(stream.connection?.requestsInFlight).toBe(0)
    expect(stream.ended).toBe(false)
    stream.connection?.close()
    expect(stream.ended).toBe(true)
  })
})
