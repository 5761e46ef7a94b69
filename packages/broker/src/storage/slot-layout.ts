// Where things stand in a slot file, as constants of the disk format. docs/DISK-FORMAT.md draws the picture.
import { BLOCK_BYTES } from '../environment.js'

/** Block 0: the header of a free slot, written when the slot is filled and each time it is given back. */
export const FREE_HEADER_POSITION = 0
/** Blocks 1 and 2: headers written with checkpoints, in turn, so that a torn one leaves the one before. */
export const CHECKPOINT_HEADER_POSITIONS = [BLOCK_BYTES, 2 * BLOCK_BYTES] as const
/** Block 3: the header written when a log takes the slot. */
export const ROLL_HEADER_POSITION = 3 * BLOCK_BYTES
/** Groups begin here. */
export const SLOT_DATA_START = 4 * BLOCK_BYTES

/** The sparse index has an entry for at least every so many bytes of log, and at most MAX_INDEX_ENTRIES a slot. */
export const MIN_INDEX_INTERVAL_BYTES = 64 * 1024
export const MAX_INDEX_ENTRIES = 256
export const INDEX_ENTRY_BYTES = 32
/** Bytes of an index or checkpoint group before its entries; more than enough. */
const INDEX_OVERHEAD_BYTES = 256

export function padded(byteLength: number): number {
  return Math.ceil(byteLength / BLOCK_BYTES) * BLOCK_BYTES
}

export function indexIntervalOf(slotBytes: number): number {
  return Math.max(MIN_INDEX_INTERVAL_BYTES, Math.ceil(slotBytes / MAX_INDEX_ENTRIES))
}

/** Room kept free at the end of a slot for its index group. */
export function indexReserveOf(slotBytes: number): number {
  const entries = Math.ceil(slotBytes / indexIntervalOf(slotBytes))
  return padded(INDEX_OVERHEAD_BYTES + entries * INDEX_ENTRY_BYTES)
}

/** File position where the groups of batches end at the latest. */
export function dataLimitOf(slotBytes: number): number {
  return slotBytes - indexReserveOf(slotBytes)
}

/**
 * The largest group a slot takes. Small ones give half of themselves so that an ordinary batch does not need a larger
 * slot; of larger ones an eighth, since recovery may have to look ahead by a window and a group.
 */
export function maxGroupBytesOf(slotBytes: number): number {
  return wholeBlocks(Math.max(slotBytes / 8, Math.min(slotBytes / 2, 512 * 1024)))
}

/** How far a log may write in a slot beyond what it knows to be flushed; a group with nothing before it may end farther. */
export function unflushedWindowOf(slotBytes: number, maxUnflushedBytes: number): number {
  return Math.min(maxUnflushedBytes, wholeBlocks(Math.max(slotBytes / 8, Math.min(slotBytes / 4, 256 * 1024))))
}

/**
 * How far behind the end of a log recovery looks for a group that was submitted when that end was flushed. The first such
 * group follows one that was not: that one ends inside the window, or it is the one at the end, with nothing before it.
 */
export function lookAheadOf(windowBytes: number, maxGroupBytes: number): number {
  return Math.max(windowBytes, maxGroupBytes) + BLOCK_BYTES
}

function wholeBlocks(byteLength: number): number {
  return Math.floor(byteLength / BLOCK_BYTES) * BLOCK_BYTES
}
