// Random lives of consumer groups hold what must be true after every command, give the same from bytes and from an image, come
// to rest, and move no more than they have to.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { decodeGroupCommand, encodeGroupCommand, type GroupCommand } from '#src/groups/group-command.js'
import type { GroupImage } from '#src/groups/group-image.js'
import { GroupsState } from '#src/groups/groups-state.js'
import { futureOf, GroupWatch, textOf } from './invariants.js'
import { RandomGroups } from './random-groups.js'

/** Small, so that everything meets everything. */
const BOUNDS = { groups: 2, members: 5, topics: 4, partitions: 6 }

const read = (command: GroupCommand): GroupCommand => decodeGroupCommand(encodeGroupCommand(command))

/** Everybody lets go of what is revoked, until nothing is. @returns how many rounds that took. */
function comeToRest(watch: GroupWatch): number {
  for (let round = 0; ; round++) {
    let released = 0
    for (const { group, memberId, memberEpoch } of [...watch.state.members()]) {
      const told = watch.state.assignment(group, memberId, memberEpoch)
      if (told.code !== 'OK') throw new Error(told.code)
      const revoking = told.partitions.filter(({ isRevoking }) => isRevoking)
      released += revoking.length
      const entries = revoking.map((partition) => ({ ...partition, commit: null, releases: true }))
      if (entries.length > 0) {
        watch.apply({ kind: 'commit', group, memberId, memberEpoch, entries, leaves: false }, 0)
      }
    }
    if (released === 0) return round
  }
}

function join(memberId: number, topics: readonly (readonly [topicId: number, partitions: number])[]): GroupCommand {
  return {
    kind: 'join',
    group: 'g',
    memberId: BigInt(memberId),
    memberName: null,
    clientId: '',
    leaseMs: 1_000,
    topics: topics.map(([topicId, partitions]) => ({ topicId, partitions })),
  }
}

const only = (state: GroupsState): GroupImage => state.image().groups[0]!

function revoking(state: GroupsState): number {
  return only(state).topics.reduce(
    (sum, { partitions }) => sum + partitions.filter(({ isRevoking }) => isRevoking).length,
    0,
  )
}

/** Partitions of all topics that each member has or is to have. */
function totals(state: GroupsState): number[] {
  const { members, topics } = only(state)
  const counts = members.map(() => 0)
  for (const { partitions } of topics) for (const partition of partitions) counts[futureOf(partition)!]!++
  return counts
}

describe('any history of commands', () => {
  it('keeps every invariant, and is the same from bytes and from an image in the middle', () => {
    const codes = new Map<string, number>()
    for (let seed = 0; seed < 12; seed++) {
      const random = new SeededRandom(seed)
      const lives = new RandomGroups(random, BOUNDS)
      const watch = new GroupWatch(new GroupsState())
      let other = new GroupsState()
      for (let step = 0; step < 120; step++) {
        const command = lives.next(watch.state)
        const result = watch.apply(command, step)
        for (const code of 'entries' in result ? [result.code, ...result.entries] : [result.code]) {
          codes.set(`${command.kind} ${code}`, (codes.get(`${command.kind} ${code}`) ?? 0) + 1)
        }
        if (random.oneIn(12)) {
          const images = watch.state.imageCommands().map(read)
          other = new GroupsState()
          for (const image of images) other.apply(image, { appendTimeMs: 0 })
        } else expect(textOf(other.apply(read(command), { appendTimeMs: step }))).toBe(textOf(result))
        if (step % 6 === 0) expect(textOf(other.image())).toBe(textOf(watch.state.image()))
      }
      expect(comeToRest(watch)).toBeLessThan(3)
    }
    // Whatever can be answered was.
    for (const seen of [
      'join OK',
      'join MEMBER_FENCED',
      'join INVALID_REQUEST',
      'commit OK',
      'commit STALE_ASSIGNMENT',
      'commit UNKNOWN_MEMBER',
      'commit MEMBER_FENCED',
      'leave OK',
      'expire OK',
      'expire UNKNOWN_MEMBER',
      'reset OK',
      'reset GROUP_NOT_EMPTY',
      'reset UNKNOWN_PARTITION',
      'delete OK',
      'delete GROUP_NOT_EMPTY',
      'delete UNKNOWN_GROUP',
    ]) {
      expect(codes.get(seen) ?? 0, seen).toBeGreaterThan(0)
    }
  })
})

describe('how little moves', () => {
  it('takes for one who joins what is his share, and nothing for one who goes', () => {
    for (let seed = 0; seed < 20; seed++) {
      const random = new SeededRandom(seed)
      const partitions = 1 + random.below(40)
      const watch = new GroupWatch(new GroupsState())
      let joined = 0
      for (let step = 0; step < 30; step++) {
        const members = [...watch.state.members()]
        if (members.length === 0 || !random.oneIn(3)) {
          watch.apply(join(++joined, [[1, partitions]]), 0)
          const share = members.length === 0 ? 0 : Math.floor(partitions / (members.length + 1))
          expect(revoking(watch.state)).toBe(share)
        } else {
          // The watch holds that whoever goes takes nothing from others.
          const { group, memberId, memberEpoch } = members[random.below(members.length)]!
          watch.apply({ kind: 'expire', group, memberId, memberEpoch }, 0)
        }
        comeToRest(watch)
      }
    }
  })

  it('spreads many small topics over all members alike', () => {
    const watch = new GroupWatch(new GroupsState())
    const topics = Array.from({ length: 50 }, (_, at) => [at + 1, 1] as const)
    for (let member = 1; member <= 7; member++) {
      watch.apply(join(member, topics), 0)
      const counts = totals(watch.state)
      expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
      expect(revoking(watch.state)).toBeLessThanOrEqual(Math.ceil(50 / member))
      comeToRest(watch)
    }
  })

  it('keeps totals level for members that want the same, whatever the sizes of the topics', () => {
    for (let seed = 0; seed < 12; seed++) {
      const random = new SeededRandom(seed)
      const topics = Array.from({ length: 1 + random.below(20) }, (_, at) => [at + 1, 1 + random.below(9)] as const)
      const watch = new GroupWatch(new GroupsState())
      for (let member = 1; member <= 9; member++) {
        watch.apply(join(member, topics), 0)
        const counts = totals(watch.state)
        expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1)
        comeToRest(watch)
      }
    }
  })

  it('tells a member that takes over under a name everything at once, and nobody else anything', () => {
    const watch = new GroupWatch(new GroupsState())
    const named = (memberId: number, memberName: string): GroupCommand => ({
      ...(join(memberId, [[1, 100]]) as GroupCommand & { kind: 'join' }),
      memberName,
    })
    for (let member = 1; member <= 10; member++) {
      watch.apply(named(member, `m${member}`), 0)
      comeToRest(watch)
    }
    for (let member = 1; member <= 10; member++) {
      const { affected } = watch.apply(named(100 + member, `m${member}`), 0)
      expect(affected.map(({ memberId }) => memberId).sort()).toEqual([BigInt(member), BigInt(100 + member)].sort())
      expect(revoking(watch.state)).toBe(0)
      const late = watch.state.assignment('g', BigInt(member), 1)
      expect(late.code).toBe('MEMBER_FENCED')
    }
    expect(totals(watch.state)).toEqual(Array.from({ length: 10 }, () => 10))
  })
})
