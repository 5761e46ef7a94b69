// Memory of batches that were acknowledged, for the next ones: touching fresh pages costs several times as much as
// copying the records. A buffer comes back only when nobody can still read it; whoever returns it knows that.
import { MAX_BATCH_BYTES } from '@millrace/protocol'

const SMALLEST_BYTES = 4096
/** Builders grow by this factor, so that buffers of these sizes come back. */
const GROWTH = 4
const MAX_IDLE_BYTES = 8 * 1024 * 1024

export class BatchBuffers {
  readonly #idle = new Map<number, Uint8Array[]>()
  #idleBytes = 0

  /** A buffer in which a batch of the size expected probably fits; its contents are undefined. */
  take(expectedBytes: number): Uint8Array {
    const size = sizeFor(expectedBytes)
    const buffer = this.#idle.get(size)?.pop()
    if (buffer === undefined) return new Uint8Array(size)
    this.#idleBytes -= size
    return buffer
  }

  /** Invariant: no link will send from it and no builder writes to it any more. */
  giveBack({ buffer }: Uint8Array): void {
    const { byteLength } = buffer
    if (this.#idleBytes + byteLength > MAX_IDLE_BYTES || sizeFor(byteLength) !== byteLength) return
    const whole = new Uint8Array(buffer)
    const idle = this.#idle.get(byteLength)
    if (idle === undefined) this.#idle.set(byteLength, [whole])
    else idle.push(whole)
    this.#idleBytes += byteLength
  }
}

function sizeFor(byteLength: number): number {
  let size = SMALLEST_BYTES
  while (size < byteLength && size < MAX_BATCH_BYTES) size *= GROWTH
  return Math.min(size, MAX_BATCH_BYTES)
}
