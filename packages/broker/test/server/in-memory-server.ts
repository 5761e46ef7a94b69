// A shard's server without sockets, disk or real time: streams are objects, the test moves the clock.
import {
  ADMIN_OPERATIONS,
  ANY_CLUSTER,
  admin,
  adminReply,
  type ErrorName,
  encodeFrame,
  errorName,
  FrameDecoder,
  type FrameHeader,
  failure,
  hello,
  MAX_FRAME_BYTES,
  type MessageCodec,
  Reader,
} from '@millrace/protocol'
import { ClusterMembers } from '#src/cluster/cluster-members.js'
import type { MetadataLog } from '#src/cluster/metadata-log.js'
import { NO_PEERS } from '#src/cluster/no-peers.js'
import type { Block, Environment, LogFields, Memory, Stream, StreamHandler } from '#src/environment.js'
import { decodeFields, encodeMessagePack, type Fields } from '#src/message-pack.js'
import { Metrics } from '#src/metrics.js'
import { Node } from '#src/node.js'
import { Connection } from '#src/server/connection.js'
import type { ServerContext } from '#src/server/context.js'
import { FrameMemory } from '#src/server/frame-memory.js'
import type { PeerAcceptor } from '#src/server/peer-acceptor.js'
import { heapMemory, TestClock } from '../partition/fixture.js'
import { blockOf, type MemoryDisk, MemoryLogStore, type MemoryStoreOptions } from '../partition/memory-log.js'

/** Memory with a budget, which counts what is out. */
export class BudgetMemory implements Memory {
  usedBytes = 0
  constructor(readonly budgetBytes: number) {}
  readonly checksum = heapMemory.checksum
  readonly copyWithChecksum = heapMemory.copyWithChecksum
  readonly #out = new Set<Block>()

  allocate(byteLength: number): Block | null {
    const rounded = Math.ceil(byteLength / 4096) * 4096
    if (this.usedBytes + rounded > this.budgetBytes) return null
    this.usedBytes += rounded
    const block = blockOf(new Uint8Array(rounded))
    this.#out.add(block)
    return block
  }
  release(block: Block): void {
    if (!this.#out.delete(block)) throw new Error('released twice')
    // Whoever still reads the block reads rubbish.
    block.bytes.fill(0xdd)
    this.usedBytes -= block.byteLength
  }
}

export interface ReceivedFrame {
  readonly header: FrameHeader
  readonly payload: Uint8Array
}

/** A stream whose other end is the test. */
export class TestStream implements Stream {
  readonly peer = 'test'
  unsentBytes = 0
  paused = false
  ended = false
  destroyed = false
  /** Whether what is written leaves at once; otherwise it stays until `takeAll`. */
  takes = true
  readonly frames: ReceivedFrame[] = []
  readonly runs: { block: Block; offset: number; length: number }[] = []
  connection: Connection | null = null
  /** Who is told of events where that is no connection of a server. */
  handler: StreamHandler | null = null
  #closed = false
  readonly #held: (() => void)[] = []
  readonly #decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => {
    this.frames.push({ header, payload: payload.slice() })
  })

  write(bytes: Uint8Array): void {
    if (this.ended || this.destroyed) return
    this.#decoder.push(bytes.slice())
    if (!this.takes) this.unsentBytes += bytes.length
  }
  writeBlock(block: Block, offset: number, length: number, release: () => void): void {
    if (this.ended || this.destroyed) {
      release()
      return
    }
    this.#decoder.push(block.bytes.slice(offset, offset + length))
    if (this.takes) release()
    else {
      this.unsentBytes += length
      this.#held.push(release)
    }
  }
  /** The peer reads everything that was written. */
  takeAll(): void {
    this.unsentBytes = 0
    for (const release of this.#held.splice(0)) release()
    if (this.ended) this.#close()
  }
  receiveInto(block: Block, offset: number, length: number): void {
    this.runs.push({ block, offset, length })
  }
  pause(): void {
    this.paused = true
  }
  resume(): void {
    this.paused = false
  }
  end(): void {
    if (this.ended) return
    this.ended = true
    // What the peer has not taken is sent first.
    if (this.unsentBytes === 0) this.#close()
  }
  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    this.#close()
  }
  #close(): void {
    if (this.#closed) return
    this.#closed = true
    this.unsentBytes = 0
    for (const release of this.#held.splice(0)) release()
    this.#receiver?.onClosed(null)
  }

  get #receiver(): StreamHandler | null {
    return this.handler ?? this.connection
  }

  /** Bytes arrive, split into pieces of `pieceBytes`; runs asked for are filled first. */
  receive(bytes: Uint8Array, pieceBytes = bytes.length): void {
    let at = 0
    while (at < bytes.length && !this.ended && !this.destroyed) {
      const run = this.runs[0]
      if (run === undefined) {
        const end = Math.min(bytes.length, at + Math.max(1, pieceBytes))
        // Handed over in memory that is used again, as real sides do.
        const chunk = bytes.slice(at, end)
        this.#receiver!.onBytes(chunk)
        chunk.fill(0xdd)
        at = end
        continue
      }
      const count = Math.min(run.length, bytes.length - at)
      run.block.bytes.set(bytes.subarray(at, at + count), run.offset)
      at += count
      run.offset += count
      run.length -= count
      if (run.length === 0) {
        this.runs.shift()
        this.#receiver!.onFilled()
      }
    }
  }

  send<T>(codec: MessageCodec<T>, message: T, id: number, timeMs = 0): void {
    this.receive(encodeFrame(codec, message, { id, timeMs }))
  }
  /** Takes out the frames of a kind. */
  take<T>(codec: MessageCodec<T>, id?: number): T[] {
    const wanted = (frame: ReceivedFrame): boolean =>
      frame.header.kind === codec.kind && (id === undefined || frame.header.id === id)
    const found = this.frames.filter(wanted)
    for (const frame of found) this.frames.splice(this.frames.indexOf(frame), 1)
    return found.map(({ payload }) => codec.decode(new Reader(payload)))
  }
  get failures(): (ErrorName | null)[] {
    return this.take(failure).map(({ code }) => errorName(code))
  }
}

export interface InMemoryServer {
  readonly metadata: MetadataLog
  readonly context: ServerContext
  readonly clock: TestClock
  readonly store: MemoryLogStore
  readonly memory: BudgetMemory
  readonly metrics: Metrics
  readonly bugs: unknown[]
  readonly connections: Set<Connection>
  /** A new connection that has said nothing. */
  dial(): TestStream
  /** A new connection with HELLO behind it. */
  open(): TestStream
  admin(operation: keyof typeof ADMIN_OPERATIONS, fields: Fields): Promise<Fields>
  /** Opens what the metadata knows, as a broker does at its start. */
  startTopics(): Promise<void>
  /** Fields of what was logged as an error. */
  readonly errors: LogFields[]
  /** Lets promises and turns run until nothing moves. */
  settle(): Promise<void>
}

export interface InMemoryOptions {
  readonly memoryBytes?: number
  readonly frameBytes?: number
  readonly store?: MemoryStoreOptions
  /** Who takes connections of other brokers; nobody otherwise. */
  readonly peers?: (environment: Environment, metrics: Metrics, bugs: unknown[]) => PeerAcceptor
  /** Other members of the cluster. */
  readonly others?: readonly number[]
  /** What an earlier server left. */
  readonly disk?: MemoryDisk
}

export const HELLO = {
  minVersion: 1,
  maxVersion: 1,
  shard: 0,
  features: 0,
  clusterId: ANY_CLUSTER,
  nodeId: 0,
  clientId: 'test',
  software: 'test',
  authentication: new Uint8Array(0),
}

const CLUSTER_ID = 'c'.repeat(32)

export async function startInMemory(options: InMemoryOptions = {}): Promise<InMemoryServer> {
  const clock = new TestClock()
  const memory = new BudgetMemory(options.memoryBytes ?? 256 * 1024 * 1024)
  const errors: LogFields[] = []
  const log = { debug() {}, info() {}, warn() {}, error: (fields: LogFields) => void errors.push(fields) }
  const store = new MemoryLogStore({ clock }, options.disk, options.store)
  const unused = (): never => {
    throw new Error('there is no disk and no network here')
  }
  const environment: Environment = {
    kind: 'simulated',
    clock,
    memory,
    log,
    random: { uint32: () => 4, fill: (bytes) => void bytes.fill(4) },
    disk: { openVolume: unused },
    network: { listen: unused, dial: unused, datagrams: unused },
    crypto: { seal: unused, open: unused },
    cores: { self: 0, count: 1 },
    bootId: 'boot-1',
    close: async () => {},
  }
  const metrics = new Metrics()
  const bugs: unknown[] = []
  const report = (error: unknown, _where: LogFields): void => void bugs.push(error)
  const small = new Map<string, Uint8Array>()
  const node = await Node.open({
    environment,
    store,
    volume: {
      readSmall: async (name) => small.get(name) ?? null,
      writeSmall: async (name, bytes) => void small.set(name, bytes),
    },
    identity: { clusterId: CLUSTER_ID, nodeId: 1, diskId: 'd'.repeat(32), starts: 1 },
    members: new ClusterMembers({
      nodeId: 1,
      configured: [],
      remembered: [1, ...(options.others ?? [])].map((nodeId) => ({ nodeId, host: 'localhost', port: 7420 })),
      removed: [],
      shards: 1,
    }),
    founders: [1],
    rack: null,
    groupPartitions: 8,
    onMembers: () => {},
    onRemoved: () => {},
    metrics,
    report,
    connectPeers: () => NO_PEERS,
  })
  const context: ServerContext = {
    environment,
    shard: node.shard,
    topics: node.topics,
    map: node.map,
    metadata: node.metadataLeader,
    view: node.view,
    coordination: node.coordination,
    metrics,
    frameMemory: new FrameMemory(memory, clock, options.frameBytes ?? 64 * 1024 * 1024),
    peers: options.peers?.(environment, metrics, bugs) ?? null,
    clusterId: CLUSTER_ID,
    nodeId: 1,
    shardCount: 1,
    software: 'test',
    status: () => ({ counters: metrics.snapshot() }),
    reportBug: report,
  }
  const connections = new Set<Connection>()
  const dial = (): TestStream => {
    const stream = new TestStream()
    stream.connection = new Connection(context, stream, (closed) => connections.delete(closed))
    connections.add(stream.connection)
    return stream
  }
  const open = (): TestStream => {
    const stream = dial()
    stream.send(hello, HELLO, 1)
    stream.frames.length = 0
    return stream
  }
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 60; i++) {
      clock.turn()
      await Promise.resolve()
    }
  }
  /** Runs until it is done; what is flushed by hand is flushed as it comes. */
  const finish = async (work: Promise<void>): Promise<void> => {
    let over = false
    const ended = work.finally(() => {
      over = true
    })
    ended.catch(() => {})
    while (!over) {
      for (const log of store.logs.values()) log.complete()
      await settle()
      await new Promise((resolve) => setImmediate(resolve))
    }
    await ended
  }
  if (options.disk === undefined) await finish(node.start())
  return {
    context,
    metadata: node.metadata,
    clock,
    store,
    memory,
    metrics,
    bugs,
    connections,
    dial,
    open,
    settle,
    errors,
    async startTopics() {
      await finish(node.start())
    },
    async admin(operation, fields) {
      const stream = open()
      stream.send(
        admin,
        { operation: ADMIN_OPERATIONS[operation], mapVersion: 0, payload: encodeMessagePack(fields) },
        2,
      )
      for (let i = 0; i < 50 && stream.frames.length === 0; i++) await settle()
      const [reply] = stream.take(adminReply, 2)
      stream.end()
      if (reply === undefined || reply.code !== 0) throw new Error(`${operation}: ${reply?.detail}`)
      return decodeFields(reply.payload)
    },
  }
}
