// Cuts what a stream brings into frames: small ones on the heap, batches into blocks of the arena that the log copies
// from. Bounded by its owner, who may make it wait at any frame; knows nothing of what the frames mean.
import { FRAME_HEADER_BYTES, type FrameHeader, readFrameHeader } from '@millrace/protocol'
import type { Block, Stream } from '../environment.js'
import { RECEIVE_IN_PLACE_BYTES } from '../limits.js'

export type PayloadPlace = 'heap' | 'block'

export interface FrameOwner {
  /** Whether the next frame may begin; false holds the reader until `resume`. */
  mayBegin(): boolean
  /** Sees the first bytes of a connection as soon as there are four. @throws ProtocolError NOT_MILLRACE */
  checkFirstBytes(bytes: Uint8Array): void
  /** Checks a header before a byte of its payload is taken. @throws ProtocolError */
  placeOf(header: FrameHeader): PayloadPlace
  /** A block for a payload; null holds the reader until `resume`. */
  allocate(byteLength: number): Block | null
  /** A complete frame. `payload` is valid during the call; `block`, if it has one, is the owner's from now on. */
  onFrame(header: FrameHeader, payload: Uint8Array, block: Block | null): void
}

const NO_BYTES = new Uint8Array(0)

export class FrameReader {
  /** Held by its owner: bytes that still come are kept aside. */
  held = false
  readonly #stream: Stream
  #owner: FrameOwner
  readonly #headerBytes = new Uint8Array(FRAME_HEADER_BYTES)
  readonly #headerView = new DataView(this.#headerBytes.buffer)
  #headerFilled = 0
  #header: FrameHeader | null = null
  /** Where the payload is gathered; null before its place is known, and while it may lie whole in a chunk. */
  #gathered: Uint8Array | null = null
  #block: Block | null = null
  #filled = 0
  #placed = false
  /** Bytes of the block that the stream has been asked to fill; 0 when it has not. */
  #runBytes = 0
  /** The most it is asked for at once. */
  #maxRunBytes = Number.POSITIVE_INFINITY
  /** Bytes that arrived while the reader was held. */
  #backlog: Uint8Array[] = []
  #first = true
  #stopped = false

  constructor(stream: Stream, owner: FrameOwner) {
    this.#stream = stream
    this.#owner = owner
  }

  /** Whether a frame has begun and is not complete. */
  get isInsideFrame(): boolean {
    return this.#headerFilled > 0
  }

  /** Takes the next bytes. @throws what the owner throws; call `stop` then. */
  push(chunk: Uint8Array): void {
    if (this.#stopped) return
    if (this.held) this.#backlog.push(chunk.slice())
    else this.#take(chunk)
  }

  /** The stream has filled a run of the payload in place. */
  filledInPlace(): void {
    this.#filled += this.#runBytes
    this.#runBytes = 0
    if (this.#stopped) return
    if (this.#filled === this.#header!.length) this.#finish(this.#header!)
    else this.#receiveRestInPlace()
  }

  /** From the next frame on another owner is asked; payloads are received in runs of at most `maxRunBytes`. */
  handTo(owner: FrameOwner, maxRunBytes: number): void {
    this.#owner = owner
    this.#maxRunBytes = maxRunBytes
  }

  /** Goes on after the owner has held the reader, with what was kept aside first. */
  resume(): void {
    if (!this.held || this.#stopped) return
    if (this.#header !== null && !this.#placed && !this.#place(this.#header)) return
    this.held = false
    while (this.#backlog.length > 0 && !this.held && !this.#stopped) this.#take(this.#backlog.shift()!)
    if (this.held || this.#stopped) return
    this.#receiveRestInPlace()
    this.#stream.resume()
  }

  /** Ignores everything from now on. */
  stop(): void {
    this.#stopped = true
    this.#backlog = []
  }

  /** Gives up the block of an unfinished frame. Only after the stream has closed: until then it may be written to. */
  takeUnfinishedBlock(): Block | null {
    const block = this.#block
    this.#block = null
    return block
  }

  #hold(rest: Uint8Array): void {
    this.held = true
    if (rest.length > 0) this.#backlog.unshift(rest.slice())
    this.#stream.pause()
  }

  #take(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.length && !this.#stopped) {
      if (this.#header !== null) {
        at = this.#takePayload(chunk, at, this.#header)
        continue
      }
      if (this.#headerFilled === 0 && !this.#owner.mayBegin()) {
        this.#hold(chunk.subarray(at))
        return
      }
      at = this.#takeHeader(chunk, at)
      if (this.#header !== null && !this.#place(this.#header)) {
        this.#hold(chunk.subarray(at))
        return
      }
    }
    this.#receiveRestInPlace()
  }

  #takeHeader(chunk: Uint8Array, at: number): number {
    const end = Math.min(at + FRAME_HEADER_BYTES - this.#headerFilled, chunk.length)
    this.#headerBytes.set(chunk.subarray(at, end), this.#headerFilled)
    this.#headerFilled += end - at
    if (this.#first && this.#headerFilled >= 4) {
      this.#first = false
      this.#owner.checkFirstBytes(this.#headerBytes.subarray(0, this.#headerFilled))
    }
    if (this.#headerFilled === FRAME_HEADER_BYTES) this.#header = readFrameHeader(this.#headerView, 0)
    return end
  }

  /** Finds the place for a payload; false when it has to wait for memory. */
  #place(header: FrameHeader): boolean {
    const place = this.#owner.placeOf(header)
    this.#filled = 0
    if (header.length === 0) {
      this.#finish(header)
      return true
    }
    if (place === 'block') {
      this.#block = this.#owner.allocate(header.length)
      if (this.#block === null) return false
    }
    this.#placed = true
    return true
  }

  #takePayload(chunk: Uint8Array, at: number, header: FrameHeader): number {
    const end = Math.min(at + header.length - this.#filled, chunk.length)
    if (this.#block !== null) {
      this.#block.bytes.set(chunk.subarray(at, end), this.#filled)
    } else if (this.#filled === 0 && end - at === header.length) {
      this.#gathered = chunk.subarray(at, end)
    } else {
      this.#gathered ??= new Uint8Array(header.length)
      this.#gathered.set(chunk.subarray(at, end), this.#filled)
    }
    this.#filled += end - at
    if (this.#filled === header.length) this.#finish(header)
    return end
  }

  #receiveRestInPlace(): void {
    if (this.#block === null || this.#header === null || this.#backlog.length > 0 || this.#runBytes > 0) return
    const rest = this.#header.length - this.#filled
    if (rest < RECEIVE_IN_PLACE_BYTES) return
    this.#runBytes = Math.min(rest, this.#maxRunBytes)
    this.#stream.receiveInto(this.#block, this.#filled, this.#runBytes)
  }

  #finish(header: FrameHeader): void {
    const block = this.#block
    const payload = block !== null ? block.bytes.subarray(0, header.length) : (this.#gathered ?? NO_BYTES)
    this.#header = null
    this.#headerFilled = 0
    this.#gathered = null
    this.#block = null
    this.#placed = false
    this.#owner.onFrame(header, payload, block)
  }
}
