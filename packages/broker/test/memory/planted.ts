// Mistakes of ordering, one each, that look right as long as only one worker runs.
import { assert } from '@millrace/protocol'
import type { AtomicOperations } from '#src/memory/atomics.js'
import {
  claimedAfter,
  DOOMED,
  DOOMED_LOADING,
  LOADING,
  ONE_PIN,
  pinsOf,
  RESIDENT,
  statusOf,
  TENTATIVE,
  withStatus,
} from '#src/memory/frame-state.js'
import { HIT, MISS, PageTable, WAIT } from '#src/memory/page-table.js'
import type { TableLayout } from '#src/memory/table-layout.js'
import * as places from '#src/memory/table-layout.js'

export type TableMaker = (layout: TableLayout, words: Int32Array, atomics: AtomicOperations) => PageTable

/** A compare-and-swap made of a load and a store. */
export function torn(atomics: AtomicOperations): AtomicOperations {
  return {
    ...bound(atomics),
    compareExchange: (words, at, expected, replacement) => {
      const before = atomics.load(words, at)
      if (before === expected) atomics.store(words, at, replacement)
      return before
    },
  }
}

/** Compare-and-swap of state words that does not look at the version. */
export function versionless(layout: TableLayout): (atomics: AtomicOperations) => AtomicOperations {
  const states = new Set<number>()
  for (let frame = 0; frame < layout.geometry.frames; frame++) states.add(layout.word(frame, places.STATE))
  return (atomics) => ({
    ...bound(atomics),
    compareExchange: (words, at, expected, replacement) => {
      const now = states.has(at) ? atomics.load(words, at) : expected
      if (((now ^ expected) & 0xffff) !== 0) return now
      return atomics.compareExchange(words, at, now, replacement) === now ? expected : ~expected
    },
  })
}

function bound(atomics: AtomicOperations): AtomicOperations {
  return {
    load: (words, at) => atomics.load(words, at),
    store: (words, at, value) => atomics.store(words, at, value),
    compareExchange: (words, at, expected, value) => atomics.compareExchange(words, at, expected, value),
    add: (words, at, value) => atomics.add(words, at, value),
    or: (words, at, value) => atomics.or(words, at, value),
    exchange: (words, at, value) => atomics.exchange(words, at, value),
  }
}

/** Shows its frame and takes it for the only one. */
class LooksNotAround extends PageTable {
  protected override lookAround(): number {
    return MISS
  }
}

/** Looks around, but takes no notice of frames that are not decided yet. */
class IgnoresTheUndecided extends PageTable {
  protected override settleWith(
    frame: number,
    prevails: boolean,
    slot: number,
    generation: number,
    page: number,
  ): number {
    if (statusOf(this.stateOf(frame)) === TENTATIVE) return MISS
    return super.settleWith(frame, prevails, slot, generation, page)
  }
}

/** Pins by adding to whatever the state is by then. */
class PinsUnseen extends PageTable {
  protected override tryPin(frame: number, slot: number, generation: number, page: number): number {
    const status = statusOf(this.stateOf(frame))
    if ((status !== LOADING && status !== RESIDENT) || !this.holds(frame, slot, generation, page)) return MISS
    this.atomics.add(this.words, this.layout.word(frame, places.STATE), ONE_PIN)
    return frame * 8 + (status === RESIDENT ? HIT : WAIT)
  }
}

/** Looks for those who wait before it says that the page is there. */
class WakesTooEarly extends PageTable {
  protected override endLoading(frame: number, validBytes: number, status: number): number {
    const bits = this.atomics.exchange(this.words, this.layout.word(frame, places.WAITERS), 0)
    return bits | (super.endLoading(frame, validBytes, status) & 0)
  }
}

/** Says that the page is there before it says how much of it. */
class TellsLengthTooLate extends PageTable {
  protected override endLoading(frame: number, validBytes: number, status: number): number {
    while (true) {
      const state = this.stateOf(frame)
      const next = statusOf(state) === DOOMED_LOADING ? DOOMED : status
      if (this.swap(frame, state, withStatus(state, next))) break
    }
    this.atomics.store(this.words, this.layout.word(frame, places.VALID_BYTES), validBytes)
    return this.atomics.exchange(this.words, this.layout.word(frame, places.WAITERS), 0)
  }
}

/** Looks at the pins first and claims whatever the state is then. */
class ClaimsTooLate extends PageTable {
  override claimUnused(frame: number): boolean {
    const state = this.stateOf(frame)
    if (statusOf(state) !== RESIDENT || pinsOf(state) > 0) return false
    const now = this.stateOf(frame)
    if (statusOf(now) !== RESIDENT || !this.swap(frame, now, claimedAfter(now))) return false
    this.leaveEntry(frame)
    return true
  }

  private leaveEntry(frame: number): void {
    const entry = this.atomics.load(this.words, this.layout.word(frame, places.ENTRY))
    this.atomics.compareExchange(this.words, entry, frame + 1, 0)
    this.atomics.store(this.words, this.layout.word(frame, places.ENTRY), 0)
  }
}

/** Takes its pin away first and looks afterwards whether it was the last. */
class UnpinsInTwoSteps extends PageTable {
  override unpin(frame: number): boolean {
    while (true) {
      const state = this.stateOf(frame)
      assert(pinsOf(state) > 0, 'a pin is given back once')
      if (this.swap(frame, state, state - ONE_PIN)) break
    }
    const state = this.stateOf(frame)
    if (statusOf(state) !== DOOMED || pinsOf(state) > 0) return false
    this.swap(frame, state, claimedAfter(state))
    return true
  }
}

const making =
  (Kind: new (...parts: ConstructorParameters<typeof PageTable>) => PageTable): TableMaker =>
  (layout, words, atomics) =>
    new Kind(layout, words, atomics)

export const PLANTED_TABLES: Readonly<Record<string, TableMaker>> = {
  'looks not around': making(LooksNotAround),
  'ignores the undecided': making(IgnoresTheUndecided),
  'pins unseen': making(PinsUnseen),
  'wakes too early': making(WakesTooEarly),
  'tells the length too late': making(TellsLengthTooLate),
  'claims too late': making(ClaimsTooLate),
  'unpins in two steps': making(UnpinsInTwoSteps),
}
