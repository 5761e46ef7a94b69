// One administrative question to a broker of a cluster that this broker does not belong to yet, as any client would ask it.
import {
  ADMIN_OPERATIONS,
  type AdminOperation,
  ANY_CLUSTER,
  admin,
  adminReply,
  CODE_OK,
  encodeFrame,
  errorName,
  FrameDecoder,
  type FrameHeader,
  failure,
  hello,
  helloReply,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
  ProtocolError,
  Reader,
} from '@millrace/protocol'
import { type Environment, NetworkError, type Stream, type StreamHandler } from '../environment.js'
import { decodeFields, encodeMessagePack, type Fields } from '../message-pack.js'
import { SOFTWARE } from '../version.js'

export interface AdminCall {
  readonly host: string
  readonly port: number
  readonly operation: AdminOperation
  readonly fields: Fields
  /** The cluster that is meant; any unless given. */
  readonly clusterId?: string
  /** For everything together. */
  readonly timeoutMs: number
}

const HELLO_ID = 1
const ADMIN_ID = 2

/** @throws NetworkError when there is no answer; ProtocolError as the broker refuses. */
export async function callAdmin({ network, clock }: Environment, call: AdminCall): Promise<Fields> {
  const { host, port, timeoutMs } = call
  let conversation: Conversation | null = null
  const timer = clock.timer(timeoutMs, () => {
    conversation?.fail(new NetworkError('TIMED_OUT', `${host}:${port} did not answer within ${timeoutMs} ms`))
  })
  try {
    await network.dial({ host, port, timeoutMs }, (stream) => {
      conversation = new Conversation(stream, call)
      return conversation
    })
    const begun = conversation as Conversation | null
    if (begun === null) throw new NetworkError('OTHER', `${host}:${port} was not reached`)
    begun.greet()
    return await begun.answer
  } finally {
    timer.cancel()
    const begun = conversation as Conversation | null
    begun?.end()
  }
}

class Conversation implements StreamHandler {
  readonly answer: Promise<Fields>
  readonly #decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => this.#onFrame(header, payload))
  #resolve: (fields: Fields) => void = () => {}
  #reject: (error: unknown) => void = () => {}

  constructor(
    private readonly stream: Stream,
    private readonly call: AdminCall,
  ) {
    this.answer = new Promise((resolve, reject) => {
      this.#resolve = resolve
      this.#reject = reject
    })
    // Whoever asks may have met another failure first.
    this.answer.catch(() => {})
  }

  greet(): void {
    const message = {
      minVersion: PROTOCOL_VERSION,
      maxVersion: PROTOCOL_VERSION,
      shard: 0,
      features: 0,
      clusterId: this.call.clusterId ?? ANY_CLUSTER,
      nodeId: 0,
      clientId: '',
      software: SOFTWARE,
      authentication: new Uint8Array(0),
    }
    this.stream.write(encodeFrame(hello, message, { id: HELLO_ID }))
  }

  onBytes(chunk: Uint8Array): void {
    try {
      this.#decoder.push(chunk)
    } catch (error) {
      this.fail(error)
    }
  }

  onFilled(): void {}

  onClosed(error: Error | null): void {
    const { host, port } = this.call
    this.fail(error ?? new NetworkError('RESET', `${host}:${port} closed the connection before it answered`))
  }

  fail(error: unknown): void {
    this.#reject(error)
  }

  end(): void {
    this.stream.end()
  }

  #onFrame({ kind }: FrameHeader, payload: Uint8Array): void {
    const reader = new Reader(payload)
    if (kind === failure.kind) {
      const { code, detail } = failure.decode(reader)
      throw new ProtocolError(errorName(code) ?? 'INTERNAL', detail)
    }
    if (kind === helloReply.kind) {
      helloReply.decode(reader)
      this.#ask()
    } else if (kind === adminReply.kind) {
      const reply = adminReply.decode(reader)
      if (reply.code !== CODE_OK) throw new ProtocolError(errorName(reply.code) ?? 'INTERNAL', reply.detail)
      this.#resolve(decodeFields(reply.payload))
    } else throw new ProtocolError('UNKNOWN_KIND', `kind ${kind} in answer to an administrative question`)
  }

  #ask(): void {
    const { operation, fields, timeoutMs } = this.call
    const message = { operation: ADMIN_OPERATIONS[operation], mapVersion: 0, payload: encodeMessagePack(fields) }
    this.stream.write(encodeFrame(admin, message, { id: ADMIN_ID, timeMs: timeoutMs }))
  }
}
