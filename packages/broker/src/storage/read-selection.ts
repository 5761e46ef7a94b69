// Chooses the batches of one read, whether they come from memory or from disk.
import { ATTRIBUTE_CONTROL, type BatchHeader, LOG_PART_BYTES, readU64 } from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { Group } from './group.js'
import { ENVELOPE_BYTES } from './group-envelope.js'
import type { ReadPlace } from './read-place.js'

export interface Piece {
  readonly block: Block
  readonly offset: number
  readonly length: number
}

/** Offset after the last record of a batch; control batches take none. */
export function endOffsetOf(baseOffset: number, header: Pick<BatchHeader, 'control' | 'lastOffsetDelta'>): number {
  return header.control ? baseOffset : baseOffset + header.lastOffsetDelta + 1
}

/** Adds up the batches of a read. */
export class ReadSelection {
  batchCount = 0
  byteLength = 0
  decodedBytes = 0
  /** Of the batches taken; 0 before the first one is. */
  firstIndex = 0
  lastIndex = 0
  /** Offset behind the batches taken. */
  nextOffset = 0

  constructor(
    readonly place: ReadPlace,
    readonly maxBytes: number,
    readonly limitIndex: number,
  ) {}

  /** Whether one more batch of so many bytes is within what was asked for. */
  mayTake(byteLength: number): boolean {
    return this.batchCount === 0 || this.byteLength + byteLength <= this.maxBytes
  }

  /**
   * Whether a batch lies 'before' the wanted place, is now 'taken', or is past the 'end' of the read. Control batches take
   * no offset, so several batches may end at one; indexes tell every batch apart.
   */
  offer(index: number, endOffset: number, byteLength: number, decodedBytes: number): 'before' | 'taken' | 'end' {
    const { by, at } = this.place
    if (index > this.limitIndex) return 'end'
    if (this.batchCount === 0) {
      if (by === 'offset' ? endOffset <= at : index < at) return 'before'
      if (by === 'index' && index > at) return 'end'
      this.firstIndex = index
      // While a read waited for the disk the log may have been cut off, and what came instead stands behind.
    } else if (index !== this.lastIndex + 1) return 'end'
    if (!this.mayTake(byteLength)) return 'end'
    this.batchCount++
    this.lastIndex = index
    this.byteLength += byteLength
    this.decodedBytes += decodedBytes
    this.nextOffset = endOffset
    return 'taken'
  }

  /** Takes what it can of a group in memory; `ended` when the read is complete. */
  takeFrom(group: Group): { readonly piece: Piece | null; readonly ended: boolean } {
    const { block } = group.extent
    const { view } = block
    let at = group.start + ENVELOPE_BYTES
    let from = -1
    for (let i = 0; i < group.batchCount; i++) {
      const clientAt = at + LOG_PART_BYTES
      const byteLength = LOG_PART_BYTES + view.getUint32(at + 32, true)
      const control = (view.getUint16(clientAt + 22, true) & ATTRIBUTE_CONTROL) !== 0
      const endOffset = endOffsetOf(readU64(view, at + 8), {
        control,
        lastOffsetDelta: view.getUint32(clientAt + 52, true),
      })
      const offered = this.offer(readU64(view, at + 16), endOffset, byteLength, view.getUint32(clientAt + 56, true))
      if (offered === 'end') return { piece: from < 0 ? null : { block, offset: from, length: at - from }, ended: true }
      if (offered === 'taken' && from < 0) from = at
      at += byteLength
    }
    return { piece: from < 0 ? null : { block, offset: from, length: at - from }, ended: false }
  }
}

/** The first group of the tail that reaches to a place. */
export function groupOfPlace(tail: readonly Group[], { by, at }: ReadPlace): number {
  let low = 0
  let high = tail.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const { nextOffset, lastIndex } = tail[middle]!
    if (by === 'offset' ? nextOffset <= at : lastIndex < at) low = middle + 1
    else high = middle
  }
  return low
}
