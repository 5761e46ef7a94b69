// What a node keeps only while it leads: its followers, the reads and the transfer that wait, and what is not committed yet.

import { membersOf } from './configuration.js'
import type { LogShadow } from './log-shadow.js'
import { Progress } from './progress.js'
import type { Configuration, Entry, NodeId } from './raft-types.js'

export interface WaitingRead {
  readonly read: number
  /** The round of heartbeats that has to be answered; 0 while none has been sent for it. */
  round: number
  /** Committed when that round was sent. */
  index: number
}

export interface Transfer {
  readonly to: NodeId
  ticks: number
}

interface Uncommitted {
  readonly lastIndex: number
  readonly byteLength: number
}

export class LeaderState {
  progress: readonly Progress[] = []
  /** Of the heartbeat sent last. */
  round = 0
  /** An entry of the own term is committed, so that everything committed before is known to be. */
  isServing = false
  readonly reads: WaitingRead[] = []
  transfer: Transfer | null = null
  heartbeatTicks = 0
  quorumTicks = 0
  /** How long the own disk has been behind what others have made durable, and where it stood then. */
  stalledTicks = 0
  stalledIndex = 0
  /** What was committed when the round before the last was sent: whoever has it keeps up. */
  commitAtRound = 0
  previousCommitAtRound = 0
  /** The end of the joint change was asked for. */
  hasAskedToLeave = false
  uncommittedBytes = 0
  private readonly uncommitted: Uncommitted[] = []
  /** Nodes that were taken out while a read for them was under way. */
  private readonly foreignReads = new Set<NodeId>()

  find(nodeId: NodeId): Progress | undefined {
    for (const progress of this.progress) if (progress.nodeId === nodeId) return progress
    return undefined
  }

  /** Follow a new configuration. @returns those that are new. */
  reconfigure(self: NodeId, configuration: Configuration, log: LogShadow): Progress[] {
    const added: Progress[] = []
    const members = membersOf(configuration).filter((nodeId) => nodeId !== self)
    for (const { nodeId, readingFrom } of this.progress) {
      if (readingFrom !== 0 && !members.includes(nodeId)) this.foreignReads.add(nodeId)
    }
    this.progress = members.map((nodeId) => {
      const known = this.find(nodeId)
      if (known !== undefined) return known
      const progress = new Progress(nodeId, log.lastIndex + 1, this.foreignReads.delete(nodeId))
      added.push(progress)
      return progress
    })
    return added
  }

  /** A read for a node that is not a member has come in. */
  foreignReadDone(nodeId: NodeId): void {
    this.foreignReads.delete(nodeId)
  }

  proposed(lastIndex: number, entries: readonly Entry[]): void {
    let byteLength = 0
    for (const entry of entries) byteLength += entry.byteLength
    this.uncommitted.push({ lastIndex, byteLength })
    this.uncommittedBytes += byteLength
  }

  committed(index: number): void {
    let first = this.uncommitted[0]
    while (first !== undefined && first.lastIndex <= index) {
      this.uncommitted.shift()
      this.uncommittedBytes -= first.byteLength
      first = this.uncommitted[0]
    }
  }
}
