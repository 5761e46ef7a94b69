// Cuts a byte stream into frames, whatever the chunks it arrives in. Bounded; knows nothing of sockets.
import { assert } from './assert.js'
import { ProtocolError } from './errors.js'
import { nameForeignProtocol } from './foreign-protocol.js'
import { FRAME_HEADER_BYTES, type FrameHeader, REQUIRED_FEATURE_FLAGS, readFrameHeader } from './frame.js'

export type FrameCallback = (header: FrameHeader, payload: Uint8Array) => void

/**
 * Frames that lie whole inside a chunk are handed out as views of it, others are gathered once: by `push`, or by whoever
 * receives straight into `room`. `maxFrameBytes` may be changed between frames (it grows once HELLO is answered).
 */
export class FrameDecoder {
  maxFrameBytes: number
  readonly #onFrame: FrameCallback
  readonly #allocate: (byteLength: number) => Uint8Array
  #header: FrameHeader | null = null
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES)
  readonly #headerView = new DataView(this.#headerBytes.buffer)
  #headerFilled = 0
  #payload: Uint8Array | null = null
  #payloadFilled = 0
  #first = true

  /** @param allocate memory for a frame that is gathered; it may hold anything, since it is handed out when it is full. */
  constructor(
    maxFrameBytes: number,
    onFrame: FrameCallback,
    allocate: (byteLength: number) => Uint8Array = (byteLength) => new Uint8Array(byteLength),
  ) {
    this.maxFrameBytes = maxFrameBytes
    this.#onFrame = onFrame
    this.#allocate = allocate
  }

  /** Bytes of an unfinished frame that are held. */
  get pendingBytes(): number {
    return this.#headerFilled + this.#payloadFilled
  }

  /**
   * Where the rest of a payload belongs whose beginning has come; null at any other place of the stream. The next bytes
   * of the stream may be put there instead of being pushed: `filled` says how many.
   */
  get room(): Uint8Array | null {
    return this.#payload === null ? null : this.#payload.subarray(this.#payloadFilled)
  }

  /** The next `byteLength` bytes of the stream stand at the beginning of `room`. Calls back when they complete the frame. */
  filled(byteLength: number): void {
    const payload = this.#payload
    assert(payload !== null && byteLength <= payload.length - this.#payloadFilled, 'only room that there is is filled')
    this.#payloadFilled += byteLength
    if (this.#payloadFilled === payload.length) this.#finish(this.#header!, payload)
  }

  /**
   * Takes the next bytes of the stream and calls back for every frame completed.
   * @throws ProtocolError NOT_MILLRACE, FRAME_TOO_LARGE, UNSUPPORTED_FEATURE; the stream is unusable after that.
   */
  push(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length) {
      if (this.#header === null) at = this.#takeHeader(chunk, at)
      else at = this.#takePayload(chunk, at, this.#header)
      if (this.#header !== null && this.#header.length === 0) this.#finish(this.#header, new Uint8Array(0))
    }
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const taken = Math.min(FRAME_HEADER_BYTES - this.#headerFilled, chunk.length - at)
    this.#headerBytes.set(chunk.subarray(at, at + taken), this.#headerFilled)
    this.#headerFilled += taken
    // Before the header is whole: a TLS alert is 7 bytes, and nothing follows it.
    if (this.#first) refuseForeign(this.#headerBytes.subarray(0, this.#headerFilled))
    if (this.#headerFilled < FRAME_HEADER_BYTES) return at + taken
    const header = readFrameHeader(this.#headerView, 0)
    this.#checkHeader(header)
    this.#header = header
    this.#first = false
    return at + taken
  }

  #checkHeader(header: FrameHeader): void {
    if (header.length > this.maxFrameBytes) {
      throw new ProtocolError(
        'FRAME_TOO_LARGE',
        `a frame of ${header.length} bytes, the limit is ${this.maxFrameBytes}`,
      )
    }
    if ((header.flags & REQUIRED_FEATURE_FLAGS) !== 0) {
      const bits = (header.flags & REQUIRED_FEATURE_FLAGS).toString(16)
      throw new ProtocolError('UNSUPPORTED_FEATURE', `frame kind ${header.kind} requires feature flags 0x${bits}`)
    }
  }

  #takePayload(chunk: Uint8Array, at: number, header: FrameHeader): number {
    const left = chunk.length - at
    if (this.#payload === null) {
      if (left >= header.length) {
        this.#finish(header, chunk.subarray(at, at + header.length))
        return at + header.length
      }
      this.#payload = this.#allocate(header.length)
      this.#payloadFilled = 0
    }
    const taken = Math.min(header.length - this.#payloadFilled, left)
    this.#payload.set(chunk.subarray(at, at + taken), this.#payloadFilled)
    this.#payloadFilled += taken
    if (this.#payloadFilled === header.length) this.#finish(header, this.#payload)
    return at + taken
  }

  #finish(header: FrameHeader, payload: Uint8Array): void {
    this.#header = null
    this.#headerFilled = 0
    this.#payload = null
    this.#payloadFilled = 0
    this.#onFrame(header, payload)
  }
}

function refuseForeign(start: Uint8Array): void {
  const foreign = nameForeignProtocol(start)
  if (foreign !== null) throw new ProtocolError('NOT_MILLRACE', `the bytes look like ${foreign}`)
}
