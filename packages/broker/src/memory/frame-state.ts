// The state of a frame in one 32-bit word: status in bits 0-2, pins in bits 3-15, version in bits 16-31.

/** Nobody's. */
export const FREE = 0
/** One worker's alone: it evicts what was in it, or prepares it for another page. */
export const CLAIMED = 1
/** Its key is in the table, but it is not decided yet that it is the only one with that key. */
export const TENTATIVE = 2
/** Its one loader reads; everybody else with a pin waits. */
export const LOADING = 3
/** Holds its page. Evictable without pins. */
export const RESIDENT = 4
/** Like RESIDENT, but found no more: whoever takes the last pin away frees it. */
export const DOOMED = 5
/** Like LOADING, but found no more. */
export const DOOMED_LOADING = 6

const STATUS_MASK = 7
const PINS_SHIFT = 3
const VERSION_SHIFT = 16

export const ONE_PIN = 1 << PINS_SHIFT
export const MAX_PINS = 0x1fff

export function statusOf(state: number): number {
  return state & STATUS_MASK
}

export function pinsOf(state: number): number {
  return (state >>> PINS_SHIFT) & MAX_PINS
}

export function versionOf(state: number): number {
  return state >>> VERSION_SHIFT
}

/** The same pins and version with another status. */
export function withStatus(state: number, status: number): number {
  return (state & ~STATUS_MASK) | status
}

/**
 * Claimed under the next version. Invariant: whoever read key words while the state was LOADING or RESIDENT and then
 * changes that very state by compare-and-swap knows that the key was still the same. The version comes round after
 * 65,536 pages in one frame, all of them loaded between two neighbouring instructions of somebody else.
 */
export function claimedAfter(state: number): number {
  return ((versionOf(state) + 1) << VERSION_SHIFT) | CLAIMED
}
