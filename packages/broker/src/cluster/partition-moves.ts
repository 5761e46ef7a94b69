// How far the partitions that this node leads are on the way to where the metadata wants them.
import type { NodeId } from '../raft/raft-types.js'
import type { ReplicaStatus } from '../replication/group-ports.js'
import { isAtTarget } from '../replication/next-change.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import type { LedPartition, MembershipDriverOptions } from './membership-driver.js'

export interface PartitionMove {
  readonly topicId: number
  readonly partition: number
  readonly target: readonly NodeId[]
  /** False: nobody is known to lead the partition, and what follows is what the replicas that answer know of it. */
  readonly hasLeader: boolean
  /** In force now. */
  readonly voters: readonly NodeId[]
  /** They count until the change that takes them out is committed. */
  readonly outgoing: readonly NodeId[]
  readonly learners: readonly NodeId[]
  /** How much of the leader's log each of them lacks. */
  readonly replicas: readonly ReplicaStatus[]
}

/** Until the last change is committed, the replicas that it takes out may be what a leader is elected by. */
export function hasArrived({ configuration, core }: ReplicaGroup, target: readonly NodeId[]): boolean {
  return isAtTarget(target, configuration) && core.isConfigurationCommitted
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
    if (target === undefined || hasArrived(group, target)) continue
    const { voters, outgoing, learners } = configuration
    const replicas = group.replicas()
    moves.push({ topicId, partition, target, hasLeader: true, voters, outgoing, learners, replicas })
  }
  return moves
}
