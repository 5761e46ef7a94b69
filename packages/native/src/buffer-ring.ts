// Buffers provided to the kernel for receives: it takes one when bytes have come, so that idle sockets hold none.
import type { Arena } from './arena.js'
import { checkAnswer } from './errors.js'
import * as layout from './layout.js'
import type { Ring } from './ring.js'

export interface BufferRingOptions {
  readonly group: number
  /** A power of two, at most 32,768. */
  readonly count: number
  readonly bufferBytes: number
}

const TWO_TO_32 = 4_294_967_296

/**
 * Lies in an arena: first the entries, from `offset` on, then the buffers. The kernel takes entries at the head, this
 * side adds them at the tail, a u16 that shares the first entry with fields the kernel does not read there.
 */
export class BufferRing {
  /** Bytes of the arena a ring of this shape takes. */
  static byteLength(options: BufferRingOptions): number {
    return entryBytes(options.count) + options.count * options.bufferBytes
  }

  readonly group: number
  readonly bufferBytes: number
  private readonly words: Uint32Array
  private readonly halves: Uint16Array
  private readonly mask: number
  private readonly firstBuffer: number
  private readonly arenaBuffer: ArrayBuffer
  private readonly address: number
  private tail = 0

  /** @throws SystemError when the kernel refuses: EINVAL before 5.19. */
  constructor(ring: Ring, arena: Arena, offset: number, options: BufferRingOptions) {
    this.group = options.group
    this.bufferBytes = options.bufferBytes
    this.mask = options.count - 1
    this.firstBuffer = offset + entryBytes(options.count)
    this.arenaBuffer = arena.buffer
    this.address = arena.address
    this.words = new Uint32Array(arena.buffer, offset, options.count * (layout.BUFFER_ENTRY_BYTES / 4))
    this.halves = new Uint16Array(arena.buffer, offset, options.count * (layout.BUFFER_ENTRY_BYTES / 2))
    checkAnswer(
      'io_uring_register(PBUF_RING)',
      ring.registerBufferRing(options.group, options.count, arena.handle, offset),
    )
    for (let id = 0; id < options.count; id++) this.give(id)
  }

  /** The bytes of a buffer the kernel has filled; valid until `give`. */
  bytes(id: number, length: number): Uint8Array {
    return new Uint8Array(this.arenaBuffer, this.firstBuffer + id * this.bufferBytes, length)
  }

  /** Gives a buffer (back) to the kernel. */
  give(id: number): void {
    const entry = this.tail & this.mask
    const address = this.address + this.firstBuffer + id * this.bufferBytes
    const word = entry * (layout.BUFFER_ENTRY_BYTES / 4)
    this.words[word] = address
    this.words[word + 1] = address / TWO_TO_32
    this.words[word + layout.BUFFER_ENTRY_LENGTH / 4] = this.bufferBytes
    this.halves[entry * (layout.BUFFER_ENTRY_BYTES / 2) + layout.BUFFER_ENTRY_ID / 2] = id
    this.tail = (this.tail + 1) & 0xffff
    Atomics.store(this.halves, layout.BUFFER_RING_TAIL / 2, this.tail)
  }
}

function entryBytes(count: number): number {
  return Math.ceil((count * layout.BUFFER_ENTRY_BYTES) / 4096) * 4096
}
