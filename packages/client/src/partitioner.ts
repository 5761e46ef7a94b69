// Which partition a record goes to when nobody has named one: by its key, or without one a batch's worth to each in turn.
import { partitionOfKey, type Route, type TopicInfo } from '@millrace/protocol'
import { invalidArgument, reasonOf } from './errors.js'

/** What a partitioner is told besides the key. */
export interface PartitionContext {
  readonly topic: string
  /** Partitions are numbered from 0 to this, less one. */
  readonly partitionCount: number
}

/**
 * Chooses the partition of a record from the bytes of its key: a whole number from 0 to `partitionCount` - 1, and the
 * same one whenever it is asked, since records of one key are in order only within a partition. Records without a key
 * are not asked about. The bytes are the caller's: they change after it has returned.
 */
export type Partitioner = (key: Uint8Array, context: PartitionContext) => number

/**
 * By the topic's own rule (murmur2 of the key) unless there is a `partitioner`.
 * @throws MillraceError INVALID_ARGUMENT when it throws or returns what is no partition; the record is in no log.
 */
export function partitionFor(
  { name: topic, routes }: TopicInfo,
  key: Uint8Array,
  partitioner: Partitioner | null,
): number {
  const partitionCount = routes.length
  if (partitioner === null) return partitionOfKey(key, partitionCount)
  let chosen: unknown
  try {
    chosen = partitioner(key, { topic, partitionCount })
  } catch (cause) {
    throw invalidArgument(`the partitioner of ${topic} threw: ${reasonOf(cause)}`, { topic, outcome: 'failed', cause })
  }
  if (typeof chosen === 'number' && Number.isInteger(chosen) && chosen >= 0 && chosen < partitionCount) return chosen
  // Nobody awaits it; its failure must not end the process.
  if (chosen instanceof Promise) chosen.catch(() => {})
  const shown = typeof chosen === 'number' ? chosen : typeof chosen
  const detail = `the partitioner returned ${shown}; ${topic} has partitions 0 to ${partitionCount - 1}`
  throw invalidArgument(detail, { topic, outcome: 'failed' })
}

/**
 * The partition that takes the next batch of records without a key: the one after `current` in a round over all, so
 * that they get as much each. Those without a leader are passed over, and those whose batches do not leave at the
 * moment: a slow partition would else collect the most.
 */
export function nextSticky(routes: readonly Route[], current: number, flows: (partition: number) => boolean): number {
  let fallback = -1
  for (let step = 1; step <= routes.length; step++) {
    const partition = (current + step) % routes.length
    if (routes[partition]!.nodeId === 0) continue
    if (flows(partition)) return partition
    if (fallback < 0) fallback = partition
  }
  return fallback < 0 ? (current + 1) % routes.length : fallback
}
