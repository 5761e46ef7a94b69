// All consumer groups of one coordinator: a state machine that is fed by its log and by nothing else. Synchronous and pure.
import { ConsumerGroup } from './consumer-group.js'
import type { GroupCommand, ImageCommand, JoinCommand, ResetCommand } from './group-command.js'
import { type GroupsImage, type ImagePart, imageParts } from './group-image.js'
import { MAX_GROUPS } from './group-limits.js'
import type {
  GroupCode,
  GroupDescription,
  GroupResult,
  GroupSummary,
  MemberAssignment,
  MemberId,
  MemberKey,
  TopicSize,
} from './group-types.js'
import type { LeasedMember } from './leases.js'

/** When a command was appended, by the wall clock of the leader that did: the same wherever and whenever it is applied. */
export interface AppliedAt {
  readonly appendTimeMs: number
}

export class GroupsState {
  /** In the order they came to be. */
  readonly #groups = new Map<string, ConsumerGroup>()
  /** Topics that groups read, and how many partitions they have. */
  readonly #topics = new Map<number, number>()
  /** Invariant: epochs only grow, also of a group that was deleted and comes to be again. */
  #epochFloor = 0
  /** The parts of an image that have come, until the last one does. */
  #restoring: GroupsImage | null = null

  /**
   * Applies a committed command and says what came of it: here, and nowhere before, is decided who is right. Whatever is
   * refused changes nothing.
   */
  apply(command: GroupCommand, { appendTimeMs }: AppliedAt): GroupResult {
    switch (command.kind) {
      case 'join':
        return this.#join(command)
      case 'leave':
      case 'expire': {
        const { kind, memberId, memberEpoch } = command
        const [code, affected] = this.#change(command.group, 'UNKNOWN_MEMBER', (group) =>
          group.remove(memberId, memberEpoch),
        )
        return { kind, code, affected }
      }
      case 'commit': {
        let entries: readonly GroupCode[] = []
        const [code, affected] = this.#change(command.group, 'UNKNOWN_MEMBER', (group) => {
          const [outcome, codes] = group.commit(command, appendTimeMs)
          entries = codes
          return outcome
        })
        return { kind: 'commit', code, entries, affected }
      }
      case 'topic':
        return this.#topic(command)
      case 'reset':
        return this.#reset(command, appendTimeMs)
      case 'delete':
        return { kind: 'delete', code: this.#delete(command.group), affected: [] }
      default:
        return this.#restorePart(command)
    }
  }

  groups(): readonly GroupSummary[] {
    return [...this.#groups.values()].map((group) => group.summary())
  }

  /** Null for a group that does not exist. */
  describe(group: string): GroupDescription | null {
    return this.#groups.get(group)?.describe() ?? null
  }

  /** What a member is to be told now. */
  assignment(group: string, memberId: MemberId, memberEpoch: number): MemberAssignment {
    return this.#groups.get(group)?.assignment(memberId, memberEpoch) ?? { code: 'UNKNOWN_MEMBER' }
  }

  /** Everybody, for the leases that a new leader grants. */
  *members(): Iterable<LeasedMember> {
    for (const group of this.#groups.values()) {
      for (const { memberId, epoch, leaseMs } of group.members) {
        yield { group: group.name, memberId, memberEpoch: epoch, leaseMs }
      }
    }
  }

  /**
   * What is known of topics. Where a topic has become larger, or is gone, a `topic` command is due; so a command that was
   * judged by an old view of the topics is put right.
   */
  topics(): readonly TopicSize[] {
    return [...this.#topics].map(([topicId, partitions]) => ({ topicId, partitions }))
  }

  image(): GroupsImage {
    return {
      epochFloor: this.#epochFloor,
      topics: this.topics(),
      groups: [...this.#groups.values()].map((group) => group.image()),
    }
  }

  /**
   * The commands from which another coordinator becomes this one. They must stand in the log one behind the other, and only
   * while no other command is appended and not yet applied: whatever stands before them is not read again.
   */
  imageCommands(): readonly ImageCommand[] {
    return imageParts(this.image()).map((image) => ({ kind: 'image', image }))
  }

  /** Replaces everything; null for the state before the first command. */
  restore(image: GroupsImage | null): void {
    this.#groups.clear()
    this.#topics.clear()
    this.#restoring = null
    this.#epochFloor = image?.epochFloor ?? 0
    for (const { topicId, partitions } of image?.topics ?? []) this.#topics.set(topicId, partitions)
    for (const group of image?.groups ?? []) this.#groups.set(group.group, ConsumerGroup.restored(group))
  }

  #join(command: JoinCommand): GroupResult {
    const known = this.#groups.get(command.group)
    if (known === undefined && !this.#makeRoom()) return { kind: 'join', code: 'OVERLOADED', affected: [] }
    const group = known ?? new ConsumerGroup(command.group, this.#epochFloor)
    const topics = this.#withNewestSizes(command.topics)
    group.begin()
    const outcome = group.join({ ...command, topics })
    const affected = group.end()
    if (outcome.code !== 'OK') return { kind: 'join', ...outcome, affected }
    this.#groups.set(command.group, group)
    return { kind: 'join', ...outcome, affected: [...affected, ...this.#learn(topics)] }
  }

  #topic({ topicId, partitions }: TopicSize): GroupResult {
    if (partitions > 0) return { kind: 'topic', code: 'OK', affected: this.#learn([{ topicId, partitions }]) }
    this.#topics.delete(topicId)
    return { kind: 'topic', code: 'OK', affected: this.#tellGroups({ topicId, partitions }) }
  }

  #reset(command: ResetCommand, appendTimeMs: number): GroupResult {
    const topics = this.#withNewestSizes(command.topics)
    const [code, affected] = this.#change(command.group, 'UNKNOWN_GROUP', (group) =>
      group.reset({ ...command, topics }, appendTimeMs),
    )
    return { kind: 'reset', code, affected: code === 'OK' ? [...affected, ...this.#learn(topics)] : affected }
  }

  #delete(name: string): GroupCode {
    const group = this.#groups.get(name)
    if (group === undefined) return 'UNKNOWN_GROUP'
    if (group.memberCount > 0) return 'GROUP_NOT_EMPTY'
    this.#forget(group)
    return 'OK'
  }

  /** Who says how large a topic is may know less than is known here. */
  #withNewestSizes(topics: readonly TopicSize[]): readonly TopicSize[] {
    return topics.map(({ topicId, partitions }) => ({
      topicId,
      partitions: Math.max(partitions, this.#topics.get(topicId) ?? 0),
    }))
  }

  /** @returns whose list is another one because topics are larger than was known. */
  #learn(topics: readonly TopicSize[]): readonly MemberKey[] {
    return topics.flatMap(({ topicId, partitions }) => {
      const known = this.#topics.get(topicId) ?? 0
      if (partitions <= known) return []
      this.#topics.set(topicId, partitions)
      return this.#tellGroups({ topicId, partitions })
    })
  }

  #tellGroups(size: TopicSize): readonly MemberKey[] {
    const affected: MemberKey[] = []
    for (const group of this.#groups.values()) {
      group.begin()
      group.topic(size)
      affected.push(...group.end())
    }
    return affected
  }

  #change(
    name: string,
    unless: GroupCode,
    act: (group: ConsumerGroup) => GroupCode,
  ): [code: GroupCode, affected: readonly MemberKey[]] {
    const group = this.#groups.get(name)
    if (group === undefined) return [unless, []]
    group.begin()
    const code = act(group)
    return [code, group.end()]
  }

  /** The oldest group that has neither members nor offsets goes when there are too many. */
  #makeRoom(): boolean {
    if (this.#groups.size < MAX_GROUPS) return true
    for (const group of this.#groups.values()) {
      if (group.memberCount > 0 || group.hasOffsets) continue
      this.#forget(group)
      return true
    }
    return false
  }

  #forget(group: ConsumerGroup): void {
    this.#epochFloor = Math.max(this.#epochFloor, group.epoch)
    this.#groups.delete(group.name)
  }

  /** What is there stays until the whole image is. */
  #restorePart({ image }: { readonly image: ImagePart }): GroupResult {
    if (image.part === 0) this.#restoring = image
    else if (this.#restoring !== null) {
      this.#restoring = { ...this.#restoring, groups: [...this.#restoring.groups, ...image.groups] }
    }
    if (image.part === image.parts - 1 && this.#restoring !== null) this.restore(this.#restoring)
    return { kind: 'image', code: 'OK', affected: [] }
  }
}
