// One connection: frames in, answers and pushes out, and the limits that keep one client from hurting the others.
import {
  ERROR_TABLE,
  encodeFrame,
  type FrameHeader,
  failure,
  hello,
  MAX_FRAME_BYTES,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  type MessageCodec,
  messageName,
  nameForeignProtocol,
  ProtocolError,
  peerHello,
  produce,
  REQUIRED_FEATURE_FLAGS,
  Writer,
} from '@millrace/protocol'
import type { Block, Stream, StreamHandler } from '../environment.js'
import {
  HELLO_TIMEOUT_MS,
  IDLE_CONNECTION_MS,
  MAX_CONTROL_FRAME_BYTES,
  MAX_REQUEST_BYTES_IN_FLIGHT,
  MAX_REQUESTS_IN_FLIGHT,
  MAX_UNSENT_BYTES,
  MEMORY_RETRY_MS,
  SLOW_READER_MS,
  SLOW_WRITER_MS,
} from '../limits.js'
import type { Refusal } from '../partition/pending-batch.js'
import type { ServerContext } from './context.js'
import { CursorSet } from './cursor-set.js'
import { handlerOf } from './dispatch.js'
import { isBug, refusalOrBug } from './failures.js'
import type { FrameMemoryWaiter } from './frame-memory.js'
import { type FrameOwner, FrameReader, type PayloadPlace } from './frame-reader.js'
import type { Peer, Request } from './peer.js'
import type { AcceptedPeer } from './peer-acceptor.js'

/** Every frame is encoded here and copied by the stream at once. */
const FRAMES = new Writer(4096)

/**
 * `draining` refuses new requests; `closing` sends what is queued and looks at nothing any more. A connection of
 * another broker leaves `beforeHello` only to be closed: what it is besides is for its new owner to know.
 */
type ConnectionState = 'beforeHello' | 'open' | 'draining' | 'closing' | 'closed'

export class Connection implements StreamHandler, FrameOwner, FrameMemoryWaiter, Peer {
  readonly cursors: CursorSet
  /** A map subscription or anything else that makes silence welcome. */
  isFollowing = false
  #state: ConnectionState = 'beforeHello'
  readonly #reader: FrameReader
  readonly #onClosed: (connection: Connection) => void
  readonly #closedCallbacks: (() => void)[] = []
  #requests = 0
  #requestBytes = 0
  #resumeScheduled = false
  /** It waits for frame memory, and its last attempt to get some failed. */
  #inLine = false
  /** Another broker is at the other end, and somebody else looks after the connection. */
  #handedTo: AcceptedPeer | null = null
  #lacksMemory = false
  /** Header of the frame being handled: what a failure answers. */
  #current: FrameHeader | null = null
  // Monotonic milliseconds.
  readonly #connectedAtMs: number
  #heardAtMs: number
  #frameArrivedAtMs: number
  /** Since when the sender, and not the broker, keeps the current frame waiting. */
  #frameWaitsSinceMs: number
  #takenAtMs: number
  #closingSinceMs = 0
  #writtenBytes = 0
  /** Bytes the peer had taken at the last look. */
  #takenBytes = 0

  constructor(
    readonly context: ServerContext,
    readonly stream: Stream,
    onClosed: (connection: Connection) => void,
  ) {
    const { clock } = context.environment
    const now = clock.monotonicMs()
    this.#connectedAtMs = this.#heardAtMs = this.#takenAtMs = now
    this.#frameArrivedAtMs = this.#frameWaitsSinceMs = now
    this.#onClosed = onClosed
    this.#reader = new FrameReader(stream, this)
    this.cursors = new CursorSet({
      stream,
      clock,
      metrics: context.metrics,
      send: (codec, message, id) => this.send(codec, message, id),
      wrote: (bytes) => this.#wrote(bytes),
      report: (error) => this.#report(error),
    })
  }

  get requestsInFlight(): number {
    return this.#requests
  }

  // -------------------------------------------------------------- what the stream says

  onBytes(chunk: Uint8Array): void {
    if (this.#handedTo !== null) {
      this.#handedTo.onBytes(chunk)
      return
    }
    this.context.metrics.bytesReceived += chunk.length
    this.#attempt(() => this.#reader.push(chunk))
  }

  onFilled(): void {
    if (this.#handedTo !== null) this.#handedTo.onFilled()
    else this.#attempt(() => this.#reader.filledInPlace())
  }

  onClosed(error: Error | null): void {
    this.#state = 'closed'
    if (this.#handedTo !== null) {
      this.#handedTo.onClosed(error)
      this.#onClosed(this)
      return
    }
    this.#reader.stop()
    const unfinished = this.#reader.takeUnfinishedBlock()
    if (unfinished !== null) this.context.frameMemory.give(unfinished)
    this.cursors.close()
    for (const callback of this.#closedCallbacks) callback()
    if (error !== null) this.context.environment.log.debug({ peer: this.stream.peer, error }, 'connection lost')
    this.#onClosed(this)
  }

  #attempt(work: () => void): void {
    this.#heardAtMs = this.context.environment.clock.monotonicMs()
    try {
      work()
    } catch (error) {
      this.#breakOff(error)
    }
  }

  // -------------------------------------------------------------- what the frame reader asks

  mayBegin(): boolean {
    if (this.stream.unsentBytes >= MAX_UNSENT_BYTES) {
      this.context.metrics.readsPaused++
      this.context.environment.clock.timer(MEMORY_RETRY_MS, () => this.#resumeNow())
      return false
    }
    if (this.#requests >= MAX_REQUESTS_IN_FLIGHT || this.#requestBytes >= MAX_REQUEST_BYTES_IN_FLIGHT) {
      this.context.metrics.readsPaused++
      return false
    }
    this.#frameArrivedAtMs = this.#frameWaitsSinceMs = this.#heardAtMs
    return true
  }

  checkFirstBytes(bytes: Uint8Array): void {
    const foreign = nameForeignProtocol(bytes)
    if (foreign !== null) throw new ProtocolError('NOT_MILLRACE', `the bytes look like ${foreign}`)
  }

  placeOf(header: FrameHeader): PayloadPlace {
    const handler = handlerOf(header.kind)
    const isFirst = this.#state === 'beforeHello'
    if (isFirst) checkFirstHeader(header, handler !== undefined)
    this.#current = header
    const limit = header.kind === produce.kind ? MAX_FRAME_BYTES : MAX_CONTROL_FRAME_BYTES
    if (header.length > limit) {
      throw new ProtocolError('FRAME_TOO_LARGE', `${messageName(header.kind)} of ${header.length} bytes, over ${limit}`)
    }
    if ((header.flags & REQUIRED_FEATURE_FLAGS) !== 0) {
      const bits = (header.flags & REQUIRED_FEATURE_FLAGS).toString(16)
      throw new ProtocolError('UNSUPPORTED_FEATURE', `${messageName(header.kind)} requires feature flags 0x${bits}`)
    }
    if (isFirst && header.kind === peerHello.kind) return 'heap'
    if (handler === undefined) throw new ProtocolError('UNKNOWN_KIND', `frame ${messageName(header.kind)}`)
    return header.kind === produce.kind ? 'block' : 'heap'
  }

  allocate(byteLength: number): Block | null {
    const block = this.context.frameMemory.take(byteLength)
    this.#lacksMemory = block === null
    if (block === null && !this.#inLine) {
      this.context.metrics.readsPaused++
      this.#inLine = true
      this.context.frameMemory.wait(this)
    }
    return block
  }

  /** Memory may be there; false keeps the place in the line. */
  retry(): boolean {
    this.#lacksMemory = false
    this.#resumeNow()
    this.#inLine = this.#lacksMemory && this.#listens
    return !this.#inLine
  }

  onFrame(header: FrameHeader, payload: Uint8Array, block: Block | null): void {
    this.context.metrics.framesReceived++
    if (header.kind === peerHello.kind) {
      this.#handOver(payload)
      return
    }
    this.#current = header
    const expiresAtMs = header.timeMs === 0 ? Number.POSITIVE_INFINITY : this.#frameArrivedAtMs + header.timeMs
    const request: Request = { id: header.id, kind: header.kind, bytes: header.length, expiresAtMs }
    this.#requests++
    this.#requestBytes += header.length
    const frame = { payload, block }
    if (this.#state === 'draining') {
      if (block !== null) this.context.frameMemory.give(block)
      this.refuse(request, { code: 'SHUTTING_DOWN', detail: '' })
      return
    }
    if (this.#state === 'beforeHello') this.#state = 'open'
    else if (header.kind === hello.kind) throw new ProtocolError('HELLO_REQUIRED', 'a second HELLO')
    handlerOf(header.kind)!(this, request, frame)
  }

  /** Only the first frame gets here: later ones of its kind are in no table. @throws ProtocolError */
  #handOver(payload: Uint8Array): void {
    const { peers } = this.context
    if (peers === null) throw new ProtocolError('WRONG_NODE', 'this broker is a cluster of its own')
    this.#handedTo = peers.accept(this.stream, this.#reader, payload)
  }

  // -------------------------------------------------------------- what handlers say

  answer<T>(request: Request, codec: MessageCodec<T>, message: T): void {
    this.send(codec, message, request.id)
    this.finish(request)
  }

  refuse(request: Request, refusal: Refusal): void {
    this.#sendFailure(refusal, request.id, request.kind)
    this.finish(request)
    if (ERROR_TABLE[refusal.code].fatal && this.#state !== 'draining') this.close()
  }

  finish(request: Request): void {
    this.#requests--
    this.#requestBytes -= request.bytes
    if (this.#reader.held && !this.#resumeScheduled && !this.#inLine) {
      this.#resumeScheduled = true
      this.context.environment.clock.defer(() => {
        this.#resumeScheduled = false
        this.#resumeNow()
      })
    }
  }

  send<T>(codec: MessageCodec<T>, message: T, id: number): void {
    const frame = encodeFrame(codec, message, { id, writer: FRAMES })
    this.#wrote(frame.length)
    this.stream.write(frame)
  }

  attend(request: Request, work: Promise<void>): void {
    work.catch((error: unknown) => {
      if (isBug(error)) this.#report(error)
      this.refuse(request, refusalOrBug(error))
    })
  }

  onceClosed(callback: () => void): void {
    this.#closedCallbacks.push(callback)
  }

  // -------------------------------------------------------------- what the server says

  /** New requests are refused from now on; those in flight are still answered. */
  drain(): void {
    if (!this.#listens || this.#handedTo !== null) return
    this.#state = 'draining'
    this.#sendFailure({ code: 'SHUTTING_DOWN', detail: '' }, 0, 0)
  }

  /** Sends what is queued, then closes. */
  close(): void {
    if (!this.#listens) return
    this.#state = 'closing'
    this.#closingSinceMs = this.context.environment.clock.monotonicMs()
    if (this.#handedTo !== null) {
      this.#handedTo.close()
      return
    }
    this.#reader.stop()
    this.cursors.close()
    this.stream.end()
  }

  /** Looks at the limits on time, and sends heartbeats. */
  tick(): void {
    const now = this.context.environment.clock.monotonicMs()
    if (this.#state === 'closing' && now - this.#closingSinceMs > SLOW_READER_MS) this.stream.destroy()
    if (!this.#listens || this.#handedTo !== null) return
    if (this.#state === 'beforeHello' && now - this.#connectedAtMs > HELLO_TIMEOUT_MS) {
      this.#breakOff(new ProtocolError('HELLO_REQUIRED', `no HELLO within ${HELLO_TIMEOUT_MS} ms`))
      return
    }
    const waits = this.#reader.isInsideFrame && !this.#reader.held
    if (waits && now - this.#frameWaitsSinceMs > SLOW_WRITER_MS) {
      this.#breakOff(new ProtocolError('CORRUPT_FRAME', `a frame was not complete after ${SLOW_WRITER_MS} ms`))
      return
    }
    if (this.#readsTooSlowly(now)) {
      this.context.environment.log.warn({ peer: this.stream.peer }, 'a client takes no answers; its connection is cut')
      this.stream.destroy()
      return
    }
    const isIdle = this.cursors.size === 0 && !this.isFollowing && this.#requests === 0
    if (isIdle && now - this.#heardAtMs > IDLE_CONNECTION_MS) {
      this.close()
      return
    }
    this.cursors.heartbeat()
  }

  #readsTooSlowly(now: number): boolean {
    const taken = this.#writtenBytes - this.stream.unsentBytes
    if (taken !== this.#takenBytes || this.stream.unsentBytes === 0) {
      this.#takenBytes = taken
      this.#takenAtMs = now
    }
    return now - this.#takenAtMs > SLOW_READER_MS
  }

  get #listens(): boolean {
    return this.#state !== 'closing' && this.#state !== 'closed'
  }

  #resumeNow(): void {
    if (!this.#reader.held || !this.#listens) return
    this.#frameWaitsSinceMs = this.context.environment.clock.monotonicMs()
    this.#attempt(() => this.#reader.resume())
  }

  #wrote(bytes: number): void {
    this.#writtenBytes += bytes
    this.context.metrics.framesSent++
    this.context.metrics.bytesSent += bytes
  }

  #sendFailure(refusal: Refusal, id: number, answeredKind: number): void {
    if (!this.#listens) return
    this.context.metrics.refused(refusal.code)
    this.send(failure, { code: ERROR_TABLE[refusal.code].code, answeredKind, detail: refusal.detail }, id)
  }

  /** The bytes of this connection can no longer be trusted, or a handler has a bug: says so and closes. */
  #breakOff(error: unknown): void {
    if (this.#handedTo !== null) {
      this.#handedTo.failed(error)
      return
    }
    if (isBug(error)) this.#report(error)
    const header = this.#state === 'beforeHello' ? null : this.#current
    this.#sendFailure(refusalOrBug(error), header?.id ?? 0, header?.kind ?? 0)
    this.close()
  }

  /** A bug: logged; a broken assertion ends the broker. */
  #report(error: unknown): void {
    this.context.reportBug(error, { peer: this.stream.peer, kind: messageName(this.#current?.kind ?? 0) })
  }
}

/** The first frame is HELLO or PEER_HELLO, and short. Kinds nobody knows are not ours at all. @throws ProtocolError */
function checkFirstHeader(header: FrameHeader, isKnown: boolean): void {
  const isPeer = header.kind === peerHello.kind
  if (!isKnown && !isPeer) throw new ProtocolError('NOT_MILLRACE', 'the first bytes are not a Millrace frame')
  if (header.length > MAX_FRAME_BYTES_BEFORE_HELLO) {
    const limit = MAX_FRAME_BYTES_BEFORE_HELLO
    throw new ProtocolError('FRAME_TOO_LARGE', `a first frame of ${header.length} bytes, the limit is ${limit}`)
  }
  if (header.kind !== hello.kind && !isPeer) {
    throw new ProtocolError('HELLO_REQUIRED', `${messageName(header.kind)} came before HELLO`)
  }
}
