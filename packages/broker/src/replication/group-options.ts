// What a replica is made of.
import type { Clock, Memory } from '../environment.js'
import type { Configuration, NodeId } from '../raft/raft-types.js'
import type { LogKey, PartitionLog } from '../storage/log-store.js'
import type { CatchUpPace } from './catch-up-pace.js'
import type { GroupConfigurations } from './group-configurations.js'
import type { GroupOwner, GroupPeers, GroupSets, GroupVotes } from './group-ports.js'

export interface ReplicaGroupOptions {
  readonly key: LogKey
  readonly nodeId: NodeId
  /** In force where the log does not say who belongs to the group: nobody, for a replica that is new in an old group. */
  readonly configuration: Configuration
  /** What the log says; carried by its state. */
  readonly configurations: GroupConfigurations
  readonly log: PartitionLog
  /** Whether a batch counts once it is flushed, or once it is written. */
  readonly mode: 'flush' | 'write'
  /** Where votes cannot be read: no term of an earlier start was higher, as far as this node can know. */
  readonly leastTerm: number
  /** Batches this node had acknowledged may be missing from its log. */
  readonly isRepairing: boolean
  readonly votes: GroupVotes
  readonly peers: GroupPeers
  readonly catchUp: CatchUpPace
  readonly sets: GroupSets
  readonly owner: GroupOwner
  readonly clock: Clock
  readonly memory: Memory
  /** A uniform integer below a bound. */
  readonly random: (bound: number) => number
  /** A batch came whose checksum does not hold. */
  readonly damagedOnTheWay: (key: LogKey) => void
  /** This replica holds everything again that it may once have acknowledged. */
  readonly repaired: (key: LogKey) => void
  /** This replica has won an election. */
  readonly elected: (key: LogKey, term: number) => void
  /** Whether time matters to this replica has changed; at first it does not. */
  readonly needsTicksChanged: (needsTicks: boolean) => void
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}
