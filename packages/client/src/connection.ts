// One connection to one core of one broker: dials, says HELLO, matches replies to requests by their id whatever order
// they come in, notices silence, and ends with one typed error.
import {
  ANY_CLUSTER,
  encodeFrame,
  FrameDecoder,
  type FrameHeader,
  failure,
  type HelloReply,
  hello,
  helloReply,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  type MessageCodec,
  messageName,
  PROTOCOL_VERSION,
  ProtocolError,
  ping,
  pong,
  Reader,
} from '@millrace/protocol'
import { type Address, showAddress } from './address.js'
import type { ClientEnvironment, ClientTimer, Link } from './environment.js'
import { ConnectionError, errorOfCode, MillraceError, toMillraceError } from './errors.js'
import { PING_AFTER_MS, PING_TIMEOUT_MS } from './limits.js'

export const SOFTWARE = 'millrace-client/0.1.0'

export interface ConnectionTarget extends Address {
  /** Null before the first contact. */
  readonly clusterId: string | null
  /** 0 when any node will do. */
  readonly nodeId: number
  readonly shard: number
}

export interface ConnectionOptions {
  readonly clientId: string
  readonly openTimeoutMs: number
  /** Memory for frames; the environment's unless given. */
  readonly allocate?: (byteLength: number) => Uint8Array
}

export interface ConnectionHandler {
  onReady(reply: HelloReply): void
  /** A frame that answers no request. May throw ProtocolError, which ends the connection. */
  onPush(header: FrameHeader, payload: Uint8Array): void
  /** Everything handed to `send` has left. */
  onDrain(): void
  /** Called once, last, unless the owner itself destroyed the connection. */
  onClosed(error: MillraceError): void
}

export interface ReplyHandler {
  /** May throw ProtocolError, which ends the connection. */
  onReply(header: FrameHeader, payload: Uint8Array): void
  /** Refused as a whole, timed out, or the connection is gone. */
  onFailed(error: MillraceError, why: 'refused' | 'timeout' | 'lost'): void
}

interface PendingRequest {
  readonly handler: ReplyHandler
  readonly replyKind: number
  readonly deadlineMs: number
}

const LAST_ID = 0xffff_fff0

export class Connection {
  readonly #environment: ClientEnvironment
  readonly #handler: ConnectionHandler
  readonly #options: ConnectionOptions
  readonly #link: Link
  readonly #decoder: FrameDecoder
  readonly #pending = new Map<number, PendingRequest>()
  #state: 'opening' | 'ready' | 'closed' = 'opening'
  #farewell: MillraceError | null = null
  #lastId = 0
  #posted: Uint8Array[] = []
  #expectedPushes = 0
  #openTimer: ClientTimer | null
  #watchTimer: ClientTimer | null = null
  #watchAtMs = Number.POSITIVE_INFINITY
  #lastReceivedMs = 0
  #pingedAtMs = Number.NEGATIVE_INFINITY
  /** Of the broker at the other end; 0 before HELLO is answered. */
  nodeId = 0
  maxFrameBytes = MAX_FRAME_BYTES
  maxBatchBytes = MAX_BATCH_BYTES

  constructor(
    environment: ClientEnvironment,
    readonly target: ConnectionTarget,
    options: ConnectionOptions,
    handler: ConnectionHandler,
  ) {
    this.#environment = environment
    this.#handler = handler
    this.#options = options
    const take = (header: FrameHeader, payload: Uint8Array): void => this.#take(header, payload)
    this.#decoder = new FrameDecoder(MAX_FRAME_BYTES_BEFORE_HELLO, take, options.allocate ?? environment.allocate)
    this.#openTimer = environment.timer(options.openTimeoutMs, () => {
      this.#openTimer = null
      this.#environment.defer(() => {
        if (this.#state === 'opening') this.#end(this.#timeout(`no answer within ${options.openTimeoutMs} ms`))
      })
    })
    this.#link = environment.dial(target.host, target.port, {
      onOpen: () => this.#sayHello(),
      onBytes: (chunk) => this.#receive((decoder) => decoder.push(chunk)),
      room: () => this.#decoder.room,
      onFilled: (byteLength) => this.#receive((decoder) => decoder.filled(byteLength)),
      onDrain: () => {
        if (this.#state === 'ready') handler.onDrain()
      },
      onClosed: (error) => this.#linkClosed(error),
    })
    this.#link.unref()
  }

  get ready(): boolean {
    return this.#state === 'ready'
  }

  get unsentBytes(): number {
    return this.#link.unsentBytes
  }

  /** When bytes arrived last; before the first, anything below the present. */
  get lastReceivedMs(): number {
    return this.#lastReceivedMs
  }

  get address(): string {
    return showAddress(this.target)
  }

  /** An id never used on this connection. The connection ends when there is none left. */
  nextId(): number {
    if (this.#lastId >= LAST_ID) this.#end(new ConnectionError(`all ids of the connection to ${this.address} are used`))
    return ++this.#lastId
  }

  /** Sends a request whose frame the caller has encoded with an id of `nextId`. */
  request(
    id: number,
    chunks: readonly Uint8Array[],
    replyKind: number,
    timeoutMs: number,
    handler: ReplyHandler,
  ): void {
    if (this.#state !== 'ready') {
      handler.onFailed(this.#gone(), 'lost')
      return
    }
    const nowMs = this.#environment.monotonicMs()
    this.#pending.set(id, { handler, replyKind, deadlineMs: nowMs + timeoutMs })
    this.#watchFrom(nowMs, nowMs + timeoutMs)
    this.send(chunks)
  }

  /** Sends frames at once, after those posted before. */
  send(chunks: readonly Uint8Array[]): void {
    if (this.#state !== 'ready') return
    if (this.#posted.length === 0) {
      this.#link.write(chunks)
      return
    }
    const posted = this.#posted
    this.#posted = []
    this.#link.write([...posted, ...chunks])
  }

  /** Sends a small frame together with others of the same turn. */
  post(frame: Uint8Array): void {
    if (this.#state !== 'ready') return
    this.#posted.push(frame)
    if (this.#posted.length > 1) return
    this.#environment.defer(() => {
      if (this.#posted.length > 0) this.send([])
    })
  }

  /** Pushes are awaited on this connection until `release` is called as often: it is watched for silence. */
  expectPushes(): void {
    if (this.#expectedPushes++ > 0 || this.#state !== 'ready') return
    const nowMs = this.#environment.monotonicMs()
    this.#lastReceivedMs = nowMs
    this.#watchFrom(nowMs, Number.POSITIVE_INFINITY)
  }

  release(): void {
    this.#expectedPushes--
  }

  /** Ends the connection without telling the connection's handler; requests still open fail. */
  destroy(error: MillraceError): void {
    this.#close(error)
  }

  #sayHello(): void {
    if (this.#state !== 'opening') return
    const { clusterId, nodeId, shard } = this.target
    const message = {
      minVersion: PROTOCOL_VERSION,
      maxVersion: PROTOCOL_VERSION,
      shard,
      features: 0,
      clusterId: clusterId ?? ANY_CLUSTER,
      nodeId,
      clientId: this.#options.clientId,
      software: SOFTWARE,
      authentication: new Uint8Array(0),
    }
    this.#link.write([encodeFrame(hello, message, { id: this.nextId() })])
  }

  #receive(take: (decoder: FrameDecoder) => void): void {
    if (this.#state === 'closed') return
    this.#lastReceivedMs = this.#environment.monotonicMs()
    try {
      take(this.#decoder)
    } catch (cause) {
      this.#end(this.#wrap(cause))
    }
  }

  #take(header: FrameHeader, payload: Uint8Array): void {
    if (this.#state === 'closed') return
    if (header.kind === failure.kind) {
      this.#takeFailure(header, payload)
      return
    }
    if (this.#state === 'opening') {
      this.#takeHelloReply(header, payload)
      return
    }
    if (header.kind === pong.kind) return
    const request = this.#pending.get(header.id)
    if (request === undefined) {
      this.#handler.onPush(header, payload)
      return
    }
    if (request.replyKind !== header.kind) {
      throw new ProtocolError('CORRUPT_FRAME', `${messageName(header.kind)} answers a request of another kind`)
    }
    this.#pending.delete(header.id)
    try {
      request.handler.onReply(header, payload)
    } catch (cause) {
      request.handler.onFailed(this.#wrap(cause), 'lost')
      throw cause
    }
  }

  #takeFailure(header: FrameHeader, payload: Uint8Array): void {
    const { code, detail } = failure.decode(new Reader(payload))
    const error = errorOfCode(code, detail === '' ? `refused by ${this.address}` : detail)
    const request = this.#pending.get(header.id)
    if (request !== undefined) {
      this.#pending.delete(header.id)
      request.handler.onFailed(error, 'refused')
    } else if (header.id === 0 || this.#state === 'opening') {
      // The broker closes the connection after this; its word is the better reason.
      this.#farewell = error
      if (this.#state === 'opening') this.#end(error)
    } else {
      this.#handler.onPush(header, payload)
    }
  }

  #takeHelloReply(header: FrameHeader, payload: Uint8Array): void {
    if (header.kind !== helloReply.kind) {
      throw new ProtocolError('NOT_MILLRACE', `${this.address} answers HELLO with ${messageName(header.kind)}`)
    }
    const reply = helloReply.decode(new Reader(payload))
    const { clusterId, nodeId } = this.target
    if (reply.version !== PROTOCOL_VERSION) {
      throw new ProtocolError('UNSUPPORTED_VERSION', `${this.address} chose version ${reply.version}`)
    }
    if (clusterId !== null && reply.clusterId !== clusterId) {
      throw new ProtocolError('WRONG_CLUSTER', `${this.address} is of cluster ${reply.clusterId}, not ${clusterId}`)
    }
    if (nodeId !== 0 && reply.nodeId !== nodeId) {
      throw new ProtocolError('WRONG_NODE', `${this.address} is node ${reply.nodeId}, not ${nodeId}`)
    }
    this.nodeId = reply.nodeId
    this.#decoder.maxFrameBytes = MAX_FRAME_BYTES
    this.maxFrameBytes = Math.min(MAX_FRAME_BYTES, reply.maxFrameBytes)
    this.maxBatchBytes = Math.min(MAX_BATCH_BYTES, reply.maxBatchBytes)
    this.#state = 'ready'
    this.#openTimer?.cancel()
    this.#openTimer = null
    this.#handler.onReady(reply)
  }

  #linkClosed(error: Error | null): void {
    if (this.#state === 'closed') return
    const text = this.#state === 'opening' ? 'cannot connect to' : 'lost the connection to'
    const detail = `${text} ${this.address}: ${error?.message ?? 'closed by the other side'}`
    this.#end(this.#farewell ?? new ConnectionError(detail, [], { cause: error ?? undefined }))
  }

  #end(error: MillraceError): void {
    if (this.#state === 'closed') return
    this.#close(error)
    this.#handler.onClosed(error)
  }

  #close(error: MillraceError): void {
    if (this.#state === 'closed') return
    this.#state = 'closed'
    this.#farewell = error
    this.#openTimer?.cancel()
    this.#watchTimer?.cancel()
    this.#posted = []
    this.#link.destroy()
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { handler } of pending) handler.onFailed(error, 'lost')
  }

  #gone(): MillraceError {
    return this.#farewell ?? new ConnectionError(`not connected to ${this.address}`)
  }

  #timeout(detail: string): MillraceError {
    return new MillraceError('ERR_MILLRACE_TIMEOUT', `${this.address}: ${detail}`)
  }

  #wrap(cause: unknown): MillraceError {
    const error = toMillraceError(cause)
    if (error.detail.includes(this.address)) return error
    return new MillraceError(error.code, `${this.address}: ${error.detail}`, { cause })
  }

  // The watch: one timer for the earliest request deadline and for silence, armed only while something is awaited.

  #watchFrom(nowMs: number, deadlineMs: number): void {
    if (this.#watchAtMs === Number.POSITIVE_INFINITY) this.#lastReceivedMs = Math.max(this.#lastReceivedMs, nowMs)
    this.#arm(Math.min(deadlineMs, nowMs + PING_AFTER_MS), nowMs)
  }

  #arm(atMs: number, nowMs: number): void {
    if (atMs >= this.#watchAtMs) return
    this.#watchTimer?.cancel()
    this.#watchAtMs = atMs
    this.#watchTimer = this.#environment.timer(Math.max(0, Math.ceil(atMs - nowMs)), () => {
      this.#watchTimer = null
      // Timers run before input after the loop was blocked: read what has arrived before judging.
      this.#environment.defer(() => this.#judge())
    })
  }

  #judge(): void {
    this.#watchAtMs = Number.POSITIVE_INFINITY
    if (this.#state !== 'ready') return
    const nowMs = this.#environment.monotonicMs()
    let earliestMs = Number.POSITIVE_INFINITY
    for (const [id, { handler, deadlineMs }] of this.#pending) {
      if (deadlineMs > nowMs) earliestMs = Math.min(earliestMs, deadlineMs)
      else {
        this.#pending.delete(id)
        handler.onFailed(this.#timeout('a request was not answered in time'), 'timeout')
      }
    }
    if (this.#state !== 'ready' || (this.#pending.size === 0 && this.#expectedPushes === 0)) return
    const silentMs = nowMs - this.#lastReceivedMs
    if (silentMs < PING_AFTER_MS) {
      this.#arm(Math.min(earliestMs, this.#lastReceivedMs + PING_AFTER_MS), nowMs)
      return
    }
    if (this.#pingedAtMs > this.#lastReceivedMs && nowMs - this.#pingedAtMs >= PING_TIMEOUT_MS) {
      this.#end(this.#timeout(`silent for ${Math.round(silentMs)} ms`))
      return
    }
    if (this.#pingedAtMs <= this.#lastReceivedMs) {
      this.#pingedAtMs = nowMs
      this.send([encodeFrame(ping, {}, { id: this.nextId() })])
    }
    this.#arm(Math.min(earliestMs, this.#pingedAtMs + PING_TIMEOUT_MS), nowMs)
  }
}

/** Encodes and sends a request whose whole payload is one message. */
export function sendRequest<T>(
  connection: Connection,
  codec: MessageCodec<T>,
  message: T,
  replyKind: number,
  timeoutMs: number,
  handler: ReplyHandler,
): void {
  const id = connection.nextId()
  connection.request(id, [encodeFrame(codec, message, { id, timeMs: timeoutMs })], replyKind, timeoutMs, handler)
}
