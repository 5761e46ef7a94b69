// The limits of storage as one object, so that tests and small machines can have others; checked when it is made.
import { assert, MAX_BATCH_BYTES } from '@millrace/protocol'
import { BLOCK_BYTES } from '../environment.js'
import {
  APPEND_EXTENT_BYTES,
  APPEND_MEMORY_BYTES,
  CACHE_BYTES,
  CHECKPOINT_BYTES,
  FILL_BYTES_PER_SECOND,
  FLUSH_INTERVAL_MS,
  FLUSHES_IN_FLIGHT,
  FRAME_BYTES,
  GATHER_BYTES,
  MAX_GROUP_BYTES,
  MAX_UNFLUSHED_BYTES,
  QUICK_ROLL_MS,
  RESERVE_BYTES,
  RESERVE_SLOTS,
  SCRUB_BYTES_PER_SECOND,
  SCRUB_REST_MS,
  SLOT_BYTES,
  SLOW_ROLL_MS,
  SPACE_RETRY_MS,
  VOTE_AREA_BYTES,
  WRITES_IN_FLIGHT,
} from '../limits.js'
import { maxGroupBytesOf, SLOT_DATA_START } from './slot-layout.js'

/** What each one means stands beside its default in `limits.ts`. */
export interface StorageLimits {
  /** Ascending. */
  readonly slotBytes: readonly number[]
  readonly reserveSlots: number
  readonly reserveBytes: number
  readonly fillBytesPerSecond: number
  readonly flushIntervalMs: number
  readonly flushesInFlight: number
  readonly maxUnflushedBytes: number
  /** Smaller than the default only where the owner of the logs appends no larger batches. */
  readonly maxGroupBytes: number
  readonly gatherBytes: number
  readonly writesInFlight: number
  readonly extentBytes: number
  readonly appendMemoryBytes: number
  readonly cacheBytes: number
  readonly frameBytes: number
  readonly checkpointBytes: number
  readonly quickRollMs: number
  readonly slowRollMs: number
  readonly spaceRetryMs: number
  /** 0: nothing is scrubbed. */
  readonly scrubBytesPerSecond: number
  readonly scrubRestMs: number
  readonly voteAreaBytes: number
}

export const DEFAULT_STORAGE_LIMITS: StorageLimits = {
  slotBytes: SLOT_BYTES,
  reserveSlots: RESERVE_SLOTS,
  reserveBytes: RESERVE_BYTES,
  fillBytesPerSecond: FILL_BYTES_PER_SECOND,
  flushIntervalMs: FLUSH_INTERVAL_MS,
  flushesInFlight: FLUSHES_IN_FLIGHT,
  maxUnflushedBytes: MAX_UNFLUSHED_BYTES,
  maxGroupBytes: MAX_GROUP_BYTES,
  gatherBytes: GATHER_BYTES,
  writesInFlight: WRITES_IN_FLIGHT,
  extentBytes: APPEND_EXTENT_BYTES,
  appendMemoryBytes: APPEND_MEMORY_BYTES,
  cacheBytes: CACHE_BYTES,
  frameBytes: FRAME_BYTES,
  checkpointBytes: CHECKPOINT_BYTES,
  quickRollMs: QUICK_ROLL_MS,
  slowRollMs: SLOW_ROLL_MS,
  spaceRetryMs: SPACE_RETRY_MS,
  scrubBytesPerSecond: SCRUB_BYTES_PER_SECOND,
  scrubRestMs: SCRUB_REST_MS,
  voteAreaBytes: VOTE_AREA_BYTES,
}

/** The defaults with some of them replaced. @throws AssertionError when they do not go together. */
export function storageLimits(replaced: Partial<StorageLimits> = {}): StorageLimits {
  const limits = { ...DEFAULT_STORAGE_LIMITS, ...replaced }
  const { slotBytes, maxGroupBytes, maxUnflushedBytes, frameBytes } = limits
  const largest = slotBytes.at(-1)
  assert(largest !== undefined && slotBytes.every((bytes) => bytes % BLOCK_BYTES === 0), 'slots are made of blocks')
  assert(
    slotBytes.every((bytes, i) => i === 0 || bytes > slotBytes[i - 1]!),
    'size classes ascend',
  )
  assert(slotBytes[0]! >= SLOT_DATA_START * 4, 'the smallest slot is mostly data')
  assert(largest < 2 ** 32, 'positions inside a slot are u32')
  assert(maxGroupBytes % BLOCK_BYTES === 0 && maxGroupBytes > BLOCK_BYTES, 'groups are made of blocks')
  assert(maxGroupBytesOf(largest) >= maxGroupBytes, 'the largest slot holds the largest group')
  assert(maxUnflushedBytes >= maxGroupBytes, 'the largest group can be appended')
  assert(limits.gatherBytes <= limits.extentBytes, 'a group gathers inside one extent')
  assert(limits.appendMemoryBytes >= 2 * (maxGroupBytes + limits.extentBytes), 'the largest group finds append memory')
  assert(frameBytes % BLOCK_BYTES === 0, 'frames are made of blocks')
  assert(limits.cacheBytes >= 2 * maxGroupBytes + 4 * frameBytes, 'the largest batch can be read')
  assert(limits.voteAreaBytes % BLOCK_BYTES === 0 && limits.voteAreaBytes >= 2 * BLOCK_BYTES, 'votes can be journaled')
  assert(limits.writesInFlight >= 1 && limits.flushesInFlight >= 1 && limits.reserveSlots >= 1, 'work can go on')
  return limits
}

assert(MAX_GROUP_BYTES > MAX_BATCH_BYTES, 'a group holds the largest batch')
storageLimits()
