// Memory of the portable environment: page-aligned blocks cut out of WebAssembly memory by the buddy system.
import assert from 'node:assert/strict'
import { crc32 } from 'node:zlib'
import type { Block, Logger, Memory } from '../../environment.js'
import {
  type BlockState,
  type BuddyBlock,
  BuddyBlocks,
  type BuddyChunk,
  chunkOrderOf,
  SMALLEST_BYTES,
} from '../buddy-blocks.js'

/** The part of WebAssembly used here: the compiler knows it only together with the DOM. */
declare const WebAssembly: {
  readonly Memory: new (size: { readonly initial: number }) => { readonly buffer: ArrayBuffer }
}

/** Memory grows in chunks of at least this: few chunks keep the address space that the engine reserves for each small. */
const CHUNK_BYTES = 64 * 1024 * 1024
const WASM_PAGE_BYTES = 65_536

interface Chunk extends BuddyChunk<PortableBlock> {
  readonly buffer: ArrayBuffer
}

class PortableBlock implements BuddyBlock<PortableBlock> {
  readonly bytes: Uint8Array
  readonly view: DataView
  state: BlockState = 'merged'
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
 * `WebAssembly.Memory` is the one allocation in plain JavaScript that starts on a page, which O_DIRECT needs. Its pages
 * are touched only when written, so growing by whole chunks costs address space, not memory.
 */
export class BuddyMemory implements Memory {
  private chunkedBytes = 0
  private exhausted = false
  private readonly blocks = new BuddyBlocks<Chunk, PortableBlock>({
    grow: (order) => this.grow(order),
    makeBlock: (chunk, order, position, byteLength) => new PortableBlock(this, chunk, order, position, byteLength),
  })

  constructor(
    readonly budgetBytes: number,
    private readonly logger: Logger,
  ) {
    assert(Number.isSafeInteger(budgetBytes) && budgetBytes >= SMALLEST_BYTES, 'memory budget of at least 4,096 bytes')
  }

  get usedBytes(): number {
    return this.blocks.usedBytes
  }

  allocate(byteLength: number): Block | null {
    return this.blocks.take(byteLength)
  }

  release(block: Block): void {
    assert(block instanceof PortableBlock && block.owner === this, 'a block goes back to the memory it came from')
    assert(block.state === 'used', `a block is released once; this one is ${block.state}`)
    this.blocks.giveBack(block)
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

  /** A chunk that holds a block of `order`, or null when the budget does not allow it. */
  private grow(order: number): Chunk | null {
    if (this.exhausted) return null
    const wanted = Math.max(CHUNK_BYTES, SMALLEST_BYTES * 2 ** order)
    const chunkOrder = chunkOrderOf(wanted, this.budgetBytes - this.chunkedBytes)
    if (chunkOrder < order) return null
    const byteLength = SMALLEST_BYTES * 2 ** chunkOrder
    const buffer = this.newBuffer(byteLength)
    if (buffer === null) return null
    this.chunkedBytes += byteLength
    return { buffer, order: chunkOrder, blocks: [] }
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
}

function assertRange(block: Block, offset: number, length: number): void {
  assert(offset >= 0 && length >= 0 && offset + length <= block.byteLength, 'a range lies inside its block')
}
