// Where one log gets the memory for its next group: small pieces while it is quiet, large ones while it is busy.
import { BLOCK_BYTES } from '../environment.js'
import type { AppendMemory, Extent } from './append-memory.js'

const FIRST_EXTENT_BYTES = 4 * BLOCK_BYTES

export class ExtentSource {
  private current: Extent | null = null
  /** Allocated ahead, so that an append that was told there is room finds it. */
  private reserved: Extent | null = null
  private wantedBytes: number

  constructor(
    private readonly memory: AppendMemory,
    private readonly largestBytes: number,
  ) {
    this.wantedBytes = Math.min(FIRST_EXTENT_BYTES, largestBytes)
  }

  /** Makes sure that `take` will succeed. `openBytes` are used of the current extent beyond what is counted yet. */
  ensure(byteLength: number, openBytes: number): boolean {
    if (this.current !== null && this.current.freeBytes - openBytes >= byteLength) return true
    if (this.reserved !== null) {
      if (this.reserved.freeBytes >= byteLength) return true
      this.memory.drop(this.reserved)
    }
    this.reserved = this.allocate(byteLength)
    return this.reserved !== null
  }

  /** An extent with `byteLength` free bytes and a hold for the caller; null when memory is short. */
  take(byteLength: number): Extent | null {
    if (this.current !== null && this.current.freeBytes >= byteLength) {
      this.memory.hold(this.current)
      return this.current
    }
    let next = this.reserved
    if (next !== null && next.freeBytes >= byteLength) this.reserved = null
    else next = this.allocate(byteLength)
    if (next === null) return null
    if (this.current !== null) {
      // The last one did not even last until the log fell idle.
      this.wantedBytes = Math.min(this.wantedBytes * 2, this.largestBytes)
      this.memory.drop(this.current)
    }
    this.current = next
    this.memory.hold(next)
    return next
  }

  /** The log has nothing under way: it holds on to no memory. */
  idle(): void {
    if (this.current !== null && this.current.usedBytes * 4 <= this.current.block.byteLength) {
      this.wantedBytes = Math.max(BLOCK_BYTES, this.wantedBytes / 2)
    }
    if (this.current !== null) this.memory.drop(this.current)
    if (this.reserved !== null) this.memory.drop(this.reserved)
    this.current = null
    this.reserved = null
  }

  private allocate(byteLength: number): Extent | null {
    const wanted = Math.max(byteLength, this.wantedBytes)
    return this.memory.allocate(wanted) ?? (wanted > byteLength ? this.memory.allocate(byteLength) : null)
  }
}
