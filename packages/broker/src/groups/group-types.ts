// What goes into and comes out of the coordinator of consumer groups, as plain data.
import type { ErrorName } from '@millrace/protocol'

/** Drawn at random by the client for each life of a member; a u64. */
export type MemberId = bigint

/** How many partitions a topic has, as far as whoever says it knows; topics only grow. */
export interface TopicSize {
  readonly topicId: number
  readonly partitions: number
}

/** Where a group goes on: everything below `offset` is done. */
export interface CommittedOffset {
  readonly offset: number
  /** Of the last record that was read, 0 for none. */
  readonly term: number
}

export interface StoredOffset extends CommittedOffset {
  /** When it was committed, by the broker's wall clock: milliseconds since 1970. */
  readonly atMs: number
}

/** Why a command changed nothing; each is a row of the error table. */
export type GroupRefusal = Extract<
  ErrorName,
  | 'UNKNOWN_MEMBER'
  | 'MEMBER_FENCED'
  | 'STALE_ASSIGNMENT'
  | 'UNKNOWN_GROUP'
  | 'GROUP_NOT_EMPTY'
  | 'UNKNOWN_LANE'
  | 'UNKNOWN_TOPIC'
  | 'UNKNOWN_PARTITION'
  | 'INVALID_REQUEST'
  | 'OVERLOADED'
>

export type GroupCode = 'OK' | GroupRefusal

/** Whose assignment is another one now, or who is no member any more: whoever waits for that is to be answered. */
export interface MemberKey {
  readonly group: string
  readonly memberId: MemberId
}

export type GroupResult =
  | ({ readonly kind: 'join' } & Changes & JoinOutcome)
  | ({ readonly kind: 'commit'; readonly code: GroupCode; readonly entries: readonly GroupCode[] } & Changes)
  | ({
      readonly kind: 'leave' | 'expire' | 'topic' | 'reset' | 'delete' | 'image'
      readonly code: GroupCode
    } & Changes)

export type JoinOutcome =
  | { readonly code: 'OK'; readonly memberEpoch: number; readonly leaseMs: number }
  | { readonly code: GroupRefusal }

interface Changes {
  readonly affected: readonly MemberKey[]
}

/** A partition as its owner is told of it. */
export interface OwnedPartition {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  /** The fencing token: what the owner has to say with each commit. */
  readonly epoch: number
  /** The owner is to finish, commit and release it. It never gets it back under this epoch. */
  readonly isRevoking: boolean
  readonly committed: StoredOffset | null
}

/** What a member is told, or why there is nothing to tell. */
export type MemberAssignment =
  | {
      readonly code: 'OK'
      /** Another one whenever the list is another one, but for what is committed; never 0. */
      readonly version: number
      readonly leaseMs: number
      readonly partitions: readonly OwnedPartition[]
    }
  | { readonly code: GroupRefusal }

export type GroupPhase = 'empty' | 'stable' | 'rebalancing'

export interface GroupSummary {
  readonly group: string
  readonly members: number
  readonly topics: readonly number[]
  readonly state: GroupPhase
}

export interface GroupDescription {
  readonly group: string
  readonly state: GroupPhase
  readonly epoch: number
  readonly members: readonly MemberDescription[]
  readonly offsets: readonly ({
    readonly topicId: number
    readonly partition: number
    readonly lane: number
  } & StoredOffset)[]
}

export interface MemberDescription {
  readonly id: MemberId
  readonly name: string | null
  readonly clientId: string
  readonly epoch: number
  readonly leaseMs: number
  readonly topics: readonly number[]
  readonly partitions: readonly OwnedPartition[]
}
