// Which groups have begun. Whom a group begins with stands in the metadata until its partition is assigned anew: a group that
// has not begun by then never would. Where somebody is known to have led it, its log says who belongs to it.
import type { Clock } from '../environment.js'
import { ASK_NODE_TIMEOUT_MS, LEADER_RETRY_MS } from '../limits.js'
import type { LeaderTable } from './leader-table.js'
import type { Assignment } from './metadata-command.js'
import type { MetadataState } from './metadata-state.js'

type PartitionKey = Pick<Assignment, 'topicId' | 'partition'>

export function hasBegun(leaders: LeaderTable, state: MetadataState, { topicId, partition }: PartitionKey): boolean {
  const founders = state.topic(topicId)?.founders[partition] ?? []
  return founders.length === 0 || leaders.route(topicId, partition).nodeId !== 0
}

/** Waits for those that are about to begin, a little: whoever leads is heard of here a moment later than elsewhere. Always resolves. */
export async function untilBegun(
  clock: Clock,
  partitions: readonly PartitionKey[],
  begun: (key: PartitionKey) => boolean,
): Promise<void> {
  const deadline = clock.monotonicMs() + ASK_NODE_TIMEOUT_MS
  while (clock.monotonicMs() < deadline && !partitions.every(begun)) {
    await new Promise<void>((resolve) => clock.timer(LEADER_RETRY_MS, resolve))
  }
}
