// What recovery found out about one log.
import type { LogStarts } from './log-start.js'
import type { LogEnd } from './log-store.js'
import type { Segment } from './segment.js'
import type { TermTable } from './term-table.js'
import type { Truncations } from './truncations.js'

export interface Damage {
  readonly position: number
  readonly reason: string
}

export interface RecoveredDamage extends Damage {
  /** Everything before the end of the log is whole, so that cutting it off there repairs it. */
  readonly isAtEnd: boolean
  /** Position behind the last byte of every slot that carries the log's name. */
  readonly limit: number
}

export interface RecoveredLog {
  readonly segments: readonly Segment[]
  /** Taken by the log, but beyond its end: to be given back. */
  readonly surplus: readonly Segment[]
  /** Given up when the log began anew: to be given back once what was found is flushed. */
  readonly former: readonly Segment[]
  /** First of the segments that were walked: what stands in it and behind has to be flushed to count. */
  readonly firstWalked: number
  readonly filled: LogEnd
  readonly position: number
  readonly previous: number
  readonly terms: TermTable
  readonly maxTimestamp: number
  readonly lastAppendTime: number
  readonly starts: LogStarts
  readonly truncations: Truncations
  /** Position behind the last checkpoint; 0 without one. */
  readonly checkpointEnd: number
  readonly replayedBytes: number
  /** Where the log was cut, if anything of a group stood behind its end. */
  readonly tornAt: number | null
  readonly damage: RecoveredDamage | null
}

/** What the volume says of all its logs. */
export interface VolumeCondition {
  /** It was closed in order: nothing was under way. */
  readonly clean: boolean
  /** The disk refuses to read a slot: any log may be whole with what is in there. */
  readonly refusesSlots: boolean
}
