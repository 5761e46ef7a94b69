// Walks through every state that a small group can get into: members that join, leave, are expired, commit and let go of
// partitions in any order. States that differ in nothing but how high the epochs are count as one.
import type { CommitEntry, GroupCommand } from '#src/groups/group-command.js'
import type { GroupImage, GroupsImage } from '#src/groups/group-image.js'
import { GroupsState } from '#src/groups/groups-state.js'
import { check, GroupWatch, textOf } from './invariants.js'

export interface Bounds {
  readonly members: number
  readonly partitions: number
  /** Members that come back under another id and the same name. */
  readonly names: boolean
  readonly offsets: number
  readonly depth: number
}

export interface Exploration {
  readonly states: number
  readonly commands: number
  /** No state was left unvisited because it is too deep. */
  readonly isComplete: boolean
}

const TOPIC = 1
const GROUP = 'g'

/** @throws InvariantError */
export function explore(bounds: Bounds): Exploration {
  const seen = new Set<string>()
  let frontier: GroupsImage[] = [new GroupsState().image()]
  let commands = 0
  let isComplete = false
  for (let depth = 0; depth < bounds.depth && !isComplete; depth++) {
    const next: GroupsImage[] = []
    for (const image of frontier) {
      for (const command of choices(image, bounds)) {
        const state = restored(image)
        new GroupWatch(state).apply(command, 0)
        commands++
        const reached = state.image()
        const key = shapeOf(reached)
        if (seen.has(key)) continue
        seen.add(key)
        checkTokens(reached)
        next.push(reached)
      }
    }
    frontier = next
    isComplete = next.length === 0
  }
  return { states: seen.size, commands, isComplete }
}

function choices(image: GroupsImage, { members, partitions, names, offsets }: Bounds): GroupCommand[] {
  const commands: GroupCommand[] = []
  const group = image.groups[0]
  for (let member = 1; member <= members; member++) {
    // With names, the last two are two lives of one member.
    const memberName = names && member >= members - 1 ? 'name' : null
    const topics = [{ topicId: TOPIC, partitions }]
    const memberId = BigInt(member)
    commands.push({ kind: 'join', group: GROUP, memberId, memberName, clientId: '', leaseMs: 1, topics })
  }
  for (const [place, { memberId, epoch: memberEpoch }] of (group?.members ?? []).entries()) {
    const who = { group: GROUP, memberId, memberEpoch }
    commands.push({ kind: 'leave', ...who }, { kind: 'expire', ...who })
    const entries: CommitEntry[] = []
    for (const [partition, { owner, epoch, committed }] of (group?.topics[0]?.partitions ?? []).entries()) {
      if (owner !== place) continue
      const entry = { topicId: TOPIC, partition, lane: 0, epoch, commit: null, releases: true }
      entries.push(entry)
      commands.push({ kind: 'commit', ...who, entries: [entry], leaves: false })
      const offset = (committed?.offset ?? 0) + 1
      if (offset > offsets) continue
      const commit = { offset, term: 0 }
      commands.push({ kind: 'commit', ...who, entries: [{ ...entry, commit, releases: false }], leaves: false })
    }
    if (entries.length > 1) commands.push({ kind: 'commit', ...who, entries, leaves: false })
    commands.push({ kind: 'commit', ...who, entries, leaves: true })
  }
  return commands
}

/** Of all that was ever handed out, exactly what is valid now is accepted. */
function checkTokens(image: GroupsImage): void {
  const group = image.groups[0]
  if (group === undefined) return
  for (const { memberId } of group.members) {
    for (let memberEpoch = 1; memberEpoch <= group.epoch; memberEpoch++)
      checkTokensOf(image, group, memberId, memberEpoch)
  }
}

function checkTokensOf(image: GroupsImage, group: GroupImage, memberId: bigint, memberEpoch: number): void {
  const entries: CommitEntry[] = []
  const partitions = group.topics[0]?.partitions ?? []
  for (let partition = 0; partition < partitions.length; partition++) {
    for (let epoch = 0; epoch <= group.epoch; epoch++) {
      entries.push({ topicId: TOPIC, partition, lane: 0, epoch, commit: { offset: 9, term: 0 }, releases: false })
    }
  }
  const command = { kind: 'commit', group: GROUP, memberId, memberEpoch, entries, leaves: false } as const
  const result = restored(image).apply(command, { appendTimeMs: 0 })
  const place = group.members.findIndex((member) => member.memberId === memberId && member.epoch === memberEpoch)
  check((result.code === 'OK') === place >= 0, 'zombie-commit', `${memberId}@${memberEpoch}: ${result.code}`)
  if (result.kind !== 'commit' || result.code !== 'OK') return
  for (const [at, { partition, epoch }] of entries.entries()) {
    const { owner, epoch: current } = partitions[partition]!
    const isValid = owner === place && epoch === current
    check((result.entries[at] === 'OK') === isValid, 'zombie-commit', `${partition}@${epoch} of ${memberId}`)
  }
}

function restored(image: GroupsImage): GroupsState {
  const state = new GroupsState()
  state.restore(image)
  return state
}

/** Epochs by their order alone. */
function shapeOf(image: GroupsImage): string {
  const epochs = new Set<number>()
  for (const { members, topics } of image.groups) {
    for (const member of members) epochs.add(member.epoch)
    for (const { partitions } of topics) for (const { epoch } of partitions) epochs.add(epoch)
  }
  const ranks = new Map([...epochs].sort((one, other) => one - other).map((epoch, rank) => [epoch, rank]))
  return textOf(
    image.groups.map(({ members, topics }) => [
      members.map(({ memberId, epoch, topics: wanted, fenced }) => [memberId, ranks.get(epoch), wanted, fenced]),
      topics.map(({ topicId, partitions }) => [
        topicId,
        partitions.map(({ owner, epoch, isRevoking, next, committed }) => [
          owner,
          ranks.get(epoch),
          isRevoking,
          next,
          committed?.offset,
        ]),
      ]),
    ]),
  )
}
