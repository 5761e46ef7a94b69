// The written slots that nobody owns, by size: thousands of them may be free when a large topic is gone.
import { Fifo } from '../fifo.js'
import type { Slot } from './slot.js'
import { maxGroupBytesOf } from './slot-layout.js'

export class FreeSlots {
  size = 0
  private readonly bySize = new Map<number, Fifo<Slot>>()

  add(slot: Slot): void {
    const alike = this.bySize.get(slot.byteLength) ?? new Fifo<Slot>()
    this.bySize.set(slot.byteLength, alike)
    alike.push(slot)
    this.size++
  }

  countOf(slotBytes: number): number {
    return this.bySize.get(slotBytes)?.length ?? 0
  }

  /**
   * The slot nearest in size that holds `groupBytes`: the wanted size, then a little larger, then the largest smaller one; of
   * those the one that is free for longest. Null when there is none from `smallestBytes` to `largestBytes`.
   */
  take(groupBytes: number, slotBytes: number, smallestBytes: number, largestBytes: number): Slot | null {
    let best = 0
    for (const [bytes, { length }] of this.bySize) {
      if (length === 0 || maxGroupBytesOf(bytes) < groupBytes) continue
      if (bytes > largestBytes || bytes < smallestBytes) continue
      if (best === 0 || isNearer(bytes, best, slotBytes)) best = bytes
    }
    const slot = this.bySize.get(best)?.shift()
    if (slot === undefined) return null
    this.size--
    return slot
  }
}

function isNearer(candidate: number, best: number, wanted: number): boolean {
  if (candidate >= wanted) return best < wanted || candidate < best
  return best < wanted && candidate > best
}
