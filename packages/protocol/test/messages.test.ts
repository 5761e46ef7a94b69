// Every message: grows without breaking old readers, and refuses what is cut short, announced too large or unknown.
import {
  ACKS_IDS,
  AssertionError,
  cursorBatches,
  cursorOpen,
  encodeFrame,
  FRAME_HEADER_BYTES,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  hello,
  helloReply,
  leaders,
  MAX_AUTHENTICATION_BYTES,
  MAX_ENTRIES_PER_FRAME,
  MAX_FRAME_BYTES,
  MAX_LEADERS_PER_FRAME,
  MAX_MEMBERS_PER_GROUP,
  MAX_NODES_PER_MAP,
  MAX_PARTITIONS_PER_CONSUMER,
  MAX_PARTITIONS_PER_TOPIC,
  MAX_RAFT_MESSAGES_PER_FRAME,
  MAX_ROUTES_PER_DELTA,
  MAX_STRING_BYTES,
  MAX_TOPICS_PER_MAP,
  MAX_TOPICS_PER_MEMBER,
  MESSAGES,
  type MessageCodec,
  mapDelta,
  mapSnapshot,
  messageName,
  offsets,
  offsetsReply,
  type ProduceEntry,
  peerHello,
  ping,
  produce,
  produceReply,
  Reader,
  type Route,
  raft,
  raftAppend,
  raftInstall,
  type TopicInfo,
  Writer,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { codeOf } from './expect-error.js'
import {
  bytesOf,
  concat,
  MESSAGE_SAMPLES,
  type MessageSample,
  OPEN_ENDED,
  viewOf,
  WITH_BATCHES_BEHIND,
} from './samples.js'

function payloadOf(sample: MessageSample): Uint8Array {
  const writer = new Writer()
  sample.codec.encode(sample.message, writer)
  return concat([writer.written(), sample.extra])
}

const decode = (sample: MessageSample, payload: Uint8Array): unknown => sample.codec.decode(new Reader(payload))
const titled = (sample: MessageSample): string => `${sample.codec.name}, ${sample.title}`

/** The payload with three more bytes at the end of its fixed part. */
function extendFixed(payload: Uint8Array): Uint8Array {
  const length = viewOf(payload).getUint16(0, true)
  const extended = concat([payload.slice(0, 2 + length), bytesOf('new'), payload.subarray(2 + length)])
  viewOf(extended).setUint16(0, length + 3, true)
  return extended
}

const encoded = <T>(codec: MessageCodec<T>, message: T): Uint8Array => {
  const writer = new Writer()
  codec.encode(message, writer)
  return writer.written()
}

describe('a newer version', () => {
  for (const sample of MESSAGE_SAMPLES) {
    it(`may lengthen the fixed part: ${titled(sample)}`, () => {
      const message = decode(sample, extendFixed(payloadOf(sample)))
      if (!WITH_BATCHES_BEHIND.includes(sample.codec.name)) expect(message).toEqual(sample.message)
      else {
        const { batchesStart } = sample.message as { batchesStart: number }
        expect(message).toEqual({ ...(sample.message as object), batchesStart: batchesStart + 3 })
      }
    })

    const openEnded = OPEN_ENDED.includes(sample.codec.name)
    it(`${openEnded ? 'cannot' : 'may'} lengthen the tail: ${titled(sample)}`, () => {
      const longer = concat([payloadOf(sample), bytesOf('new')])
      if (!openEnded) expect(decode(sample, longer)).toEqual(sample.message)
      else if (sample.codec.name === 'PRODUCE') expect(codeOf(() => decode(sample, longer))).toBe('CORRUPT_FRAME')
      else if (WITH_BATCHES_BEHIND.includes(sample.codec.name)) expect(decode(sample, longer)).toEqual(sample.message)
      else expect(decode(sample, longer)).not.toEqual(sample.message)
    })
  }
})

describe('a payload cut short', () => {
  const openEnded = OPEN_ENDED.filter((name) => name !== 'PRODUCE')
  for (const sample of MESSAGE_SAMPLES) {
    it(`is refused at every byte: ${titled(sample)}`, () => {
      const payload = payloadOf(sample)
      for (let length = 0; length < payload.length; length++) {
        const cut = payload.slice(0, length)
        // A tail that goes to the end of the frame cannot be seen to be shorter; whoever reads it finds out.
        const mayPass = openEnded.includes(sample.codec.name)
        if (!mayPass)
          expect(
            codeOf(() => decode(sample, cut)),
            `${length} bytes`,
          ).toBe('CORRUPT_FRAME')
        else if (length < 2 + viewOf(payload).getUint16(0, true)) {
          expect(
            codeOf(() => decode(sample, cut)),
            `${length} bytes`,
          ).toBe('CORRUPT_FRAME')
        }
      }
    })

    it(`is refused when only its fixed part is: ${titled(sample)}`, () => {
      const payload = payloadOf(sample)
      const length = viewOf(payload).getUint16(0, true)
      for (let shorter = 0; shorter < length; shorter++) {
        const cut = concat([payload.slice(0, 2 + shorter), payload.subarray(2 + length)])
        viewOf(cut).setUint16(0, shorter, true)
        expect(
          codeOf(() => decode(sample, cut)),
          `${shorter} bytes`,
        ).toMatch(/CORRUPT_FRAME|NOT_MILLRACE/)
      }
    })
  }

  it('is refused when the fixed part claims more than there is', () => {
    for (const sample of MESSAGE_SAMPLES) {
      const payload = payloadOf(sample)
      viewOf(payload).setUint16(0, 0xffff, true)
      expect(
        codeOf(() => decode(sample, payload)),
        titled(sample),
      ).toBe('CORRUPT_FRAME')
    }
  })
})

const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }
const TOPIC: TopicInfo = {
  topicId: 1,
  name: 't',
  partitioner: 'murmur2',
  durability: 'flushed',
  codecs: [],
  routes: [NO_ROUTE],
}

/** A payload with a fixed part of u32 and u16 counts and so many bytes behind, all zero. */
function withCounts(write: (writer: Writer) => void, tailBytes: number): Reader {
  const writer = new Writer()
  writer.fixed(() => write(writer))
  return new Reader(concat([writer.written(), new Uint8Array(tailBytes)]))
}

describe('limits of messages', () => {
  it('an authentication message', () => {
    const message = {
      ...(MESSAGE_SAMPLES.find((sample) => sample.codec.kind === hello.kind)!.message as ReturnType<
        typeof hello.decode
      >),
    }
    const largest = { ...message, authentication: new Uint8Array(MAX_AUTHENTICATION_BYTES) }
    expect(hello.decode(new Reader(encoded(hello, largest)))).toEqual(largest)
    expect(() => encoded(hello, { ...message, authentication: new Uint8Array(MAX_AUTHENTICATION_BYTES + 1) })).toThrow(
      AssertionError,
    )
    const payload = encoded(hello, largest)
    viewOf(payload).setUint16(payload.length - MAX_AUTHENTICATION_BYTES - 2, MAX_AUTHENTICATION_BYTES + 1, true)
    expect(codeOf(() => hello.decode(new Reader(concat([payload, new Uint8Array(1)]))))).toBe('CORRUPT_FRAME')
  })

  it('a string', () => {
    const failure = MESSAGES.find((codec) => codec.name === 'FAILURE')!
    const message = { code: 1, answeredKind: 0, detail: 'x'.repeat(MAX_STRING_BYTES) }
    const payload = encoded(failure, message)
    expect(failure.decode(new Reader(payload))).toEqual(message)
    expect(() => encoded(failure, { ...message, detail: `${message.detail}x` })).toThrow(AssertionError)
    viewOf(payload).setUint16(6, MAX_STRING_BYTES + 1, true)
    expect(codeOf(() => failure.decode(new Reader(concat([payload, bytesOf('x')]))))).toBe('CORRUPT_FRAME')
  })

  it('entries of PRODUCE', () => {
    const entry: ProduceEntry = {
      topicId: 1,
      partition: 0,
      lane: 0,
      routeVersion: { term: 1, placement: 0 },
      batchLength: 80,
    }
    const message = (count: number) => ({ acks: 'all' as const, entries: Array(count).fill(entry), batchesStart: 0 })
    const frame = (count: number) => concat([encoded(produce, message(count)), new Uint8Array(count * 80)])
    expect(produce.decode(new Reader(frame(MAX_ENTRIES_PER_FRAME))).entries.length).toBe(MAX_ENTRIES_PER_FRAME)
    expect(() => encoded(produce, message(MAX_ENTRIES_PER_FRAME + 1))).toThrow(AssertionError)
    expect(() => encoded(produce, message(0))).toThrow(AssertionError)
    const over = MAX_ENTRIES_PER_FRAME + 1
    const header = (w: Writer) => w.u8(ACKS_IDS.all).u8(0).u16(over)
    expect(codeOf(() => produce.decode(withCounts(header, over * 104)))).toBe('CORRUPT_FRAME')
    expect(codeOf(() => produce.decode(withCounts((w) => w.u8(2).u8(0).u16(0), 0)))).toBe('CORRUPT_FRAME')
  })

  it('results of PRODUCE_REPLY, queries and answers of offsets', () => {
    const over = MAX_ENTRIES_PER_FRAME + 1
    for (const codec of [produceReply, offsets, offsetsReply]) {
      expect(codeOf(() => codec.decode(withCounts((w) => w.u16(over), over * 64)))).toBe('CORRUPT_FRAME')
    }
    const result = { code: 0, baseOffset: null, appendTime: 0, route: NO_ROUTE, detail: '' }
    expect(() => encoded(produceReply, { results: Array(over).fill(result) })).toThrow(AssertionError)
    const query = { topicId: 0, partition: 0, lane: 0, kind: 'latest' as const, timestamp: 0 }
    expect(() => encoded(offsets, { queries: Array(over).fill(query) })).toThrow(AssertionError)
    const answer = { code: 0, offset: 0, timestamp: null, term: 0, route: NO_ROUTE }
    expect(() => encoded(offsetsReply, { answers: Array(over).fill(answer) })).toThrow(AssertionError)
  })

  it('lists of the map', () => {
    const uuid = '0'.repeat(32)
    const snapshot = (nodes: number, topics: number) => (w: Writer) => w.u64(0).uuid(uuid).u32(nodes).u32(topics)
    const decodeSnapshot = (nodes: number, topics: number, tail: number) =>
      codeOf(() => mapSnapshot.decode(withCounts(snapshot(nodes, topics), tail)))
    expect(decodeSnapshot(MAX_NODES_PER_MAP + 1, 0, MAX_NODES_PER_MAP * 16)).toBe('CORRUPT_FRAME')
    expect(decodeSnapshot(0, MAX_TOPICS_PER_MAP + 1, MAX_FRAME_BYTES * 2)).toBe('CORRUPT_FRAME')
    // Every list of a delta, one over its limit, although the bytes would be there.
    const limits = [MAX_NODES_PER_MAP, MAX_NODES_PER_MAP, MAX_TOPICS_PER_MAP, MAX_TOPICS_PER_MAP, MAX_ROUTES_PER_DELTA]
    limits.forEach((limit, at) => {
      const counts = (w: Writer) =>
        limits.reduce((writer, _, i) => writer.u32(i === at ? limit + 1 : 0), w.u64(0).u32(1))
      expect(codeOf(() => mapDelta.decode(withCounts(counts, MAX_FRAME_BYTES * 2)))).toBe('CORRUPT_FRAME')
    })
  })

  it('partitions of a topic', () => {
    const snapshot = (routes: readonly Route[]) => ({
      version: 1,
      clusterId: '0'.repeat(32),
      nodes: [],
      topics: [{ ...TOPIC, routes }],
    })
    const largest = snapshot(Array(MAX_PARTITIONS_PER_TOPIC).fill(NO_ROUTE))
    const payload = encoded(mapSnapshot, largest)
    expect(mapSnapshot.decode(new Reader(payload))).toEqual(largest)
    expect(() => encoded(mapSnapshot, snapshot(Array(MAX_PARTITIONS_PER_TOPIC + 1).fill(NO_ROUTE)))).toThrow(
      AssertionError,
    )
    expect(() => encoded(mapSnapshot, snapshot([]))).toThrow(AssertionError)
    const countAt = 2 + 32 + 8
    expect(viewOf(payload).getUint32(countAt, true)).toBe(MAX_PARTITIONS_PER_TOPIC)
    viewOf(payload).setUint32(countAt, MAX_PARTITIONS_PER_TOPIC + 1, true)
    expect(codeOf(() => mapSnapshot.decode(new Reader(concat([payload, new Uint8Array(12)]))))).toBe('CORRUPT_FRAME')
    viewOf(payload).setUint32(countAt, 0, true)
    expect(codeOf(() => mapSnapshot.decode(new Reader(payload)))).toBe('CORRUPT_FRAME')
  })

  it('messages, leaders and members between brokers', () => {
    const message = { group: { topicId: 1, partition: 0, lane: 0 }, message: { kind: 'timeoutNow' as const, term: 1 } }
    const most = { messages: Array(MAX_RAFT_MESSAGES_PER_FRAME).fill(message) }
    expect(raft.decode(new Reader(encoded(raft, most)))).toEqual(most)
    expect(() => encoded(raft, { messages: [...most.messages, message] })).toThrow(AssertionError)
    const change = { topicId: 1, partition: 0, route: NO_ROUTE }
    expect(() => encoded(leaders, { changes: Array(MAX_LEADERS_PER_FRAME + 1).fill(change) })).toThrow(AssertionError)
    const install = (voters: number) => ({
      group: message.group,
      term: 1,
      round: 1,
      start: {
        index: 1,
        previousTerm: 0,
        configuration: { voters: Array(voters).fill(1), outgoing: [], learners: [] },
      },
      state: new Uint8Array(0),
    })
    const largest = install(MAX_MEMBERS_PER_GROUP)
    expect(raftInstall.decode(new Reader(encoded(raftInstall, largest)))).toEqual(largest)
    expect(() => encoded(raftInstall, install(MAX_MEMBERS_PER_GROUP + 1))).toThrow(AssertionError)
    const append = raftAppend.decode(appendOf(1, 120))
    expect(() => encoded(raftAppend, { ...append, batchCount: 0 })).toThrow(AssertionError)
  })

  it('topics, partitions and entries of consumer groups', () => {
    const sampleOf = <T>(codec: MessageCodec<T>): T =>
      codec.decode(new Reader(payloadOf(MESSAGE_SAMPLES.find((one) => one.codec.kind === codec.kind)!)))
    const join = (topics: number) => ({ ...sampleOf(groupJoin), topicIds: Array<number>(topics).fill(7) })
    const largest = join(MAX_TOPICS_PER_MEMBER)
    expect(groupJoin.decode(new Reader(encoded(groupJoin, largest)))).toEqual(largest)
    expect(() => encoded(groupJoin, join(MAX_TOPICS_PER_MEMBER + 1))).toThrow(AssertionError)
    const reply = sampleOf(groupBeatReply)
    const assigned = Array(MAX_PARTITIONS_PER_CONSUMER).fill(reply.assigned[0])
    expect(groupBeatReply.decode(new Reader(encoded(groupBeatReply, { ...reply, assigned }))).assigned).toEqual(
      assigned,
    )
    expect(() => encoded(groupBeatReply, { ...reply, assigned: [...assigned, assigned[0]] })).toThrow(AssertionError)
    const commit = sampleOf(groupCommit)
    const over = Array(MAX_ENTRIES_PER_FRAME + 1)
    expect(() => encoded(groupCommit, { ...commit, entries: over.fill(commit.entries[0]) })).toThrow(AssertionError)
    expect(() => encoded(groupCommitReply, { ...sampleOf(groupCommitReply), codes: over.fill(0) })).toThrow(
      AssertionError,
    )
    expect(() => encoded(groupJoin, { ...largest, place: { ...largest.place, memberId: 2n ** 64n } })).toThrow(
      AssertionError,
    )
  })

  it('a frame', () => {
    const options = { id: 1, extraPayloadBytes: MAX_FRAME_BYTES - 2 }
    expect(viewOf(encodeFrame(ping, {}, options)).getUint32(0, true)).toBe(MAX_FRAME_BYTES)
    const over = { id: 1, extraPayloadBytes: MAX_FRAME_BYTES - 1 }
    expect(codeOf(() => encodeFrame(ping, {}, over))).toBe('FRAME_TOO_LARGE')
  })
})

/** RAFT_APPEND with so many batches announced and so many bytes behind. */
const appendOf = (batches: number, tailBytes: number): Reader =>
  withCounts((w) => w.u64(0).u32(0).u32(1).u32(0).u32(batches).u64(0).u64(0).u64(0), tailBytes)
/** The fixed part of RAFT_INSTALL up to its counts. */
const installHead = (w: Writer): Writer => w.u64(0).u32(0).u32(1).u32(0).u64(1).u64(1)

/** The fixed parts of messages of groups up to their counts. */
const placeHead = (w: Writer): Writer => w.u64(0).u64(0).u64(0)
const codeHead = (w: Writer): Writer => w.u32(0).u64(0).u32(0)
const commitHead = (w: Writer, entries: number): Writer => w.u16(0).u16(entries).u64(0).u32(0)

describe('counts that lie', () => {
  const HUGE = 0xffff_ffff
  const cases: readonly (readonly [string, () => unknown])[] = [
    [
      'MAP_SNAPSHOT nodes',
      () => mapSnapshot.decode(withCounts((w) => w.u64(0).uuid('0'.repeat(32)).u32(HUGE).u32(0), 64)),
    ],
    [
      'MAP_SNAPSHOT topics',
      () => mapSnapshot.decode(withCounts((w) => w.u64(0).uuid('0'.repeat(32)).u32(0).u32(HUGE), 64)),
    ],
    ['CURSOR_BATCHES', () => cursorBatches.decode(withCounts((w) => w.u64(0).u32(HUGE).u32(0), 119))],
    ['CURSOR_BATCHES by one', () => cursorBatches.decode(withCounts((w) => w.u64(0).u32(2).u32(0), 239))],
    ['PRODUCE', () => produce.decode(withCounts((w) => w.u8(2).u8(0).u16(2), 207))],
    ['PRODUCE_REPLY', () => produceReply.decode(withCounts((w) => w.u16(2), 67))],
    ['OFFSETS', () => offsets.decode(withCounts((w) => w.u16(2), 39))],
    ['RAFT', () => raft.decode(withCounts((w) => w.u32(HUGE), 44))],
    ['RAFT by one', () => raft.decode(withCounts((w) => w.u32(2), 87))],
    ['RAFT over the limit', () => raft.decode(withCounts((w) => w.u32(4_097), 4_097 * 44))],
    ['RAFT_APPEND', () => raftAppend.decode(appendOf(HUGE, 240))],
    ['RAFT_APPEND by one', () => raftAppend.decode(appendOf(2, 239))],
    ['RAFT_INSTALL', () => raftInstall.decode(withCounts((w) => installHead(w).u16(0xffff).u16(0).u16(0).u16(0), 99))],
    [
      'RAFT_INSTALL over the limit',
      () => raftInstall.decode(withCounts((w) => installHead(w).u16(0).u16(0).u16(65).u16(0), 65 * 4)),
    ],
    ['LEADERS', () => leaders.decode(withCounts((w) => w.u32(HUGE), 20))],
    ['LEADERS over the limit', () => leaders.decode(withCounts((w) => w.u32(4_097), 4_097 * 20))],
    ['GROUP_JOIN', () => groupJoin.decode(withCounts((w) => placeHead(w).u32(1).u16(2).u16(0), 6 + 7))],
    ['GROUP_JOIN over the limit', () => groupJoin.decode(withCounts((w) => placeHead(w).u32(1).u16(65).u16(0), 999))],
    ['GROUP_BEAT_REPLY', () => groupBeatReply.decode(withCounts((w) => codeHead(w).u32(1).u16(2).u16(0), 63))],
    ['GROUP_COMMIT', () => groupCommit.decode(withCounts((w) => placeHead(w).u32(1).u16(2).u16(0), 2 + 63))],
    [
      'GROUP_COMMIT over the limit',
      () => groupCommit.decode(withCounts((w) => placeHead(w).u32(1).u16(4_097).u16(0), 2 + 4_097 * 32)),
    ],
    ['GROUP_COMMIT_REPLY', () => groupCommitReply.decode(withCounts((w) => commitHead(w, 3), 5))],
    [
      'GROUP_COMMIT_REPLY over the limit',
      () => groupCommitReply.decode(withCounts((w) => commitHead(w, 4_097), 9_999)),
    ],
    ['OFFSETS_REPLY', () => offsetsReply.decode(withCounts((w) => w.u16(2), 71))],
  ]
  for (const [name, work] of cases) {
    it(`are refused before anything is allocated: ${name}`, () => {
      expect(codeOf(work)).toBe('CORRUPT_FRAME')
    })
  }
})

describe('values that mean nothing', () => {
  it('are refused by name', () => {
    const broken = (name: string, change: (payload: Uint8Array) => void) => {
      const sample = MESSAGE_SAMPLES.find((candidate) => candidate.codec.name === name)!
      const payload = payloadOf(sample)
      change(payload)
      return codeOf(() => decode(sample, payload))
    }
    const zeroed = (payload: Uint8Array) => payload.fill(0, 2, 6)
    expect(broken('HELLO', zeroed)).toBe('NOT_MILLRACE')
    expect(broken('HELLO_REPLY', zeroed)).toBe('NOT_MILLRACE')
    expect(broken('PRODUCE', (payload) => payload.fill(3, 2, 3))).toBe('CORRUPT_FRAME')
    expect(broken('CURSOR_OPEN', (payload) => payload.fill(4, 18, 19))).toBe('CORRUPT_FRAME')
    expect(broken('CURSOR_CREDIT', (payload) => payload.fill(0xff, 2, 10))).toBe('CORRUPT_FRAME')
    for (const kind of [0, 4]) {
      expect(broken('OFFSETS', (payload) => payload.fill(kind, 14, 15))).toBe('CORRUPT_FRAME')
    }
    // Its first entry says that it commits an offset, and names none.
    expect(broken('GROUP_COMMIT', (payload) => payload.fill(0xff, 2 + 32 + 9 + 16, 2 + 32 + 9 + 24))).toBe(
      'CORRUPT_FRAME',
    )
    expect(broken('PEER_HELLO', zeroed)).toBe('NOT_MILLRACE')
    expect(broken('PEER_HELLO_REPLY', zeroed)).toBe('NOT_MILLRACE')
    for (const kind of [0, 8]) {
      expect(broken('RAFT', (payload) => payload.fill(kind, 6, 7))).toBe('CORRUPT_FRAME')
    }
    expect(broken('RAFT', (payload) => payload.fill(0xff, 22, 30))).toBe('CORRUPT_FRAME')
    expect(broken('RAFT_APPEND', (payload) => payload.fill(0, 22, 26))).toBe('CORRUPT_FRAME')
    expect(broken('FAILURE', (payload) => payload.fill(0xff, 8, 9))).toBe('CORRUPT_FRAME')
  })

  it('a partitioner this version does not know', () => {
    const payload = encoded(mapSnapshot, { version: 1, clusterId: '0'.repeat(32), nodes: [], topics: [TOPIC] })
    payload[2 + 32 + 4] = 2
    expect(codeOf(() => mapSnapshot.decode(new Reader(payload)))).toBe('UNSUPPORTED_FEATURE')
  })

  it('codecs this version does not know are left out', () => {
    const payload = encoded(mapSnapshot, { version: 1, clusterId: '0'.repeat(32), nodes: [], topics: [TOPIC] })
    viewOf(payload).setUint16(2 + 32 + 6, 0xffff, true)
    expect(mapSnapshot.decode(new Reader(payload)).topics[0]!.codecs).toEqual(['none', 'gzip', 'zstd'])
  })
})

describe('a produce frame', () => {
  const entry = { topicId: 1, partition: 0, lane: 0, routeVersion: { term: 1, placement: 0 }, batchLength: 100 }
  const head = encoded(produce, { acks: 'leader', entries: [entry], batchesStart: 0 })

  it('holds the bytes of its batches, no fewer and no more', () => {
    expect(produce.decode(new Reader(concat([head, new Uint8Array(100)]))).batchesStart).toBe(head.length)
    for (const length of [99, 101]) {
      expect(codeOf(() => produce.decode(new Reader(concat([head, new Uint8Array(length)]))))).toBe('CORRUPT_FRAME')
    }
  })

  it('announces no batch that is shorter than its header', () => {
    const short = encoded(produce, { acks: 'leader', entries: [{ ...entry, batchLength: 79 }], batchesStart: 0 })
    expect(codeOf(() => produce.decode(new Reader(concat([short, new Uint8Array(100)]))))).toBe('CORRUPT_FRAME')
  })
})

describe('frames', () => {
  it('carry kind, id and time in their header', () => {
    const frame = encodeFrame(helloReply, MESSAGE_SAMPLES.find((s) => s.codec.kind === 2)!.message as never, {
      id: 7,
      timeMs: 9,
    })
    const view = viewOf(frame)
    expect(frame.length).toBe(FRAME_HEADER_BYTES + view.getUint32(0, true))
    expect([view.getUint16(4, true), view.getUint16(6, true)]).toEqual([2, 0])
    expect([view.getUint32(8, true), view.getUint32(12, true)]).toEqual([7, 9])
  })

  it('have magic and shard of HELLO where an acceptor looks for them', () => {
    const sample = MESSAGE_SAMPLES.find((s) => s.codec.kind === hello.kind && s.title === 'with everything')!
    const frame = encodeFrame(sample.codec, sample.message, { id: 1 })
    expect(new TextDecoder().decode(frame.subarray(18, 22))).toBe('MILL')
    expect(viewOf(frame).getUint16(26, true)).toBe(5)
  })

  it('have magic and versions of PEER_HELLO where HELLO has them', () => {
    const sample = MESSAGE_SAMPLES.find((s) => s.codec.kind === peerHello.kind)!
    const frame = encodeFrame(sample.codec, sample.message, { id: 1 })
    expect(new TextDecoder().decode(frame.subarray(18, 22))).toBe('MILL')
    expect([viewOf(frame).getUint16(22, true), viewOf(frame).getUint16(24, true)]).toEqual([1, 2])
  })

  it('are told apart by who sends them', () => {
    for (const { kind, name, sender } of MESSAGES) expect(kind >= 64, name).toBe(sender === 'peer')
  })

  it('are named by their kind', () => {
    expect(messageName(cursorOpen.kind)).toBe('CURSOR_OPEN')
    expect(messageName(999)).toBe('kind 999')
  })
})
