// All cursors of one connection: fair among each other, within credit, and never more than a window of pushed bytes.
import {
  cursorBatches,
  cursorClosed,
  cursorHeartbeat,
  ERROR_TABLE,
  encodeFrame,
  type MessageCodec,
  type Route,
} from '@millrace/protocol'
import type { Clock, Stream } from '../environment.js'
import { Fifo } from '../fifo.js'
import {
  MAX_CLOSED_CURSOR_IDS,
  MAX_PUSHED_BYTES_UNSENT,
  MAX_READS_PER_CONNECTION,
  MIN_CURSOR_READ_BYTES,
} from '../limits.js'
import type { Metrics } from '../metrics.js'
import type { Refusal } from '../partition/pending-batch.js'
import { type LogRead, StorageError } from '../storage/log-store.js'
import type { Cursor } from './cursor.js'
import { isBug, refusalOrBug } from './failures.js'

/** What the cursors need of their connection. */
export interface CursorLink {
  readonly stream: Stream
  readonly clock: Clock
  readonly metrics: Metrics
  send<T>(codec: MessageCodec<T>, message: T, id: number): void
  /** Bytes were written to the stream past `send`. */
  wrote(bytes: number): void
  /** Something was thrown that is no refusal: a bug. */
  report(error: unknown): void
}

const NO_BYTES = new Uint8Array(0)

export class CursorSet {
  readonly #link: CursorLink
  readonly #open = new Map<number, Cursor>()
  readonly #closedIds = new Set<number>()
  readonly #ready = new Fifo<Cursor>()
  /** Bytes pushed and not sent, and those that reads under way may bring. */
  #pushedUnsent = 0
  #reservedBytes = 0
  #reads = 0
  #serving = false
  #closed = false

  constructor(link: CursorLink) {
    this.#link = link
  }

  get size(): number {
    return this.#open.size
  }

  /** Whether an id is or was in use. */
  knows(id: number): boolean {
    return this.#open.has(id) || this.#closedIds.has(id)
  }

  find(id: number): Cursor | undefined {
    return this.#open.get(id)
  }

  add(cursor: Cursor): void {
    this.#open.set(cursor.id, cursor)
    this.#link.metrics.cursorsOpened++
  }

  /** A cursor may have something to send: it is looked at before the turn ends. */
  wake(cursor: Cursor): void {
    if (cursor.queued || !cursor.wantsToRead) return
    cursor.queued = true
    this.#ready.push(cursor)
    if (this.#serving) return
    this.#serving = true
    this.#link.clock.defer(() => {
      this.#serving = false
      this.#serveOrReport()
    })
  }

  /** Ends a cursor without a word; batches on their way to it are not sent. */
  remove(cursor: Cursor): void {
    if (!this.#open.delete(cursor.id)) return
    cursor.end()
    this.#closedIds.add(cursor.id)
    if (this.#closedIds.size > MAX_CLOSED_CURSOR_IDS) {
      for (const oldest of this.#closedIds) {
        this.#closedIds.delete(oldest)
        break
      }
    }
  }

  /** Ends a cursor and tells why. */
  refuse(id: number, route: Route, refusal: Refusal, bounds: { logStartOffset: number; highWatermark: number }): void {
    const cursor = this.#open.get(id)
    if (cursor !== undefined) this.remove(cursor)
    this.#link.metrics.refused(refusal.code)
    this.#link.send(cursorClosed, closedMessage(refusal, route, bounds), id)
  }

  /** Tells idle cursors where their partition stands. */
  heartbeat(): void {
    for (const cursor of this.#open.values()) {
      if (!cursor.opened) continue
      if (cursor.pushedSinceHeartbeat) cursor.pushedSinceHeartbeat = false
      else if (this.#link.stream.unsentBytes < MAX_PUSHED_BYTES_UNSENT) {
        this.#link.send(cursorHeartbeat, cursor.bounds, cursor.id)
      }
    }
  }

  /** The connection is gone. */
  close(): void {
    this.#closed = true
    for (const cursor of [...this.#open.values()]) this.remove(cursor)
  }

  /** Called from streams, turns and promises, none of which would know what to do with an error. */
  #serveOrReport(): void {
    try {
      this.#serve()
    } catch (error) {
      this.#link.report(error)
    }
  }

  #serve(): void {
    while (this.#ready.length > 0 && this.#reads < MAX_READS_PER_CONNECTION) {
      const room = MAX_PUSHED_BYTES_UNSENT - this.#pushedUnsent - this.#reservedBytes
      if (room <= 0) return
      const cursor = this.#ready.shift()!
      cursor.queued = false
      if (cursor.hasToEnd) this.#end(cursor)
      else if (cursor.wantsToRead) this.#read(cursor, Math.ceil(room / (this.#ready.length + 1)))
    }
  }

  #read(cursor: Cursor, fairShare: number): void {
    const maxBytes = Math.min(cursor.maxReadBytes, Math.max(fairShare, MIN_CURSOR_READ_BYTES))
    this.#reservedBytes += maxBytes
    this.#reads++
    cursor.reading = true
    void this.#readAndPush(cursor, maxBytes)
  }

  /** Always resolves. */
  async #readAndPush(cursor: Cursor, maxBytes: number): Promise<void> {
    try {
      const read = await cursor.read(maxBytes).finally(() => {
        cursor.reading = false
        this.#reservedBytes -= maxBytes
        this.#reads--
      })
      this.#push(cursor, read)
    } catch (error) {
      if (isBug(error)) this.#link.report(error)
      if (!cursor.ended && !this.#closed) {
        this.refuse(cursor.id, cursor.partition.route, endOf(refusalOrBug(error)), cursor.bounds)
      }
    }
    this.#serveOrReport()
  }

  #push(cursor: Cursor, read: LogRead): void {
    if (cursor.ended || this.#closed || !cursor.accepts(read)) {
      read.release()
    } else if (read.batchCount === 0) {
      read.release()
      // Below the high watermark there is always a batch, or the log is not what it was.
      throw new StorageError('DAMAGED', `no batch at offset ${cursor.nextOffset}`)
    } else {
      this.#send(cursor, read)
    }
    this.wake(cursor)
  }

  #send(cursor: Cursor, read: LogRead): void {
    const { stream, metrics } = this.#link
    const message = { highWatermark: cursor.partition.highWatermark, batchCount: read.batchCount, batches: NO_BYTES }
    const head = encodeFrame(cursorBatches, message, { id: cursor.id, extraPayloadBytes: read.byteLength })
    this.#link.wrote(head.length + read.byteLength)
    stream.write(head)
    cursor.sent(read)
    this.#pushedUnsent += read.byteLength
    metrics.pushedBatches += read.batchCount
    metrics.pushedBytes += read.byteLength
    const last = read.pieces.length - 1
    read.pieces.forEach((piece, at) => {
      stream.writeBlock(piece.block, piece.offset, piece.length, at < last ? nothing : () => this.#sent(read))
    })
  }

  #sent(read: LogRead): void {
    read.release()
    this.#pushedUnsent -= read.byteLength
    if (!this.#closed) this.#serveOrReport()
  }

  #end(cursor: Cursor): void {
    const reason = cursor.partition.refusal
    if (reason !== null) this.refuse(cursor.id, cursor.partition.route, endOf(reason), cursor.bounds)
  }
}

const nothing = (): void => {}

/** A cursor that was served goes on elsewhere when another node comes to lead. */
function endOf(refusal: Refusal): Refusal {
  return refusal.code === 'NOT_LEADER' ? { ...refusal, code: 'MOVED' } : refusal
}

function closedMessage(refusal: Refusal, route: Route, bounds: { logStartOffset: number; highWatermark: number }) {
  return { code: ERROR_TABLE[refusal.code].code, route, detail: refusal.detail, ...bounds }
}
