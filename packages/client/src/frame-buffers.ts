// Memory of frames whose batches are finished, for the frames to come. Only subscriptions that ask for it give memory back
// (`batches({ reuseMemory: true })`): all others hand out views that stay valid for ever, and leave the rest to the collector,
// which costs more than receiving the bytes does.
import { IDLE_FRAME_BYTES } from './limits.js'

export class FrameBuffers {
  readonly #allocate: (byteLength: number) => Uint8Array
  readonly #idle: ArrayBufferLike[] = []
  #idleBytes = 0
  /** Nobody gives anything back before somebody has asked for it, and nothing need be remembered. */
  #isWanted = false
  /** Buffers that hold one frame each: others are pieces of what was received along with them. */
  readonly #lent = new WeakSet<ArrayBufferLike>()

  constructor(allocate: (byteLength: number) => Uint8Array = (byteLength) => new Uint8Array(byteLength)) {
    this.#allocate = allocate
  }

  /** From now on frames may come back. */
  want(): this {
    this.#isWanted = true
    return this
  }

  /** Memory for one frame; it may hold anything. */
  readonly take = (byteLength: number): Uint8Array => {
    const frame = this.#reused(byteLength) ?? this.#allocate(byteLength)
    if (this.#isWanted) this.#lent.add(frame.buffer)
    return frame
  }

  #reused(byteLength: number): Uint8Array | null {
    const idle = this.#idle
    for (let at = idle.length - 1; at >= 0; at--) {
      const buffer = idle[at]!
      // Much larger ones are kept for frames of their size.
      if (buffer.byteLength < byteLength || buffer.byteLength > 2 * byteLength) continue
      idle.splice(at, 1)
      this.#idleBytes -= buffer.byteLength
      return new Uint8Array(buffer, 0, byteLength)
    }
    return null
  }

  /** Invariant: nobody reads the frame any more. One that was not taken here is left alone. */
  giveBack({ buffer }: Uint8Array): void {
    if (!this.#lent.delete(buffer) || this.#idleBytes + buffer.byteLength > IDLE_FRAME_BYTES) return
    this.#idle.push(buffer)
    this.#idleBytes += buffer.byteLength
  }
}
