// Bad input over the wire: every row of it gets a typed answer, changes nothing, and leaves the broker as it was.
import {
  ADMIN_OPERATIONS,
  admin,
  adminReply,
  cursorClosed,
  cursorOpen,
  cursorOpened,
  type ErrorName,
  encodeFrame,
  errorName,
  FRAME_HEADER_BYTES,
  HELLO_MAGIC,
  hello,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  offsets,
  offsetsReply,
  type ProduceEntry,
  ping,
  pong,
  produce,
  writeFrameHeader,
} from '@millrace/protocol'
import { afterAll, beforeEach, describe, expect, it } from 'vitest'
import { MAX_CONTROL_FRAME_BYTES } from '#src/limits.js'
import { ENVIRONMENTS } from '../broker/environments.js'
import { batchOf } from './batches.js'
import { RawClient } from './raw-client.js'
import { type RunningBroker, runBrokerForSeveral } from './running-broker.js'

describe.each(ENVIRONMENTS)('on the %s environment', (environment) => {
  let running: RunningBroker
  let stop: (() => Promise<void>) | null = null
  let topicId: number
  /** Whether the broker was shown to be as it was: then it serves the next test as well. */
  let isUnharmed = false
  /** Records in partition 1, one for each time that it was shown. */
  let appended = 0

  beforeEach(async () => {
    if (isUnharmed) {
      isUnharmed = false
      return
    }
    await stop?.()
    ;({ running, stop } = await runBrokerForSeveral({ environment }))
    appended = 0
    const client = await RawClient.open(running.broker.address)
    topicId = await client.createTopic('flights', { partitions: 2 })
    client.close()
  })
  afterAll(() => stop?.())

  /** The broker answers, has met no bug, and its topic is as empty as before. */
  async function expectUnharmed(): Promise<void> {
    const client = await RawClient.open(running.broker.address)
    const { fields } = await client.admin('describeTopic', { name: 'flights' })
    expect(fields.partitions).toMatchObject([{ highWatermark: 0 }, { highWatermark: appended }])
    const reply = await client.produce([batchOf(1, { partition: 1, producer: [9, 9, 9, appended] })])
    expect(reply.codes).toEqual([null])
    expect(reply.results[0]?.baseOffset).toBe(appended)
    appended++
    client.close()
    expect(running.log.lines.filter(({ level }) => level === 'error')).toEqual([])
    expect(running.halted).toEqual([])
    expect(running.environment.memory.usedBytes).toBe(running.memoryBytesAtRest)
    isUnharmed = true
  }

  function frame(kind: number, payload: Uint8Array, changes: { length?: number; flags?: number; id?: number } = {}) {
    const bytes = new Uint8Array(FRAME_HEADER_BYTES + payload.length)
    const { length = payload.length, flags = 0, id = 9 } = changes
    writeFrameHeader(new DataView(bytes.buffer), 0, { length, kind, flags, id, timeMs: 0 })
    bytes.set(payload, FRAME_HEADER_BYTES)
    return bytes
  }

  const text = (words: string): Uint8Array => new TextEncoder().encode(words)

  describe('before HELLO', () => {
    const cases: [name: string, bytes: Uint8Array, code: ErrorName, detail: string][] = [
      ['a TLS handshake', Uint8Array.of(0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc), 'NOT_MILLRACE', 'TLS'],
      ['an HTTP request', text('GET / HTTP/1.1\r\nHost: x\r\n\r\n'), 'NOT_MILLRACE', 'HTTP'],
      ['a short HTTP request', text('GET /'), 'NOT_MILLRACE', 'HTTP'],
      ['an SSH greeting', text('SSH-2.0-OpenSSH_9.2\r\n'), 'NOT_MILLRACE', 'SSH'],
      ['noise', new Uint8Array(64).fill(0xaa), 'NOT_MILLRACE', 'not a Millrace frame'],
      ['another frame than HELLO', encodeFrame(ping, {}, { id: 1 }), 'HELLO_REQUIRED', 'PING came before HELLO'],
      [
        'a HELLO that is too long',
        frame(hello.kind, new Uint8Array(0), { length: 17_000 }),
        'FRAME_TOO_LARGE',
        '17000',
      ],
      ['a HELLO without its magic', frame(hello.kind, new Uint8Array(64)), 'CORRUPT_FRAME', ''],
      ['a HELLO with another magic', helloBytes(0x1234), 'NOT_MILLRACE', 'magic'],
      ['a HELLO cut short inside', frame(hello.kind, Uint8Array.of(40, 0, 1, 2)), 'CORRUPT_FRAME', ''],
      ['an empty HELLO', frame(hello.kind, new Uint8Array(0)), 'CORRUPT_FRAME', ''],
      [
        'a HELLO with a feature nobody has',
        frame(hello.kind, new Uint8Array(64), { flags: 0x100 }),
        'UNSUPPORTED_FEATURE',
        '',
      ],
    ]

    function helloBytes(magic: number): Uint8Array {
      const bytes = encodeFrame(
        hello,
        {
          minVersion: 1,
          maxVersion: 1,
          shard: 0,
          features: 0,
          clusterId: '0'.repeat(32),
          nodeId: 0,
          clientId: '',
          software: '',
          authentication: new Uint8Array(0),
        },
        { id: 1 },
      ).slice()
      const view = new DataView(bytes.buffer)
      expect(view.getUint32(FRAME_HEADER_BYTES + 2, true)).toBe(HELLO_MAGIC)
      view.setUint32(FRAME_HEADER_BYTES + 2, magic, true)
      return bytes
    }

    it.each(cases)('%s is refused and the connection closed', async (_name, bytes, code, detail) => {
      const client = await RawClient.dial(running.broker.address)
      client.write(bytes)
      expect(await client.failure()).toMatchObject({ code, detail: expect.stringContaining(detail) })
      await client.whenClosed()
      await expectUnharmed()
    })

    it.each([
      ['another version', { minVersion: 7, maxVersion: 9 }, 'UNSUPPORTED_VERSION'],
      ['another cluster', { clusterId: 'a'.repeat(32) }, 'WRONG_CLUSTER'],
      ['another node', { nodeId: 5 }, 'WRONG_NODE'],
      ['a shard there is not', { shard: 1 }, 'WRONG_SHARD'],
    ])('a HELLO for %s is refused', async (_name, changes, code) => {
      const client = await RawClient.dial(running.broker.address)
      await expect(client.hello(changes)).rejects.toThrow(code)
      await client.whenClosed()
      await expectUnharmed()
    })

    it('a HELLO cut at any byte leaves a connection that waits and goes', async () => {
      const whole = helloBytes(HELLO_MAGIC)
      for (let length = 0; length < whole.length; length += 3) {
        const client = await RawClient.dial(running.broker.address)
        client.write(whole.subarray(0, length))
        client.socket.end()
        await client.whenClosed()
        expect(client.frames).toEqual([])
      }
      await expectUnharmed()
    })

    it('a second HELLO is refused', async () => {
      const client = await RawClient.open(running.broker.address)
      await expect(client.hello()).rejects.toThrow('HELLO_REQUIRED')
      await client.whenClosed()
      await expectUnharmed()
    })

    it('the right cluster and node are welcome', async () => {
      const { clusterId, nodeId } = running.broker
      const client = await RawClient.dial(running.broker.address)
      expect(await client.hello({ clusterId, nodeId })).toMatchObject({ clusterId, nodeId, version: 1, shardCount: 1 })
    })
  })

  describe('a frame', () => {
    const cases: [name: string, bytes: () => Uint8Array, code: ErrorName, id: number][] = [
      ['of an unknown kind', () => frame(999, new Uint8Array(4)), 'UNKNOWN_KIND', 9],
      ['that only brokers send', () => frame(pong.kind, new Uint8Array(2)), 'UNKNOWN_KIND', 9],
      [
        'longer than any may be',
        () => frame(produce.kind, new Uint8Array(4), { length: MAX_FRAME_BYTES + 1 }),
        'FRAME_TOO_LARGE',
        9,
      ],
      [
        'with a length of all ones',
        () => frame(produce.kind, new Uint8Array(4), { length: 0xffffffff }),
        'FRAME_TOO_LARGE',
        9,
      ],
      [
        'of control longer than those may be',
        () => frame(offsets.kind, new Uint8Array(4), { length: MAX_CONTROL_FRAME_BYTES + 1 }),
        'FRAME_TOO_LARGE',
        9,
      ],
      [
        'that requires a feature',
        () => frame(ping.kind, new Uint8Array(2), { flags: 0x8000 }),
        'UNSUPPORTED_FEATURE',
        9,
      ],
      ['without its fixed part', () => frame(offsets.kind, new Uint8Array(0)), 'CORRUPT_FRAME', 9],
      ['with a fixed part that lies', () => frame(offsets.kind, Uint8Array.of(200, 0, 1, 0)), 'CORRUPT_FRAME', 9],
      ['with a count that lies', () => frame(offsets.kind, Uint8Array.of(2, 0, 0xff, 0x0f)), 'CORRUPT_FRAME', 9],
      ['of PRODUCE without a payload', () => frame(produce.kind, new Uint8Array(0)), 'CORRUPT_FRAME', 9],
      ['of PRODUCE without entries', () => frame(produce.kind, Uint8Array.of(4, 0, 2, 0, 0, 0)), 'CORRUPT_FRAME', 9],
      ['of PRODUCE with unknown acks', () => frame(produce.kind, Uint8Array.of(4, 0, 9, 0, 1, 0)), 'CORRUPT_FRAME', 9],
      [
        'of PRODUCE with more entries than bytes',
        () => frame(produce.kind, Uint8Array.of(4, 0, 2, 0, 0xff, 0x0f)),
        'CORRUPT_FRAME',
        9,
      ],
      [
        'of PRODUCE whose batches are longer than it says',
        () =>
          RawClient.produceFrame([batchOf(1)], {
            id: 9,
            change: (entry) => ({ ...entry, batchLength: entry.batchLength - 1 }),
          }),
        'CORRUPT_FRAME',
        9,
      ],
      [
        'of PRODUCE whose batches are shorter than it says',
        () =>
          RawClient.produceFrame([batchOf(1)], {
            id: 9,
            change: (entry) => ({ ...entry, batchLength: entry.batchLength + 1 }),
          }),
        'CORRUPT_FRAME',
        9,
      ],
    ]

    it.each(cases)('%s is refused and the connection closed', async (_name, bytes, code, id) => {
      const client = await RawClient.open(running.broker.address)
      client.write(bytes())
      expect(await client.failure()).toMatchObject({ code, id })
      await client.whenClosed()
      await expectUnharmed()
    })

    it('may arrive byte by byte', async () => {
      const client = await RawClient.open(running.broker.address)
      const bytes = RawClient.produceFrame([batchOf(2), batchOf(1, { partition: 1 })], { id: 50 })
      for (const byte of bytes) {
        client.write(Uint8Array.of(byte))
        if (byte % 3 === 0) await new Promise((resolve) => setImmediate(resolve))
      }
      expect((await client.receive(({ header }) => header.id === 50)).header.kind).toBe(21)
    })

    it('of PRODUCE cut at any byte changes nothing', async () => {
      const whole = RawClient.produceFrame([batchOf(2)], { id: 9 })
      for (let length = 0; length < whole.length; length += 7) {
        const client = await RawClient.open(running.broker.address)
        client.write(whole.subarray(0, length))
        client.socket.end()
        await client.whenClosed()
        expect(client.frames).toEqual([])
      }
      await expectUnharmed()
    })

    it('behind one that was refused is not looked at', async () => {
      const client = await RawClient.open(running.broker.address)
      const produced = RawClient.produceFrame([batchOf(1)], { id: 10 })
      const bad = frame(999, new Uint8Array(4))
      const both = new Uint8Array(bad.length + produced.length)
      both.set(bad)
      both.set(produced, bad.length)
      client.write(both)
      expect(await client.failure()).toMatchObject({ code: 'UNKNOWN_KIND' })
      await client.whenClosed()
      expect(client.frames).toEqual([])
      await expectUnharmed()
    })
  })

  describe('a batch', () => {
    const place = (changes: Partial<ProduceEntry>) => ({ change: (entry: ProduceEntry) => ({ ...entry, ...changes }) })

    it.each([
      ['of an unknown topic', batchOf(1, { topicId: 99 }), {}, 'UNKNOWN_TOPIC'],
      ['of the metadata topic', batchOf(1, { topicId: 0 }), {}, 'UNKNOWN_TOPIC'],
      ['of a partition out of range', batchOf(1, { partition: 2 }), {}, 'UNKNOWN_PARTITION'],
      ['of a partition far out of range', batchOf(1, { partition: 0xffffffff }), {}, 'UNKNOWN_PARTITION'],
      ['of another lane', batchOf(1, { lane: 1 }), {}, 'UNKNOWN_LANE'],
      ['sent to another partition than its own', batchOf(1), place({ partition: 1 }), 'INVALID_BATCH'],
      ['with a damaged body', damaged(90), {}, 'CORRUPT_BATCH'],
      ['with a damaged header', damaged(30), {}, 'CORRUPT_BATCH'],
      ['with a damaged checksum', damaged(1), {}, 'CORRUPT_BATCH'],
      ['of control', batchOf(1, { control: true }), {}, 'INVALID_BATCH'],
      ['out of order', batchOf(1, { sequence: 4, producer: [7, 7, 7, 7] }), {}, 'UNKNOWN_PRODUCER'],
    ] as const)('%s is refused in its result', async (_name, batch, options, code) => {
      const client = await RawClient.open(running.broker.address)
      expect((await client.produce([batch], options)).codes).toEqual([code])
      await expectUnharmed()
    })

    function damaged(at: number): Uint8Array {
      const bytes = batchOf(3).slice()
      bytes[at]! ^= 0x10
      return bytes
    }

    it('that is refused leaves the others of its frame alone', async () => {
      const client = await RawClient.open(running.broker.address)
      const reply = await client.produce([damaged(90), batchOf(2, { partition: 1 })])
      expect(reply.codes).toEqual(['CORRUPT_BATCH', null])
      expect(reply.results[1]).toMatchObject({ baseOffset: appended, route: { nodeId: 1, term: 1 } })
    })

    it('over the limit is refused', async () => {
      const client = await RawClient.open(running.broker.address)
      const bytes = new Uint8Array(MAX_BATCH_BYTES + 1)
      bytes.set(batchOf(1).subarray(0, 80))
      new DataView(bytes.buffer).setUint32(4, bytes.length, true)
      // The checksum cannot hold: what counts is that nobody reads a batch of this size, and that it is refused.
      expect((await client.produce([bytes])).codes).toEqual(['CORRUPT_BATCH'])
      await expectUnharmed()
    })

    it('that comes after its deadline is refused', async () => {
      const client = await RawClient.open(running.broker.address)
      const log = running.store.logs.get('1/0/0')!
      log.full = true
      const late = client.produce([batchOf(1)], { timeMs: 1 })
      await new Promise((resolve) => setTimeout(resolve, 20))
      log.makeRoom()
      expect((await late).codes).toEqual(['DEADLINE_EXCEEDED'])
      await expectUnharmed()
    })

    it('without acknowledgement is refused in silence', async () => {
      const client = await RawClient.open(running.broker.address)
      client.write(RawClient.produceFrame([damaged(90)], { id: 3, acks: 'none' }))
      await client.request(ping, {}, pong)
      expect(client.frames).toEqual([])
      await expectUnharmed()
    })
  })

  describe('a cursor', () => {
    const open = { partition: 0, lane: 0, routeVersion: { term: 1, placement: 0 }, position: 0, lastTerm: 0, credit: 1 }

    it.each([
      ['of an unknown topic', { topicId: 99, start: 'earliest' }, 'UNKNOWN_TOPIC'],
      ['of the metadata', { topicId: 0, start: 'earliest' }, 'UNKNOWN_TOPIC'],
      ['of a partition out of range', { partition: 7, start: 'earliest' }, 'UNKNOWN_PARTITION'],
      ['of another lane', { lane: 1, start: 'earliest' }, 'UNKNOWN_LANE'],
      ['beyond the high watermark', { start: 'offset', position: 1 }, 'OFFSET_OUT_OF_RANGE'],
      ['far beyond it', { start: 'offset', position: Number.MAX_SAFE_INTEGER }, 'OFFSET_OUT_OF_RANGE'],
      ['beyond what it has read before', { start: 'offset', position: 5, lastTerm: 1 }, 'LOG_DIVERGED'],
    ] as const)('%s is refused', async (_name, changes, code) => {
      const client = await RawClient.open(running.broker.address)
      client.send(cursorOpen, { topicId, ...open, ...changes }, 8)
      const closed = await client.receiveMessage(cursorClosed, 8)
      expect(errorName(closed.code)).toBe(code)
      await expectUnharmed()
    })

    it('whose id is in use, or was, closes the connection', async () => {
      for (const close of [false, true]) {
        const client = await RawClient.open(running.broker.address)
        client.send(cursorOpen, { topicId, ...open, start: 'earliest' }, 8)
        await client.receiveMessage(cursorOpened, 8)
        if (close) client.write(frame(33, Uint8Array.of(0, 0), { id: 8 }))
        client.send(cursorOpen, { topicId, ...open, start: 'earliest' }, 8)
        expect(await client.failure()).toMatchObject({ code: 'CURSOR_ID_IN_USE', id: 8 })
        await client.whenClosed()
      }
      await expectUnharmed()
    })

    it('nobody knows may be given credit and closed', async () => {
      const client = await RawClient.open(running.broker.address)
      client.write(frame(32, Uint8Array.of(8, 0, 1, 0, 0, 0, 0, 0, 0, 0), { id: 77 }))
      client.write(frame(33, Uint8Array.of(0, 0), { id: 77 }))
      await client.request(ping, {}, pong)
      await expectUnharmed()
    })
  })

  describe('a question for offsets', () => {
    it('of what is not there is answered by code', async () => {
      const client = await RawClient.open(running.broker.address)
      const query = { lane: 0, kind: 'latest', timestamp: 0 } as const
      const queries = [
        { ...query, topicId: 99, partition: 0 },
        { ...query, topicId, partition: 2 },
        { ...query, topicId, partition: 1 },
      ]
      const { answers } = await client.request(offsets, { queries }, offsetsReply)
      expect(answers.map(({ code }) => errorName(code))).toEqual(['UNKNOWN_TOPIC', 'UNKNOWN_PARTITION', null])
      await expectUnharmed()
    })
  })

  describe('an administrator', () => {
    it.each([
      ['an empty name', 'createTopic', { name: '' }, 'INVALID_TOPIC_NAME'],
      ['no name', 'createTopic', {}, 'INVALID_TOPIC_NAME'],
      ['a name that is a number', 'createTopic', { name: 5 }, 'INVALID_TOPIC_NAME'],
      ['a name that is too long', 'createTopic', { name: 'a'.repeat(250) }, 'INVALID_TOPIC_NAME'],
      ['a name like a path', 'createTopic', { name: '../flights' }, 'INVALID_TOPIC_NAME'],
      ['the name of this directory', 'createTopic', { name: '.' }, 'INVALID_TOPIC_NAME'],
      ['a name with a zero byte', 'createTopic', { name: 'a\0b' }, 'INVALID_TOPIC_NAME'],
      ['a name that is taken', 'createTopic', { name: 'flights' }, 'TOPIC_EXISTS'],
      ['no partitions', 'createTopic', { name: 'x', partitions: 0 }, 'INVALID_CONFIG'],
      ['too many partitions', 'createTopic', { name: 'x', partitions: 10_001 }, 'INVALID_CONFIG'],
      ['half a partition', 'createTopic', { name: 'x', partitions: 1.5 }, 'INVALID_CONFIG'],
      ['partitions in words', 'createTopic', { name: 'x', partitions: 'many' }, 'INVALID_CONFIG'],
      ['a retention of no time', 'createTopic', { name: 'x', retentionMs: 0 }, 'INVALID_CONFIG'],
      ['a retention in words', 'createTopic', { name: 'x', retentionMs: '7d' }, 'INVALID_CONFIG'],
      ['half a byte kept', 'createTopic', { name: 'x', retentionBytes: 0.5 }, 'INVALID_CONFIG'],
      ['an unknown durability', 'createTopic', { name: 'x', durability: 'maybe' }, 'INVALID_CONFIG'],
      ['an unknown codec', 'createTopic', { name: 'x', codecs: ['none', 'lz4'] }, 'INVALID_CONFIG'],
      ['codecs without none', 'createTopic', { name: 'x', codecs: ['gzip'] }, 'INVALID_CONFIG'],
      ['codecs in a text', 'createTopic', { name: 'x', codecs: 'gzip' }, 'INVALID_CONFIG'],
      ['codecs of another type', 'createTopic', { name: 'x', codecs: [{ toString: 1, valueOf: 2 }] }, 'INVALID_CONFIG'],
      ['a codec twice', 'createTopic', { name: 'x', codecs: ['none', 'none'] }, 'INVALID_CONFIG'],
      ['a durability of another type', 'createTopic', { name: 'x', durability: { toString: 1 } }, 'INVALID_CONFIG'],
      ['partitions of another type', 'createTopic', { name: 'x', partitions: { valueOf: 1 } }, 'INVALID_CONFIG'],
      ['an unknown setting', 'createTopic', { name: 'x', partition: 3 }, 'INVALID_REQUEST'],
      ['an unknown setting of a long name', 'createTopic', { name: 'x', ['p'.repeat(100_000)]: 3 }, 'INVALID_REQUEST'],
      ['a durability of a long name', 'createTopic', { name: 'x', durability: 'ü'.repeat(50_000) }, 'INVALID_CONFIG'],
      ['an unknown topic to delete', 'deleteTopic', { name: 'nothing' }, 'UNKNOWN_TOPIC'],
      ['a path to delete', 'deleteTopic', { name: '../../etc' }, 'INVALID_TOPIC_NAME'],
      ['an unknown topic to describe', 'describeTopic', { name: 'nothing' }, 'UNKNOWN_TOPIC'],
      ['an operation nobody knows', 999, {}, 'UNKNOWN_OPERATION'],
    ] as const)('with %s is refused', async (_name, operation, fields, code) => {
      const client = await RawClient.open(running.broker.address)
      const reply = await client.admin(operation, fields)
      expect(errorName(reply.code)).toBe(code)
      expect(reply.payload).toHaveLength(0)
      const { fields: list } = await client.admin('listTopics', {})
      expect(list.topics).toMatchObject([{ name: 'flights' }])
      await expectUnharmed()
    })

    it.each([
      ['is not MessagePack', Uint8Array.of(0xc1)],
      ['is cut short', Uint8Array.of(0x82, 0xa4, 0x6e)],
      ['is no map', Uint8Array.of(0x93, 1, 2, 3)],
      ['is a text', Uint8Array.of(0xa1, 0x61)],
      ['has a length that lies', Uint8Array.of(0xdd, 0xff, 0xff, 0xff, 0xff)],
      ['nests without end', new Uint8Array(100_000).fill(0x91)],
    ])('whose payload %s is refused', async (_name, payload) => {
      const client = await RawClient.open(running.broker.address)
      const request = { operation: ADMIN_OPERATIONS.createTopic, mapVersion: 0, payload }
      const reply = await client.request(admin, request, adminReply)
      expect(errorName(reply.code)).toBe('INVALID_REQUEST')
      await expectUnharmed()
    })

    it('who has seen a newer map waits, and is told in the end', async () => {
      const client = await RawClient.open(running.broker.address)
      const request = { operation: ADMIN_OPERATIONS.listTopics, mapVersion: 1_000, payload: new Uint8Array(0) }
      const reply = await client.request(admin, request, adminReply, 30)
      expect(errorName(reply.code)).toBe('DEADLINE_EXCEEDED')
      await expectUnharmed()
    })
  })
})
