// What logs ask of the slot pool ahead of time, by size, in the order they came.
import type { Slot } from './slot.js'
import { maxGroupBytesOf } from './slot-layout.js'

/** A log's wish for a slot; withdrawn when it has one. */
export interface SlotWish {
  readonly slotBytes: number
  /** The group that the slot has to hold. */
  readonly groupBytes: number
  /** Whether the log's appends wait for it. Only urgent wishes are granted as soon as there is a slot. */
  readonly urgent: boolean
  /** The slot is the log's from now on, the wish withdrawn. */
  grant(slot: Slot): void
  /** The disk has become full, or has space again. */
  lookAgain(): void
}

interface Wishes {
  readonly urgent: Set<SlotWish>
  readonly patient: Set<SlotWish>
}

export class SlotWishes {
  size = 0
  urgentSize = 0
  private readonly bySize = new Map<number, Wishes>()

  constructor(slotBytes: readonly number[]) {
    for (const bytes of slotBytes) this.bySize.set(bytes, { urgent: new Set(), patient: new Set() })
  }

  add(wish: SlotWish): void {
    this.setOf(wish).add(wish)
    this.size++
    if (wish.urgent) this.urgentSize++
  }

  remove(wish: SlotWish): void {
    if (!this.setOf(wish).delete(wish)) return
    this.size--
    if (wish.urgent) this.urgentSize--
  }

  count(slotBytes: number): { readonly urgent: number; readonly all: number } {
    const { urgent, patient } = this.bySize.get(slotBytes)!
    return { urgent: urgent.size, all: urgent.size + patient.size }
  }

  /** The urgent wish that has waited longest for a slot of this size, or one near to it in size that holds its group. */
  urgentFor(slot: Slot, sizesApart: number): SlotWish | null {
    for (const wish of this.bySize.get(slot.byteLength)?.urgent ?? []) return wish
    if (this.urgentSize === 0) return null
    for (const [bytes, { urgent }] of this.bySize) {
      if (slot.byteLength > bytes * sizesApart || slot.byteLength * sizesApart < bytes) continue
      for (const wish of urgent) if (maxGroupBytesOf(slot.byteLength) >= wish.groupBytes) return wish
    }
    return null
  }

  allUrgent(): SlotWish[] {
    return [...this.bySize.values()].flatMap(({ urgent }) => [...urgent])
  }

  private setOf({ slotBytes, urgent }: SlotWish): Set<SlotWish> {
    const wishes = this.bySize.get(slotBytes)!
    return urgent ? wishes.urgent : wishes.patient
  }
}
