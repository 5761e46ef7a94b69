// What members of a consumer group were given and did, from outside. Nothing here knows the broker or the client; tests write
// such histories by hand.

/** A member's hold on a partition, from being told that it has it to being told that it has not. */
export interface AssignmentLife {
  readonly member: string
  readonly partition: number
  /** When the member was told that the partition is its own. */
  readonly assignedAtMs: number
}

export interface GroupDelivery extends AssignmentLife {
  readonly offset: number
  readonly atMs: number
  /** Another process had been started under the member's name, which takes over at once, and whoever is replaced hears of it late. */
  readonly isReplaced?: boolean
}

/** Work on a record begins and ends; it never ends when the process dies before. */
export interface WorkStep extends AssignmentLife {
  readonly kind: 'begun' | 'ended'
  readonly offset: number
  /** Null for a record without one: order is promised to keys. */
  readonly key: string | null
}

/** The member was told that the partition is its own no more: it was asked for and has given it back, or it has lost it. */
export interface AssignmentEnd extends AssignmentLife {
  readonly kind: 'released' | 'lost'
}

export type GroupWork = WorkStep | AssignmentEnd

export interface GroupHistory {
  /** In the order in which they happened. */
  readonly deliveries: readonly GroupDelivery[]
  /** In the order in which it happened. */
  readonly work: readonly GroupWork[]
  /** The offset after the last record of each partition; logs begin at 0. */
  readonly ends: readonly number[]
  /** What the group had committed in each partition when everything had come to rest. */
  readonly committed: readonly number[]
}

export interface GroupViolation {
  readonly invariant:
    | 'group-unseen'
    | 'group-unfinished'
    | 'group-skip'
    | 'group-repeat'
    | 'group-key-order'
    | 'released-at-work'
    | 'begun-after-loss'
    | 'double-owner'
    | 'commit-regress'
    | 'commit-ahead'
  readonly message: string
}

export function nameOfLife({ member, partition, assignedAtMs }: AssignmentLife): string {
  return `${member}, who has partition ${partition} since ${assignedAtMs} ms`
}
