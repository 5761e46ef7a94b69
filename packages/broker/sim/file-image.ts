// What one file holds: as its process sees it, and as it would be found after the power failed.
import type { SeededRandom } from './random.js'

export const PAGE_BYTES = 4096
/** The unit in which a disk keeps its promise during a power failure. */
export const SECTOR_BYTES = 512
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

/** A write handed to the disk: its bytes, page by page, as they were at that moment. */
export interface WriteImage {
  readonly firstPage: number
  readonly pages: readonly Uint8Array[]
}

/** How sectors that were not flushed come out of a power failure. */
export interface TearOdds {
  /** Of a sector to hold neither old nor new bytes. */
  readonly garbage: number
  readonly zero: number
  /** Of one of the written versions, else the old bytes; drawn once per crash. */
  readonly newer: number
}

/** The pages a flush covers: those completely written when it was submitted. */
export type FlushCover = ReadonlyMap<number, Uint8Array>

export function writeImage(bytes: Uint8Array, position: number): WriteImage {
  const pages: Uint8Array[] = []
  for (let at = 0; at < bytes.byteLength; at += PAGE_BYTES) {
    const page = bytes.subarray(at, at + PAGE_BYTES)
    if (page.byteLength < PAGE_BYTES) {
      const whole = new Uint8Array(PAGE_BYTES)
      whole.set(page)
      pages.push(whole)
    } else pages.push(Buffer.compare(page, ZERO_PAGE) === 0 ? ZERO_PAGE : page.slice())
  }
  return { firstPage: position / PAGE_BYTES, pages }
}

/**
 * Pages are never changed in place, so that the current and the durable view can share them.
 * Invariant: a page is in `unflushed` exactly when the durable view does not hold its current bytes for sure.
 */
export class FileImage {
  size = 0
  durableSize = 0
  private readonly current = new Map<number, Uint8Array>()
  private readonly durable = new Map<number, Uint8Array>()
  /** Every version of a page written since it was last durable, oldest first. */
  private readonly unflushed = new Map<number, Uint8Array[]>()

  get hasUnflushed(): boolean {
    return this.unflushed.size > 0 || this.size !== this.durableSize
  }

  /** Applies a completed write, or the part of one that a crash let through. */
  apply({ firstPage, pages }: WriteImage, choose: (page: number) => boolean = () => true): void {
    for (const [i, bytes] of pages.entries()) {
      const page = firstPage + i
      if (!choose(page)) continue
      this.current.set(page, bytes)
      const versions = this.unflushed.get(page)
      if (versions === undefined) this.unflushed.set(page, [bytes])
      else versions.push(bytes)
      this.size = Math.max(this.size, (page + 1) * PAGE_BYTES)
    }
  }

  /** The bytes of a read that ends now; shorter than asked for only at the end of the file. */
  read(position: number, target: Uint8Array): number {
    const count = Math.max(0, Math.min(target.byteLength, this.size - position))
    for (let at = 0; at < count; at += PAGE_BYTES) {
      const page = this.current.get((position + at) / PAGE_BYTES) ?? ZERO_PAGE
      target.set(page.subarray(0, Math.min(PAGE_BYTES, count - at)), at)
    }
    return count
  }

  grow(byteLength: number): void {
    this.size = Math.max(this.size, byteLength)
  }

  /** What a flush submitted now would make durable. */
  cover(): FlushCover {
    const cover = new Map<number, Uint8Array>()
    for (const [page, versions] of this.unflushed) cover.set(page, versions.at(-1)!)
    return cover
  }

  /**
   * A flush with this cover has completed. A device flush alone does not record that an extent was written for the
   * first time: without `metadata`, pages that were never durable before stay in doubt.
   */
  flushed(cover: FlushCover, metadata: boolean, sizeThen: number): void {
    for (const [page, bytes] of cover) {
      if (!metadata && !this.durable.has(page)) continue
      const versions = this.unflushed.get(page)
      const at = versions?.indexOf(bytes) ?? -1
      if (versions === undefined || at < 0) continue
      this.durable.set(page, bytes)
      if (at === versions.length - 1) this.unflushed.delete(page)
      else versions.splice(0, at + 1)
    }
    if (metadata) this.durableSize = Math.max(this.durableSize, Math.min(sizeThen, this.size))
  }

  /**
   * A flush with this cover has failed. The volume is direct, so no page cache pretends: the device keeps a page, drops
   * it (and reads give the old bytes again), or still holds it in its cache, each by chance. What a caller must not do
   * is take a later success as word about these pages.
   */
  flushFailed(cover: FlushCover, random: SeededRandom): void {
    for (const [page, bytes] of cover) {
      const versions = this.unflushed.get(page)
      if (versions?.at(-1) !== bytes) continue
      const fate = random.integer(0, 2)
      if (fate === 2) continue
      this.unflushed.delete(page)
      const old = this.durable.get(page) ?? ZERO_PAGE
      if (fate === 0) this.durable.set(page, bytes)
      else this.current.set(page, old)
    }
  }

  /** The power fails: sector by sector, what was not flushed is old, one of the new versions, garbage or zero. */
  losePower(odds: TearOdds, random: SeededRandom): void {
    if (this.size !== this.durableSize && random.chance(odds.newer)) this.durableSize = this.size
    for (const [page, versions] of this.unflushed) {
      this.durable.set(page, tear(this.durable.get(page) ?? ZERO_PAGE, versions, odds, random))
    }
    this.unflushed.clear()
    this.size = this.durableSize
    this.current.clear()
    for (const [page, bytes] of this.durable) {
      if (page * PAGE_BYTES < this.size) this.current.set(page, bytes)
      else this.durable.delete(page)
    }
  }

  /** A fault from outside: changes bytes that were durable. */
  damage(position: number, change: (page: Uint8Array) => void): void {
    const page = Math.floor(position / PAGE_BYTES)
    const bytes = (this.current.get(page) ?? ZERO_PAGE).slice()
    change(bytes)
    this.current.set(page, bytes)
    this.durable.set(page, bytes)
  }

  /** A small file, complete and durable. */
  static small(bytes: Uint8Array): FileImage {
    const image = new FileImage()
    image.apply(writeImage(bytes, 0))
    image.size = bytes.byteLength
    image.flushed(image.cover(), true, image.size)
    return image
  }
}

function tear(old: Uint8Array, versions: readonly Uint8Array[], odds: TearOdds, random: SeededRandom): Uint8Array {
  const page = old.slice()
  for (let at = 0; at < PAGE_BYTES; at += SECTOR_BYTES) {
    const sector = page.subarray(at, at + SECTOR_BYTES)
    const draw = random.fraction()
    if (draw < odds.garbage) random.fill(sector)
    else if (draw < odds.garbage + odds.zero) sector.fill(0)
    else if (random.chance(odds.newer)) sector.set(random.pick(versions).subarray(at, at + SECTOR_BYTES))
  }
  return page
}
