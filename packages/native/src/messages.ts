// Scatter lists for sends: message headers and vectors in an arena, reused once the kernel has taken the submissions.
import type { Arena } from './arena.js'
import * as layout from './layout.js'
import type { Ring } from './ring.js'

const HEADERS = 64
/** Ranges in one message. */
export const MESSAGE_RANGES = 16
const VECTOR_BYTES = 16
const STRIDE = 512
const TWO_TO_32 = 4_294_967_296

/** Rings here stay submitted-stable: the kernel copies header and vectors while it takes a submission. */
export class MessageHeaders {
  static readonly BYTES = HEADERS * STRIDE
  private readonly words: Uint32Array
  private readonly address: number
  private used = 0
  private ranges = 0

  constructor(
    private readonly ring: Ring,
    arena: Arena,
    offset: number,
  ) {
    this.words = new Uint32Array(arena.buffer, offset, MessageHeaders.BYTES / 4)
    this.address = arena.address + offset
  }

  /** Begins a message; false when every header waits in submissions that the kernel does not take now. */
  begin(): boolean {
    if (this.used === HEADERS && this.ring.unsubmitted > 0) this.ring.submit()
    if (this.ring.unsubmitted === 0) this.used = 0
    if (this.used === HEADERS) return false
    this.ranges = 0
    return true
  }

  /** Adds a range to the message begun; false when it is full. */
  add(address: number, length: number): boolean {
    if (this.ranges === MESSAGE_RANGES) return false
    const word = (this.used * STRIDE + layout.MESSAGE_HEADER_BYTES + this.ranges * VECTOR_BYTES) / 4
    this.words[word] = address
    this.words[word + 1] = address / TWO_TO_32
    this.words[word + 2] = length
    this.words[word + 3] = 0
    this.ranges++
    return true
  }

  /** Completes the message; the address of its header. */
  finish(): number {
    const word = (this.used * STRIDE) / 4
    const address = this.address + this.used * STRIDE
    const vectors = address + layout.MESSAGE_HEADER_BYTES
    this.words.fill(0, word, word + layout.MESSAGE_HEADER_BYTES / 4)
    this.words[word + 4] = vectors
    this.words[word + 5] = vectors / TWO_TO_32
    this.words[word + 6] = this.ranges
    this.used++
    return address
  }
}
