// Memory of the ring environment: blocks cut out of native arenas by the buddy system, registered with the ring.
import assert from 'node:assert/strict'
import { ARENA_MOST_BYTES, Arena, type Binding, binding, errnoName, type Ring } from '@millrace/native'
import type { Block, Logger, Memory } from '../../environment.js'
import {
  type BlockState,
  type BuddyBlock,
  BuddyBlocks,
  type BuddyChunk,
  chunkOrderOf,
  SMALLEST_BYTES,
} from '../buddy-blocks.js'

/**
 * A registered chunk is committed at once, which takes some 0.2 ms a MiB: chunks begin small, grow with what is used, and
 * stay small enough not to be felt.
 */
const FIRST_CHUNK_BYTES = 4 * 1024 * 1024
const LARGEST_STEP_BYTES = 16 * 1024 * 1024
const MOST_REGISTERED_CHUNKS = 16_384

interface Chunk extends BuddyChunk<RingBlock> {
  readonly arena: Arena
  /** Index of the fixed buffer, or -1 when the kernel refused to register it. */
  readonly bufferIndex: number
}

export class RingBlock implements BuddyBlock<RingBlock> {
  readonly bytes: Uint8Array
  readonly view: DataView
  /** Where the block begins, for submissions. */
  readonly address: number
  readonly arenaHandle: number
  readonly arenaOffset: number
  readonly bufferIndex: number
  state: BlockState = 'merged'
  freeAt = -1
  /** Operations that use the block: it must not be released meanwhile. */
  pins = 0

  constructor(
    readonly owner: RingMemory,
    readonly chunk: Chunk,
    readonly order: number,
    readonly position: number,
    readonly byteLength: number,
  ) {
    this.arenaOffset = position * byteLength
    this.arenaHandle = chunk.arena.handle
    this.address = chunk.arena.address + this.arenaOffset
    this.bufferIndex = chunk.bufferIndex
    this.bytes = new Uint8Array(chunk.arena.buffer, this.arenaOffset, byteLength)
    this.view = new DataView(chunk.arena.buffer, this.arenaOffset, byteLength)
  }
}

export class RingMemory implements Memory {
  private chunkedBytes = 0
  private exhausted = false
  private closed = false
  private registering: boolean
  private readonly chunks: Chunk[] = []
  private readonly blocks = new BuddyBlocks<Chunk, RingBlock>({
    grow: (order) => this.grow(order),
    makeBlock: (chunk, order, position, byteLength) => new RingBlock(this, chunk, order, position, byteLength),
  })
  private readonly native: Binding

  /** @param register whether chunks become fixed buffers of the ring. */
  constructor(
    readonly budgetBytes: number,
    private readonly ring: Ring,
    private readonly logger: Logger,
    register: boolean,
  ) {
    assert(Number.isSafeInteger(budgetBytes) && budgetBytes >= SMALLEST_BYTES, 'memory budget of at least 4,096 bytes')
    this.native = binding()
    const slots = Math.min(MOST_REGISTERED_CHUNKS, Math.ceil(budgetBytes / FIRST_CHUNK_BYTES) + 32)
    this.registering = register && this.accepted(ring.registerBufferTable(slots))
  }

  /** Whether all memory so far is registered with the ring. */
  get registered(): boolean {
    return this.registering
  }

  get usedBytes(): number {
    return this.blocks.usedBytes
  }

  allocate(byteLength: number): Block | null {
    return this.closed ? null : this.blocks.take(byteLength)
  }

  release(block: Block): void {
    const own = this.own(block)
    assert(own.pins === 0, 'a block is released when no operation uses it any more')
    this.blocks.giveBack(own)
  }

  checksum(block: Block, offset: number, length: number, seed: number): number {
    const own = this.ownRange(block, offset, length)
    return this.native.checksum(own.arenaHandle, own.arenaOffset + offset, length, seed)
  }

  copyWithChecksum(
    target: Block,
    targetOffset: number,
    source: Block,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number {
    const to = this.ownRange(target, targetOffset, length)
    const from = this.ownRange(source, sourceOffset, length)
    return this.native.copyWithChecksum(
      to.arenaHandle,
      to.arenaOffset + targetOffset,
      from.arenaHandle,
      from.arenaOffset + sourceOffset,
      length,
      seed,
    )
  }

  /** A block handed out by this memory and not released, with a range inside of it. Anything else is a bug. */
  ownRange(block: Block, offset: number, length: number): RingBlock {
    const own = this.own(block)
    assert(
      Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0,
      'offset and length of a range are whole numbers',
    )
    assert(offset + length <= own.byteLength, 'a range lies inside its block')
    return own
  }

  /** Gives the memory back to the system, unless a leaked ring may still use it. The ring was closed before. */
  close(): void {
    this.closed = true
    for (const chunk of this.chunks) chunk.arena.close()
  }

  private own(block: Block): RingBlock {
    assert(block instanceof RingBlock && block.owner === this, 'a block belongs to the memory it came from')
    assert(block.state === 'used', `a block is used between allocation and release; this one is ${block.state}`)
    return block
  }

  /** A chunk that holds a block of `order`, or null when the budget does not allow it. */
  private grow(order: number): Chunk | null {
    if (this.exhausted) return null
    const step = Math.min(Math.max(this.chunkedBytes, FIRST_CHUNK_BYTES), LARGEST_STEP_BYTES)
    const wanted = Math.max(step, SMALLEST_BYTES * 2 ** order)
    const chunkOrder = chunkOrderOf(wanted, this.budgetBytes - this.chunkedBytes)
    const byteLength = SMALLEST_BYTES * 2 ** chunkOrder
    if (chunkOrder < order || byteLength > ARENA_MOST_BYTES) return null
    const arena = this.openArena(byteLength)
    if (arena === null) return null
    this.chunkedBytes += byteLength
    const chunk: Chunk = { arena, bufferIndex: this.register(arena), order: chunkOrder, blocks: [] }
    this.chunks.push(chunk)
    return chunk
  }

  private openArena(byteLength: number): Arena | null {
    try {
      return new Arena(byteLength, this.ring)
    } catch (cause) {
      // The machine gives less than the budget promises: from now on that is the budget, as for any caller.
      this.exhausted = true
      this.logger.error(
        { wantedBytes: byteLength, haveBytes: this.chunkedBytes, budgetBytes: this.budgetBytes, cause },
        'the machine refused memory within the configured budget; lower the memory setting or free memory',
      )
      return null
    }
  }

  private register(arena: Arena): number {
    const index = this.chunks.length
    if (!this.registering || index >= MOST_REGISTERED_CHUNKS) return -1
    this.registering = this.accepted(this.ring.registerBuffer(index, arena.handle))
    return this.registering ? index : -1
  }

  private accepted(answer: number): boolean {
    if (answer >= 0) return true
    this.logger.warn(
      { error: errnoName(answer), registeredBytes: this.chunkedBytes },
      'the kernel registers no further memory, so disk I/O costs more CPU; raise the limit on locked memory (ulimit -l)',
    )
    return false
  }
}
