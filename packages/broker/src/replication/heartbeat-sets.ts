// The groups at rest of this node: with each other node one set that this node leads and one that it follows, so that a
// thousand quiet groups cost one heartbeat for each pair of nodes.
import type { RaftGroup, SetBeat, SetBeatReply } from '@millrace/protocol'
import { MAX_GROUPS_PER_SET_BEAT } from '@millrace/protocol'
import type { Clock } from '../environment.js'
import { FollowedSet } from '../raft/followed-set.js'
import { LedSet } from '../raft/led-set.js'
import { RAFT_LIMITS } from '../raft/raft-limits.js'
import type { NodeId } from '../raft/raft-types.js'
import type { SetGroup, SetLimits } from '../raft/set-types.js'
import type { DiskPulse } from '../storage/log-store.js'
import type { GroupSets, SetPeers } from './group-ports.js'

const LIMITS: SetLimits = {
  heartbeatTicks: RAFT_LIMITS.heartbeatTicks,
  electionMinTicks: RAFT_LIMITS.electionMinTicks,
  maxGroups: MAX_GROUPS_PER_SET_BEAT,
}
/** A disk that completes nothing for so long vouches for nothing; it is asked to when half of that has passed. */
const PULSE_MS = RAFT_LIMITS.electionMinTicks * RAFT_LIMITS.tickMs
/** Epochs of one life of a node; those of the next are above. */
const EPOCHS_PER_START = 2 ** 32

export interface HeartbeatSetsOptions {
  /** How often this node has begun. */
  readonly starts: number
  readonly clock: Clock
  readonly pulse: DiskPulse
  readonly peers: SetPeers
  readonly find: (key: RaftGroup) => SetGroup | undefined
}

export class HeartbeatSets implements GroupSets {
  readonly #options: HeartbeatSetsOptions
  readonly #led = new Map<NodeId, LedSet>()
  readonly #followed = new Map<NodeId, FollowedSet>()

  constructor(options: HeartbeatSetsOptions) {
    this.#options = options
  }

  // -------------------------------------------------------------- what groups say

  offer(group: SetGroup, follower: NodeId, term: number, index: number): void {
    if (!this.#ledWith(follower).enter(group, term, index)) group.wake(follower, 0)
  }

  woke(group: SetGroup, peer: NodeId, isLed: boolean): void {
    if (isLed) this.#led.get(peer)?.leave(group)
    else this.#followed.get(peer)?.leave(group)
  }

  forget(group: SetGroup): void {
    for (const set of this.#led.values()) set.leave(group)
    for (const set of this.#followed.values()) set.leave(group)
  }

  /** Whether time matters to any of the sets. */
  get isInUse(): boolean {
    for (const set of this.#led.values()) if (set.size > 0) return true
    for (const set of this.#followed.values()) if (set.size > 0) return true
    return false
  }

  // -------------------------------------------------------------- what other nodes say, and time

  onBeat(from: NodeId, beat: SetBeat): void {
    const { find, peers } = this.#options
    const set = this.#followedOf(from)
    // An answer that is lost may have named groups that left.
    if (!peers.sendSetBeatReply(from, set.heard(beat, this.#vouches(), find))) set.lost()
  }

  onReply(from: NodeId, reply: SetBeatReply): void {
    this.#led.get(from)?.answered(reply, this.#options.find)
  }

  onLost(peer: NodeId): void {
    this.#led.get(peer)?.lost()
    this.#followed.get(peer)?.lost()
  }

  tick(): void {
    const { clock, peers, pulse } = this.#options
    if (clock.monotonicMs() - pulse.completedAtMs > PULSE_MS / 2) pulse.probe()
    const vouches = this.#vouches()
    for (const [peer, set] of this.#led) set.tick(vouches, (beat) => peers.sendSetBeat(peer, beat))
    for (const set of this.#followed.values()) set.tick()
  }

  #vouches(): boolean {
    const { clock, pulse } = this.#options
    return clock.monotonicMs() - pulse.completedAtMs <= PULSE_MS
  }

  #ledWith(follower: NodeId): LedSet {
    const known = this.#led.get(follower)
    if (known !== undefined) return known
    const made = new LedSet(follower, LIMITS, this.#options.starts * EPOCHS_PER_START)
    this.#led.set(follower, made)
    return made
  }

  #followedOf(leader: NodeId): FollowedSet {
    const known = this.#followed.get(leader)
    if (known !== undefined) return known
    const made = new FollowedSet(leader, LIMITS)
    this.#followed.set(leader, made)
    return made
  }
}
