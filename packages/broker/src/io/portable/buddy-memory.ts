// Memory of the portable environment: page-aligned blocks cut out of WebAssembly memory by the buddy system.
import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import type { Block, Logger, Memory } from '../../environment.js'

/** The part of WebAssembly used here: the compiler knows it only together with the DOM. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer }
}

/** The smallest block, and what every size class is a power-of-two multiple of. */
const SMALLEST_BYTES = 4096
/** Memory grows in chunks of at least this: few chunks keep the address space that the engine reserves for each small. */
const CHUNK_BYTES = 64 * 1024 * 1024
const WASM_PAGE_BYTES = 65_536

interface Chunk {
  readonly buffer: ArrayBuffer
  readonly order: number
  /** Blocks made so far, by order, then by position in units of the order's size. */
  readonly blocks: (BuddyBlock | undefined)[][]
}

/** `split` blocks are represented by their halves, `merged` ones by the block they became part of. */
type BlockState = 'free' | 'used' | 'split' | 'merged'

class BuddyBlock implements Block {
  readonly bytes: Uint8Array
  readonly view: DataView
  state: BlockState = 'merged'
  /** Position in the free list of its order; meaningful only while free. */
  freeAt = -1

  constructor(
    readonly owner: BuddyMemory,
    readonly chunk: Chunk,
    readonly order: number,
    readonly position: number,
    readonly byteLength: number,
  ) {
    this.bytes = new Uint8Array(chunk.buffer, position * byteLength, byteLength)
    this.view = new DataView(chunk.buffer, position * byteLength, byteLength)
  }
}

/**
 * The buddy system (Knowlton 1965): a block of order n is two of order n - 1 side by side. Merging at once on release
 * keeps large blocks available after any pattern of use, so one budget serves all size classes.
 *
 * `WebAssembly.Memory` is the one allocation in plain JavaScript that starts on a page, which O_DIRECT needs. Its pages
 * are touched only when written, so growing by whole chunks costs address space, not memory.
 */
export class BuddyMemory implements Memory {
  usedBytes = 0
  private chunkedBytes = 0
  private exhausted = false
  private readonly free: BuddyBlock[][] = []
  private readonly logger: Logger

  constructor(
    readonly budgetBytes: number,
    logger: Logger,
  ) {
    assert(Number.isSafeInteger(budgetBytes) && budgetBytes >= SMALLEST_BYTES, 'memory budget of at least 4,096 bytes')
    this.logger = logger
  }

  allocate(byteLength: number): Block | null {
    assert(Number.isSafeInteger(byteLength) && byteLength > 0, 'a block has a length above zero')
    const order = orderOf(byteLength)
    let found = order
    while (found < this.free.length && this.freeList(found).length === 0) found++
    if (found >= this.free.length) {
      const grown = this.grow(order)
      if (grown === null) return null
      found = grown
    }
    let block = this.popFree(found)
    while (block.order > order) {
      block.state = 'split'
      const half = block.order - 1
      this.pushFree(this.blockAt(block.chunk, half, block.position * 2 + 1))
      block = this.blockAt(block.chunk, half, block.position * 2)
    }
    block.state = 'used'
    this.usedBytes += block.byteLength
    return block
  }

  release(block: Block): void {
    assert(block instanceof BuddyBlock && block.owner === this, 'a block goes back to the memory it came from')
    assert(block.state === 'used', `a block is released once; this one is ${block.state}`)
    this.usedBytes -= block.byteLength
    let whole = block
    while (whole.order < whole.chunk.order) {
      const buddy = whole.chunk.blocks[whole.order]?.[whole.position ^ 1]
      if (buddy?.state !== 'free') break
      this.removeFree(buddy)
      buddy.state = 'merged'
      whole.state = 'merged'
      whole = this.blockAt(whole.chunk, whole.order + 1, whole.position >> 1)
    }
    this.pushFree(whole)
  }

  checksum(block: Block, offset: number, length: number, seed: number): number {
    assertRange(block, offset, length)
    return crc32(block.bytes.subarray(offset, offset + length), seed)
  }

  copyWithChecksum(
    target: Block,
    targetOffset: number,
    source: Block,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number {
    assertRange(target, targetOffset, length)
    assertRange(source, sourceOffset, length)
    const copied = target.bytes.subarray(targetOffset, targetOffset + length)
    copied.set(source.bytes.subarray(sourceOffset, sourceOffset + length))
    return crc32(copied, seed)
  }

  /** Adds a chunk that holds a block of `order`; its order, or null when the budget does not allow it. */
  private grow(order: number): number | null {
    if (this.exhausted) return null
    const remaining = this.budgetBytes - this.chunkedBytes
    const wanted = Math.max(CHUNK_BYTES, SMALLEST_BYTES * 2 ** order)
    const chunkOrder = Math.floor(Math.log2(Math.min(wanted, remaining) / SMALLEST_BYTES))
    if (chunkOrder < order) return null
    const byteLength = SMALLEST_BYTES * 2 ** chunkOrder
    const buffer = this.newBuffer(byteLength)
    if (buffer === null) return null
    this.chunkedBytes += byteLength
    while (this.free.length <= chunkOrder) this.free.push([])
    this.pushFree(this.blockAt({ buffer, order: chunkOrder, blocks: [] }, chunkOrder, 0))
    return chunkOrder
  }

  private newBuffer(byteLength: number): ArrayBuffer | null {
    try {
      return new WebAssembly.Memory({ initial: Math.ceil(byteLength / WASM_PAGE_BYTES) }).buffer
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

  private blockAt(chunk: Chunk, order: number, position: number): BuddyBlock {
    while (chunk.blocks.length <= order) chunk.blocks.push([])
    const row = chunk.blocks[order]!
    row[position] ??= new BuddyBlock(this, chunk, order, position, SMALLEST_BYTES * 2 ** order)
    return row[position]
  }

  private freeList(order: number): BuddyBlock[] {
    return this.free[order]!
  }

  private pushFree(block: BuddyBlock): void {
    const list = this.freeList(block.order)
    block.state = 'free'
    block.freeAt = list.length
    list.push(block)
  }

  private popFree(order: number): BuddyBlock {
    return this.freeList(order).pop()!
  }

  /** Takes a block out of the middle of its list: the last one moves into its place. */
  private removeFree(block: BuddyBlock): void {
    const list = this.freeList(block.order)
    const last = list.pop()!
    if (last === block) return
    list[block.freeAt] = last
    last.freeAt = block.freeAt
  }
}

function orderOf(byteLength: number): number {
  return Math.max(0, Math.ceil(Math.log2(byteLength / SMALLEST_BYTES)))
}

function assertRange(block: Block, offset: number, length: number): void {
  assert(offset >= 0 && length >= 0 && offset + length <= block.byteLength, 'a range lies inside its block')
}
