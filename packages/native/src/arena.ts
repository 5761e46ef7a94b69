// Memory of the addon that the kernel may use while I/O is in flight, mapped into JavaScript once.
import { type Binding, binding } from './binding.js'

export class Arena {
  readonly handle: number
  /** Where the arena begins, for submissions. */
  readonly address: number
  readonly byteLength: number
  /** Length 0 after `close`. */
  readonly buffer: ArrayBuffer
  readonly hugePages: boolean
  private readonly native: Binding

  /** @param byteLength a multiple of 4,096, at most 1 GiB. @throws with code ERR_MILLRACE_SYSTEM when memory is refused. */
  constructor(byteLength: number) {
    this.native = binding()
    const opened = this.native.arenaOpen(byteLength)
    this.handle = opened.handle
    this.address = opened.address
    this.buffer = opened.buffer
    this.hugePages = opened.hugePages
    this.byteLength = byteLength
  }

  /**
   * Takes the memory back from JavaScript and unmaps it; false when it has to stay mapped because a ring was leaked.
   * @throws with errno EBUSY while a ring of this thread has I/O in flight: close the ring first.
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
