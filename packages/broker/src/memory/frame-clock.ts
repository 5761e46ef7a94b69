// Chooses which page gives way: a clock over the frames in the manner of S3-FIFO, so that a scan displaces only itself.

import type { PageTable } from './page-table.js'
import * as layout from './table-layout.js'
import { hashOf } from './table-layout.js'

const HEAT_MASK = 3
/** Asked for again after it was loaded, or soon after it was evicted: belongs to the nine tenths that scans do not reach. */
const PROVEN = 4
/** Read ahead, and not asked for yet. */
const AHEAD = 8

/**
 * A reader goes through a page in several steps and so asks once: it counts as again only after so many other pages were
 * come to, and an eighth as many as there are frames.
 */
const SAME_VISIT_PAGES = 8
/** Rounds of the hand before pages are taken without regard to their heat; heat is at most 3. */
const POLITE_ROUNDS = 5

/**
 * New pages are on probation. The hand evicts those nobody came back to, and remembers them as ghosts; one that was asked
 * for again, or is loaded again while its ghost is remembered, has proved itself. Only while less than a tenth of the
 * frames is on probation do proven pages give way, the coldest first.
 *
 * Heat is a hint: the words here decide which frame is tried, the state word decides whether it is taken.
 */
export class FrameClock {
  /** Pages evicted by this worker. */
  evictions = 0
  /** Of pages that were read ahead, dropped before anybody asked for them. */
  wasted = 0

  private readonly sameVisit: number

  constructor(private readonly table: PageTable) {
    this.sameVisit = Math.max(SAME_VISIT_PAGES, table.layout.geometry.frames >> 3)
  }

  /** The frame's loader says so before anybody can find the page loaded. */
  noteLoad(frame: number, slot: number, generation: number, page: number, ahead: boolean): void {
    const { atomics, words, layout: places } = this.table
    const visits = atomics.add(words, layout.VISITS, ahead ? 0 : 1)
    atomics.store(words, places.word(frame, layout.ASKED_AT), visits)
    const hash = hashOf(slot, generation, page)
    const ghost = this.ghostOf(hash)
    const isBack = atomics.load(words, ghost) === (hash | 0)
    if (isBack) {
      atomics.store(words, ghost, 0)
      atomics.add(words, layout.PROVEN_FRAMES, 1)
    }
    atomics.store(words, places.word(frame, layout.HEAT), (isBack ? PROVEN : 0) | (ahead ? AHEAD : 0))
  }

  /** The page was asked for; true when it had been read ahead for that. The caller has a pin. */
  touch(frame: number): boolean {
    const { atomics, words, layout: places } = this.table
    const at = places.word(frame, layout.HEAT)
    while (true) {
      const heat = atomics.load(words, at)
      if ((heat & AHEAD) !== 0) {
        if (atomics.compareExchange(words, at, heat, heat - AHEAD) !== heat) continue
        atomics.store(words, places.word(frame, layout.ASKED_AT), atomics.add(words, layout.VISITS, 1))
        return true
      }
      const visits = atomics.load(words, layout.VISITS)
      const askedAt = places.word(frame, layout.ASKED_AT)
      if (((visits - atomics.load(words, askedAt)) | 0) <= this.sameVisit) return false
      atomics.store(words, askedAt, visits)
      if ((heat & HEAT_MASK) < HEAT_MASK) atomics.compareExchange(words, at, heat, heat + 1)
      return false
    }
  }

  /** A frame for another page, free or evicted; -1 when all are in use. @param resident only one that held a page. */
  claim(resident: boolean): number {
    const { atomics, words } = this.table
    const { frames } = this.table.layout.geometry
    if (!resident && atomics.load(words, layout.FREE_FRAMES) > 0) {
      const free = this.claimFree()
      if (free >= 0) return free
    }
    for (let steps = 0; steps <= (POLITE_ROUNDS + 1) * frames; steps++) {
      const frame = (atomics.add(words, layout.HAND, 1) >>> 0) % frames
      if (!resident && this.table.claimFree(frame)) return frame
      if (steps < POLITE_ROUNDS * frames && this.stays(frame, steps < frames)) continue
      if (!this.table.claimUnused(frame)) continue
      this.evicted(frame)
      return frame
    }
    return -1
  }

  /** The frame's owner gives it up or uses it for another page. */
  forget(frame: number): number {
    const { atomics, words, layout: places } = this.table
    const heat = atomics.exchange(words, places.word(frame, layout.HEAT), 0)
    if ((heat & PROVEN) !== 0) atomics.add(words, layout.PROVEN_FRAMES, -1)
    if ((heat & AHEAD) !== 0) this.wasted++
    return heat
  }

  private claimFree(): number {
    const { frames } = this.table.layout.geometry
    for (let frame = 0; frame < frames; frame++) if (this.table.claimFree(frame)) return frame
    return -1
  }

  /** Whether the hand passes a frame by; it cools down or proves itself as it does. */
  private stays(frame: number, sparesProven: boolean): boolean {
    const { atomics, words, layout: places } = this.table
    const at = places.word(frame, layout.HEAT)
    const heat = atomics.load(words, at)
    const degrees = heat & HEAT_MASK
    if ((heat & PROVEN) === 0) {
      if (degrees === 0) return false
      if (atomics.compareExchange(words, at, heat, heat - degrees + PROVEN) === heat) {
        atomics.add(words, layout.PROVEN_FRAMES, 1)
      }
      return true
    }
    const proven = atomics.load(words, layout.PROVEN_FRAMES)
    if (sparesProven && proven * 10 <= places.geometry.frames * 9) return true
    if (degrees === 0) return false
    atomics.compareExchange(words, at, heat, heat - 1)
    return true
  }

  private evicted(frame: number): void {
    const { atomics, words, layout: places } = this.table
    this.evictions++
    const heat = this.forget(frame)
    if ((heat & PROVEN) !== 0) return
    const word = (field: number): number => atomics.load(words, places.word(frame, field))
    const hash = hashOf(word(layout.SLOT), word(layout.GENERATION), word(layout.PAGE))
    atomics.store(words, this.ghostOf(hash), hash | 0)
  }

  private ghostOf(hash: number): number {
    const { ghostsAt, geometry } = this.table.layout
    return ghostsAt + ((Math.imul(hash, 0x9e3779b1) >>> 8) % geometry.ghosts)
  }
}
