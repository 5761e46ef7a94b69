// Cuts a byte stream into frames, whatever the chunks it arrives in. Bounded; knows nothing of sockets.
import { ProtocolError } from './errors.js'
import { nameForeignProtocol } from './foreign-protocol.js'
import { FRAME_HEADER_BYTES, type FrameHeader, REQUIRED_FEATURE_FLAGS, readFrameHeader } from './frame.js'

export type FrameCallback = (header: FrameHeader, payload: Uint8Array) => void

/**
 * Frames that lie whole inside a chunk are handed out as views of it, others are gathered once.
 * `maxFrameBytes` may be changed between frames (it grows once HELLO is answered).
 */
export class FrameDecoder {
  maxFrameBytes: number
  readonly #onFrame: FrameCallback
  #header: FrameHeader | null = null
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES)
  readonly #headerView = new DataView(this.#headerBytes.buffer)
  #headerFilled = 0
  #payload: Uint8Array | null = null
  #payloadFilled = 0
  #first = true

  constructor(maxFrameBytes: number, onFrame: FrameCallback) {
    this.maxFrameBytes = maxFrameBytes
    this.#onFrame = onFrame
  }

  /** Bytes of an unfinished frame that are held. */
  get pendingBytes(): number {
    return this.#headerFilled + this.#payloadFilled
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
      this.#payload = new Uint8Array(header.length)
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
