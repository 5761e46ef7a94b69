// What a partition is made of.
import type { CodecName, Durability, Route } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import type { Metrics } from '../metrics.js'
import type { PartitionLog } from '../storage/log-store.js'
import type { Retention } from './log-start-proposal.js'
import type { PartitionState } from './partition-state.js'

export interface PartitionOptions {
  readonly log: PartitionLog
  readonly state: PartitionState
  readonly nodeId: number
  /** No other node had a replica when this one was opened: nobody else can have committed anything. */
  readonly wasSole: boolean
  /** Who leads as far as this node knows, when it does not itself. */
  readonly knownRoute: () => Route
  /** This node has begun or ceased to lead. */
  readonly onLeadership: (leadership: { readonly route: Route; readonly leads: boolean }) => void
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  readonly retention: Retention
  readonly clock: Clock
  readonly memory: Memory
  readonly metrics: Metrics
}
