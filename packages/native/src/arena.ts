// Memory of the addon that the kernel may use while I/O is in flight, mapped into JavaScript once.
import { type Binding, binding } from './binding.js'
import type { Ring } from './ring.js'

export class Arena {
  readonly handle: number
  /** Where the arena begins, for submissions. */
  readonly address: number
  readonly byteLength: number
  /** Length 0 after `close`. */
  readonly buffer: ArrayBuffer
  private readonly native: Binding

  /**
   * @param byteLength a multiple of 4,096, at most 1 GiB.
   * @param ring whose operations will use the memory, which then stays mapped as long as they may; null for none.
   * @throws with code ERR_MILLRACE_SYSTEM when memory is refused.
   */
  constructor(byteLength: number, ring: Ring | null) {
    this.native = binding()
    const opened = this.native.arenaOpen(byteLength, ring?.handle ?? 0)
    this.handle = opened.handle
    this.address = opened.address
    this.buffer = opened.buffer
    this.byteLength = byteLength
  }

  /**
   * Takes the memory back from JavaScript and unmaps it; false when it stays mapped because its ring was leaked.
   * @throws with errno EBUSY while its ring has operations in flight: close the ring first.
   */
  close(): boolean {
    return this.native.arenaClose(this.handle)
  }
}

/** CRC-32 (IEEE) of bytes of an arena, continued from `seed`. @throws RangeError outside of the arena. */
export function checksum(arena: Arena, offset: number, length: number, seed: number): number {
  return binding().checksum(arena.handle, offset, length, seed)
}

/** CRC-32 (IEEE) of any bytes, continued from `seed`. */
export function checksumBytes(bytes: Uint8Array, seed: number): number {
  return binding().checksumBytes(bytes, seed)
}
