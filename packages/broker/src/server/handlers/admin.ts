// ADMIN: topics and status. Payloads are MessagePack maps; unknown fields are refused, so that a typing error is seen.
import {
  ADMIN_OPERATIONS,
  type AdminRequest,
  admin,
  adminReply,
  CODE_OK,
  ERROR_TABLE,
  ProtocolError,
  Reader,
} from '@millrace/protocol'
import type { TopicDefinition } from '../../cluster/metadata-command.js'
import { onlyFields, topicName } from '../../cluster/operations.js'
import { heldOnceLed } from '../../cluster/placement-survey.js'
import { DEFAULT_MAP_WAIT_MS, REMOVAL_WAIT_MS } from '../../limits.js'
import { decodeFields, encodeMessagePack, type Fields } from '../../message-pack.js'
import type { ServerContext } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'
import { groupDelete, groupDescribe, groupList, groupReset } from './group-admin.js'

type Operation = (context: ServerContext, fields: Fields, expiresAtMs: number) => Promise<unknown> | unknown

/** Answered by the broker that is asked. */
const OPERATIONS = new Map<number, Operation>([
  [ADMIN_OPERATIONS.describeTopic, describeTopic],
  [ADMIN_OPERATIONS.listTopics, listTopics],
  [ADMIN_OPERATIONS.brokerStatus, brokerStatus],
  [ADMIN_OPERATIONS.clusterStatus, clusterStatus],
  [ADMIN_OPERATIONS.members, members],
  [ADMIN_OPERATIONS.moves, moves],
  [ADMIN_OPERATIONS.groupList, groupList],
  [ADMIN_OPERATIONS.groupDescribe, groupDescribe],
  [ADMIN_OPERATIONS.groupReset, groupReset],
  [ADMIN_OPERATIONS.groupDelete, groupDelete],
])

interface Change {
  readonly name: string
  /** Those that a client may give; all unless given here: then the operation itself looks. */
  readonly fields?: readonly string[]
  /** What the broker that is asked adds, since it can ask everybody. */
  readonly prepare?: (context: ServerContext, fields: Fields, expiresAtMs: number) => Promise<Fields>
}

/** Carried out by whoever leads the metadata; these names travel between brokers. */
const CHANGES = new Map<number, Change>([
  [ADMIN_OPERATIONS.createTopic, { name: 'createTopic' }],
  [ADMIN_OPERATIONS.deleteTopic, { name: 'deleteTopic', fields: ['name'], prepare: topicOfNow }],
  [ADMIN_OPERATIONS.createGroupsTopic, { name: 'createGroupsTopic' }],
  [ADMIN_OPERATIONS.joinCluster, { name: 'joinCluster' }],
  [ADMIN_OPERATIONS.drainBroker, { name: 'drainBroker', fields: ['nodeId', 'undo'] }],
  [ADMIN_OPERATIONS.removeBroker, { name: 'removeBroker', fields: ['nodeId', 'force'], prepare: withHeldPartitions }],
  [ADMIN_OPERATIONS.movePartition, { name: 'movePartition', fields: ['name', 'partition', 'to'] }],
  [ADMIN_OPERATIONS.cancelMove, { name: 'movePartition', fields: ['name', 'partition'], prepare: backToItsVoters }],
  [
    ADMIN_OPERATIONS.alterTopic,
    {
      name: 'alterTopic',
      fields: ['name', 'partitions', 'replicas', 'breakKeyOrder', 'retentionMs', 'retentionBytes'],
    },
  ],
])

const NO_BYTES = new Uint8Array(0)

export const handleAdmin: Handler = (peer, request, { payload }) => {
  const message = admin.decode(new Reader(payload))
  // The fields are decoded now: the payload is gone when this returns.
  let fields: Fields
  try {
    fields = decodeFields(message.payload)
  } catch (error) {
    return refuse(peer, request, error)
  }
  peer.attend(request, serve(peer, request, message, fields))
}

async function serve(peer: Peer, request: Request, message: AdminRequest, fields: Fields): Promise<void> {
  const { context } = peer
  try {
    await awaitMap(context, message.mapVersion, request.expiresAtMs)
    const result = encodeMessagePack(await perform(context, message.operation, fields, request.expiresAtMs))
    peer.answer(request, adminReply, {
      code: CODE_OK,
      mapVersion: context.map.version,
      detail: '',
      payload: result,
    })
  } catch (error) {
    refuse(peer, request, error)
  }
}

/** @throws ProtocolError, StorageError. */
async function perform(
  context: ServerContext,
  operation: number,
  fields: Fields,
  expiresAtMs: number,
): Promise<unknown> {
  const change = CHANGES.get(operation)
  if (change !== undefined) {
    if (change.fields !== undefined) onlyFields(fields, change.fields)
    const prepared = (await change.prepare?.(context, fields, expiresAtMs)) ?? fields
    const { result, version } = await context.metadata.perform(change.name, prepared, expiresAtMs)
    // Whoever asks here finds the change here, unless this broker cannot hear of it: the change is made all the same.
    await reachesMap(context, version, expiresAtMs)
    return result
  }
  const local = OPERATIONS.get(operation)
  if (local === undefined) throw new ProtocolError('UNKNOWN_OPERATION', `operation ${operation}`)
  return local(context, fields, expiresAtMs)
}

/** A caller that has seen a newer map than ours is not told of an older world. @throws ProtocolError DEADLINE_EXCEEDED. */
async function awaitMap(context: ServerContext, version: number, expiresAtMs: number): Promise<void> {
  if (!(await reachesMap(context, version, expiresAtMs))) {
    const known = context.map.version
    throw new ProtocolError(
      'DEADLINE_EXCEEDED',
      `the caller has seen version ${version} of the map, here it is ${known}`,
    )
  }
}

function reachesMap({ environment, map }: ServerContext, version: number, expiresAtMs: number): Promise<boolean> {
  const { clock } = environment
  return map.reaches(version, clock, Math.min(DEFAULT_MAP_WAIT_MS, expiresAtMs - clock.monotonicMs()))
}

function refuse(peer: Peer, request: Request, error: unknown): void {
  const { context } = peer
  if (isBug(error)) context.reportBug(error, { kind: 'ADMIN' })
  const { code, detail } = refusalOrBug(error)
  context.metrics.refused(code)
  const mapVersion = context.map.version
  peer.answer(request, adminReply, { code: ERROR_TABLE[code].code, mapVersion, detail, payload: NO_BYTES })
}

async function describeTopic(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['name'])
  const topic = context.topics.byName(topicName(fields))
  return { ...plain(topic), partitions: await context.view.describePartitions(topic) }
}

function listTopics(context: ServerContext, fields: Fields): unknown {
  onlyFields(fields, [])
  return { topics: context.topics.list().map(plain) }
}

/** A topic as clients see it. */
function plain(topic: TopicDefinition) {
  const { topicId, name, partitions, replicas, durability, codecs, retentionMs, retentionBytes } = topic
  const replicationFactor = replicas[0]?.length ?? 1
  return { topicId, name, partitions, replicas: replicationFactor, durability, codecs, retentionMs, retentionBytes }
}

function brokerStatus(context: ServerContext, fields: Fields): unknown {
  onlyFields(fields, [])
  return context.status()
}

function clusterStatus(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, [])
  return context.view.status()
}

async function members(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, [])
  return { nodes: await context.view.members() }
}

/** Partitions that are on their way to other brokers, with the names of their topics. */
async function moves(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, [])
  const names = new Map(context.topics.list().map(({ topicId, name }) => [topicId, name]))
  const { moves: found } = await context.view.survey()
  return {
    moves: found.flatMap((move) => (names.has(move.topicId) ? [{ name: names.get(move.topicId), ...move }] : [])),
  }
}

/**
 * Which topic is meant, by what is known here when it is asked for: whoever asked may give up while this waits for a leader,
 * and make another topic of that name.
 */
async function topicOfNow({ topics }: ServerContext, fields: Fields): Promise<Fields> {
  const name = topicName(fields)
  const topic = topics.list().find((one) => one.name === name)
  return topic === undefined ? fields : { ...fields, topicId: topic.topicId }
}

/** How many partitions have not left the node yet, as their leaders know, and how many may not have that nobody leads. */
async function withHeldPartitions(context: ServerContext, fields: Fields, expiresAtMs: number): Promise<Fields> {
  const { view, environment } = context
  const nodeId = Number(fields.nodeId)
  const survey = () => view.survey()
  const endMs = fields.force === true ? 0 : expiresAtMs - REMOVAL_WAIT_MS
  return { ...fields, ...(await heldOnceLed({ nodeId, survey, clock: environment.clock, endMs })) }
}

/** Who has the partition now keeps it. */
async function backToItsVoters({ topics, view }: ServerContext, fields: Fields): Promise<Fields> {
  const { topicId, name } = topics.byName(topicName(fields))
  const { moves: found } = await view.survey()
  const move = found.find((one) => one.topicId === topicId && one.partition === fields.partition)
  if (move?.hasLeader === false) {
    throw new ProtocolError(
      'INVALID_CONFIG',
      `partition ${move.partition} of ${name} has no leader: only a leader knows for certain who has it`,
    )
  }
  if (move === undefined) {
    throw new ProtocolError('INVALID_CONFIG', `partition ${String(fields.partition)} of ${name} is not on its way`)
  }
  return { ...fields, to: move.voters }
}
