// What waits for one link: batches of many partitions go into one frame per core, as soon as the line is idle.
import {
  type Acks,
  encodeFrame,
  FRAME_HEADER_BYTES,
  type FrameHeader,
  MAX_ENTRIES_PER_FRAME,
  PRODUCE_ENTRY_BYTES,
  type ProduceEntry,
  type ProduceResult,
  ProtocolError,
  produce,
  produceReply,
  Reader,
  type RouteVersion,
} from '@millrace/protocol'
import type { BrokerLink, LinkUser } from './broker-link.js'
import type { ReplyHandler } from './connection.js'
import type { ClientEnvironment } from './environment.js'
import { MillraceError } from './errors.js'
import { FRAME_TARGET_BYTES, LANE, UNSENT_LIMIT_BYTES } from './limits.js'
import type { PendingBatch } from './pending-batch.js'

/** One time that a batch was handed to a link. */
export interface Attempt {
  /** Which one of the batch. */
  readonly number: number
  /** The version of the route that led here. */
  readonly asked: RouteVersion
  readonly link: BrokerLink
}

/** Where batches come from: the queue of one partition of one producer. */
export interface BatchSource {
  readonly acks: Acks
  readonly topicId: number
  readonly partition: number
  readonly routeVersion: RouteVersion
  /** At least the bytes of the next batch that may be sent now; 0 when there is none. */
  readonly nextBytes: number
  /** Takes the next batch, sealed. */
  take(): PendingBatch
  /** For acks `none`: the batch was handed to the socket. */
  onHandedOver(batch: PendingBatch): void
  onResult(batch: PendingBatch, attempt: Attempt, result: ProduceResult, throttleMs: number): void
  /** The frame was refused as a whole, not answered in time, or lost with the link. */
  onUnanswered(batch: PendingBatch, attempt: Attempt, error: MillraceError, why: 'refused' | 'timeout' | 'lost'): void
  onLinkLost(error: MillraceError): void
}

/** Fixed part of a produce frame, generously. */
const FRAME_OVERHEAD_BYTES = FRAME_HEADER_BYTES + 64

interface Frame {
  readonly acks: Acks
  readonly sources: BatchSource[]
  readonly batches: PendingBatch[]
  /** Of each batch, the one that this frame makes. */
  readonly attempts: Attempt[]
  readonly entries: ProduceEntry[]
  byteLength: number
}

const newFrame = (acks: Acks): Frame => ({
  acks,
  sources: [],
  batches: [],
  attempts: [],
  entries: [],
  byteLength: FRAME_OVERHEAD_BYTES,
})

export class Outbox implements LinkUser {
  /** Sources that may have something to send, in the order they came. */
  readonly #waiting = new Set<BatchSource>()
  /** Sources to be told when the link is lost. */
  readonly #attached = new Set<BatchSource>()
  #scheduled = false

  constructor(
    readonly environment: ClientEnvironment,
    readonly link: BrokerLink,
  ) {}

  /** Keeps the link open for the source, and tells it when the link is lost. */
  attach(source: BatchSource): void {
    this.#attached.add(source)
    this.link.use(this)
  }

  detach(source: BatchSource): void {
    this.#attached.delete(source)
    this.#waiting.delete(source)
    if (this.#attached.size === 0) this.link.release(this)
  }

  /** The source has something to send: it goes out when the line is idle. */
  mark(source: BatchSource): void {
    if (this.#waiting.has(source)) return
    this.#waiting.add(source)
    if (this.#scheduled) return
    this.#scheduled = true
    this.environment.defer(() => {
      this.#scheduled = false
      this.#flush()
    })
  }

  /** Sends the source's batch without waiting for company, if the line is idle. */
  sendAtOnce(source: BatchSource): void {
    if (!this.link.ready || this.link.unsentBytes > 0 || source.nextBytes === 0) return
    const frame = newFrame(source.acks)
    this.#add(frame, source)
    this.#send(frame)
  }

  onLinkReady(): void {
    this.#flush()
  }

  onLinkDrain(): void {
    this.#flush()
  }

  onLinkLost(error: MillraceError): void {
    for (const source of [...this.#attached]) source.onLinkLost(error)
  }

  #flush(): void {
    while (this.#waiting.size > 0 && this.link.ready && this.link.unsentBytes < UNSENT_LIMIT_BYTES) {
      const frame = this.#compose()
      if (frame === null) break
      this.#send(frame)
    }
  }

  /** At most one batch of each source, so that every partition gets its share of each frame. */
  #compose(): Frame | null {
    let frame: Frame | null = null
    const limit = Math.min(FRAME_TARGET_BYTES, this.link.maxFrameBytes)
    let left = this.#waiting.size
    for (const source of this.#waiting) {
      // Sources with more to send come again behind these, for the next frame.
      if (left-- === 0) break
      const { nextBytes } = source
      if (nextBytes === 0) {
        this.#waiting.delete(source)
        continue
      }
      if (frame !== null) {
        const full = frame.byteLength + nextBytes + PRODUCE_ENTRY_BYTES > limit
        if (full || frame.batches.length === MAX_ENTRIES_PER_FRAME) break
        if (source.acks !== frame.acks) continue
      }
      frame ??= newFrame(source.acks)
      this.#add(frame, source)
    }
    return frame
  }

  #add(frame: Frame, source: BatchSource): void {
    // Asked for before the batch is taken, since the last one of a partition moves it to the end of the line.
    const { topicId, partition, routeVersion } = source
    const batch = source.take()
    const attempt = { number: batch.attempts, asked: routeVersion, link: this.link }
    this.#waiting.delete(source)
    if (source.nextBytes > 0) this.#waiting.add(source)
    const batchLength = batch.bytes.length
    if (batchLength + PRODUCE_ENTRY_BYTES + FRAME_OVERHEAD_BYTES > this.link.maxFrameBytes) {
      const detail = `a batch of ${batchLength} bytes, the broker takes frames of ${this.link.maxFrameBytes}`
      source.onUnanswered(batch, attempt, new MillraceError('ERR_MILLRACE_BATCH_TOO_LARGE', detail), 'refused')
      return
    }
    frame.sources.push(source)
    frame.batches.push(batch)
    frame.attempts.push(attempt)
    frame.entries.push({ topicId, partition, lane: LANE, routeVersion, batchLength })
    frame.byteLength += batchLength + PRODUCE_ENTRY_BYTES
  }

  #send(frame: Frame): void {
    const { acks, entries, batches, sources } = frame
    if (batches.length === 0) return
    const id = this.link.nextId()
    const chunks = batches.map(({ bytes }) => bytes)
    const extraPayloadBytes = entries.reduce((sum, { batchLength }) => sum + batchLength, 0)
    const timeMs = this.link.requestTimeoutMs
    chunks.unshift(encodeFrame(produce, { acks, entries, batchesStart: 0 }, { id, timeMs, extraPayloadBytes }))
    if (acks === 'none') {
      this.link.send(chunks)
      batches.forEach((batch, i) => {
        sources[i]!.onHandedOver(batch)
      })
      return
    }
    this.link.request(id, chunks, produceReply.kind, this.#replyHandler(frame))
  }

  #replyHandler({ sources, batches, attempts }: Frame): ReplyHandler {
    return {
      onReply: (header: FrameHeader, payload: Uint8Array) => {
        const { results } = produceReply.decode(new Reader(payload))
        if (results.length !== batches.length) {
          throw new ProtocolError('CORRUPT_FRAME', `${results.length} results for ${batches.length} batches`)
        }
        results.forEach((result, i) => {
          sources[i]!.onResult(batches[i]!, attempts[i]!, result, header.timeMs)
        })
      },
      onFailed: (error, why) => {
        batches.forEach((batch, i) => {
          sources[i]!.onUnanswered(batch, attempts[i]!, error, why)
        })
      },
    }
  }
}
