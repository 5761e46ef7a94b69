// Which frame holds which page, for several workers at once: docs/decisions/0006-page-pool.md walks through the races.
import { assert } from '@millrace/protocol'
import type { AtomicOperations } from './atomics.js'
import {
  CLAIMED,
  claimedAfter,
  DOOMED,
  DOOMED_LOADING,
  FREE,
  LOADING,
  MAX_PINS,
  ONE_PIN,
  pinsOf,
  RESIDENT,
  statusOf,
  TENTATIVE,
  withStatus,
} from './frame-state.js'
import * as layout from './table-layout.js'
import { hashOf, type TableLayout } from './table-layout.js'

/** Not in the table. */
export const MISS = 0
/** Pinned, and there. */
export const HIT = 1
/** Pinned; somebody else loads it. */
export const WAIT = 2
/** Pinned; the caller loads it, and nobody else does. */
export const LOAD = 3
/** Another worker is in the middle of it: ask again. */
export const BUSY = 4
/** Nowhere to put it: see `adopt`. */
export const CROWDED = 5

const FRAME_FACTOR = 8

/** Outcome and frame travel in one number, so that asking makes no object. */
export function outcomeOf(result: number): number {
  return result % FRAME_FACTOR
}

export function frameOf(result: number): number {
  return Math.floor(result / FRAME_FACTOR)
}

function resultOf(outcome: number, frame: number): number {
  return frame * FRAME_FACTOR + outcome
}

/**
 * Invariants. A frame has one owner while it is CLAIMED or TENTATIVE; only the owner writes its key and its entry. Key and
 * entry do not change from LOADING to the next CLAIMED. At most one frame with a key is LOADING or RESIDENT. A frame with
 * pins is never claimed.
 */
export class PageTable {
  constructor(
    readonly layout: TableLayout,
    readonly words: Int32Array,
    readonly atomics: AtomicOperations,
  ) {}

  stateOf(frame: number): number {
    return this.atomics.load(this.words, this.layout.word(frame, layout.STATE))
  }

  // -------------------------------------------------------------- looking for a page

  /** Pins a page that is there or being loaded: HIT, WAIT, MISS or BUSY. */
  find(slot: number, generation: number, page: number): number {
    const home = hashOf(slot, generation, page)
    for (let step = 0; step < this.layout.geometry.window; step++) {
      const entry = this.atomics.load(this.words, this.layout.entry(home, step))
      if (entry === 0) continue
      const result = this.tryPin(entry - 1, slot, generation, page)
      if (result !== MISS) return result
    }
    return MISS
  }

  /** Whether a page is there or being loaded, at this moment; pins nothing. */
  has(slot: number, generation: number, page: number): boolean {
    const home = hashOf(slot, generation, page)
    for (let step = 0; step < this.layout.geometry.window; step++) {
      const entry = this.atomics.load(this.words, this.layout.entry(home, step))
      if (entry === 0) continue
      const status = statusOf(this.stateOf(entry - 1))
      if ((status === LOADING || status === RESIDENT) && this.holds(entry - 1, slot, generation, page)) return true
    }
    return false
  }

  protected tryPin(frame: number, slot: number, generation: number, page: number): number {
    while (true) {
      const state = this.stateOf(frame)
      const status = statusOf(state)
      if (status !== LOADING && status !== RESIDENT) return MISS
      if (!this.holds(frame, slot, generation, page)) return MISS
      if (pinsOf(state) === MAX_PINS) return BUSY
      // Succeeds only if the state, and so the version, is the one under which the key was read.
      if (this.swap(frame, state, state + ONE_PIN)) return resultOf(status === RESIDENT ? HIT : WAIT, frame)
    }
  }

  // -------------------------------------------------------------- putting a page in

  /**
   * Offers a claimed frame for a page: LOAD when it is the page's frame now, with one pin. HIT and WAIT: somebody was
   * faster, their frame is pinned. BUSY, CROWDED: nothing is pinned. In all cases but LOAD the frame stays the caller's.
   *
   * Two workers that offer frames for one page each show theirs first and look around afterwards, so at least one sees the
   * other. The frame in the lower entry stays; what has been decided for already is not touched.
   * @param insists withdraws for no undecided frame: for a caller that has been told BUSY several times, since the other
   * may have been interrupted.
   */
  publish(frame: number, slot: number, generation: number, page: number, insists: boolean): number {
    const { atomics, words } = this
    const claimed = this.stateOf(frame)
    assert(statusOf(claimed) === CLAIMED, 'a frame is offered by its owner')
    atomics.store(words, this.layout.word(frame, layout.SLOT), slot | 0)
    atomics.store(words, this.layout.word(frame, layout.GENERATION), generation | 0)
    atomics.store(words, this.layout.word(frame, layout.PAGE), page | 0)
    const tentative = withStatus(claimed, TENTATIVE)
    this.swap(frame, claimed, tentative)
    const home = hashOf(slot, generation, page)
    const own = this.enter(frame, home)
    if (own < 0) {
      this.swap(frame, tentative, claimed)
      return CROWDED
    }
    const other = this.lookAround(own, home, slot, generation, page, insists)
    if (other !== MISS) {
      // Fails when another worker has struck the frame out meanwhile; then it is CLAIMED already.
      this.swap(frame, tentative, claimed)
      this.leave(frame)
      return other
    }
    if (this.swap(frame, tentative, withStatus(claimed, LOADING) + ONE_PIN)) return resultOf(LOAD, frame)
    this.leave(frame)
    return BUSY
  }

  /** Gives a claimed frame that is CROWDED to its caller alone: it is loaded, but never found. */
  adopt(frame: number): number {
    const claimed = this.stateOf(frame)
    assert(statusOf(claimed) === CLAIMED, 'a frame is adopted by its owner')
    this.swap(frame, claimed, withStatus(claimed, DOOMED_LOADING) + ONE_PIN)
    return resultOf(LOAD, frame)
  }

  /** The word of the entry that the frame now stands in; -1 when all of the window are taken. */
  private enter(frame: number, home: number): number {
    const { atomics, words } = this
    for (let step = 0; step < this.layout.geometry.window; step++) {
      const entry = this.layout.entry(home, step)
      if (atomics.load(words, entry) !== 0) continue
      if (atomics.compareExchange(words, entry, 0, frame + 1) !== 0) continue
      atomics.store(words, this.layout.word(frame, layout.ENTRY), entry)
      return entry
    }
    return -1
  }

  private leave(frame: number): void {
    const { atomics, words } = this
    const entry = atomics.load(words, this.layout.word(frame, layout.ENTRY))
    if (entry === 0) return
    const found = atomics.compareExchange(words, entry, frame + 1, 0)
    assert(found === frame + 1, 'an entry is left by the frame that stands in it')
    atomics.store(words, this.layout.word(frame, layout.ENTRY), 0)
  }

  /** MISS when no other frame has a better right to the page. */
  protected lookAround(
    own: number,
    home: number,
    slot: number,
    generation: number,
    page: number,
    insists: boolean,
  ): number {
    for (let step = 0; step < this.layout.geometry.window; step++) {
      const entry = this.layout.entry(home, step)
      if (entry === own) continue
      const found = this.atomics.load(this.words, entry)
      if (found === 0) continue
      const result = this.settleWith(found - 1, insists || own < entry, slot, generation, page)
      if (result !== MISS) return result
    }
    return MISS
  }

  /** MISS when a frame met in the window is no rival, or is none any more. */
  protected settleWith(frame: number, prevails: boolean, slot: number, generation: number, page: number): number {
    while (true) {
      const state = this.stateOf(frame)
      if (statusOf(state) !== TENTATIVE) return this.tryPin(frame, slot, generation, page)
      if (!this.holds(frame, slot, generation, page)) return MISS
      if (!prevails) return BUSY
      // Struck out: its owner finds it CLAIMED when it wants to load, and asks again.
      if (this.swap(frame, state, withStatus(state, CLAIMED))) return MISS
    }
  }

  // -------------------------------------------------------------- the loader, and those who wait

  /**
   * The page is there; the loader keeps its pin. The length is stored before the status, so that whoever sees RESIDENT
   * sees length and content. @returns a bit for each worker to wake.
   */
  loaded(frame: number, validBytes: number): number {
    return this.endLoading(frame, validBytes, RESIDENT)
  }

  /** The page could not be read and is found no more; the loader keeps its pin. @returns the workers to wake. */
  failed(frame: number): number {
    return this.endLoading(frame, -1, DOOMED)
  }

  protected endLoading(frame: number, validBytes: number, status: number): number {
    const { atomics, words } = this
    atomics.store(words, this.layout.word(frame, layout.VALID_BYTES), validBytes)
    while (true) {
      const state = this.stateOf(frame)
      const isDoomed = statusOf(state) === DOOMED_LOADING
      assert(isDoomed || statusOf(state) === LOADING, 'a page is loaded once')
      if (this.swap(frame, state, withStatus(state, isDoomed ? DOOMED : status))) break
    }
    return atomics.exchange(words, this.layout.word(frame, layout.WAITERS), 0)
  }

  /** Bytes that the page holds; -1 when loading failed. Known to whoever has a pin and does not have to wait. */
  validBytesOf(frame: number): number {
    return this.atomics.load(this.words, this.layout.word(frame, layout.VALID_BYTES))
  }

  /**
   * Asks for a wake-up when the frame is loaded or freed. Whoever waits listens first and looks at the state afterwards;
   * whoever changes the state does so first and looks for listeners afterwards: so one of them sees the other.
   */
  listen(frame: number, workerBit: number): void {
    this.atomics.or(this.words, this.layout.word(frame, layout.WAITERS), workerBit)
  }

  isLoading(frame: number): boolean {
    const status = statusOf(this.stateOf(frame))
    return status === LOADING || status === DOOMED_LOADING
  }

  // -------------------------------------------------------------- giving back

  /** Takes a pin away; true when the frame is now the caller's, who has to `free` it. */
  unpin(frame: number): boolean {
    while (true) {
      const state = this.stateOf(frame)
      assert(pinsOf(state) > 0, 'a pin is given back once')
      const isLast = statusOf(state) === DOOMED && pinsOf(state) === 1
      if (this.swap(frame, state, isLast ? claimedAfter(state) : state - ONE_PIN)) return isLast
    }
  }

  /** Claims a free frame; false when it is not free. */
  claimFree(frame: number): boolean {
    const state = this.stateOf(frame)
    if (statusOf(state) !== FREE || !this.swap(frame, state, withStatus(state, CLAIMED))) return false
    this.atomics.add(this.words, layout.FREE_FRAMES, -1)
    return true
  }

  /** Claims a frame whose page nobody uses, and takes the page out of the table; false when it is not such a frame. */
  claimUnused(frame: number): boolean {
    const state = this.stateOf(frame)
    if (statusOf(state) !== RESIDENT || pinsOf(state) > 0 || !this.swap(frame, state, claimedAfter(state))) return false
    this.leave(frame)
    return true
  }

  /** The caller's frame becomes nobody's. @returns a bit for each worker to wake. */
  free(frame: number): number {
    const { atomics, words } = this
    this.leave(frame)
    const state = this.stateOf(frame)
    assert(statusOf(state) === CLAIMED, 'a frame is freed by its owner')
    this.swap(frame, state, withStatus(state, FREE))
    atomics.add(words, layout.FREE_FRAMES, 1)
    return atomics.exchange(words, this.layout.word(frame, layout.WAITERS), 0)
  }

  /**
   * Makes the page of a frame unfindable if it belongs to a slot in one generation: 'owned' when nobody used it, and the
   * caller has to `free` it; 'pinned' when the last one who does will.
   */
  doom(frame: number, slot: number, generation: number): 'none' | 'owned' | 'pinned' {
    while (true) {
      const state = this.stateOf(frame)
      const status = statusOf(state)
      if (status === FREE || status === CLAIMED) return 'none'
      if (!this.belongsTo(frame, slot, generation)) return 'none'
      if (status === DOOMED || status === DOOMED_LOADING) return 'pinned'
      if (status === TENTATIVE) {
        if (this.swap(frame, state, withStatus(state, CLAIMED))) return 'none'
      } else if (status === LOADING) {
        if (this.swap(frame, state, withStatus(state, DOOMED_LOADING))) return 'pinned'
      } else if (pinsOf(state) > 0) {
        if (this.swap(frame, state, withStatus(state, DOOMED))) return 'pinned'
      } else if (this.swap(frame, state, claimedAfter(state))) return 'owned'
    }
  }

  /** Whether a page of a slot that was given up still has pins in this frame. */
  isDoomed(frame: number, slot: number, generation: number): boolean {
    const status = statusOf(this.stateOf(frame))
    return (status === DOOMED || status === DOOMED_LOADING) && this.belongsTo(frame, slot, generation)
  }

  // -------------------------------------------------------------- inside

  protected holds(frame: number, slot: number, generation: number, page: number): boolean {
    return (
      this.atomics.load(this.words, this.layout.word(frame, layout.PAGE)) === (page | 0) &&
      this.belongsTo(frame, slot, generation)
    )
  }

  private belongsTo(frame: number, slot: number, generation: number): boolean {
    const { atomics, words } = this
    return (
      atomics.load(words, this.layout.word(frame, layout.SLOT)) === (slot | 0) &&
      atomics.load(words, this.layout.word(frame, layout.GENERATION)) === (generation | 0)
    )
  }

  protected swap(frame: number, expected: number, replacement: number): boolean {
    const at = this.layout.word(frame, layout.STATE)
    return this.atomics.compareExchange(this.words, at, expected, replacement) === expected
  }
}
