// The sparse index of one slot: where in the log to begin looking for an offset, an index or a time.
import type { Reader, Writer } from '@millrace/protocol'
import type { ReadPlace } from './read-place.js'
import { INDEX_ENTRY_BYTES, MAX_INDEX_ENTRIES } from './slot-layout.js'

/** Stands for the groups from its position to that of the next entry. */
export interface IndexEntry {
  readonly position: number
  readonly firstIndex: number
  readonly firstOffset: number
  /** Greatest timestamp of a record in these groups. */
  lastTimestamp: number
}

/** What the index wants to know of a group. */
export interface IndexedGroup {
  readonly position: number
  readonly firstIndex: number
  readonly firstOffset: number
  readonly lastTimestamp: number
}

export class SparseIndex {
  private entries: IndexEntry[] = []
  /** The next group begins an entry, wherever it stands. */
  private broken = false

  constructor(private readonly intervalBytes: number) {}

  get length(): number {
    return this.entries.length
  }

  at(i: number): IndexEntry | undefined {
    return this.entries[i]
  }

  /** Takes note of the next group of batches of the slot. */
  note(group: IndexedGroup): void {
    const last = this.entries.at(-1)
    if (last === undefined || this.broken || group.position - last.position >= this.intervalBytes) {
      this.broken = false
      const { position, firstIndex, firstOffset, lastTimestamp } = group
      this.entries.push({ position, firstIndex, firstOffset, lastTimestamp })
    } else if (group.lastTimestamp > last.lastTimestamp) last.lastTimestamp = group.lastTimestamp
  }

  /**
   * Nothing is known of the rest of the slot, which begins at a position and an offset: whoever looks for a time that was
   * not met before has to look there. No truncation makes that untrue, so it stands for no batch that one could cut off.
   */
  breakOff(position: number, firstOffset: number): void {
    const last = this.entries.at(-1)
    if (last !== undefined) last.lastTimestamp = Number.MAX_SAFE_INTEGER
    else this.entries.push({ position, firstIndex: 0, firstOffset, lastTimestamp: Number.MAX_SAFE_INTEGER })
  }

  /** Keeps the entries that are good; those of dead groups would be out of order among the others. */
  drop(isDead: (entry: IndexEntry) => boolean): void {
    this.entries = this.entries.filter((entry) => !isDead(entry))
  }

  /** What stood behind `lastIndex` is dead, and what follows stands elsewhere. */
  truncateTo(lastIndex: number): void {
    this.entries = this.entries.filter((entry) => entry.firstIndex <= lastIndex)
    this.broken = true
  }

  /** Number of the last entry that begins at or before a place; -1 when there is none. */
  find({ by, at }: ReadPlace): number {
    const field = by === 'offset' ? 'firstOffset' : 'firstIndex'
    let low = 0
    let high = this.entries.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.entries[middle]![field] <= at) low = middle + 1
      else high = middle
    }
    return low - 1
  }

  /** Number of the first entry with a record at or after `timestamp`; -1 when there is none. */
  findTime(timestamp: number): number {
    return this.entries.findIndex((entry) => entry.lastTimestamp >= timestamp)
  }

  get maxTimestamp(): number {
    let max = 0
    for (const entry of this.entries) if (entry.lastTimestamp > max) max = entry.lastTimestamp
    return max
  }

  /** Whether the entries ascend and lie inside the slot; what was read from a disk is asked before it is used. */
  isWithin(start: number, end: number): boolean {
    let last = -1
    for (const { position } of this.entries) {
      if (position <= last || position < start || position >= end) return false
      last = position
    }
    return true
  }

  encode(writer: Writer): void {
    writer.u32(this.entries.length)
    for (const entry of this.entries) {
      writer.u64(entry.position).u64(entry.firstIndex).u64(entry.firstOffset).u64(entry.lastTimestamp)
    }
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  static decode(reader: Reader, intervalBytes: number): SparseIndex {
    const index = new SparseIndex(intervalBytes)
    const entries = reader.list(reader.u32(), INDEX_ENTRY_BYTES, MAX_INDEX_ENTRIES + 1, (from) => ({
      position: from.u64(),
      firstIndex: from.u64(),
      firstOffset: from.u64(),
      lastTimestamp: from.u64(),
    }))
    index.entries.push(...entries)
    return index
  }
}
