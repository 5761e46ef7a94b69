// What a node knows, as the leader of a group, of its replicas.
import type { RaftCore } from '../raft/raft-core.js'
import type { Entry, NodeId } from '../raft/raft-types.js'
import type { ReplicaStatus } from './group-ports.js'

/** Of every replica, the leader's own included. Those that a change is about to take out are left out. */
export function replicaStatuses(core: RaftCore<Entry>): readonly ReplicaStatus[] {
  const { configuration, durableIndex, lastIndex, nodeId: self } = core
  const statusOf = (nodeId: NodeId, isLearner: boolean): ReplicaStatus => {
    const matchIndex = nodeId === self ? durableIndex : core.matchOf(nodeId)
    return { nodeId, matchIndex, lagBatches: lastIndex - matchIndex, isLearner }
  }
  return [
    ...configuration.voters.map((nodeId) => statusOf(nodeId, false)),
    ...configuration.learners.map((nodeId) => statusOf(nodeId, true)),
  ]
}

/** The voter that has most of the log, apart from the leader; 0 when there is none. */
export function mostAdvancedOther(core: RaftCore<Entry>): NodeId {
  const others = replicaStatuses(core).filter(({ nodeId, isLearner }) => nodeId !== core.nodeId && !isLearner)
  return others.reduce((best, other) => (other.matchIndex > best.matchIndex ? other : best), others[0] ?? NOBODY).nodeId
}

const NOBODY: ReplicaStatus = { nodeId: 0, matchIndex: 0, lagBatches: 0, isLearner: false }
