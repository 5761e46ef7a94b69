// Brokers that do what a test tells them: an in-memory log behind the real protocol, with a place to interfere at every
// frame and every batch.
import {
  ADMIN_OPERATIONS,
  admin,
  adminReply,
  type CursorOpen,
  crc32,
  cursorBatches,
  cursorClose,
  cursorClosed,
  cursorCredit,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
  ERROR_TABLE,
  type ErrorName,
  encodeFrame,
  FrameDecoder,
  type FrameHeader,
  failure,
  type HelloReply,
  hello,
  helloReply,
  LOG_PART_BYTES,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  type MessageCodec,
  mapDelta,
  mapHeartbeat,
  mapSnapshot,
  mapSubscribe,
  type NodeInfo,
  offsets,
  offsetsReply,
  type ProduceResult,
  ping,
  pong,
  produce,
  produceReply,
  producerName,
  Reader,
  type Route,
  readBatchHeader,
  type TopicInfo,
  verifyBatch,
  writeLogPart,
} from '@millrace/protocol'
import { Packr } from 'msgpackr'
import type { FakeWorld, ServerEnd, ServerSocket } from './fake-world.js'

export const CLUSTER_ID = 'c'.repeat(32)

const packer = new Packr({ useRecords: false })
const codeOf = (name: ErrorName): number => ERROR_TABLE[name].code

/** What a test decides about one batch. Left out: it is appended and acknowledged. */
export interface ProduceRule {
  readonly refuse?: ErrorName
  /** Append although it is refused or not answered. */
  readonly append?: boolean
  /** Append, but do not answer the frame. */
  readonly silent?: boolean
  /** Close the connection instead of answering. */
  readonly closes?: boolean
  /** The route told in the answer. */
  readonly route?: Route
  readonly throttleMs?: number
  readonly offsetUnknown?: boolean
}

export interface SeenBatch {
  readonly nodeId: number
  readonly topicId: number
  readonly partition: number
  readonly epoch: number
  readonly sequence: number
  readonly recordCount: number
  readonly producer: string
  readonly connection: number
}

export interface StoredBatch {
  readonly baseOffset: number
  readonly recordCount: number
  readonly decodedBytes: number
  readonly control: boolean
  bytes: Uint8Array
}

interface Session {
  epoch: number
  lastSequence: number
  readonly offsets: Map<number, number>
}

export class FakePartition {
  readonly batches: StoredBatch[] = []
  readonly sessions = new Map<string, Session>()
  logStart = 0
  end = 0
  term = 1
}

export class FakeCluster {
  version = 1
  nodes: NodeInfo[] = []
  readonly brokers: FakeBroker[] = []
  topics: TopicInfo[] = []
  readonly partitions = new Map<string, FakePartition>()
  /** Every batch that reached a broker, in order. */
  readonly seen: SeenBatch[] = []
  produceRule: (batch: SeenBatch) => ProduceRule | undefined = () => undefined
  /** Decoded bytes pushed to consumers. */
  pushedBytes = 0
  pushedBatches = 0

  constructor(readonly world: FakeWorld) {}

  addBroker(host = 'broker', port = 7420 + this.brokers.length, shardCount = 1): FakeBroker {
    const broker = new FakeBroker(this, this.brokers.length + 1, host, port, shardCount)
    this.brokers.push(broker)
    this.nodes.push({ nodeId: broker.nodeId, host, port, shardCount })
    broker.start()
    return broker
  }

  addTopic(
    name: string,
    partitions: number,
    options: Partial<TopicInfo> = {},
    nodeOf = (_p: number): number => 1,
  ): TopicInfo {
    const topicId = this.topics.length + 1
    const routes = Array.from({ length: partitions }, (_, p) => ({
      nodeId: nodeOf(p),
      shard: 0,
      placement: 0,
      term: 1,
    }))
    const topic: TopicInfo = {
      topicId,
      name,
      partitioner: 'murmur2',
      durability: 'flushed',
      codecs: ['none', 'gzip'],
      routes,
      ...options,
    }
    this.topics.push(topic)
    this.version++
    this.publish({ topics: [topic] })
    return topic
  }

  removeTopic(name: string): void {
    const topic = this.topics.find((candidate) => candidate.name === name)!
    this.topics = this.topics.filter((candidate) => candidate !== topic)
    this.version++
    this.publish({ removedTopics: [topic.topicId] })
  }

  /** Moves a partition; `tell` says whether clients are pushed the news. */
  move(topicId: number, partition: number, nodeId: number, tell = true, shard = 0): Route {
    const topic = this.topics.find((candidate) => candidate.topicId === topicId)!
    const route = { nodeId, shard, placement: 0, term: topic.routes[partition]!.term + 1 }
    const routes = topic.routes.slice()
    routes[partition] = route
    this.topics = this.topics.map((candidate) => (candidate === topic ? { ...topic, routes } : candidate))
    this.partition(topicId, partition).term = route.term
    if (tell) this.publish({ routes: [{ topicId, partition, route }] })
    return route
  }

  publish(change: Partial<Parameters<typeof mapDelta.encode>[0]>): void {
    for (const broker of this.brokers) for (const connection of broker.connections) connection.publish(change)
  }

  route(topicId: number, partition: number): Route {
    const none = { nodeId: 0, shard: 0, placement: 0, term: 0 }
    return this.topics.find((topic) => topic.topicId === topicId)?.routes[partition] ?? none
  }

  partition(topicId: number, partition: number): FakePartition {
    const key = `${topicId}/${partition}`
    let found = this.partitions.get(key)
    if (found === undefined) {
      found = new FakePartition()
      this.partitions.set(key, found)
    }
    return found
  }

  /** Appends a client part; returns its base offset. */
  append(topicId: number, partition: number, bytes: Uint8Array): number {
    const log = this.partition(topicId, partition)
    const header = readBatchHeader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
    const baseOffset = log.end
    const stored = new Uint8Array(LOG_PART_BYTES + bytes.length)
    stored.set(bytes, LOG_PART_BYTES)
    const part = {
      term: log.term,
      baseOffset,
      index: log.batches.length + 1,
      appendTime: Math.floor(this.world.wallOffsetMs + this.world.nowMs),
      clientLength: bytes.length,
      clientChecksum: header.checksum,
    }
    writeLogPart(stored, new DataView(stored.buffer), 0, part, crc32)
    const { recordCount, decodedBytes, control } = header
    log.batches.push({ baseOffset, recordCount, decodedBytes, control, bytes: stored })
    if (!control) log.end += header.lastOffsetDelta + 1
    for (const broker of this.brokers) for (const connection of broker.connections) connection.pushAll()
    return baseOffset
  }
}

export class FakeBroker {
  connections: FakeConnection[] = []
  /** Return true to keep the broker from handling the frame. */
  intercept: (connection: FakeConnection, header: FrameHeader, payload: Uint8Array) => boolean = () => false
  helloReply: (reply: HelloReply) => HelloReply = (reply) => reply
  heartbeats = true
  metadataAgeMs = 0
  accepted = 0

  constructor(
    readonly cluster: FakeCluster,
    readonly nodeId: number,
    readonly host: string,
    readonly port: number,
    readonly shardCount: number,
  ) {}

  get address(): string {
    return `${this.host}:${this.port}`
  }

  start(): void {
    this.cluster.world.listeners.set(this.address, (socket) => {
      const connection = new FakeConnection(this, socket, ++this.accepted)
      this.connections.push(connection)
      return connection
    })
    this.#beat()
  }

  /** Refuses dials and cuts every connection. */
  stop(): void {
    this.cluster.world.listeners.delete(this.address)
    for (const connection of [...this.connections]) connection.cut()
  }

  /** Connections that follow the map, and those that do not. */
  get control(): FakeConnection[] {
    return this.connections.filter((connection) => connection.subscription !== null)
  }

  get data(): FakeConnection[] {
    return this.connections.filter((connection) => connection.subscription === null)
  }

  #beat(): void {
    const { world } = this.cluster
    if (!world.listeners.has(this.address)) return
    for (const connection of this.connections) if (this.heartbeats) connection.beat()
    world.at(1_000, () => this.#beat())
  }
}

interface FakeCursor {
  readonly open: CursorOpen
  credit: number
  sent: number
  /** Index of the next batch. */
  next: number
}

export class FakeConnection implements ServerEnd {
  subscription: number | null = null
  sequence = 0
  readonly cursors = new Map<number, FakeCursor>()
  readonly frames: { readonly kind: number; readonly id: number; readonly timeMs: number }[] = []
  shard = 0
  readonly #decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => this.#take(header, payload))

  constructor(
    readonly broker: FakeBroker,
    readonly socket: ServerSocket,
    readonly number: number,
  ) {}

  onBytes(chunk: Uint8Array): void {
    this.#decoder.push(chunk)
  }

  onClosed(): void {
    this.broker.connections = this.broker.connections.filter((connection) => connection !== this)
  }

  cut(error: Error | null = new Error('read ECONNRESET')): void {
    this.socket.close(error)
  }

  send<T>(codec: MessageCodec<T>, message: T, id: number, timeMs = 0): void {
    this.socket.write(encodeFrame(codec, message, { id, timeMs }))
  }

  fail(name: ErrorName, id: number, detail = 'scripted'): void {
    this.send(failure, { code: codeOf(name), answeredKind: 0, detail }, id)
  }

  publish(change: Partial<Parameters<typeof mapDelta.encode>[0]>): void {
    if (this.subscription === null) return
    const empty = { nodes: [], removedNodes: [], topics: [], removedTopics: [], routes: [] }
    const { version } = this.broker.cluster
    this.send(mapDelta, { ...empty, ...change, version, sequence: ++this.sequence }, this.subscription)
  }

  snapshot(): void {
    const { version, nodes, topics } = this.broker.cluster
    this.sequence = 0
    this.send(mapSnapshot, { version, clusterId: CLUSTER_ID, nodes, topics }, this.subscription!)
  }

  beat(): void {
    const { cluster, metadataAgeMs } = this.broker
    if (this.subscription !== null) {
      this.send(mapHeartbeat, { version: cluster.version, metadataAgeMs }, this.subscription)
    }
    for (const [id, cursor] of this.cursors) this.send(cursorHeartbeat, this.#bounds(cursor), id)
  }

  closeCursors(name: ErrorName, route?: Route): void {
    for (const [id, cursor] of [...this.cursors]) this.closeCursor(id, cursor.open, name, route)
  }

  closeCursor(id: number, open: CursorOpen, name: ErrorName, route = this.#route(open)): void {
    this.cursors.delete(id)
    const log = this.broker.cluster.partition(open.topicId, open.partition)
    const bounds = { logStartOffset: log.logStart, highWatermark: log.end }
    this.send(cursorClosed, { code: codeOf(name), ...bounds, route, detail: 'scripted' }, id)
  }

  #route({ topicId, partition }: { readonly topicId: number; readonly partition: number }): Route {
    return this.broker.cluster.route(topicId, partition)
  }

  #bounds({ open }: FakeCursor): { logStartOffset: number; highWatermark: number } {
    const log = this.broker.cluster.partition(open.topicId, open.partition)
    return { logStartOffset: log.logStart, highWatermark: log.end }
  }

  #take(header: FrameHeader, payload: Uint8Array): void {
    this.frames.push({ kind: header.kind, id: header.id, timeMs: header.timeMs })
    if (this.broker.intercept(this, header, payload)) return
    this.handle(header, payload)
  }

  /** Does what a broker does; tests that intercepted a frame may hand it on. */
  handle(header: FrameHeader, payload: Uint8Array): void {
    const reader = new Reader(payload)
    switch (header.kind) {
      case hello.kind:
        this.#hello(header.id, reader)
        return
      case ping.kind:
        this.send(pong, {}, header.id)
        return
      case mapSubscribe.kind:
        this.subscription = header.id
        this.snapshot()
        return
      case produce.kind:
        this.#produce(header.id, payload)
        return
      case cursorOpen.kind:
        this.#open(header.id, cursorOpen.decode(reader))
        return
      case cursorCredit.kind: {
        const cursor = this.cursors.get(header.id)
        if (cursor !== undefined) cursor.credit = Math.max(cursor.credit, cursorCredit.decode(reader).credit)
        this.pushAll()
        return
      }
      case cursorClose.kind:
        this.cursors.delete(header.id)
        return
      case offsets.kind:
        this.#offsets(header.id, reader)
        return
      case admin.kind:
        this.#admin(header.id, reader)
        return
    }
  }

  #hello(id: number, reader: Reader): void {
    const { shard } = hello.decode(reader)
    this.shard = shard
    const { nodeId, shardCount } = this.broker
    const reply = {
      version: 1,
      shard,
      features: 0,
      clusterId: CLUSTER_ID,
      nodeId,
      shardCount,
      maxFrameBytes: MAX_FRAME_BYTES,
      maxBatchBytes: MAX_BATCH_BYTES,
      software: 'fake',
    }
    this.send(helloReply, this.broker.helloReply(reply), id)
  }

  #produce(id: number, payload: Uint8Array): void {
    const { acks, entries, batchesStart } = produce.decode(new Reader(payload))
    let at = batchesStart
    let silent = acks === 'none'
    let throttleMs = 0
    const results: ProduceResult[] = []
    for (const entry of entries) {
      const bytes = payload.slice(at, at + entry.batchLength)
      at += entry.batchLength
      const { rule, result } = this.#appendBatch(bytes)
      if (rule?.closes) {
        this.cut()
        silent = true
      }
      silent ||= rule?.silent ?? false
      throttleMs = Math.max(throttleMs, rule?.throttleMs ?? 0)
      results.push(result)
    }
    if (!silent) this.send(produceReply, { results }, id, throttleMs)
  }

  #appendBatch(bytes: Uint8Array): { rule: ProduceRule | undefined; result: ProduceResult } {
    const { cluster, nodeId } = this.broker
    if (!verifyBatch(bytes, crc32)) throw new Error('the client sent a batch with a bad checksum')
    const header = readBatchHeader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
    const { topicId, partition, epoch, sequence, recordCount } = header
    const producer = producerName(header.producer)
    const seen = { nodeId, topicId, partition, epoch, sequence, recordCount, producer, connection: this.number }
    cluster.seen.push(seen)
    const rule = cluster.produceRule(seen)
    const route = rule?.route ?? this.#route(header)
    const refusal = (name: ErrorName): { rule: ProduceRule | undefined; result: ProduceResult } => ({
      rule,
      result: { code: codeOf(name), baseOffset: null, appendTime: 0, route, detail: 'scripted' },
    })
    if (rule?.refuse !== undefined && !rule.append) return refusal(rule.refuse)
    if ((rule?.closes || rule?.silent) && !rule.append) return refusal('INTERNAL')
    const appended = this.#dedup(header, producer, bytes)
    if (typeof appended === 'string') return refusal(appended)
    if (rule?.refuse !== undefined) return refusal(rule.refuse)
    const baseOffset = rule?.offsetUnknown ? null : appended
    return { rule, result: { code: 0, baseOffset, appendTime: 1, route, detail: '' } }
  }

  #dedup(header: ReturnType<typeof readBatchHeader>, producer: string, bytes: Uint8Array): number | ErrorName {
    const { cluster, nodeId } = this.broker
    const { topicId, partition, epoch, sequence } = header
    if (cluster.route(topicId, partition).nodeId !== nodeId) return 'NOT_LEADER'
    const { sessions } = cluster.partition(topicId, partition)
    const session = sessions.get(producer)
    if (session === undefined && sequence > 0) return 'UNKNOWN_PRODUCER'
    if (session !== undefined && epoch < session.epoch) return 'PRODUCER_FENCED'
    if (session === undefined || epoch > session.epoch) {
      if (sequence !== 0) return 'OUT_OF_ORDER_SEQUENCE'
    } else {
      const known = session.offsets.get(sequence)
      if (known !== undefined) return known
      if (sequence !== session.lastSequence + 1) return 'OUT_OF_ORDER_SEQUENCE'
    }
    const baseOffset = cluster.append(topicId, partition, bytes)
    const offsetsOfEpoch =
      session !== undefined && session.epoch === epoch ? session.offsets : new Map<number, number>()
    offsetsOfEpoch.set(sequence, baseOffset)
    sessions.set(producer, { epoch, lastSequence: sequence, offsets: offsetsOfEpoch })
    return baseOffset
  }

  #open(id: number, open: CursorOpen): void {
    const { cluster, nodeId } = this.broker
    const log = cluster.partition(open.topicId, open.partition)
    const route = this.#route(open)
    if (route.nodeId === 0) {
      this.closeCursor(id, open, 'UNKNOWN_TOPIC')
      return
    }
    if (route.nodeId !== nodeId) {
      this.closeCursor(id, open, 'MOVED')
      return
    }
    const wanted =
      open.start === 'offset'
        ? open.position
        : open.start === 'earliest'
          ? log.logStart
          : open.start === 'latest'
            ? log.end
            : this.#offsetOfTime(log, open.position)
    if (wanted < log.logStart || wanted > log.end) {
      this.closeCursor(id, open, 'OFFSET_OUT_OF_RANGE')
      return
    }
    const next = log.batches.findIndex(
      ({ baseOffset, recordCount, control }) => !control && baseOffset + recordCount > wanted,
    )
    this.cursors.set(id, { open, credit: open.credit, sent: 0, next: next < 0 ? log.batches.length : next })
    this.send(cursorOpened, { startOffset: wanted, logStartOffset: log.logStart, highWatermark: log.end, route }, id)
    this.pushAll()
  }

  #offsetOfTime(log: FakePartition, time: number): number {
    for (const { bytes, baseOffset } of log.batches) {
      const header = readBatchHeader(new DataView(bytes.buffer), LOG_PART_BYTES)
      if (header.lastTimestamp >= time) return baseOffset
    }
    return log.end
  }

  /** Pushes while credit lasts; a batch may overdraw it. */
  pushAll(): void {
    const { cluster } = this.broker
    for (const [id, cursor] of this.cursors) {
      const { batches, end } = cluster.partition(cursor.open.topicId, cursor.open.partition)
      while (cursor.sent < cursor.credit && cursor.next < batches.length) {
        const batch = batches[cursor.next++]!
        cursor.sent += batch.decodedBytes
        cluster.pushedBytes += batch.decodedBytes
        cluster.pushedBatches++
        this.send(cursorBatches, { highWatermark: end, batchCount: 1, batches: batch.bytes }, id)
      }
    }
  }

  #offsets(id: number, reader: Reader): void {
    const answers = offsets.decode(reader).queries.map(({ topicId, partition, timestamp }) => {
      const log = this.broker.cluster.partition(topicId, partition)
      const route = this.broker.cluster.route(topicId, partition)
      return { code: 0, offset: this.#offsetOfTime(log, timestamp), timestamp: null, term: log.term, route }
    })
    this.send(offsetsReply, { answers }, id)
  }

  #admin(id: number, reader: Reader): void {
    const { cluster } = this.broker
    const { operation, payload } = admin.decode(reader)
    const fields = packer.unpack(payload) as { name: string; partitions: number }
    const answer = (code: number, value: unknown): void => {
      const bytes = code === 0 ? new Uint8Array(packer.pack(value)) : new Uint8Array(0)
      this.send(adminReply, { code, mapVersion: cluster.version, detail: '', payload: bytes }, id)
    }
    const topic = cluster.topics.find(({ name }) => name === fields.name)
    if (operation === ADMIN_OPERATIONS.createTopic) {
      if (topic !== undefined) {
        answer(codeOf('TOPIC_EXISTS'), null)
        return
      }
      const { topicId, name } = cluster.addTopic(fields.name, fields.partitions)
      answer(0, { topicId, name, partitions: fields.partitions })
      return
    }
    if (operation === ADMIN_OPERATIONS.deleteTopic) {
      if (topic === undefined) {
        answer(codeOf('UNKNOWN_TOPIC'), null)
        return
      }
      cluster.removeTopic(fields.name)
      answer(0, { topicId: topic.topicId })
      return
    }
    answer(codeOf('UNKNOWN_OPERATION'), null)
  }
}
