// Speaks frames over a plain socket, so that tests can say whatever they like to a broker.
import { connect, type Socket } from 'node:net'
import {
  type Acks,
  ADMIN_OPERATIONS,
  type AdminOperation,
  type AdminReply,
  ANY_CLUSTER,
  admin,
  adminReply,
  type ErrorName,
  encodeFrame,
  errorName,
  type Failure,
  FrameDecoder,
  type FrameHeader,
  failure,
  type Hello,
  hello,
  helloReply,
  MAX_FRAME_BYTES,
  type MessageCodec,
  type ProduceEntry,
  type ProduceReply,
  produce,
  produceReply,
  Reader,
} from '@millrace/protocol'
import { decodeFields, encodeMessagePack, type Fields } from '#src/message-pack.js'

export interface ReceivedFrame {
  readonly header: FrameHeader
  readonly payload: Uint8Array
}

const HELLO: Hello = {
  minVersion: 1,
  maxVersion: 1,
  shard: 0,
  features: 0,
  clusterId: ANY_CLUSTER,
  nodeId: 0,
  clientId: 'test',
  software: 'raw-client',
  authentication: new Uint8Array(0),
}

export class RawClient {
  readonly frames: ReceivedFrame[] = []
  closed = false
  #correlation = 1
  /** Everybody who waits for a frame. */
  readonly #waiting = new Set<() => void>()

  private constructor(readonly socket: Socket) {
    const decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => {
      this.frames.push({ header, payload: payload.slice() })
    })
    socket.on('data', (chunk) => {
      decoder.push(chunk)
      this.#wake()
    })
    socket.on('error', () => {
      // The broker may reset a connection it has refused; `closed` tells.
    })
    socket.on('close', () => {
      this.closed = true
      this.#wake()
    })
  }

  #wake(): void {
    for (const wake of [...this.#waiting]) wake()
  }

  /** Connects without saying anything. */
  static async dial(address: { host: string; port: number }): Promise<RawClient> {
    const socket = connect({ host: address.host, port: address.port, noDelay: true })
    const client = new RawClient(socket)
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve)
      socket.once('error', reject)
    })
    return client
  }

  /** Connects and says HELLO. */
  static async open(address: { host: string; port: number }, changes: Partial<Hello> = {}): Promise<RawClient> {
    const client = await RawClient.dial(address)
    await client.hello(changes)
    return client
  }

  async hello(changes: Partial<Hello> = {}): Promise<ReturnType<typeof helloReply.decode>> {
    return this.request(hello, { ...HELLO, ...changes }, helloReply)
  }

  nextId(): number {
    return this.#correlation++
  }

  write(bytes: Uint8Array): void {
    this.socket.write(bytes)
  }

  send<T>(codec: MessageCodec<T>, message: T, id = this.nextId(), timeMs = 0): number {
    this.write(encodeFrame(codec, message, { id, timeMs }))
    return id
  }

  /** Waits for a frame that satisfies `test` and takes it out. */
  async receive(test: (frame: ReceivedFrame) => boolean, timeoutMs = 5_000): Promise<ReceivedFrame> {
    const deadline = Date.now() + timeoutMs
    while (true) {
      const at = this.frames.findIndex(test)
      if (at >= 0) return this.frames.splice(at, 1)[0]!
      if (this.closed) throw new Error(`closed; left: ${this.frames.map((frame) => frame.header.kind).join(', ')}`)
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`nothing within ${timeoutMs} ms`)
      await new Promise<void>((resolve) => {
        const wake = (): void => {
          clearTimeout(timer)
          this.#waiting.delete(wake)
          resolve()
        }
        const timer = setTimeout(wake, left)
        this.#waiting.add(wake)
      })
    }
  }

  async receiveMessage<T>(codec: MessageCodec<T>, id?: number, timeoutMs?: number): Promise<T> {
    const frame = await this.receive(
      ({ header }) => header.kind === codec.kind && (id === undefined || header.id === id),
      timeoutMs,
    )
    return codec.decode(new Reader(frame.payload))
  }

  /** Sends and waits for the answer of the same id; a FAILURE throws its name. */
  async request<Q, A>(codec: MessageCodec<Q>, message: Q, reply: MessageCodec<A>, timeMs = 0): Promise<A> {
    const id = this.send(codec, message, this.nextId(), timeMs)
    const frame = await this.receive(
      ({ header }) =>
        (header.id === id || header.id === 0) && (header.kind === reply.kind || header.kind === failure.kind),
    )
    if (frame.header.kind === reply.kind) return reply.decode(new Reader(frame.payload))
    const refused = failure.decode(new Reader(frame.payload))
    throw new Error(`${errorName(refused.code)}: ${refused.detail}`)
  }

  async failure(timeoutMs?: number): Promise<Omit<Failure, 'code'> & { code: ErrorName | null; id: number }> {
    const frame = await this.receive(({ header }) => header.kind === failure.kind, timeoutMs)
    const decoded = failure.decode(new Reader(frame.payload))
    return { ...decoded, code: errorName(decoded.code), id: frame.header.id }
  }

  /** Resolves when the broker has closed the connection. */
  async whenClosed(timeoutMs = 5_000): Promise<void> {
    const deadline = Date.now() + timeoutMs
    while (!this.closed) {
      if (Date.now() > deadline) throw new Error('the connection is still open')
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
  }

  async admin(operation: AdminOperation | number, fields: Fields): Promise<AdminReply & { fields: Fields }> {
    const number = typeof operation === 'number' ? operation : ADMIN_OPERATIONS[operation]
    const message = { operation: number, mapVersion: 0, payload: encodeMessagePack(fields) }
    const reply = await this.request(admin, message, adminReply)
    return { ...reply, fields: decodeFields(reply.payload) }
  }

  /** Creates a topic and returns its id. */
  async createTopic(name: string, fields: Fields = {}): Promise<number> {
    const reply = await this.admin('createTopic', { name, ...fields })
    if (reply.code !== 0) throw new Error(`${errorName(reply.code)}: ${reply.detail}`)
    return reply.fields.topicId as number
  }

  /** A PRODUCE frame of whole batches; entries say what the batches say unless changed. */
  static produceFrame(
    batches: readonly Uint8Array[],
    options: { id: number; acks?: Acks; timeMs?: number; change?: (entry: ProduceEntry) => ProduceEntry },
  ): Uint8Array {
    const entries = batches.map((batch) => {
      const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength)
      const entry = {
        topicId: view.getUint32(12, true),
        partition: view.getUint32(16, true),
        lane: view.getUint16(20, true),
        routeVersion: { term: 1, placement: 0 },
        batchLength: batch.length,
      }
      return options.change?.(entry) ?? entry
    })
    const bytes = batches.reduce((sum, batch) => sum + batch.length, 0)
    const head = encodeFrame(
      produce,
      { acks: options.acks ?? 'all', entries, batchesStart: 0 },
      { id: options.id, timeMs: options.timeMs ?? 0, extraPayloadBytes: bytes },
    )
    const frame = new Uint8Array(head.length + bytes)
    frame.set(head)
    let at = head.length
    for (const batch of batches) {
      frame.set(batch, at)
      at += batch.length
    }
    return frame
  }

  async produce(
    batches: readonly Uint8Array[],
    options: { acks?: Acks; timeMs?: number; change?: (entry: ProduceEntry) => ProduceEntry } = {},
  ): Promise<ProduceReply & { codes: (ErrorName | null)[] }> {
    const id = this.nextId()
    this.write(RawClient.produceFrame(batches, { id, ...options }))
    const frame = await this.receive(
      ({ header }) => header.id === id && (header.kind === produceReply.kind || header.kind === failure.kind),
    )
    if (frame.header.kind === failure.kind) {
      throw new Error(String(errorName(failure.decode(new Reader(frame.payload)).code)))
    }
    const reply = produceReply.decode(new Reader(frame.payload))
    return { ...reply, codes: reply.results.map(({ code }) => errorName(code)) }
  }

  close(): void {
    this.socket.destroy()
  }
}
