// What must be true of consumer groups after every command, judged from outside: by what the state says before and after.
import type { CommitCommand, GroupCommand } from '#src/groups/group-command.js'
import type { GroupImage, GroupsImage, PartitionImage } from '#src/groups/group-image.js'
import type { GroupResult } from '#src/groups/group-types.js'
import type { GroupsState } from '#src/groups/groups-state.js'

export class InvariantError extends Error {
  constructor(
    readonly invariant: string,
    detail: string,
  ) {
    super(`${invariant}: ${detail}`)
  }
}

const MEMBER_GOES: ReadonlySet<GroupCommand['kind']> = new Set(['leave', 'expire'])

/** Watches one state machine from its first command on. */
export class GroupWatch {
  /** Invariant: one owner per partition and epoch, for ever. */
  readonly #owners = new Map<string, bigint>()
  #image: GroupsImage

  constructor(readonly state: GroupsState) {
    this.#image = state.image()
  }

  /** Applies a command. @throws InvariantError */
  apply(command: GroupCommand, appendTimeMs: number): GroupResult {
    const before = this.#image
    const result = this.state.apply(command, { appendTimeMs })
    const after = this.state.image()
    this.#image = after
    if (command.kind === 'image') return result
    if (result.code !== 'OK') same(before.groups, after.groups, `refused as ${result.code}`)
    for (const group of after.groups) {
      const former = before.groups.find((other) => other.group === group.group)
      checkGroup(group)
      this.#checkOwners(group)
      this.#checkTold(group)
      if (former === undefined)
        check(group.epoch > before.epochFloor || group.members.length === 0, 'epoch-regress', group.group)
      else checkChange(former, group, command, result)
    }
    checkAffected(before, after, result)
    check(after.epochFloor >= before.epochFloor, 'epoch-regress', 'the floor')
    for (const { group, epoch } of before.groups) {
      const isThere = after.groups.some((other) => other.group === group)
      check(isThere || after.epochFloor >= epoch, 'epoch-regress', `${group} is gone, and its epoch forgotten`)
    }
    return result
  }

  #checkOwners({ group, members, topics }: GroupImage): void {
    for (const { topicId, partitions } of topics) {
      for (const [partition, { owner, epoch }] of partitions.entries()) {
        if (owner === null) continue
        const key = `${group}/${topicId}/${partition}@${epoch}`
        const { memberId } = members[owner]!
        const known = this.#owners.get(key)
        check(known === undefined || known === memberId, 'double-owner', `${key}: ${known} and ${memberId}`)
        this.#owners.set(key, memberId)
      }
    }
  }

  /** Members are told what the image says. */
  #checkTold({ group, members, topics }: GroupImage): void {
    for (const [place, { memberId, epoch, version }] of members.entries()) {
      const told = this.state.assignment(group, memberId, epoch)
      if (told.code !== 'OK') throw new InvariantError('told', `${group} ${memberId} is answered ${told.code}`)
      const owned = topics.flatMap(({ topicId, partitions }) =>
        partitions.flatMap(({ owner, isRevoking, epoch: at, committed }, partition) =>
          owner === place ? [{ topicId, partition, lane: 0, epoch: at, isRevoking, committed }] : [],
        ),
      )
      same(told.partitions, owned, `the list of ${memberId} in ${group}`)
      check(told.version === version && version >= epoch, 'told', `version ${told.version} of ${memberId}`)
    }
  }
}

/** What is true of a group at any moment. */
export function checkGroup({ group, epoch, members, topics }: GroupImage): void {
  for (const { topicId, partitions } of topics) {
    const wanting = members.flatMap((member, place) => (member.topics.includes(topicId) ? [place] : []))
    const shares = new Map(wanting.map((place) => [place, 0]))
    for (const [partition, state] of partitions.entries()) {
      const name = `${group}/${topicId}/${partition}`
      check(state.epoch <= epoch, 'epoch-regress', `${name} has an epoch that is yet to come`)
      check(!state.isRevoking || state.owner !== null, 'revoke-first', `nobody lets go of ${name}`)
      check(state.next === null || state.isRevoking, 'revoke-first', `somebody waits for ${name} in vain`)
      if (wanting.length > 0) check(state.owner !== null, 'unowned', name)
      const future = futureOf(state)
      if (wanting.length > 0) check(future !== null && shares.has(future), 'unowned', `${name} is to be nobody's`)
      if (future !== null) shares.set(future, (shares.get(future) ?? 0) + 1)
    }
    const counts = [...shares.values()]
    check(
      counts.length === 0 || Math.max(...counts) - Math.min(...counts) <= 1,
      'unbalanced',
      `${group}/${topicId}: ${counts}`,
    )
  }
}

/** Who has it once everything revoked is let go of. */
export function futureOf({ owner, isRevoking, next }: PartitionImage): number | null {
  return isRevoking ? next : owner
}

function checkChange(before: GroupImage, after: GroupImage, command: GroupCommand, result: GroupResult): void {
  check(after.epoch >= before.epoch, 'epoch-regress', `${after.group} from ${before.epoch} to ${after.epoch}`)
  const present = new Set(after.members.map(({ memberId }) => memberId))
  for (const { topicId, partitions } of after.topics) {
    const former = before.topics.find((topic) => topic.topicId === topicId)
    if (former === undefined) continue
    for (const [partition, now] of partitions.entries()) {
      const then = former.partitions[partition]
      if (then === undefined) continue
      const name = `${after.group}/${topicId}/${partition}`
      check(now.epoch >= then.epoch, 'epoch-regress', name)
      checkCommitted(then, now, name, command)
      const [ownerThen, ownerNow] = [memberIn(before, then.owner), memberIn(after, now.owner)]
      if (ownerThen === ownerNow && now.epoch === then.epoch) {
        check(!then.isRevoking || now.isRevoking || ownerNow === null, 'revoke-first', `${name} is given back`)
        continue
      }
      if (ownerNow !== null) check(now.epoch > then.epoch, 'double-owner', `${name} is another's under the same epoch`)
      if (ownerThen === null) continue
      const isReleased = command.kind === 'commit' && releases(command, ownerThen, topicId, partition, then.epoch)
      check(isReleased || !present.has(ownerThen), 'assigned-before-released', `${name} of ${ownerThen}`)
    }
  }
  if (command.kind === 'commit' && command.group === after.group) checkCommit(before, after, command, result)
  checkSticky(before, after, command)
}

function checkCommitted(then: PartitionImage, now: PartitionImage, name: string, command: GroupCommand): void {
  if (command.kind === 'reset' || then.committed === null) return
  const isKept = now.committed !== null && now.committed.offset >= then.committed.offset
  check(isKept, 'commit-regress', `${name} from ${then.committed.offset} to ${now.committed?.offset}`)
}

/** A commit counts for exactly what the member has under the epoch it names, at the moment it is applied. */
function checkCommit(before: GroupImage, after: GroupImage, command: CommitCommand, result: GroupResult): void {
  const { memberId, memberEpoch, entries } = command
  const member = before.members.find((other) => other.memberId === memberId)
  check((result.code === 'OK') === (member?.epoch === memberEpoch), 'zombie-commit', `${memberId}: ${result.code}`)
  if (result.kind !== 'commit' || result.code !== 'OK') return
  check(result.entries.length === entries.length, 'zombie-commit', 'one answer for each entry')
  const released = new Set<string>()
  for (const [at, { topicId, partition, lane, epoch, commit, releases: isReleased }] of entries.entries()) {
    const then = before.topics.find((topic) => topic.topicId === topicId)?.partitions[partition]
    const name = `${topicId}/${partition}`
    const isOwner = then !== undefined && memberIn(before, then.owner) === memberId && then.epoch === epoch
    // Other lanes are refused: nothing of them is assigned.
    const isRight = lane === 0 && isOwner && (!released.has(name) || command.leaves)
    check(
      (result.entries[at] === 'OK') === isRight,
      'zombie-commit',
      `${name}@${epoch} of ${memberId}: ${result.entries[at]}`,
    )
    if (!isRight) continue
    if (isReleased) released.add(name)
    if (commit === null) continue
    const now = after.topics.find((topic) => topic.topicId === topicId)!.partitions[partition]!
    check(now.committed !== null && now.committed.offset >= commit.offset, 'lost-commit', name)
  }
}

/** Whoever goes, and a topic that grows, takes nothing from those who stay; so does somebody who comes back under a name. */
function checkSticky(before: GroupImage, after: GroupImage, command: GroupCommand): void {
  const isLeaving = MEMBER_GOES.has(command.kind) || command.kind === 'commit' || command.kind === 'topic'
  if (!isLeaving && !isTakeOver(before, after, command)) return
  for (const { topicId, partitions } of after.topics) {
    const former = before.topics.find((topic) => topic.topicId === topicId)
    for (const [partition, now] of partitions.entries()) {
      const isNew = now.isRevoking && former?.partitions[partition]?.isRevoking !== true
      check(!isNew, 'needless-move', `${after.group}/${topicId}/${partition} by ${command.kind}`)
    }
  }
}

function isTakeOver(before: GroupImage, after: GroupImage, command: GroupCommand): boolean {
  if (command.kind !== 'join' || command.memberName === null) return false
  const former = before.members.find(({ name }) => name === command.memberName)
  const heir = after.members.find(({ name }) => name === command.memberName)
  if (former === undefined || heir === undefined) return false
  return [...former.topics].sort().join() === [...heir.topics].sort().join()
}

/** Those who wait are woken when, and only when, there is something to tell them. */
function checkAffected(before: GroupsImage, after: GroupsImage, result: GroupResult): void {
  const affected = new Set(result.affected.map(({ group, memberId }) => `${group}/${memberId}`))
  for (const group of before.groups) {
    const now = after.groups.find((other) => other.group === group.group)
    for (const [place, member] of group.members.entries()) {
      const key = `${group.group}/${member.memberId}`
      const at = now?.members.findIndex(({ memberId }) => memberId === member.memberId) ?? -1
      const heir = now?.members[at]
      const isChanged = heir === undefined || listOf(group, place) !== listOf(now!, at)
      if (isChanged) check(affected.has(key), 'not-told', key)
      check(heir === undefined || heir.version > member.version || !isChanged, 'not-told', `${key} has no new version`)
      check(affected.has(key) || heir?.version === member.version, 'not-told', `${key} has a new version in silence`)
    }
  }
}

function listOf({ topics }: GroupImage, place: number): string {
  return topics
    .flatMap(({ topicId, partitions }) =>
      partitions.flatMap(({ owner, epoch, isRevoking }, partition) =>
        owner === place ? [`${topicId}/${partition}@${epoch}${isRevoking ? '!' : ''}`] : [],
      ),
    )
    .join()
}

function releases(
  command: CommitCommand,
  memberId: bigint,
  topicId: number,
  partition: number,
  epoch: number,
): boolean {
  return (
    command.memberId === memberId &&
    command.entries.some(
      (entry) => entry.releases && entry.topicId === topicId && entry.partition === partition && entry.epoch === epoch,
    )
  )
}

const memberIn = ({ members }: GroupImage, place: number | null): bigint | null =>
  place === null ? null : members[place]!.memberId

export function textOf(value: unknown): string {
  return JSON.stringify(value, (_, field: unknown) => (typeof field === 'bigint' ? `${field}n` : field))
}

function same(one: unknown, other: unknown, what: string): void {
  if (textOf(one) !== textOf(other)) throw new InvariantError('changed', `${what}: ${textOf(one)} and ${textOf(other)}`)
}

export function check(holds: boolean, invariant: string, detail: string): void {
  if (!holds) throw new InvariantError(invariant, detail)
}
