// What a replica is made of.
import type { Clock, Memory } from '../environment.js'
import type { Configuration, NodeId } from '../raft/raft-types.js'
import type { LogKey, PartitionLog } from '../storage/log-store.js'
import type { GroupOwner, GroupPeers, GroupVotes } from './group-ports.js'

export interface ReplicaGroupOptions {
  readonly key: LogKey
  readonly nodeId: NodeId
  /** Of a group whose log is new. */
  readonly configuration: Configuration
  readonly log: PartitionLog
  /** Whether a batch counts once it is flushed, or once it is written. */
  readonly mode: 'flush' | 'write'
  /** Where votes cannot be read: no term of an earlier start was higher, as far as this node can know. */
  readonly leastTerm: number
  /** Batches this node had acknowledged may be missing from its log. */
  readonly isRepairing: boolean
  readonly votes: GroupVotes
  readonly peers: GroupPeers
  readonly owner: GroupOwner
  readonly clock: Clock
  readonly memory: Memory
  /** A uniform integer below a bound. */
  readonly random: (bound: number) => number
  /** A batch came whose checksum does not hold. */
  readonly damagedOnTheWay: (key: LogKey) => void
  /** This replica holds everything again that it may once have acknowledged. */
  readonly repaired: (key: LogKey) => void
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}
