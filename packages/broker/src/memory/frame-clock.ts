// Chooses which page gives way: a clock over new and proven pages, so that a scan displaces only itself.

import type { PageTable } from './page-table.js'
import * as layout from './table-layout.js'
import { hashOf } from './table-layout.js'

const HEAT_MASK = 3
/** Asked for again after it was loaded, or soon after it was evicted: scans do not reach it. */
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
/** Rounds in which new pages are spared while there are fewer of them than there should be. */
const PROBATION_SPARED_ROUNDS = 4

/**
 * New pages are on probation. The hand evicts those nobody came back to; one that was asked for again, or is loaded again
 * while its ghost is remembered, has proved itself. Proven pages give way, the coldest first, while fewer frames are on
 * probation than should be. How many should be follows the ghosts, as in ARC (Megiddo and Modha 2003): one that comes back
 * after its probation says that probation was too short, one that had proved itself says the contrary, and counts twice.
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
    const remembered = atomics.load(words, ghost)
    const isBack = remembered !== 0 && (remembered | 1) === (hash | 1)
    if (isBack) {
      atomics.store(words, ghost, 0)
      this.adapt((remembered & 1) === 0)
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
      if (this.stays(frame, Math.floor(steps / frames))) continue
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
    const { atomics, words } = this.table
    const { frames } = this.table.layout.geometry
    // From where the hand stands, so that filling an empty pool does not pass what is filled each time.
    const start = atomics.load(words, layout.HAND) >>> 0
    for (let step = 0; step < frames; step++) {
      const frame = (start + step) % frames
      if (!this.table.claimFree(frame)) continue
      atomics.store(words, layout.HAND, frame + 1)
      return frame
    }
    return -1
  }

  /** Whether the hand passes a frame by; it cools down or proves itself as it does. */
  private stays(frame: number, round: number): boolean {
    const { atomics, words, layout: places } = this.table
    const at = places.word(frame, layout.HEAT)
    const heat = atomics.load(words, at)
    const degrees = heat & HEAT_MASK
    if (round >= POLITE_ROUNDS) return false
    const onProbation = places.geometry.frames - atomics.load(words, layout.PROVEN_FRAMES)
    const sparesProven = onProbation >= atomics.load(words, layout.PROBATION_TARGET)
    if ((heat & PROVEN) === 0) {
      if (degrees === 0) return !sparesProven && round < PROBATION_SPARED_ROUNDS
      if (atomics.compareExchange(words, at, heat, heat - degrees + PROVEN) === heat) {
        atomics.add(words, layout.PROVEN_FRAMES, 1)
      }
      return true
    }
    if (sparesProven && round === 0) return true
    if (degrees === 0) return false
    atomics.compareExchange(words, at, heat, heat - 1)
    return true
  }

  /** A page came back: those of its kind should have had more frames. */
  private adapt(wasOnProbation: boolean): void {
    const { atomics, words } = this.table
    const { frames } = this.table.layout.geometry
    const target = atomics.load(words, layout.PROBATION_TARGET)
    const step = Math.max(1, frames >> 7)
    const next = wasOnProbation ? target + step : target - 2 * step
    const bounded = Math.min(Math.max(next, Math.floor(frames / 10), 1), Math.max(1, Math.floor((frames * 9) / 10)))
    atomics.compareExchange(words, layout.PROBATION_TARGET, target, bounded)
  }

  private evicted(frame: number): void {
    const { atomics, words, layout: places } = this.table
    this.evictions++
    const heat = this.forget(frame)
    const word = (field: number): number => atomics.load(words, places.word(frame, field))
    const hash = hashOf(word(layout.SLOT), word(layout.GENERATION), word(layout.PAGE))
    atomics.store(words, this.ghostOf(hash), (heat & PROVEN) === 0 ? hash & ~1 : hash | 1)
  }

  private ghostOf(hash: number): number {
    const { ghostsAt, geometry } = this.table.layout
    return ghostsAt + ((Math.imul(hash, 0x9e3779b1) >>> 8) % geometry.ghosts)
  }
}
