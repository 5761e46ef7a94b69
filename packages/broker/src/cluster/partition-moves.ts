// How far the partitions that this node leads are on the way to where the metadata wants them.
import type { NodeId } from '../raft/raft-types.js'
import type { ReplicaStatus } from '../replication/group-ports.js'
import { isAtTarget } from '../replication/next-change.js'
import type { LedPartition, MembershipDriverOptions } from './membership-driver.js'

export interface PartitionMove {
  readonly topicId: number
  readonly partition: number
  readonly target: readonly NodeId[]
  /** In force now. */
  readonly voters: readonly NodeId[]
  readonly learners: readonly NodeId[]
  /** How much of the leader's log each of them lacks. */
  readonly replicas: readonly ReplicaStatus[]
}

/** Those that have not arrived, as their leader sees them. */
export function partitionMoves(
  partitions: Iterable<LedPartition>,
  targetOf: MembershipDriverOptions['targetOf'],
): readonly PartitionMove[] {
  const moves: PartitionMove[] = []
  for (const { key, leads, group } of partitions) {
    const { topicId, partition } = key
    const target = leads ? targetOf(topicId, partition) : undefined
    const { configuration } = group
    if (target === undefined || isAtTarget(target, configuration)) continue
    const { voters, learners } = configuration
    moves.push({ topicId, partition, target, voters, learners, replicas: group.replicas() })
  }
  return moves
}
