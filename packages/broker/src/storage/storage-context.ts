// What every log of a store shares.

import type { Environment, Volume } from '../environment.js'
import type { AppendMemory } from '../memory/append-memory.js'
import type { PagePool } from '../memory/page-pool.js'
import type { Flusher } from './flusher.js'
import type { Latch } from './latch.js'
import type { Room } from './room.js'
import type { SlotIdentity } from './slot-header.js'
import type { SlotPool } from './slot-pool.js'
import type { StorageCounters } from './storage-counters.js'
import type { StorageLimits } from './storage-limits.js'

export interface StorageContext {
  readonly environment: Environment
  readonly volume: Volume
  readonly identity: SlotIdentity
  /** Drawn at random when the store was opened; in the envelope of every group. */
  readonly session: number
  readonly limits: StorageLimits
  readonly counters: StorageCounters
  readonly latch: Latch
  readonly room: Room
  readonly pool: SlotPool
  readonly flusher: Flusher
  readonly appendMemory: AppendMemory
  readonly frames: PagePool
}
