// The partitions of one topic as a group sees them: who has each, under which epoch, and how far it is done.
import type { MemberId, OwnedPartition, StoredOffset } from './group-types.js'

export interface Member {
  readonly memberId: MemberId
  /** Of this life: the group's counter when it joined. */
  readonly epoch: number
  readonly name: string | null
  clientId: string
  leaseMs: number
  /** What it wants, by id. */
  topics: readonly number[]
  /** Those who had the name before. */
  readonly fenced: readonly MemberId[]
  /** The group's counter when its list last changed. */
  version: number
  readonly owned: Set<PartitionState>
  /** Its place in the order of joining, as of the last spread; -1 once it has gone. */
  place: number
}

export interface PartitionState {
  readonly topicId: number
  readonly partition: number
  owner: Member | null
  /** The group's counter when it was last assigned; 0 before. */
  epoch: number
  /** The owner is to let go of it. */
  isRevoking: boolean
  /** Who is to have it then, as long as it is revoked. */
  next: Member | null
  committed: StoredOffset | null
}

export class TopicTable {
  readonly partitions: PartitionState[] = []

  constructor(
    readonly topicId: number,
    partitions: number,
  ) {
    this.grow(partitions)
  }

  /** @returns whether there are more than before; there are never fewer. */
  grow(partitions: number): boolean {
    const had = this.partitions.length
    for (let partition = had; partition < partitions; partition++) {
      this.partitions.push({
        topicId: this.topicId,
        partition,
        owner: null,
        epoch: 0,
        isRevoking: false,
        next: null,
        committed: null,
      })
    }
    return partitions > had
  }

  /** Nothing is known of it that anybody would miss. */
  get isBlank(): boolean {
    return this.partitions.every(({ owner, committed }) => owner === null && committed === null)
  }
}

export function toOwned({ topicId, partition, epoch, isRevoking, committed }: PartitionState): OwnedPartition {
  return { topicId, partition, lane: 0, epoch, isRevoking, committed }
}

export const byPlace = (one: PartitionState, other: PartitionState): number =>
  one.topicId - other.topicId || one.partition - other.partition
