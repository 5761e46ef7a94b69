// How far one follower is, as its leader knows it, and what is on its way to it.
// Source: dissertation, 10.2.1 (pipelining), 10.2.2; the three modes are those of etcd's raft.
import type { NodeId } from './raft-types.js'

/**
 * `probe`: the place where the logs agree is being looked for, with messages that carry no entries. `replicate`: entries are
 * sent ahead of their answers, within the window. `install`: the follower is behind the start of the log and gets the state.
 */
export type ProgressMode = 'probe' | 'replicate' | 'install'

interface InFlight {
  readonly lastIndex: number
  readonly byteLength: number
}

/** Instead of an index: a read for an earlier membership of the node is still to come in, and is not for this one. */
const FOREIGN_READ = -1

export class Progress {
  readonly nodeId: NodeId
  mode: ProgressMode = 'probe'
  /** The follower's log is durable and the same as the leader's up to here. */
  match = 0
  /** Of the first entry that is not on its way. */
  next: number
  /** Where the read that is under way begins; 0 when there is none. */
  readingFrom: number
  /** The newest round of heartbeats that it has answered. */
  heardRound = 0
  /** `offered`: it may rest and has not agreed yet. `resting`: the heartbeat of its node speaks for it. */
  rest: 'none' | 'offered' | 'resting' = 'none'
  /** It has been heard since the last check for a quorum. */
  isActive = true
  /** Where the log of an install that was sent begins. */
  installIndex = 0
  /** Ticks until an install counts as lost; 0 while it is being sent. */
  installTicks = 0
  private readonly inFlight: InFlight[] = []
  private inFlightBytes = 0

  constructor(nodeId: NodeId, next: number, awaitsForeignRead: boolean) {
    this.nodeId = nodeId
    this.next = next
    this.readingFrom = awaitsForeignRead ? FOREIGN_READ : 0
  }

  becomeProbe(next: number): void {
    this.mode = 'probe'
    this.next = next
    this.clearWindow()
  }

  becomeReplicate(next: number): void {
    this.mode = 'replicate'
    this.next = next
    this.clearWindow()
  }

  becomeInstall(index: number): void {
    this.mode = 'install'
    this.installIndex = index
    this.installTicks = 0
    this.clearWindow()
  }

  /** Entries up to `lastIndex` are on their way. */
  sent(lastIndex: number, byteLength: number): void {
    this.next = lastIndex + 1
    this.inFlight.push({ lastIndex, byteLength })
    this.inFlightBytes += byteLength
  }

  /** Everything up to `index` has arrived and is durable. */
  matched(index: number): void {
    if (index > this.match) this.match = index
    if (index >= this.next) this.next = index + 1
    for (let first = this.inFlight[0]; first !== undefined && first.lastIndex <= index; first = this.inFlight[0]) {
      this.inFlight.shift()
      this.inFlightBytes -= first.byteLength
    }
  }

  /** Bytes that may still be sent; at least one entry may be whenever it is not 0. */
  windowRoom(windowBytes: number, windowMessages: number): number {
    return this.inFlight.length >= windowMessages ? 0 : Math.max(0, windowBytes - this.inFlightBytes)
  }

  private clearWindow(): void {
    this.inFlight.length = 0
    this.inFlightBytes = 0
  }
}
