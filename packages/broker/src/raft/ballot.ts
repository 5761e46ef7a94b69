// The votes of one election round, and what they come to.
// Invariant: the grant of a replica under repair, which may have forgotten entries that it acknowledged, counts only when
// every voter has granted: some of them must have what it has lost.
import { hasQuorum, votersOf } from './configuration.js'
import type { Configuration, NodeId } from './raft-types.js'

export type Outcome = 'won' | 'lost' | 'open'

interface Vote {
  readonly nodeId: NodeId
  readonly granted: boolean
  readonly isRepairing: boolean
}

export class Ballot {
  private readonly votes: Vote[] = []
  private readonly needsAll: boolean

  /** `needsAll`: the candidate itself is under repair. */
  constructor(needsAll: boolean) {
    this.needsAll = needsAll
  }

  /** Only the first answer of a node counts. */
  record(vote: Vote): void {
    if (this.find(vote.nodeId) === undefined) this.votes.push(vote)
  }

  has(nodeId: NodeId): boolean {
    return this.find(nodeId) !== undefined
  }

  /** Nodes outside the configuration do not count, whatever they answered. */
  outcome(configuration: Configuration): Outcome {
    const voters = votersOf(configuration)
    if (voters.length > 0 && voters.every((nodeId) => this.find(nodeId)?.granted === true)) return 'won'
    if (!this.needsAll && hasQuorum(configuration, (nodeId) => this.isFullGrant(nodeId))) return 'won'
    return hasQuorum(configuration, (nodeId) => this.find(nodeId)?.granted !== false) ? 'open' : 'lost'
  }

  private isFullGrant(nodeId: NodeId): boolean {
    const vote = this.find(nodeId)
    return vote?.granted === true && !vote.isRepairing
  }

  private find(nodeId: NodeId): Vote | undefined {
    return this.votes.find((vote) => vote.nodeId === nodeId)
  }
}
