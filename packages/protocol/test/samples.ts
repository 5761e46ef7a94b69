// One example or more of every message and of batches: what golden bytes, tests and fuzzers start from.
import {
  ANY_CLUSTER,
  admin,
  adminReply,
  type BatchHeader,
  type BatchIdentity,
  crc32,
  cursorBatches,
  cursorClose,
  cursorClosed,
  cursorCredit,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
  ERROR_TABLE,
  encodeHeaders,
  failure,
  forward,
  forwardReply,
  gossip,
  gossipReply,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
  hello,
  helloReply,
  LOG_PART_BYTES,
  type LogPart,
  leaders,
  leadersWanted,
  type MessageCodec,
  mapDelta,
  mapHeartbeat,
  mapSnapshot,
  mapSubscribe,
  offsets,
  offsetsReply,
  peerBeat,
  peerHello,
  peerHelloReply,
  ping,
  pong,
  produce,
  produceReply,
  RecordBatchBuilder,
  type RecordHeader,
  type Route,
  raft,
  raftAppend,
  raftInstall,
  readBatchHeader,
  setBeat,
  setBeatReply,
  type TopicInfo,
  writeLogPart,
} from '@millrace/protocol'

const text = new TextEncoder()
export const bytesOf = (value: string): Uint8Array => text.encode(value)
export const hexBytes = (hex: string): Uint8Array => {
  const digits = hex.replaceAll(/\s/g, '')
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16))
}
export const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
/** The header of a batch that stands alone in `bytes`. */
export const headerOf = (bytes: Uint8Array): BatchHeader => readBatchHeader(viewOf(bytes), 0)

export interface SampleRecord {
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers?: readonly RecordHeader[]
  readonly timestamp: number
}

/** 2025-01-01T00:00:00Z. */
export const SOME_TIME = 1_735_689_600_000

export const SOME_IDENTITY: BatchIdentity = {
  topicId: 7,
  partition: 3,
  lane: 0,
  control: false,
  producer: [0x03020100, 0x07060504, 0x0b0a0908, 0x0f0e0d0c],
  epoch: 1,
  sequence: 42,
}

export interface SampleBatch {
  readonly title: string
  readonly identity: BatchIdentity
  readonly records: readonly SampleRecord[]
  /** Given, and not made by a library here: compressors of different versions make different bytes. */
  readonly gzipBody?: Uint8Array
}

const COMPRESSED_RECORDS: readonly SampleRecord[] = Array.from({ length: 12 }, (_, i) => ({
  key: bytesOf('airport-ATL'),
  value: bytesOf('{"delay":0,"distance":405,"origin":"ATL"}'),
  timestamp: SOME_TIME + i,
}))

export const SAMPLE_BATCHES: readonly SampleBatch[] = [
  {
    title: 'keys and values: present, empty and null; timestamps equal, rising and falling',
    identity: SOME_IDENTITY,
    records: [
      { key: bytesOf('customer-42'), value: bytesOf('{"total":12}'), timestamp: SOME_TIME },
      { key: bytesOf('customer-42'), value: null, timestamp: SOME_TIME },
      { key: null, value: bytesOf('no key'), timestamp: SOME_TIME + 1000 },
      { key: null, value: null, timestamp: SOME_TIME - 1 },
      { key: bytesOf(''), value: bytesOf(''), timestamp: SOME_TIME + 65 },
    ],
  },
  {
    title: 'headers: repeated names, an empty name, values that are empty and null',
    identity: { ...SOME_IDENTITY, sequence: 43 },
    records: [
      {
        key: bytesOf('k'),
        value: bytesOf('v'),
        headers: [
          ['trace', hexBytes('0011223344556677')],
          ['trace', null],
          ['', bytesOf('')],
          ['größe', bytesOf('ü')],
        ],
        timestamp: SOME_TIME,
      },
      { key: null, value: null, headers: [], timestamp: SOME_TIME },
    ],
  },
  {
    title: 'a value of 300 bytes: lengths of two bytes',
    identity: { ...SOME_IDENTITY, lane: 0, epoch: 0, sequence: 0, partition: 9_999, topicId: 0xffffffff },
    records: [{ key: null, value: new Uint8Array(300).fill(0x61), timestamp: 0 }],
  },
  {
    title: 'a control batch',
    identity: { ...SOME_IDENTITY, control: true, producer: [0, 0, 0, 0], epoch: 0, sequence: 0 },
    records: [{ key: null, value: hexBytes('0100'), timestamp: SOME_TIME }],
  },
  {
    title: 'twelve records compressed with gzip',
    identity: { ...SOME_IDENTITY, sequence: 44 },
    records: COMPRESSED_RECORDS,
    gzipBody: hexBytes(`
      1f8b0800000000000003b3646660e04ecc2c2ac82f2ad1750cf1d1ac564a49cd
      49ac54b232d0514ac92c2e49cc4b4e55b2323130d551ca2fca4ccfcc53b25272
      0cf151aab5646664225727130bb93a99d9c8d5c9c241ae4e562e7275b2f190ab
      939d8f5c9d1c02e4eae4142257279708b93ab9c5c8d30900d443cad7b8020000
      
    `),
  },
]

/** Builds a batch out of records; all of them must fit. */
export function buildBatch(
  records: readonly SampleRecord[],
  identity: BatchIdentity = SOME_IDENTITY,
  compress?: (body: Uint8Array) => Uint8Array,
): Uint8Array {
  const builder = new RecordBatchBuilder(4 * 1024 * 1024)
  for (const record of records) {
    const headers = record.headers === undefined ? null : encodeHeaders(record.headers)
    if (!builder.tryAppend(record.key, record.value, headers, record.timestamp)) throw new Error('a sample too large')
  }
  return builder.seal({
    identity,
    checksum: crc32,
    ...(compress === undefined ? {} : { compression: { codec: 'gzip', compress } }),
  })
}

export function buildSampleBatch(sample: SampleBatch): Uint8Array {
  const { gzipBody } = sample
  return buildBatch(sample.records, sample.identity, gzipBody === undefined ? undefined : () => gzipBody)
}

export const SAMPLE_BATCH: SampleBatch = SAMPLE_BATCHES[0]!

/** A batch as it stands in the log: log part, then client part. */
export function logged(batch: Uint8Array, part: Omit<LogPart, 'clientLength' | 'clientChecksum'>): Uint8Array {
  const bytes = new Uint8Array(LOG_PART_BYTES + batch.length)
  bytes.set(batch, LOG_PART_BYTES)
  const clientChecksum = viewOf(batch).getUint32(0, true)
  writeLogPart(bytes, viewOf(bytes), 0, { ...part, clientLength: batch.length, clientChecksum }, crc32)
  return bytes
}

export function concat(parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0))
  let at = 0
  for (const part of parts) {
    whole.set(part, at)
    at += part.length
  }
  return whole
}

/** Numbers below 2^53 that take all their bytes. */
const LARGE = 0x0012_3456_789a_bcde
const CLUSTER = '000102030405060708090a0b0c0d0e0f'
const ROUTE: Route = { nodeId: 3, shard: 5, placement: 2, term: 17 }
const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }

const TOPIC: TopicInfo = {
  topicId: 7,
  name: 'orders',
  partitioner: 'murmur2',
  durability: 'flushed',
  codecs: ['none', 'gzip'],
  routes: [ROUTE, NO_ROUTE],
}

export interface MessageSample {
  readonly codec: MessageCodec<unknown>
  readonly title: string
  readonly message: unknown
  /** What the sender writes behind the encoded message. */
  readonly extra: Uint8Array
  readonly id: number
  readonly timeMs: number
}

const NOTHING = new Uint8Array(0)

function sample<T>(
  codec: MessageCodec<T>,
  title: string,
  message: T,
  options: { extra?: Uint8Array; id?: number; timeMs?: number } = {},
): MessageSample {
  const { extra = NOTHING, id = 0x01020304, timeMs = 0 } = options
  return { codec: codec as MessageCodec<unknown>, title, message, extra, id, timeMs }
}

const DISK = 'f0e0d0c0b0a090807060504030201000'
const GROUP = { topicId: 7, partition: 3, lane: 0 }
const METADATA = { topicId: 0, partition: 0, lane: 0 }

const PLACE = { topicId: 9, partition: 5, routeVersion: { term: 17, placement: 2 }, memberId: 0xfedc_ba98_7654_3210n }
const NO_MEMBER = { ...PLACE, routeVersion: { term: 0, placement: 0 }, memberId: 1n }

const FIRST = buildSampleBatch(SAMPLE_BATCHES[0]!)
const SECOND = buildSampleBatch(SAMPLE_BATCHES[1]!)

export const MESSAGE_SAMPLES: readonly MessageSample[] = [
  sample(hello, 'before the first contact', {
    minVersion: 1,
    maxVersion: 1,
    shard: 0,
    features: 0,
    clusterId: ANY_CLUSTER,
    nodeId: 0,
    clientId: '',
    software: '',
    authentication: NOTHING,
  }),
  sample(hello, 'with everything', {
    minVersion: 1,
    maxVersion: 3,
    shard: 5,
    features: 0x80000001,
    clusterId: CLUSTER,
    nodeId: 3,
    clientId: 'billing-1',
    software: 'millrace-ts 0.1.0',
    authentication: hexBytes('cafe'),
  }),
  sample(helloReply, 'accepted', {
    version: 1,
    shard: 5,
    features: 0,
    clusterId: CLUSTER,
    nodeId: 3,
    shardCount: 8,
    maxFrameBytes: 8 * 1024 * 1024,
    maxBatchBytes: 4 * 1024 * 1024,
    software: 'millrace-broker 0.1.0',
  }),
  sample(
    failure,
    'a request refused',
    { code: ERROR_TABLE.OVERLOADED.code, answeredKind: 20, detail: 'too much' },
    { timeMs: 250 },
  ),
  sample(
    failure,
    'the connection is about to close',
    { code: ERROR_TABLE.SHUTTING_DOWN.code, answeredKind: 0, detail: '' },
    { id: 0 },
  ),
  sample(ping, 'the only form', {}),
  sample(pong, 'the only form', {}),
  sample(mapSubscribe, 'the only form', {}),
  sample(mapSnapshot, 'two nodes and a topic', {
    version: LARGE,
    clusterId: CLUSTER,
    nodes: [
      { nodeId: 1, host: '127.0.0.1', port: 7420, shardCount: 2 },
      { nodeId: 3, host: 'broker-3.example', port: 65_535, shardCount: 8 },
    ],
    topics: [TOPIC],
  }),
  sample(mapSnapshot, 'an empty cluster', { version: 0, clusterId: CLUSTER, nodes: [], topics: [] }),
  sample(mapDelta, 'every kind of change', {
    version: LARGE,
    sequence: 1,
    nodes: [{ nodeId: 4, host: '::1', port: 7420, shardCount: 1 }],
    removedNodes: [1],
    topics: [{ ...TOPIC, topicId: 8, name: 'Payments_v2.eu-west', durability: 'buffered', codecs: ['none'] }],
    removedTopics: [5, 6],
    routes: [{ topicId: 7, partition: 1, route: { nodeId: 4, shard: 0, placement: 0, term: 18 } }],
  }),
  sample(mapHeartbeat, 'a node in touch with the metadata leader', { version: LARGE, metadataAgeMs: 120 }),
  sample(
    produce,
    'batches of two partitions',
    {
      acks: 'all',
      entries: [
        { topicId: 7, partition: 3, lane: 0, routeVersion: { term: 17, placement: 2 }, batchLength: FIRST.length },
        { topicId: 7, partition: 4, lane: 0, routeVersion: { term: 18, placement: 0 }, batchLength: SECOND.length },
      ],
      batchesStart: 2 + 4 + 2 * 24,
    },
    { extra: concat([FIRST, SECOND]), timeMs: 30_000 },
  ),
  sample(
    produce,
    'one batch, no reply wanted',
    {
      acks: 'none',
      entries: [
        { topicId: 7, partition: 3, lane: 0, routeVersion: { term: 17, placement: 2 }, batchLength: FIRST.length },
      ],
      batchesStart: 2 + 4 + 24,
    },
    { extra: FIRST },
  ),
  sample(produceReply, 'acknowledged, acknowledged without offset, refused', {
    results: [
      { code: 0, baseOffset: LARGE, appendTime: SOME_TIME, route: ROUTE, detail: '' },
      { code: 0, baseOffset: null, appendTime: SOME_TIME, route: ROUTE, detail: '' },
      {
        code: ERROR_TABLE.NOT_LEADER.code,
        baseOffset: null,
        appendTime: 0,
        route: { nodeId: 4, shard: 1, placement: 0, term: 18 },
        detail: 'node 4 leads it',
      },
    ],
  }),
  sample(cursorOpen, 'from the earliest record', {
    topicId: 7,
    partition: 3,
    lane: 0,
    routeVersion: { term: 17, placement: 2 },
    start: 'earliest',
    position: 0,
    lastTerm: 0,
    credit: 8 * 1024 * 1024,
  }),
  sample(cursorOpen, 'at an offset, after a reconnect', {
    topicId: 7,
    partition: 3,
    lane: 0,
    routeVersion: { term: 17, placement: 2 },
    start: 'offset',
    position: LARGE,
    lastTerm: 16,
    credit: 1,
  }),
  sample(cursorOpen, 'from a time', {
    topicId: 7,
    partition: 3,
    lane: 0,
    routeVersion: { term: 0, placement: 0 },
    start: 'timestamp',
    position: SOME_TIME,
    lastTerm: 0,
    credit: 0,
  }),
  sample(cursorOpened, 'the only form', { startOffset: 90, logStartOffset: 10, highWatermark: LARGE, route: ROUTE }),
  sample(cursorCredit, 'the only form', { credit: LARGE }),
  sample(cursorClose, 'the only form', {}),
  sample(cursorBatches, 'two batches', {
    highWatermark: 102,
    batchCount: 2,
    batches: concat([
      logged(FIRST, { term: 17, baseOffset: 95, index: 12, appendTime: SOME_TIME + 2 }),
      logged(SECOND, { term: 18, baseOffset: 100, index: 14, appendTime: SOME_TIME + 3 }),
    ]),
  }),
  sample(cursorHeartbeat, 'the only form', { logStartOffset: 10, highWatermark: LARGE }),
  sample(cursorClosed, 'the partition has moved', {
    code: ERROR_TABLE.MOVED.code,
    logStartOffset: 10,
    highWatermark: 102,
    route: { nodeId: 4, shard: 1, placement: 0, term: 18 },
    detail: 'to node 4',
  }),
  sample(offsets, 'each kind of query', {
    queries: [
      { topicId: 7, partition: 0, lane: 0, kind: 'earliest', timestamp: 0 },
      { topicId: 7, partition: 1, lane: 0, kind: 'latest', timestamp: 0 },
      { topicId: 7, partition: 2, lane: 0, kind: 'timestamp', timestamp: SOME_TIME },
    ],
  }),
  sample(offsetsReply, 'found, none so late, refused', {
    answers: [
      { code: 0, offset: LARGE, timestamp: SOME_TIME, term: 17, route: ROUTE },
      { code: 0, offset: 102, timestamp: null, term: 17, route: ROUTE },
      { code: ERROR_TABLE.UNKNOWN_PARTITION.code, offset: 0, timestamp: null, term: 0, route: NO_ROUTE },
    ],
  }),
  sample(groupJoin, 'a member with a name, two topics', {
    place: PLACE,
    leaseMs: 45_000,
    group: 'billing',
    memberName: 'billing-0',
    clientId: 'host-1234',
    topicIds: [7, 8],
  }),
  sample(groupJoin, 'a member without a name or topics', {
    place: NO_MEMBER,
    leaseMs: 1_000,
    group: 'g',
    memberName: '',
    clientId: '',
    topicIds: [],
  }),
  sample(groupJoined, 'joined', { code: 0, route: ROUTE, memberEpoch: 41, leaseMs: 45_000 }),
  sample(groupJoined, 'refused', {
    code: ERROR_TABLE.MEMBER_FENCED.code,
    route: ROUTE,
    memberEpoch: 0,
    leaseMs: 0,
  }),
  sample(groupBeat, 'waits for the next assignment', {
    place: PLACE,
    memberEpoch: 41,
    version: 44,
    waitMs: 11_250,
    group: 'billing',
  }),
  sample(groupBeatReply, 'committed, revoking and new', {
    code: 0,
    route: ROUTE,
    version: 45,
    assigned: [
      { topicId: 7, partition: 3, lane: 0, epoch: 41, offset: LARGE, term: 16, isRevoking: false },
      { topicId: 7, partition: 4, lane: 0, epoch: 42, offset: 0, term: 0, isRevoking: true },
      { topicId: 8, partition: 0, lane: 0, epoch: 45, offset: null, term: 0, isRevoking: false },
    ],
  }),
  sample(groupBeatReply, 'the lease has run out', {
    code: ERROR_TABLE.UNKNOWN_MEMBER.code,
    route: ROUTE,
    version: 0,
    assigned: [],
  }),
  sample(groupCommit, 'commits, releases, and both', {
    place: PLACE,
    memberEpoch: 41,
    leaves: false,
    group: 'billing',
    entries: [
      { topicId: 7, partition: 3, lane: 0, epoch: 41, offset: LARGE, term: 17, releases: false },
      { topicId: 7, partition: 4, lane: 0, epoch: 42, offset: null, term: 0, releases: true },
      { topicId: 8, partition: 0, lane: 0, epoch: 45, offset: 0, term: 0, releases: true },
    ],
  }),
  sample(groupCommit, 'leaves', { place: PLACE, memberEpoch: 41, leaves: true, group: 'billing', entries: [] }),
  sample(groupCommitReply, 'done, stale, done', {
    code: 0,
    route: ROUTE,
    codes: [0, ERROR_TABLE.STALE_ASSIGNMENT.code, 0],
  }),
  sample(groupCommitReply, 'two done', { code: 0, route: ROUTE, codes: [0, 0] }),
  sample(groupCommitReply, 'another broker leads', {
    code: ERROR_TABLE.NOT_LEADER.code,
    route: { nodeId: 4, shard: 1, placement: 0, term: 18 },
    codes: [],
  }),
  sample(admin, 'list topics: an empty MessagePack map', { operation: 4, mapVersion: 0, payload: hexBytes('80') }),
  sample(adminReply, 'done', { code: 0, mapVersion: LARGE, detail: '', payload: hexBytes('81a16101') }),
  sample(adminReply, 'refused', {
    code: ERROR_TABLE.TOPIC_EXISTS.code,
    mapVersion: 12,
    detail: 'orders exists',
    payload: NOTHING,
  }),
  sample(peerHello, 'the only form', {
    minVersion: 1,
    maxVersion: 2,
    features: 0x80000001,
    clusterId: CLUSTER,
    nodeId: 1,
    diskId: DISK,
    starts: 41,
    expectedNodeId: 3,
    software: 'millrace-broker 0.1.0',
  }),
  sample(peerHelloReply, 'the only form', {
    version: 1,
    features: 0,
    clusterId: CLUSTER,
    nodeId: 3,
    diskId: DISK,
    starts: 42,
    software: 'millrace-broker 0.1.0',
  }),
  sample(peerBeat, 'the only form', { wallMs: SOME_TIME }, { id: 0 }),
  sample(
    raft,
    'a message of every kind',
    {
      messages: [
        { group: GROUP, message: { kind: 'preVote', term: 18, lastIndex: LARGE, lastTerm: 17, isTransfer: false } },
        { group: GROUP, message: { kind: 'vote', term: 18, lastIndex: LARGE, lastTerm: 17, isTransfer: true } },
        { group: GROUP, message: { kind: 'preVoteReply', term: 18, granted: true, isRepairing: true } },
        { group: METADATA, message: { kind: 'voteReply', term: 19, granted: true, isRepairing: false } },
        {
          group: METADATA,
          message: { kind: 'append', term: 20, previousIndex: 30, previousTerm: 19, commit: 29, round: LARGE },
        },
        {
          group: { topicId: 0xffffffff, partition: 9_999, lane: 0xffff },
          message: {
            kind: 'appendReply',
            term: 20,
            round: LARGE,
            agrees: true,
            index: LARGE - 2,
            indexTerm: 19,
            lastIndex: LARGE - 1,
          },
        },
        { group: METADATA, message: { kind: 'timeoutNow', term: 21 } },
      ],
    },
    { id: 0 },
  ),
  sample(
    raftAppend,
    'two entries',
    {
      group: GROUP,
      term: 18,
      previousIndex: 12,
      previousTerm: 17,
      commit: 11,
      round: LARGE,
      batchCount: 2,
      batchesStart: 2 + 48,
    },
    {
      extra: concat([
        logged(FIRST, { term: 17, baseOffset: 95, index: 13, appendTime: SOME_TIME + 2 }),
        logged(SECOND, { term: 18, baseOffset: 100, index: 14, appendTime: SOME_TIME + 3 }),
      ]),
      id: 0,
    },
  ),
  sample(
    raftInstall,
    'in the middle of a change of members',
    {
      group: METADATA,
      term: 18,
      round: LARGE,
      start: {
        index: LARGE - 1,
        previousTerm: 17,
        configuration: { voters: [1, 2, 3], outgoing: [1, 2, 4], learners: [5] },
      },
      state: hexBytes('81a16101'),
    },
    { id: 0 },
  ),
  sample(
    leaders,
    'two partitions',
    {
      changes: [
        { topicId: 7, partition: 1, route: ROUTE },
        { topicId: 8, partition: 0, route: { nodeId: 3, shard: 0, placement: 0, term: 18 } },
      ],
    },
    { id: 0 },
  ),
  sample(forward, 'a MessagePack map', { payload: hexBytes('81a16101') }, { timeMs: 5_000 }),
  sample(forwardReply, 'done', { code: 0, detail: '', payload: hexBytes('81a16102') }),
  sample(forwardReply, 'refused', { code: ERROR_TABLE.NOT_LEADER.code, detail: 'node 4 leads it', payload: NOTHING }),
  sample(
    setBeat,
    'two groups enter, one leaves',
    {
      epoch: 0x3_0000_0005,
      base: 0x3_0000_0004,
      entering: [
        { group: { topicId: 7, partition: 12, lane: 0 }, term: 3, index: 41 },
        { group: { topicId: 0, partition: 0, lane: 0 }, term: 1, index: 9 },
      ],
      leaving: [{ topicId: 7, partition: 13, lane: 0 }],
    },
    { id: 0 },
  ),
  sample(setBeat, 'nothing has changed', { epoch: 9, base: 9, entering: [], leaving: [] }, { id: 0 }),
  sample(
    setBeatReply,
    'one has left',
    { epoch: 0x3_0000_0005, left: [{ topicId: 7, partition: 12, lane: 0 }] },
    { id: 0 },
  ),
  sample(gossip, 'a sealed state', { payload: hexBytes('4d470102') }),
  sample(gossipReply, 'a sealed state', { payload: hexBytes('4d470102') }),
  sample(leadersWanted, 'empty', {}, { id: 0 }),
]

/** Messages whose tail goes to the end of the frame, whatever is in it: they can only grow in their fixed part. */
export const OPEN_ENDED = [
  'PRODUCE',
  'CURSOR_BATCHES',
  'ADMIN',
  'ADMIN_REPLY',
  'RAFT_APPEND',
  'RAFT_INSTALL',
  'FORWARD',
  'FORWARD_REPLY',
  'GOSSIP',
  'GOSSIP_REPLY',
]
/** Messages of those that say where their batches begin, and leave them to whoever reads them. */
export const WITH_BATCHES_BEHIND = ['PRODUCE', 'RAFT_APPEND']
