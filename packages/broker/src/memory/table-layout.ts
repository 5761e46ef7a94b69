// Where the words of the page table stand in its shared memory.
import { assert } from '@millrace/protocol'

// Shared by all frames; each on a cache line of its own, since all workers write them.
export const HAND = 0
/** How often a reader has come to a page that was not there or only read ahead: the time by which pages cool down. */
export const VISITS = 16
/** About how many frames are free. */
export const FREE_FRAMES = 32
/** Frames whose pages have proved themselves. */
export const PROVEN_FRAMES = 48
export const RESERVED_FRAMES = 64
/** A bit for each worker that waits for a reservation. */
export const RESERVATION_WAITERS = 80
/** How many frames new pages should have for their probation. */
export const PROBATION_TARGET = 96
const HEADER_WORDS = 112

// Of each frame, one cache line.
export const STATE = 0
export const SLOT = 1
export const GENERATION = 2
export const PAGE = 3
/** Where the frame stands in the hash table. */
export const ENTRY = 4
/** Bytes from the start that stood in the file when it was loaded; -1 when that failed. */
export const VALID_BYTES = 5
/** A bit for each worker to be woken when the frame is loaded, or freed. */
export const WAITERS = 6
export const HEAT = 7
/** What VISITS was when the frame was last counted as asked for. */
export const ASKED_AT = 8
const FRAME_WORDS = 16

export interface TableGeometry {
  readonly frames: number
  /** Entries a page may stand in, from its home on. */
  readonly window: number
  /** Of the hash table; a power of two. */
  readonly entries: number
  /** Evicted pages that are remembered; a power of two. */
  readonly ghosts: number
}

/** With eight entries a frame and windows of 16, a window without room is met less than once in 10^8 loads. */
export function geometryFor(frames: number): TableGeometry {
  const power = 2 ** Math.ceil(Math.log2(frames))
  return { frames, window: Math.min(16, power * 8), entries: power * 8, ghosts: power }
}

export class TableLayout {
  readonly ghostsAt: number
  readonly entriesAt: number
  readonly byteLength: number

  constructor(readonly geometry: TableGeometry) {
    const { frames, entries, ghosts, window } = geometry
    assert(frames > 0 && frames < 2 ** 24, 'a table has frames')
    assert(Number.isInteger(Math.log2(entries)) && Number.isInteger(Math.log2(ghosts)), 'hash tables are powers of two')
    assert(entries >= frames && window > 0 && window <= entries, 'every frame finds an entry')
    this.ghostsAt = HEADER_WORDS + frames * FRAME_WORDS
    this.entriesAt = this.ghostsAt + ghosts
    this.byteLength = (this.entriesAt + entries) * 4
  }

  /** Writes the state of an empty table into zeroed words. */
  begin(words: Int32Array): void {
    const { frames } = this.geometry
    words[FREE_FRAMES] = frames
    words[PROBATION_TARGET] = Math.max(1, Math.floor(frames / 10))
  }

  word(frame: number, field: number): number {
    return HEADER_WORDS + frame * FRAME_WORDS + field
  }

  /** The word of the entry `step` after a home, around the end. */
  entry(home: number, step: number): number {
    return this.entriesAt + ((home + step) & (this.geometry.entries - 1))
  }
}

/** 32 well mixed bits of a key (the finisher of MurmurHash3 over each word). */
export function hashOf(slot: number, generation: number, page: number): number {
  let hash = mixed(slot + 0x9e3779b9)
  hash = mixed(hash ^ generation)
  return mixed(hash ^ Math.imul(page, 0x85ebca6b)) >>> 0
}

function mixed(value: number): number {
  let hash = value
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return hash ^ (hash >>> 16)
}
