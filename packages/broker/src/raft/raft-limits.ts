// The limits of a Raft group, and how they hang together.
import { assert } from '@millrace/protocol'

export interface RaftLimits {
  /** How long a tick of the shell is. */
  readonly tickMs: number
  /** An election timeout is drawn anew, from the first to the second, for each attempt. */
  readonly electionMinTicks: number
  readonly electionMaxTicks: number
  /** Before the first node of a new group asks for votes in term 0. */
  readonly firstElectionTicks: number
  readonly heartbeatTicks: number
  /** What may be on its way to one follower. */
  readonly windowBytes: number
  readonly windowMessages: number
  readonly maxAppendBytes: number
  /** Of proposals not yet committed; above it the leader takes no more. */
  readonly maxUncommittedBytes: number
  /** A transfer that takes longer is aborted. */
  readonly transferTicks: number
  /** How often an heir is told to stand for election, until it is heard of. */
  readonly heirTicks: number
  /** After which the leader of before stands for election itself where nothing is heard of its heir, and one more by chance. */
  readonly reclaimTicks: number
  /** A leader whose own disk has not moved for so long, while a quorum of others went on, hands over. */
  readonly stallTicks: number
  /** Election timeouts without a leader after which a replica under repair stands for election. */
  readonly repairingTimeouts: number
  /** Messages held back until term and vote are durable; the oldest are dropped above it. */
  readonly maxHeldMessages: number
}

export const RAFT_LIMITS: RaftLimits = {
  tickMs: 50,
  electionMinTicks: 12,
  electionMaxTicks: 24,
  firstElectionTicks: 2,
  heartbeatTicks: 4,
  windowBytes: 4 * 1024 * 1024,
  windowMessages: 64,
  maxAppendBytes: 1024 * 1024,
  maxUncommittedBytes: 64 * 1024 * 1024,
  transferTicks: 20,
  heirTicks: 2,
  reclaimTicks: 10,
  stallTicks: 40,
  repairingTimeouts: 5,
  maxHeldMessages: 256,
}

/** @throws AssertionError when the limits contradict each other. */
export function assertRaftLimits(limits: RaftLimits): void {
  assert(limits.heartbeatTicks > 0, 'heartbeats are a tick apart or more')
  assert(limits.electionMinTicks > limits.heartbeatTicks, 'an election timeout is longer than a heartbeat interval')
  assert(limits.electionMaxTicks >= limits.electionMinTicks, 'the longest election timeout is not below the shortest')
  assert(limits.firstElectionTicks > 0, 'the first election waits for a tick')
  assert(limits.windowBytes > 0 && limits.windowMessages > 0, 'a window has room')
  assert(limits.maxAppendBytes > 0 && limits.maxUncommittedBytes > 0, 'something may be proposed and sent')
  assert(limits.transferTicks > 0 && limits.repairingTimeouts > 0, 'transfers and repairs get their time')
  assert(limits.heirTicks > 0 && limits.reclaimTicks > limits.heirTicks, 'an heir is told again before it is given up')
  assert(limits.stallTicks > limits.heartbeatTicks, 'a disk may take longer than a heartbeat')
  assert(limits.maxHeldMessages > 0, 'a message may be held')
}

assertRaftLimits(RAFT_LIMITS)
