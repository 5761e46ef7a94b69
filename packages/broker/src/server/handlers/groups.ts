// GROUP_JOIN, GROUP_BEAT and GROUP_COMMIT: what members of consumer groups ask of their coordinator. Every answer carries the
// route of the coordinator's partition, as those of PRODUCE do.
import {
  CODE_OK,
  checkGroupName,
  ERROR_TABLE,
  type GroupBeat,
  type GroupBeatReply,
  type GroupCommit,
  type GroupJoin,
  type GroupPlace,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
  MAX_LEASE_MS,
  type MessageCodec,
  MIN_LEASE_MS,
  ProtocolError,
  Reader,
  type Route,
} from '@millrace/protocol'
import type { Coordinator } from '../../coordination/coordinator.js'
import { MAX_CLIENT_ID_LENGTH } from '../../groups/group-limits.js'
import type { GroupCode, MemberAssignment, TopicSize } from '../../groups/group-types.js'
import { HELD_LEASE_SHARE } from '../../limits.js'
import { findPartition, routeOf, type ServerContext } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

export const handleGroupJoin: Handler = (peer, request, { payload }) => {
  const message = groupJoin.decode(new Reader(payload))
  const nothing = { memberEpoch: 0, leaseMs: 0 }
  peer.attend(
    request,
    answer(peer, request, message.place, groupJoined, nothing, () => join(peer, request, message)),
  )
}

export const handleGroupBeat: Handler = (peer, request, { payload }) => {
  const message = groupBeat.decode(new Reader(payload))
  const nothing = { version: 0, assigned: [] }
  peer.attend(
    request,
    answer(peer, request, message.place, groupBeatReply, nothing, () => beat(peer, message)),
  )
}

export const handleGroupCommit: Handler = (peer, request, { payload }) => {
  const message = groupCommit.decode(new Reader(payload))
  const done = (): Promise<{ codes: readonly number[] }> => commit(peer, request, message)
  peer.attend(request, answer(peer, request, message.place, groupCommitReply, { codes: [] }, done))
}

/** What every answer says besides what was asked for. */
interface Answered {
  readonly code: number
  readonly route: Route
}

async function answer<T extends Answered>(
  peer: Peer,
  request: Request,
  place: GroupPlace,
  codec: MessageCodec<T>,
  nothing: Omit<T, keyof Answered>,
  work: () => Promise<Omit<T, keyof Answered>>,
): Promise<void> {
  const { context } = peer
  let code: number = CODE_OK
  let fields = nothing
  try {
    fields = await work()
  } catch (error) {
    if (isBug(error)) context.reportBug(error, { kind: codec.name })
    const refusal = refusalOrBug(error)
    context.metrics.refused(refusal.code)
    code = ERROR_TABLE[refusal.code].code
  }
  peer.answer(request, codec, { code, route: routeOf(context, place), ...fields } as T)
}

/** @throws ProtocolError. */
function coordinatorOf(context: ServerContext, { topicId, partition }: GroupPlace, group: string): Coordinator {
  checkGroupName(group)
  const found = findPartition(context, { topicId, partition, lane: 0 })
  const coordinator = context.coordination.coordinatorOf(found)
  const { partition: expected } = context.coordination.placeOf(group)
  if (expected !== partition) {
    throw new ProtocolError('INVALID_REQUEST', `group ${group} belongs to partition ${expected}, not ${partition}`)
  }
  return coordinator
}

async function join(
  { context }: Peer,
  { expiresAtMs }: Request,
  message: GroupJoin,
): Promise<{ readonly memberEpoch: number; readonly leaseMs: number }> {
  const { place, group, memberName, clientId } = message
  if (memberName !== '') checkGroupName(memberName, 'member')
  if (place.memberId === 0n) throw new ProtocolError('INVALID_REQUEST', 'a member without an id')
  const coordinator = coordinatorOf(context, place, group)
  const result = await coordinator.perform(
    {
      kind: 'join',
      group,
      memberId: place.memberId,
      memberName: memberName === '' ? null : memberName,
      clientId: clientId.slice(0, MAX_CLIENT_ID_LENGTH),
      leaseMs: Math.min(Math.max(message.leaseMs, MIN_LEASE_MS), MAX_LEASE_MS),
      topics: message.topicIds.map((topicId) => sizeOf(context, topicId)),
    },
    expiresAtMs,
  )
  if (result.kind !== 'join' || result.code !== 'OK') throw refused(result.code, group)
  const { memberEpoch, leaseMs } = result
  return { memberEpoch, leaseMs }
}

/** @throws ProtocolError TOPIC_DELETED; COORDINATOR_LOADING for a topic that was not heard of here yet. */
export function sizeOf({ coordination }: ServerContext, topicId: number): TopicSize {
  const partitions = coordination.topicSize(topicId)
  if (partitions === null) throw new ProtocolError('COORDINATOR_LOADING', `topic ${topicId} was not heard of here yet`)
  if (partitions === 0) throw new ProtocolError('TOPIC_DELETED', `topic ${topicId} was deleted`)
  return { topicId, partitions }
}

async function beat(peer: Peer, { place, memberEpoch, version, waitMs, group }: GroupBeat): Promise<BeatAnswer> {
  const { coordination, metrics } = peer.context
  const { memberId } = place
  const coordinator = coordinatorOf(peer.context, place, group)
  metrics.groupBeats++
  const known = coordinator.beat(group, memberId, memberEpoch)
  if (known.version !== version || waitMs === 0) return told(known)
  const forMs = Math.min(waitMs, known.leaseMs * HELD_LEASE_SHARE)
  await new Promise<void>((end) => {
    coordination.beats.hold({ group, memberId, owner: coordinator, end }, peer, forMs)
  })
  // The member was there until now: its lease begins anew, also when its connection is gone.
  return told(coordinator.beat(group, memberId, memberEpoch))
}

type BeatAnswer = Omit<GroupBeatReply, keyof Answered>

function told({ version, partitions }: MemberAssignment & { readonly code: 'OK' }): BeatAnswer {
  const assigned = partitions.map(({ committed, ...owned }) => ({
    ...owned,
    offset: committed?.offset ?? null,
    term: committed?.term ?? 0,
  }))
  return { version, assigned }
}

async function commit(
  { context }: Peer,
  { expiresAtMs }: Request,
  { place, memberEpoch, leaves, group, entries }: GroupCommit,
): Promise<{ readonly codes: readonly number[] }> {
  const coordinator = coordinatorOf(context, place, group)
  const result = await coordinator.perform(
    {
      kind: 'commit',
      group,
      memberId: place.memberId,
      memberEpoch,
      entries: entries.map(({ topicId, partition, lane, epoch, offset, term, releases }) => {
        return { topicId, partition, lane, epoch, commit: offset === null ? null : { offset, term }, releases }
      }),
      leaves,
    },
    expiresAtMs,
  )
  if (result.kind !== 'commit' || result.code !== 'OK') throw refused(result.code, group)
  context.metrics.groupCommits++
  return { codes: result.entries.map(codeNumber) }
}

const codeNumber = (code: GroupCode): number => (code === 'OK' ? CODE_OK : ERROR_TABLE[code].code)

/** What the coordinator has decided against. */
export function refused(code: GroupCode, group: string): ProtocolError {
  return new ProtocolError(code === 'OK' ? 'INTERNAL' : code, `group ${group}`)
}
