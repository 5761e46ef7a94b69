// Consumer groups as a state machine: members come and go, partitions are let go of before others have them, commits are fenced.
import { describe, expect, it } from 'vitest'
import { decodeGroupCommand, encodeGroupCommand, type GroupCommand } from '#src/groups/group-command.js'
import type { GroupResult } from '#src/groups/group-types.js'
import { GroupsState } from '#src/groups/groups-state.js'

const AT = { appendTimeMs: 1_000 }

const joining = (memberId: number, partitions = 6, memberName: string | null = null): GroupCommand => ({
  kind: 'join',
  group: 'g',
  memberId: BigInt(memberId),
  memberName,
  clientId: `client-${memberId}`,
  leaseMs: 45_000,
  topics: [{ topicId: 1, partitions }],
})

/** Applies what was read back from its bytes. */
function apply(state: GroupsState, command: GroupCommand): GroupResult {
  return state.apply(decodeGroupCommand(encodeGroupCommand(command)), AT)
}

const owned = (state: GroupsState, memberId: number, memberEpoch: number): string[] => {
  const assignment = state.assignment('g', BigInt(memberId), memberEpoch)
  if (assignment.code !== 'OK') return [assignment.code]
  return assignment.partitions.map(
    ({ partition, epoch, isRevoking }) => `${partition}@${epoch}${isRevoking ? ' revoking' : ''}`,
  )
}

describe('a group', () => {
  it('revokes first and assigns what was let go of', () => {
    const state = new GroupsState()
    expect(apply(state, joining(1))).toMatchObject({ code: 'OK', memberEpoch: 1, leaseMs: 45_000 })
    expect(owned(state, 1, 1)).toEqual(['0@1', '1@1', '2@1', '3@1', '4@1', '5@1'])
    const joined = apply(state, joining(2))
    expect(joined).toMatchObject({ code: 'OK', memberEpoch: 2 })
    expect(joined.affected.map(({ memberId }) => memberId)).toEqual([1n])
    expect(owned(state, 1, 1)).toEqual(['0@1', '1@1', '2@1', '3@1 revoking', '4@1 revoking', '5@1 revoking'])
    expect(owned(state, 2, 2)).toEqual([])
    expect(state.groups()).toEqual([{ group: 'g', members: 2, topics: [1], state: 'rebalancing' }])
    const entry = { topicId: 1, lane: 0, epoch: 1, commit: { offset: 7, term: 3 }, releases: true }
    const released = apply(state, {
      kind: 'commit',
      group: 'g',
      memberId: 1n,
      memberEpoch: 1,
      entries: [
        { ...entry, partition: 3 },
        { ...entry, partition: 3 },
        { ...entry, partition: 4, epoch: 2 },
      ],
      leaves: false,
    })
    expect(released).toMatchObject({ code: 'OK', entries: ['OK', 'STALE_ASSIGNMENT', 'STALE_ASSIGNMENT'] })
    expect(owned(state, 2, 2)).toEqual(['3@3'])
    expect(apply(state, { kind: 'expire', group: 'g', memberId: 1n, memberEpoch: 1 }).code).toBe('OK')
    expect(owned(state, 1, 1)).toEqual(['UNKNOWN_MEMBER'])
    expect(owned(state, 2, 2)).toEqual(['0@4', '1@4', '2@4', '3@3', '4@4', '5@4'])
    expect(state.describe('g')!.offsets).toEqual([
      { topicId: 1, partition: 3, lane: 0, offset: 7, term: 3, atMs: 1_000 },
    ])
  })

  it('is restored from its image', () => {
    const state = new GroupsState()
    for (const command of [joining(1, 6, 'a'), joining(2), joining(3, 6, 'a')]) apply(state, command)
    const other = new GroupsState()
    for (const command of state.imageCommands()) apply(other, command)
    expect(other.image()).toEqual(state.image())
    expect(owned(other, 1, 1)).toEqual(['MEMBER_FENCED'])
    expect(owned(other, 3, 3)).toEqual(['0@3', '1@3', '2@3'])
    expect(owned(other, 2, 2)).toEqual(['3@3', '4@3', '5@3'])
  })
})
