// The buddy system (Knowlton 1965) over chunks of memory of any kind: a block of order n is two of order n - 1 side by side.
// Merging at once on release keeps large blocks available after any pattern of use, so one budget serves all size classes.
import assert from 'node:assert/strict'
import type { Block } from '../environment.js'

/** The smallest block, and what every size class is a power-of-two multiple of. */
export const SMALLEST_BYTES = 4096

/** `split` blocks are represented by their halves, `merged` ones by the block they became part of. */
export type BlockState = 'free' | 'used' | 'split' | 'merged'

export interface BuddyChunk<B> {
  /** Of the one block that is the whole chunk. */
  readonly order: number
  /** Blocks made so far, by order, then by position in units of the order's size. */
  readonly blocks: ((B | undefined)[] | undefined)[]
}

export interface BuddyBlock<B> extends Block {
  readonly chunk: BuddyChunk<B>
  readonly order: number
  readonly position: number
  /** 'merged' for one just made. */
  state: BlockState
  /** Position in the free list of its order; meaningful only while free. */
  freeAt: number
}

export interface BuddySource<B, C extends BuddyChunk<B>> {
  /** A new chunk that holds a block of `order`; null when there is no more memory. */
  grow(order: number): C | null
  makeBlock(chunk: C, order: number, position: number, byteLength: number): B
}

export class BuddyBlocks<C extends BuddyChunk<B>, B extends BuddyBlock<B> & { readonly chunk: C }> {
  usedBytes = 0
  readonly #free: B[][] = []

  constructor(private readonly source: BuddySource<B, C>) {}

  /** A block of at least so many bytes, above zero; null when there is no more memory. */
  take(byteLength: number): B | null {
    assert(Number.isSafeInteger(byteLength) && byteLength > 0, 'a block has a length above zero')
    const order = orderOf(byteLength)
    let found = order
    while (found < this.#free.length && this.#free[found]!.length === 0) found++
    if (found >= this.#free.length) {
      const chunk = this.source.grow(order)
      if (chunk === null) return null
      found = chunk.order
      while (this.#free.length <= found) this.#free.push([])
      this.#pushFree(this.#blockAt(chunk, found, 0))
    }
    let block = this.#free[found]!.pop()!
    while (block.order > order) {
      block.state = 'split'
      const half = block.order - 1
      this.#pushFree(this.#blockAt(block.chunk, half, block.position * 2 + 1))
      block = this.#blockAt(block.chunk, half, block.position * 2)
    }
    block.state = 'used'
    this.usedBytes += block.byteLength
    return block
  }

  /** The block is in use: whoever calls this has seen to that. */
  giveBack(block: B): void {
    this.usedBytes -= block.byteLength
    let whole = block
    while (whole.order < whole.chunk.order) {
      const buddy = whole.chunk.blocks[whole.order]?.[whole.position ^ 1]
      if (buddy?.state !== 'free') break
      this.#removeFree(buddy)
      buddy.state = 'merged'
      whole.state = 'merged'
      whole = this.#blockAt(whole.chunk, whole.order + 1, whole.position >> 1)
    }
    this.#pushFree(whole)
  }

  #blockAt(chunk: C, order: number, position: number): B {
    // Made at full length: an array filled from its end would turn into a slow dictionary.
    chunk.blocks[order] ??= new Array<B | undefined>(2 ** (chunk.order - order))
    const row = chunk.blocks[order]!
    row[position] ??= this.source.makeBlock(chunk, order, position, SMALLEST_BYTES * 2 ** order)
    return row[position]!
  }

  #pushFree(block: B): void {
    const list = this.#free[block.order]!
    block.state = 'free'
    block.freeAt = list.length
    list.push(block)
  }

  /** Takes a block out of the middle of its list: the last one moves into its place. */
  #removeFree(block: B): void {
    const list = this.#free[block.order]!
    const last = list.pop()!
    if (last === block) return
    list[block.freeAt] = last
    last.freeAt = block.freeAt
  }
}

/** Of the largest chunk that a request for `wantedBytes` may get from the bytes that remain; negative for none. */
export function chunkOrderOf(wantedBytes: number, remainingBytes: number): number {
  return Math.floor(Math.log2(Math.min(wantedBytes, remainingBytes) / SMALLEST_BYTES))
}

function orderOf(byteLength: number): number {
  return byteLength <= SMALLEST_BYTES ? 0 : 32 - Math.clz32(Math.ceil(byteLength / SMALLEST_BYTES) - 1)
}
