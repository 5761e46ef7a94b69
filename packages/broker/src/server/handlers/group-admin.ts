// Operations on consumer groups, asked of the broker that coordinates them: list, describe, reset, delete.
import { checkGroupName, ProtocolError } from '@millrace/protocol'
import { onlyFields } from '../../cluster/operations.js'
import type { Coordinator } from '../../coordination/coordinator.js'
import { count, list, text } from '../../fields.js'
import type { OwnedPartition } from '../../groups/group-types.js'
import type { Fields } from '../../message-pack.js'
import { findPartition, type ServerContext } from '../context.js'
import { refused, sizeOf } from './groups.js'

/** Of one partition of the groups' topic. */
export async function groupList(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['partition'])
  const { topicId } = context.coordination.topic
  const coordinator = await upToDate(context, { topicId, partition: count(fields, 'partition') })
  return { groups: coordinator.state.groups() }
}

export async function groupDescribe(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['group'])
  const group = groupName(fields)
  const coordinator = await upToDate(context, context.coordination.placeOf(group))
  const description = coordinator.state.describe(group)
  if (description === null) throw refused('UNKNOWN_GROUP', group)
  const members = description.members.map(({ id, partitions, ...member }) => {
    return { id: id.toString(16).padStart(16, '0'), ...member, partitions: partitions.map(plain) }
  })
  return { ...description, members }
}

const plain = ({ topicId, partition, epoch, isRevoking }: OwnedPartition) => ({ topicId, partition, epoch, isRevoking })

/** Where a group without members goes on: forwards or back. */
export async function groupReset(context: ServerContext, fields: Fields, expiresAtMs: number): Promise<unknown> {
  onlyFields(fields, ['group', 'offsets'])
  const group = groupName(fields)
  const offsets = list(fields, 'offsets', resetOffset)
  const topics = [...new Set(offsets.map(({ topicId }) => topicId))].map((topicId) => sizeOf(context, topicId))
  const coordinator = coordinatorAt(context, context.coordination.placeOf(group))
  const { code } = await coordinator.perform({ kind: 'reset', group, topics, offsets }, expiresAtMs)
  if (code !== 'OK') throw refused(code, group)
  return { group }
}

function resetOffset(value: unknown): { topicId: number; partition: number; offset: number } {
  if (typeof value !== 'object' || value === null) throw new ProtocolError('INVALID_REQUEST', 'an offset is not a map')
  const fields = value as Fields
  return {
    topicId: count(fields, 'topicId'),
    partition: count(fields, 'partition'),
    offset: count(fields, 'offset'),
  }
}

/** What a group without members has committed is forgotten. */
export async function groupDelete(context: ServerContext, fields: Fields, expiresAtMs: number): Promise<unknown> {
  onlyFields(fields, ['group'])
  const group = groupName(fields)
  const coordinator = coordinatorAt(context, context.coordination.placeOf(group))
  const { code } = await coordinator.perform({ kind: 'delete', group }, expiresAtMs)
  if (code !== 'OK') throw refused(code, group)
  return { group }
}

function groupName(fields: Fields): string {
  const group = text(fields, 'group')
  checkGroupName(group)
  return group
}

interface Place {
  readonly topicId: number
  readonly partition: number
}

/** @throws ProtocolError NOT_LEADER where another broker coordinates. */
function coordinatorAt(context: ServerContext, { topicId, partition }: Place): Coordinator {
  return context.coordination.coordinatorOf(findPartition(context, { topicId, partition, lane: 0 }))
}

/** The same, once nothing committed is missing here. */
async function upToDate(context: ServerContext, place: Place): Promise<Coordinator> {
  const coordinator = coordinatorAt(context, place)
  await coordinator.partition.upToDate()
  return coordinator
}
