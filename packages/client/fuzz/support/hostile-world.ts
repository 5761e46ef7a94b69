// A world whose brokers answer what a broker would, or something close to it, or anything at all. Everything happens in
// plain function calls, so that thousands of conversations fit in a second, and whatever the client throws is seen.
import { gunzipSync, gzipSync } from 'node:zlib'
import type { ClientEnvironment, ClientTimer, Link, LinkHandler } from '@millrace/client/environment'
import {
  admin,
  adminReply,
  crc32,
  cursorBatches,
  cursorClosed,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
  encodeFrame,
  FrameDecoder,
  type FrameHeader,
  failure,
  hello,
  helloReply,
  LOG_PART_BYTES,
  MAX_FRAME_BYTES,
  type MessageCodec,
  mapDelta,
  mapHeartbeat,
  mapSnapshot,
  mapSubscribe,
  offsets,
  offsetsReply,
  ping,
  pong,
  produce,
  produceReply,
  Reader,
  RecordBatchBuilder,
  type Route,
  type SeededRandom,
  writeLogPart,
} from '@millrace/protocol'
import { asyncScheduler } from 'rxjs'
import { mutate } from './mutate.js'

const CLUSTER_ID = 'd'.repeat(32)
const MAX_STEPS = 200_000
/** Decompresses to far more than any header announces. */
const BOMB = new Uint8Array(gzipSync(new Uint8Array(1 << 20)))

/** A client that goes on for ever in one instant has hung. */
export class HangError extends Error {}

interface Timer {
  readonly atMs: number
  readonly callback: () => void
}

export class HostileWorld {
  nowMs = 0
  readonly links: HostileLink[] = []
  readonly #deferred: (() => void)[] = []
  readonly #timers = new Set<Timer>()
  steps = 0

  readonly environment: ClientEnvironment = {
    monotonicMs: () => this.nowMs,
    wallMs: () => 1_700_000_000_000 + this.nowMs,
    timer: (delayMs, callback) => this.#timer(delayMs, callback),
    defer: (callback) => {
      this.#deferred.push(callback)
    },
    random: () => this.random.fraction(),
    fillRandom: (bytes) => {
      bytes.set(this.random.bytes(bytes.length))
    },
    dial: (_host, _port, handler) => {
      const link = new HostileLink(this, handler)
      this.links.push(link)
      this.#deferred.push(() => link.open())
      return link
    },
    checksum: crc32,
    codec: {
      gzip: (bytes) => new Uint8Array(gzipSync(bytes)),
      gunzip: (bytes, maxBytes) => new Uint8Array(gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) })),
    },
    scheduler: asyncScheduler,
    emitWarning: () => {},
    defaultClientId: 'fuzz',
  }

  /** @param hostility one answer in so many is not what a broker would say. */
  constructor(
    readonly random: SeededRandom,
    readonly hostility: number,
  ) {}

  later(callback: () => void): void {
    this.#deferred.push(callback)
  }

  /** Runs what is deferred, and what that defers. */
  drain(): void {
    for (let next = this.#deferred.shift(); next !== undefined; next = this.#deferred.shift()) {
      if (++this.steps > MAX_STEPS) throw new HangError('the client does not come to rest')
      next()
    }
  }

  /** Lets time pass; timers that are due run in order. */
  pass(ms: number): void {
    const endMs = this.nowMs + ms
    for (;;) {
      this.drain()
      let first: Timer | null = null
      for (const timer of this.#timers)
        if (timer.atMs <= endMs && (first === null || timer.atMs < first.atMs)) first = timer
      if (first === null) break
      if (++this.steps > MAX_STEPS) throw new HangError('the client does not come to rest')
      this.#timers.delete(first)
      this.nowMs = Math.max(this.nowMs, first.atMs)
      first.callback()
    }
    this.nowMs = endMs
    this.drain()
  }

  get pendingTimers(): number {
    return this.#timers.size
  }

  #timer(delayMs: number, callback: () => void): ClientTimer {
    if (!(delayMs >= 0)) throw new Error(`a timer of ${delayMs} ms`)
    const timer = { atMs: this.nowMs + delayMs, callback }
    this.#timers.add(timer)
    return {
      cancel: () => {
        this.#timers.delete(timer)
      },
    }
  }
}

export class HostileLink implements Link {
  readonly unsentBytes = 0
  closed = false
  readonly #decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => this.#take(header, payload))
  #cursors: number[] = []
  #subscription = 0
  #nextOffset = 0

  constructor(
    readonly world: HostileWorld,
    readonly handler: LinkHandler,
  ) {}

  open(): void {
    if (this.closed) return
    if (this.world.random.oneIn(40)) this.end(new Error('refused'))
    else this.handler.onOpen()
  }

  write(chunks: readonly Uint8Array[]): void {
    // What a client sends must be frames, whatever was done to it: the decoder throws when they are not.
    for (const chunk of chunks) this.#decoder.push(chunk)
  }

  /** Says something without being asked. */
  speak(): void {
    const { random } = this.world
    const id = this.#cursors[random.below(this.#cursors.length + 1)] ?? this.#subscription
    switch (random.below(6)) {
      case 0:
        this.#say(cursorBatches, { highWatermark: 1_000, batchCount: 1, batches: this.#batch() }, id)
        return
      case 1:
        this.#say(cursorHeartbeat, { logStartOffset: 0, highWatermark: 9 }, id)
        return
      case 2: {
        const bounds = { logStartOffset: 0, highWatermark: 9 }
        this.#say(cursorClosed, { code: random.below(62), ...bounds, route: this.#route(), detail: 'why' }, id)
        return
      }
      case 3: {
        const change = { removedNodes: [], topics: [], removedTopics: random.oneIn(8) ? [1] : [], nodes: [] }
        const routes = [{ topicId: 1, partition: random.below(3), route: this.#route() }]
        this.#say(
          mapDelta,
          { version: 1 + random.below(4), sequence: 1 + random.below(3), ...change, routes },
          this.#subscription,
        )
        return
      }
      case 4:
        this.#say(mapHeartbeat, { version: 1, metadataAgeMs: random.below(9_000) }, this.#subscription)
        return
      default:
        this.#say(failure, { code: random.below(70), answeredKind: 0, detail: 'odd' }, random.oneIn(2) ? 0 : id)
        return
    }
  }

  end(error: Error | null): void {
    if (this.closed) return
    this.closed = true
    this.handler.onClosed(error)
  }

  pause(): void {}
  resume(): void {}
  ref(): void {}
  unref(): void {}

  destroy(): void {
    if (this.closed) return
    this.closed = true
    this.world.later(() => this.handler.onClosed(null))
  }

  #take({ kind, id }: FrameHeader, payload: Uint8Array): void {
    const { random } = this.world
    if (kind === hello.kind) {
      const limits = { maxFrameBytes: random.oneIn(20) ? random.below(5_000) : MAX_FRAME_BYTES, maxBatchBytes: 1 << 20 }
      const reply = {
        version: 1,
        shard: 0,
        features: 0,
        clusterId: CLUSTER_ID,
        nodeId: 1,
        shardCount: 1,
        ...limits,
        software: 'f',
      }
      this.#say(helloReply, reply, id)
    } else if (kind === mapSubscribe.kind) {
      this.#subscription = id
      this.#say(mapSnapshot, this.#snapshot(), id)
    } else if (kind === ping.kind) this.#say(pong, {}, id)
    else if (kind === produce.kind) {
      const { entries } = produce.decode(new Reader(payload))
      const results = entries.map(() => ({
        code: random.oneIn(3) ? random.below(62) : 0,
        baseOffset: random.oneIn(9) ? null : random.u32(),
        appendTime: 1,
        route: this.#route(),
        detail: '',
      }))
      this.#say(produceReply, { results }, id)
    } else if (kind === cursorOpen.kind) {
      this.#cursors.push(id)
      const { position } = cursorOpen.decode(new Reader(payload))
      this.#nextOffset = position
      this.#say(cursorOpened, { startOffset: position, logStartOffset: 0, highWatermark: 50, route: this.#route() }, id)
      for (let i = random.below(4); i > 0; i--) {
        this.#say(cursorBatches, { highWatermark: 50, batchCount: 1, batches: this.#batch() }, id)
      }
    } else if (kind === offsets.kind) {
      const answer = {
        code: random.oneIn(4) ? random.below(62) : 0,
        offset: random.below(99),
        timestamp: null,
        term: 1,
        route: this.#route(),
      }
      this.#say(offsetsReply, { answers: random.oneIn(8) ? [] : [answer] }, id)
    } else if (kind === admin.kind) {
      const answer = {
        code: random.oneIn(2) ? 0 : random.below(62),
        mapVersion: 1,
        detail: '',
        payload: random.bytes(random.below(30)),
      }
      this.#say(adminReply, answer, id)
    }
  }

  #say<T>(codec: MessageCodec<T>, message: T, id: number): void {
    const { world } = this
    const { random, hostility } = world
    const honest = encodeFrame(codec, message, { id: random.oneIn(hostility * 4) ? random.below(9) : id }).slice()
    const damaged = random.oneIn(hostility) ? mutate(random, honest) : honest
    const bytes = random.oneIn(hostility * 3) ? random.bytes(random.below(60)) : damaged
    if (random.oneIn(hostility * 4)) return
    world.later(() => this.#deliver(bytes))
    if (random.oneIn(hostility * 6)) world.later(() => this.end(random.oneIn(2) ? null : new Error('reset')))
  }

  /** In pieces, as networks do. */
  #deliver(bytes: Uint8Array): void {
    const { random } = this.world
    for (let at = 0; at < bytes.length && !this.closed; ) {
      const length = random.oneIn(4) ? 1 + random.below(bytes.length) : bytes.length
      this.handler.onBytes(bytes.slice(at, at + length))
      at += length
    }
  }

  #route(): Route {
    const { random } = this.world
    const usual = { nodeId: 1, shard: 0, placement: 0, term: 1 }
    return random.oneIn(12)
      ? { ...usual, nodeId: random.below(4), shard: random.below(3), term: random.below(6) }
      : usual
  }

  #snapshot(): Parameters<typeof mapSnapshot.encode>[0] {
    const routes = [0, 1, 2].map(() => this.#route())
    const topic = {
      topicId: 1,
      name: 'fuzz',
      partitioner: 'murmur2',
      durability: 'buffered',
      codecs: ['none', 'gzip'],
      routes,
    } as const
    const nodes = [1, 2].map((nodeId) => ({ nodeId, host: `node${nodeId}`, port: 7420, shardCount: 1 }))
    return { version: 1, clusterId: CLUSTER_ID, nodes, topics: [topic] }
  }

  /** A batch of some partition, now and then compressed, damaged, or lying about its size with a right checksum. */
  #batch(): Uint8Array {
    const { random } = this.world
    const builder = new RecordBatchBuilder(1 << 20)
    const count = 1 + random.below(5)
    for (let i = 0; i < count; i++) {
      const key = random.oneIn(3) ? null : random.bytes(random.below(8))
      const valueBytes = random.oneIn(8) ? BOMB.length + 100 : random.below(40)
      builder.tryAppend(key, random.oneIn(5) ? null : random.bytes(valueBytes), null, 1 + i)
    }
    const compress = (body: Uint8Array): Uint8Array => {
      if (random.oneIn(4)) return BOMB.length < body.length ? BOMB : BOMB.subarray(0, Math.max(1, body.length - 1))
      return random.oneIn(3) ? random.bytes(Math.max(1, body.length - 1)) : new Uint8Array(gzipSync(body))
    }
    const identity = {
      topicId: 1,
      partition: random.below(3),
      lane: 0,
      control: random.oneIn(10),
      producer: [1, 2, 3, 4],
      epoch: 0,
      sequence: 0,
    } as const
    const client = builder.seal({
      identity,
      checksum: crc32,
      ...(random.oneIn(3) && { compression: { codec: 'gzip' as const, compress } }),
    })
    const damaged = random.oneIn(this.world.hostility) ? mutate(random, client) : client
    const view = new DataView(damaged.buffer, damaged.byteOffset, damaged.byteLength)
    if (damaged.length >= 80 && random.oneIn(2)) view.setUint32(0, crc32(damaged.subarray(4), 0), true)
    const logged = new Uint8Array(LOG_PART_BYTES + damaged.length)
    logged.set(damaged, LOG_PART_BYTES)
    const part = {
      term: 1,
      baseOffset: random.oneIn(9) ? random.u32() * random.below(1 << 20) : this.#nextOffset,
      index: 1,
      appendTime: 1,
      clientLength: damaged.length,
      clientChecksum: damaged.length >= 4 ? view.getUint32(0, true) : 0,
    }
    this.#nextOffset += count
    writeLogPart(logged, new DataView(logged.buffer), 0, part, crc32)
    return logged
  }
}
