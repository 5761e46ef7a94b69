// Who belongs to the metadata group: every node follows it, and one, three or five of them decide. Whoever leads it brings
// that about by itself, as nodes come, are drained and go.
import type { Clock, Logger, Timer } from '../environment.js'
import { METADATA_MEMBERS_MS } from '../limits.js'
import { isJoint, isOnly } from '../raft/configuration.js'
import type { Membership } from '../raft/membership.js'
import type { Configuration } from '../raft/raft-types.js'
import { StorageError } from '../storage/log-store.js'
import type { ClusterMembers } from './cluster-members.js'
import type { MetadataLog } from './metadata-log.js'
import type { NodeRecord } from './node-registry.js'

export interface MetadataGroupView {
  readonly registry: readonly NodeRecord[]
  /** All nodes of the cluster: those that have not registered yet count as active. */
  readonly members: readonly number[]
  readonly configuration: Configuration
  /** The node that leads. */
  readonly nodeId: number
  /** Whether a learner has what is committed, and is there. */
  readonly keepsUp: (nodeId: number) => boolean
  /** Whether a node is there. */
  readonly isConnected: (nodeId: number) => boolean
}

/** How many nodes decide, of so many active ones. */
export function voterCount(activeNodes: number): number {
  return activeNodes < 3 ? 1 : activeNodes < 5 ? 3 : 5
}

/**
 * Whom the metadata group began with, as far as a log that lacks something may go by it. A node that began a cluster alone and
 * knows enough others for three voters could have lost the very change by which they came: it is not to decide alone.
 */
export function believedFounders(founders: readonly number[], nodeId: number, others: number): readonly number[] {
  return isOnly(founders, nodeId) && voterCount(1 + others) > 1 ? [] : founders
}

/** @returns the next change to propose; 'wait' while one is needed that cannot be made yet; null when all is as it should be. */
export function nextMetadataChange(view: MetadataGroupView): Membership | 'wait' | null {
  const { registry, members, configuration, keepsUp, isConnected } = view
  if (isJoint(configuration)) return 'wait'
  const records = new Map(registry.map((node) => [node.nodeId, node]))
  const stateOf = (nodeId: number): NodeRecord['state'] => records.get(nodeId)?.state ?? 'active'
  const { voters, learners } = configuration
  const belong = [...new Set([...members, ...voters])].filter((nodeId) => stateOf(nodeId) !== 'removed')
  const missing = belong.filter((nodeId) => !voters.includes(nodeId) && !learners.includes(nodeId))
  // Whoever is removed is told so, and answers who asked for it there, while its connections last a moment longer.
  const leaving = learners.filter((nodeId) => stateOf(nodeId) === 'removed' && isConnected(nodeId))
  const kept = learners.filter((nodeId) => belong.includes(nodeId) || leaving.includes(nodeId))
  if (missing.length > 0 || kept.length < learners.length) return { voters, learners: [...kept, ...missing] }

  const isActive = (nodeId: number): boolean => stateOf(nodeId) === 'active'
  const wanted = voterCount(belong.filter(isActive).length)
  // Those that decide already come first, and the leader before the others: what need not change stays.
  const standing = voters
    .filter(isActive)
    .sort((a, b) => Number(b === view.nodeId) - Number(a === view.nodeId) || a - b)
  const candidates = learners.filter((nodeId) => isActive(nodeId) && keepsUp(nodeId)).sort((a, b) => a - b)
  const chosen: number[] = []
  for (const pool of [standing, candidates]) {
    while (chosen.length < wanted && pool.some((nodeId) => !chosen.includes(nodeId))) {
      chosen.push(otherRackFirst(pool, chosen, (nodeId) => records.get(nodeId)?.rack ?? null))
    }
  }
  if (chosen.length < wanted) return 'wait'
  const isAsItIs = chosen.length === voters.length && chosen.every((nodeId) => voters.includes(nodeId))
  if (isAsItIs) return leaving.length > 0 ? 'wait' : null
  return { voters: chosen, learners: [...belong.filter((nodeId) => !chosen.includes(nodeId)), ...leaving] }
}

/** The first that is not taken and shares its rack with the fewest of those that are. */
function otherRackFirst(
  pool: readonly number[],
  taken: readonly number[],
  rackOf: (id: number) => string | null,
): number {
  const shared = (nodeId: number): number => {
    const rack = rackOf(nodeId)
    return rack === null ? 0 : taken.filter((other) => rackOf(other) === rack).length
  }
  const free = pool.filter((nodeId) => !taken.includes(nodeId))
  return free.reduce((best, nodeId) => (shared(nodeId) < shared(best) ? nodeId : best))
}

interface MetadataMembershipOptions {
  readonly metadata: MetadataLog
  readonly members: ClusterMembers
  readonly peers: { isConnected(nodeId: number): boolean }
  readonly clock: Clock
  readonly log: Logger
  readonly nodeId: number
}

export class MetadataMembership {
  readonly #options: MetadataMembershipOptions
  #timer: Timer | null = null
  #stopped = false

  constructor(options: MetadataMembershipOptions) {
    this.#options = options
  }

  /** Something may have changed: who leads, who is there, or what is committed. */
  look(): void {
    if (this.#stopped || this.#timer !== null || !this.#options.metadata.leads) return
    // Not at once: what was committed is still being told to everybody.
    this.#timer = this.#options.clock.timer(METADATA_MEMBERS_MS, () => {
      this.#timer = null
      if (!this.#stopped && this.#step() !== 'done') this.look()
    })
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  #step(): 'done' | 'again' {
    const { metadata, members, peers, log, nodeId } = this.#options
    if (!metadata.leads) return 'done'
    const lags = new Map(metadata.replicas().map((replica) => [replica.nodeId, replica.lagBatches]))
    const { configuration } = metadata
    const change = nextMetadataChange({
      registry: metadata.state.nodes(),
      members: members.ids,
      configuration,
      nodeId,
      isConnected: (node) => peers.isConnected(node),
      keepsUp: (learner) => peers.isConnected(learner) && (lags.get(learner) ?? MOST_LAG_BATCHES) < MOST_LAG_BATCHES,
    })
    if (change === null) return 'done'
    if (change === 'wait') return 'again'
    try {
      const refusal = metadata.changeMembership(change)
      const fields = { voters: change.voters.join(','), learners: change.learners.join(','), refusal }
      if (refusal === null) log.info(fields, 'the metadata group changes its members')
      else log.debug(fields, 'the metadata group cannot change its members yet')
    } catch (error) {
      // The log of this node fails: whoever leads next goes on.
      if (!(error instanceof StorageError)) throw error
    }
    return 'again'
  }
}

/** A learner that lacks more than this is not asked to decide; the core itself looks closer. */
const MOST_LAG_BATCHES = 16
