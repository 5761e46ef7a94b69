// What the answer to a batch means for it: acknowledged, to be sent again, or over, and whether an attempt that was
// refused can still be in the log.
import { ERROR_TABLE, type ErrorName } from '@millrace/protocol'

/**
 * Refusals given before anything is appended: the attempt is surely not in the log. Not among them is NOT_LEADER: a
 * leader may have appended the batch before it lost the partition, and the next leader may commit it.
 */
const NOTHING_APPENDED: ReadonlySet<ErrorName> = new Set<ErrorName>([
  'UNKNOWN_TOPIC',
  'UNKNOWN_PARTITION',
  'UNKNOWN_LANE',
  'CORRUPT_BATCH',
  'INVALID_BATCH',
  'BATCH_TOO_LARGE',
  'CODEC_NOT_ALLOWED',
  'UNKNOWN_PRODUCER',
  'OUT_OF_ORDER_SEQUENCE',
  'PRODUCER_FENCED',
  'OVERLOADED',
  'DISK_FULL',
  'DEADLINE_EXCEEDED',
  'FRAME_TOO_LARGE',
  'INVALID_REQUEST',
])

/**
 * The map that led to the broker names the topic, so a broker that does not know it has yet to catch up with the
 * metadata. When the topic is really gone, the map says so soon, and that ends its batches.
 */
const NOT_YET_KNOWN: ReadonlySet<ErrorName> = new Set<ErrorName>(['UNKNOWN_TOPIC', 'UNKNOWN_PARTITION'])

export interface Verdict {
  /** Send the same batch again, with the same sequence. */
  readonly retry: boolean
  /** This attempt may be in the log although it was refused. */
  readonly ambiguous: boolean
  /**
   * The broker misses batches of the epoch before this one. Those still unresolved come first when all are sent again;
   * when there are none, the session with the partition is over and a new epoch begins.
   */
  readonly missesEarlier: boolean
}

/** @param name the row of the error table, or null for a code this version does not know. */
export function judgeRefusal(name: ErrorName | null): Verdict {
  if (name === null) return { retry: false, ambiguous: true, missesEarlier: false }
  // A producer is also unknown to a partition that has just refused its first batch.
  const missesEarlier = name === 'UNKNOWN_PRODUCER' || name === 'OUT_OF_ORDER_SEQUENCE'
  const retry = ERROR_TABLE[name].retriable || missesEarlier || NOT_YET_KNOWN.has(name)
  return { retry, ambiguous: !NOTHING_APPENDED.has(name), missesEarlier }
}
