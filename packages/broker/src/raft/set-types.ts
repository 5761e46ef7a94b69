// What the two ends of a set of groups at rest say to each other, and what they need of a group. One node leads all groups of
// a set, the other follows in all of them. The connection keeps messages in order; what is lost is lost with the connection.
import type { RaftGroup } from '@millrace/protocol'
import type { NodeId } from './raft-types.js'

/** A group as its set sees it. */
export interface SetGroup {
  readonly key: RaftGroup
  /** As the follower: whether it rests from now on. */
  restWith(leader: NodeId, term: number, index: number): boolean
  /** As the leader: the follower rests. */
  followerRests(follower: NodeId, term: number): void
  /** Nothing vouches for the peer any more; `silentTicks` since it was heard of, 0 when its silence is not why. */
  wake(peer: NodeId, silentTicks: number): void
}

export interface EnteringGroup {
  readonly group: RaftGroup
  readonly term: number
  readonly index: number
}

/** "I lead every group of the set as it was in `epoch`, in the term in which it entered." */
export interface SetHeartbeat {
  /** Rises with every change of the set, and over restarts of the node: no two sets ever have the same. */
  readonly epoch: number
  /** Of the set that `entering` and `leaving` change; 0 when it begins anew with those that enter. */
  readonly base: number
  readonly entering: readonly EnteringGroup[]
  readonly leaving: readonly RaftGroup[]
}

/** "I follow in every group of the set as it was in `epoch`, but for those that left." */
export interface SetHeartbeatReply {
  /** 0: nothing is vouched for, and there is no set. */
  readonly epoch: number
  readonly left: readonly RaftGroup[]
}

export interface SetLimits {
  readonly heartbeatTicks: number
  /** Silence for so long dissolves a set, which then has to wait as long for its next members. */
  readonly electionMinTicks: number
  /** Groups of each kind in one message. */
  readonly maxGroups: number
}
