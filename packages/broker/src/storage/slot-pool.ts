// The slots nobody owns: a reserve of written ones, filled in the background as logs come to need them.
import { type Clock, DiskError, type Logger, type Memory, type Timer, type Volume } from '../environment.js'
import { FreeSlots } from './free-slots.js'
import type { Latch } from './latch.js'
import { type Slot, slotName } from './slot.js'
import { SlotFiller } from './slot-filler.js'
import type { SlotIdentity } from './slot-header.js'
import { maxGroupBytesOf } from './slot-layout.js'
import { type SlotWish, SlotWishes } from './slot-wishes.js'
import type { StorageCounters } from './storage-counters.js'
import type { StorageLimits } from './storage-limits.js'

/** Slots filled side by side when logs wait: most of the time of a small one goes into its flushes, which they share. */
const FILLS_AT_ONCE = 4
const SMALL_FILLS_AT_ONCE = 32

/** A log takes slots at most so many times larger or smaller than the one it wants. */
const SIZES_APART = 8

export interface SlotPoolOptions {
  readonly volume: Volume
  readonly memory: Memory
  readonly clock: Clock
  readonly log: Logger
  readonly latch: Latch
  readonly limits: StorageLimits
  readonly identity: SlotIdentity
  readonly counters: StorageCounters
  /** Makes a completed write to a slot durable, together with whatever else is to be flushed. */
  readonly flush: (slot: Slot) => Promise<void>
}

export class SlotPool {
  /** Set while the disk has no room for a slot of the smallest class. */
  full = false
  /** Every slot of the volume, whoever owns it. */
  readonly slots = new Set<Slot>()
  private readonly free = new FreeSlots()
  private readonly unwritten = new FreeSlots()
  private readonly wishes: SlotWishes
  /** Those who could not even have a slot that is not written. */
  private readonly withoutSpace = new Set<() => void>()
  private readonly filler: SlotFiller
  /** Classes above this one found no space; the last one normally. */
  private largestClass: number
  private nextId = 1
  private readonly unfinished: number[] = []
  /** Slots being filled now, and their sizes. */
  private readonly filling = new Map<Promise<void>, number>()
  private closed = false
  private retry: Timer | null = null

  constructor(private readonly options: SlotPoolOptions) {
    this.filler = new SlotFiller(options)
    this.wishes = new SlotWishes(options.limits.slotBytes)
    this.largestClass = options.limits.slotBytes.length - 1
  }

  get freeCount(): number {
    return this.free.size + this.unwritten.size
  }

  /** Takes note of a slot file found at start. */
  found(id: number): void {
    if (id >= this.nextId) this.nextId = id + 1
  }

  /** A slot file found at start that was never owned: filled anew when a slot is needed. */
  foundUnfinished(id: number): void {
    this.unfinished.push(id)
  }

  /** Puts in a free slot whose header says so durably. */
  add(slot: Slot): void {
    this.slots.add(slot)
    if (!slot.writtenThrough) {
      this.unwritten.add(slot)
      return
    }
    const wish = this.wishes.urgentFor(slot, SIZES_APART)
    if (wish === null) {
      this.free.add(slot)
      return
    }
    this.wishes.remove(wish)
    wish.grant(slot)
  }

  /**
   * A slot that holds `groupBytes`, near to `slotBytes` in size, or null. Slots that were not written through only when
   * `allowUnwritten`.
   */
  take(groupBytes: number, slotBytes: number, allowUnwritten: boolean): Slot | null {
    // A busy log would be through a much smaller slot at once, and pay for a roll; it waits unless the disk is filling up.
    const smallest = this.largestClass < this.options.limits.slotBytes.length - 1 ? 0 : slotBytes / SIZES_APART
    const largest = slotBytes * SIZES_APART
    // Written slots are for logs that need them, as long as there are such.
    const mayTake = !allowUnwritten || this.wishes.size === 0
    const slot = mayTake ? this.free.take(groupBytes, slotBytes, smallest, largest) : null
    if (slot !== null) {
      this.work()
      return slot
    }
    return allowUnwritten ? this.unwritten.take(groupBytes, slotBytes, smallest, largest) : null
  }

  wish(wish: SlotWish): void {
    this.wishes.add(wish)
    this.work()
  }

  withdraw(wish: SlotWish): void {
    this.wishes.remove(wish)
  }

  /** Whether no slot for such a group can be had until the disk has space again. */
  isFullFor(groupBytes: number): boolean {
    return this.full || maxGroupBytesOf(this.options.limits.slotBytes[this.largestClass]!) < groupBytes
  }

  /** The size class that holds a group, and is not below `classNumber`. */
  slotBytesFor(groupBytes: number, classNumber: number): number {
    const { slotBytes } = this.options.limits
    let chosen = Math.min(classNumber, slotBytes.length - 1)
    while (chosen < slotBytes.length - 1 && maxGroupBytesOf(slotBytes[chosen]!) < groupBytes) chosen++
    return slotBytes[chosen]!
  }

  /** Begins filling the reserve. */
  start(): void {
    this.work()
  }

  /**
   * A slot for a `write` log: space reserved, nothing filled; smaller than wanted where space is short. Null when there is
   * none now: `onSpace` is called when that may have changed.
   */
  async makeUnwritten(slotBytes: number, groupBytes: number, onSpace: () => void): Promise<Slot | null> {
    const { limits, latch } = this.options
    if (this.closed || latch.failure !== null) return null
    if (this.isFullFor(groupBytes)) {
      this.withoutSpace.add(onSpace)
      return null
    }
    const bytes = Math.min(slotBytes, limits.slotBytes[this.largestClass]!)
    let made: Slot | null = null
    await this.attempt(bytes, async (id) => {
      made = await this.filler.createUnwritten(id, bytes)
      this.slots.add(made)
    })
    if (made === null) onSpace()
    return made
  }

  /**
   * Writes a free header over a slot that its log is done with; the slot is in the pool when this resolves.
   * @param writtenBytes from the start of the file, which the log has written: of a slot that was taken unwritten only
   * the rest is filled. 0 when that is not known.
   * @throws StorageError when the volume is latched.
   */
  async release(slot: Slot, writtenBytes = 0): Promise<void> {
    const { latch, flush } = this.options
    try {
      if (!slot.writtenThrough) await this.filler.fillRest(slot, writtenBytes)
      slot.writtenThrough = true
      slot.generation += slot.generation % 2 === 0 ? 2 : 1
      await this.filler.writeFreeHeader(slot)
      await flush(slot)
    } catch (cause) {
      throw latch.fail(`giving back ${slotName(slot.id)}`, cause)
    }
    this.add(slot)
  }

  async close(): Promise<void> {
    this.closed = true
    this.retry?.cancel()
    await Promise.all(this.filling.keys())
  }

  /** The class most in need of another slot, or null. */
  private neededClass(): { slotBytes: number; urgent: boolean } | null {
    const { slotBytes } = this.options.limits
    let needed: { slotBytes: number; urgent: boolean } | null = null
    for (let i = 0; i <= this.largestClass; i++) {
      let { all, urgent } = this.wishes.count(slotBytes[i]!)
      for (let larger = i + 1; i === this.largestClass && larger < slotBytes.length; larger++) {
        const more = this.wishes.count(slotBytes[larger]!)
        all += more.all
        urgent += more.urgent
      }
      if (this.ready(slotBytes[i]!) >= this.reserveOf(i) + all) continue
      if (urgent > 0) return { slotBytes: slotBytes[i]!, urgent: true }
      needed ??= { slotBytes: slotBytes[i]!, urgent: false }
    }
    return needed
  }

  /** Written slots of a class that are kept ready whether anybody asks or not. */
  private reserveOf(classNumber: number): number {
    const { slotBytes, reserveSlots, reserveBytes } = this.options.limits
    if (classNumber === 0) return reserveSlots
    return classNumber === this.largestClass ? Math.floor(reserveBytes / slotBytes[classNumber]!) : 0
  }

  /** Written slots of a size that are free or will be soon. */
  private ready(slotBytes: number): number {
    let count = this.free.countOf(slotBytes)
    for (const bytes of this.filling.values()) if (bytes === slotBytes) count++
    return count
  }

  /** Fills slots side by side while logs wait for them, one after the other otherwise. */
  private work(): void {
    while (!this.closed && !this.full && this.options.latch.failure === null) {
      const needed = this.neededClass()
      if (needed === null) return
      const { slotBytes } = needed
      const isSmall = slotBytes === this.options.limits.slotBytes[0]
      const side = isSmall ? SMALL_FILLS_AT_ONCE : FILLS_AT_ONCE
      if (this.filling.size >= (this.wishes.urgentSize > 0 ? side : 1)) return
      const isUrgent = () => this.closed || this.wishes.urgentSize > 0
      const filled = this.attempt(slotBytes, async (id) => {
        const slot = await this.filler.create(id, slotBytes, isUrgent)
        this.filling.delete(filled)
        this.add(slot)
      }).finally(() => {
        this.filling.delete(filled)
        this.work()
      })
      this.filling.set(filled, slotBytes)
    }
  }

  /** Makes a slot; a full disk is taken note of, anything else that fails falls into the latch. */
  private async attempt(slotBytes: number, make: (id: number) => Promise<void>): Promise<void> {
    const id = this.unfinished.pop() ?? this.nextId++
    try {
      await make(id)
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'NO_SPACE') {
        this.options.latch.fail(`making ${slotName(id)}`, cause)
      } else this.becomeFull(slotBytes)
    }
  }

  /** The disk has no space for a slot of this class; smaller ones may do. */
  becomeFull(slotBytes: number): void {
    const { limits, log } = this.options
    const failed = limits.slotBytes.findIndex((bytes) => bytes >= slotBytes)
    this.largestClass = Math.max(0, Math.min(this.largestClass, failed - 1))
    if (failed <= 0 && !this.full) {
      this.full = true
      log.error({ slotBytes }, 'the disk is full: appends that need a new segment are refused until there is space')
    }
    this.tellOfSpace()
    this.retryLater()
  }

  private retryLater(): void {
    if (this.retry !== null || this.closed) return
    this.retry = this.options.clock.timer(this.options.limits.spaceRetryMs, () => {
      this.retry = null
      if (!this.closed) void this.lookForSpace()
    })
  }

  private async lookForSpace(): Promise<void> {
    const { volume, limits, log } = this.options
    const { freeBytes } = await volume.space().catch(() => ({ freeBytes: 0 }))
    // With less, the next slot would fail again.
    if (freeBytes < 2 * limits.slotBytes[0]!) return this.retryLater()
    if (this.full) log.info({ freeBytes }, 'the disk has space again')
    this.full = false
    this.largestClass = limits.slotBytes.length - 1
    this.tellOfSpace()
    this.work()
  }

  private tellOfSpace(): void {
    const waiting = [...this.withoutSpace]
    this.withoutSpace.clear()
    for (const onSpace of waiting) onSpace()
    for (const wish of this.wishes.allUrgent()) wish.lookAgain()
  }
}
