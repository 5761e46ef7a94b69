// A broker at the other end of no wire: answers every frame in the same turn with next to no work, so that a bench
// measures the client and nothing else. It checks nothing and keeps nothing.
import type { ClientEnvironment, Link, LinkHandler } from '@millrace/client/environment'
import {
  crc32,
  cursorBatches,
  cursorCredit,
  cursorOpen,
  cursorOpened,
  encodeFrame,
  FrameDecoder,
  type FrameHeader,
  hello,
  helloReply,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  mapSnapshot,
  mapSubscribe,
  produce,
  produceReply,
  Reader,
  type Route,
} from '@millrace/protocol'
import { nodeEnvironment } from '#src/links/node-environment.js'

const CLUSTER_ID = 'b'.repeat(32)
const ROUTE: Route = { nodeId: 1, shard: 0, placement: 0, term: 1 }

/** What consumers get: one run of batches again and again. */
export interface Backlog {
  /** Log part and client part. */
  readonly batch: Uint8Array
  readonly decodedBytes: number
  /** How often it is sent; the offsets of the copies are its own, so it is opened anew each time. */
  readonly copies: number
  /** The same batch as the copy with this number would stand in the log. */
  at(copy: number): Uint8Array
}

export class StubBroker {
  frames = 0
  batches = 0
  backlog: Backlog | null = null
  readonly environment: ClientEnvironment

  constructor(readonly partitions: number) {
    const node = nodeEnvironment()
    this.environment = {
      ...node,
      checksum: node.checksum ?? crc32,
      dial: (_host, _port, handler) => new StubLink(this, handler),
    }
  }
}

class StubLink implements Link {
  readonly unsentBytes = 0
  readonly #decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => this.#take(header, payload))
  #next = 0
  #sent = 0
  #credit = 0
  #cursorId = 0
  #pushing = false

  constructor(
    readonly broker: StubBroker,
    readonly handler: LinkHandler,
  ) {
    setImmediate(() => handler.onOpen())
  }

  write(chunks: readonly Uint8Array[]): void {
    for (const chunk of chunks) this.#decoder.push(chunk)
  }

  #reply(bytes: Uint8Array): void {
    setImmediate(() => this.handler.onBytes(bytes))
  }

  #take(header: FrameHeader, payload: Uint8Array): void {
    const { id } = header
    this.broker.frames++
    if (header.kind === hello.kind) {
      const limits = { maxFrameBytes: MAX_FRAME_BYTES, maxBatchBytes: MAX_BATCH_BYTES }
      const reply = {
        version: 1,
        shard: 0,
        features: 0,
        clusterId: CLUSTER_ID,
        nodeId: 1,
        shardCount: 1,
        ...limits,
        software: '',
      }
      this.#reply(encodeFrame(helloReply, reply, { id }))
    } else if (header.kind === mapSubscribe.kind) {
      this.#reply(encodeFrame(mapSnapshot, this.#map(), { id }))
    } else if (header.kind === produce.kind) {
      const { entries } = produce.decode(new Reader(payload))
      this.broker.batches += entries.length
      const results = entries.map(() => ({
        code: 0,
        baseOffset: this.#next++,
        appendTime: 1,
        route: ROUTE,
        detail: '',
      }))
      this.#reply(encodeFrame(produceReply, { results }, { id }))
    } else if (header.kind === cursorOpen.kind) {
      this.#cursorId = id
      this.#credit = cursorOpen.decode(new Reader(payload)).credit
      const opened = { startOffset: 0, logStartOffset: 0, highWatermark: Number.MAX_SAFE_INTEGER, route: ROUTE }
      this.#reply(encodeFrame(cursorOpened, opened, { id }))
      this.#push()
    } else if (header.kind === cursorCredit.kind) {
      this.#credit = cursorCredit.decode(new Reader(payload)).credit
      this.#push()
    }
  }

  #push(): void {
    if (this.#pushing) return
    this.#pushing = true
    setImmediate(() => {
      this.#pushing = false
      const { backlog } = this.broker
      if (backlog === null || this.#next >= backlog.copies || this.#sent >= this.#credit) return
      const batches = backlog.at(this.#next++)
      this.#sent += backlog.decodedBytes
      const message = { highWatermark: Number.MAX_SAFE_INTEGER, batchCount: 1, batches }
      this.handler.onBytes(encodeFrame(cursorBatches, message, { id: this.#cursorId }))
      this.#push()
    })
  }

  #map(): Parameters<typeof mapSnapshot.encode>[0] {
    const routes = Array.from({ length: this.broker.partitions }, () => ROUTE)
    const topic = {
      topicId: 1,
      name: 'bench',
      partitioner: 'murmur2',
      durability: 'buffered',
      codecs: ['none', 'gzip'],
      routes,
    } as const
    return {
      version: 1,
      clusterId: CLUSTER_ID,
      nodes: [{ nodeId: 1, host: 'stub', port: 1, shardCount: 1 }],
      topics: [topic],
    }
  }

  pause(): void {}
  resume(): void {}
  ref(): void {}
  unref(): void {}
  destroy(): void {}
}
