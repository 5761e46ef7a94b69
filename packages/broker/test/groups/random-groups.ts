// Random lives of consumer groups from a seed: members that behave, members that come back late, and whoever says anything.
import type { SeededRandom } from '@millrace/protocol'
import type { CommitEntry, GroupCommand } from '#src/groups/group-command.js'
import type { GroupsState } from '#src/groups/groups-state.js'

interface Token {
  readonly group: string
  readonly memberId: bigint
  readonly memberEpoch: number
  readonly topicId: number
  readonly partition: number
  readonly epoch: number
}

export interface Bounds {
  readonly groups: number
  readonly members: number
  readonly topics: number
  readonly partitions: number
}

const KEPT_TOKENS = 60

export class RandomGroups {
  /** What members were once told: those who come late use them. */
  readonly #tokens: Token[] = []
  /** Ids are drawn anew for each life, now and then an old one is used again. */
  #nextMember = 1
  #offset = 0

  constructor(
    private readonly random: SeededRandom,
    private readonly bounds: Bounds,
  ) {}

  next(state: GroupsState): GroupCommand {
    const { random } = this
    const kind = random.below(100)
    if (kind < 20) return this.#join()
    if (kind < 65) return this.#commit(state)
    if (kind < 73) return this.#goes(state, 'leave')
    if (kind < 86) return this.#goes(state, 'expire')
    if (kind < 91) {
      const partitions = random.oneIn(4) ? 0 : 1 + random.below(this.bounds.partitions + 3)
      return { kind: 'topic', topicId: this.#topicId(), partitions }
    }
    if (kind < 96) return this.#reset()
    return { kind: 'delete', group: this.#group() }
  }

  #join(): GroupCommand {
    const { random, bounds } = this
    const memberId = random.oneIn(3) ? Math.max(1, this.#nextMember - random.below(6)) : this.#nextMember++
    const count = 1 + random.below(bounds.topics)
    const topicIds = new Set(Array.from({ length: count }, () => this.#topicId()))
    return {
      kind: 'join',
      group: this.#group(),
      memberId: BigInt(memberId),
      memberName: random.oneIn(2) ? null : `name-${random.below(bounds.members)}`,
      clientId: 'client',
      leaseMs: 1_000 + random.below(5),
      topics: [...topicIds].map((topicId) => ({ topicId, partitions: 1 + random.below(bounds.partitions) })),
    }
  }

  #commit(state: GroupsState): GroupCommand {
    const { random } = this
    const token = random.oneIn(4) ? this.#oldToken() : null
    const member = token ?? this.#member(state)
    const told = state.assignment(member.group, member.memberId, member.memberEpoch)
    const entries: CommitEntry[] = []
    if (told.code === 'OK') {
      for (const { topicId, partition, epoch, isRevoking } of told.partitions) {
        this.#remember({ ...member, topicId, partition, epoch })
        if (!random.oneIn(3)) entries.push(this.#entry(topicId, partition, epoch, isRevoking && !random.oneIn(3)))
      }
    }
    if (token !== null) entries.push(this.#entry(token.topicId, token.partition, token.epoch, random.oneIn(2)))
    if (random.oneIn(8)) {
      entries.push(this.#entry(this.#topicId(), random.below(9), random.below(50), random.oneIn(2)))
      const again = entries[random.below(entries.length)]!
      entries.push(again)
    }
    const { group, memberId, memberEpoch } = member
    return { kind: 'commit', group, memberId, memberEpoch, entries, leaves: random.oneIn(20) }
  }

  #entry(topicId: number, partition: number, epoch: number, releases: boolean): CommitEntry {
    const { random } = this
    this.#offset += random.below(3)
    const offset = random.oneIn(4) ? random.below(this.#offset + 1) : this.#offset
    const commit = random.oneIn(5) ? null : { offset, term: random.below(4) }
    return { topicId, partition, lane: 0, epoch, commit, releases }
  }

  #goes(state: GroupsState, kind: 'leave' | 'expire'): GroupCommand {
    const { group, memberId, memberEpoch } = (this.random.oneIn(4) ? this.#oldToken() : null) ?? this.#member(state)
    return { kind, group, memberId, memberEpoch }
  }

  #reset(): GroupCommand {
    const { random, bounds } = this
    const topicId = this.#topicId()
    const partitions = 1 + random.below(bounds.partitions)
    const offsets = [{ topicId, partition: random.below(bounds.partitions + 5), offset: random.below(5) }]
    return { kind: 'reset', group: this.#group(), topics: [{ topicId, partitions }], offsets }
  }

  /** One that is there, if there is any. */
  #member(state: GroupsState): { group: string; memberId: bigint; memberEpoch: number } {
    const members = [...state.members()]
    const member = members[this.random.below(members.length)]
    return member ?? { group: this.#group(), memberId: BigInt(1 + this.random.below(9)), memberEpoch: 1 }
  }

  #oldToken(): Token | null {
    return this.#tokens[this.random.below(this.#tokens.length)] ?? null
  }

  #remember(token: Token): void {
    if (this.#tokens.length < KEPT_TOKENS) this.#tokens.push(token)
    else this.#tokens[this.random.below(KEPT_TOKENS)] = token
  }

  #group(): string {
    return `group-${this.random.below(this.bounds.groups)}`
  }

  #topicId(): number {
    return 1 + this.random.below(this.bounds.topics)
  }
}
