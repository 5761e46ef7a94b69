// What one replica of a group needs of the rest of the broker.
import type { BatchHeader, LogPart, SetBeat, SetBeatReply } from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { AppendRequest, Entry, HardState, InstallRequest, NodeId, RaftMessage } from '../raft/raft-types.js'
import type { SetGroup } from '../raft/set-types.js'
import type { LogKey, LogRead } from '../storage/log-store.js'

/** A batch as it came from another node: log part and client part in a block. */
export interface LoggedEntry extends Entry {
  readonly block: Block
  /** Where its log part and its client part begin. */
  readonly at: number
  readonly clientAt: number
  readonly part: LogPart
  readonly header: BatchHeader
}

/** Entries on their way from a frame into the log. */
export interface IncomingAppend {
  readonly message: AppendRequest<LoggedEntry>
  /** The bytes are in the log, or not wanted. Exactly once. */
  release(): void
}

/** The way to the other nodes. Whatever is lost on it is asked for again. */
export interface GroupPeers {
  /** Everything that has no payload. */
  send(to: NodeId, key: LogKey, message: RaftMessage<Entry>): void
  /** Releases the read, now or when it is sent. @returns false when nothing was sent. */
  sendAppend(to: NodeId, key: LogKey, header: Omit<AppendRequest<Entry>, 'entries'>, read: LogRead): boolean
  sendInstall(to: NodeId, key: LogKey, message: InstallRequest, state: Uint8Array): boolean
}

/** The way for heartbeats of all groups at rest with a node; each says false when nothing was sent. */
export interface SetPeers {
  sendSetBeat(to: NodeId, beat: SetBeat): boolean
  sendSetBeatReply(to: NodeId, reply: SetBeatReply): boolean
}

/** Where the groups at rest are known. */
export interface GroupSets {
  /** The follower has everything, and may rest; the group is woken at once when it may not. */
  offer(group: SetGroup, follower: NodeId, term: number, index: number): void
  /** The group rests no more with a node that it leads, or follows. */
  woke(group: SetGroup, peer: NodeId, isLed: boolean): void
  /** The group rests with nobody any more. */
  forget(group: SetGroup): void
}

/** What a leader knows of a replica. */
export interface ReplicaStatus {
  readonly nodeId: NodeId
  /** Index up to which the replica's log is known to be the leader's, durably. */
  readonly matchIndex: number
  /** Batches of the leader's log that it lacks. */
  readonly lagBatches: number
  readonly isLearner: boolean
}

/** Where terms and votes are kept. */
export interface GroupVotes {
  /** Null when the group never had one, 'lost' when it had and no copy can be read. */
  find(key: LogKey): HardState | 'lost' | null
  /** Resolves once it is durable. @throws StorageError. */
  save(key: LogKey, hardState: HardState): Promise<void>
}

/** Whose state the log carries. Nothing here may throw. */
export interface GroupOwner {
  /** A batch that the leader wrote is in the log of this follower now. */
  followed(entry: LoggedEntry): void
  /** A batch of Raft itself is in the log now. */
  begun(header: BatchHeader, index: number, appendTime: number): void
  /** Every batch above `lastIndex` is gone from the log, and the owner's state was made anew. */
  truncated(lastIndex: number): void
  /** The log begins anew behind a start that the leader gave. */
  installed(): void
  /** Everything up to `index` is committed and in the log of this node. */
  committed(index: number): void
  /** Everything up to `index` is as durable here as the group wants it. */
  durable(index: number): void
  /** Who leads, or whether this node serves, has changed. */
  changed(): void
  /**
   * The owner's state after everything up to `index`, which is committed, for a follower that begins behind the start of
   * the log. It will be shown batches that the state speaks of already.
   */
  stateToInstall(index: number): Uint8Array
}
