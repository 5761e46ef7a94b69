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
import { DEFAULT_MAP_WAIT_MS } from '../../limits.js'
import { decodeFields, encodeMessagePack, type Fields } from '../../message-pack.js'
import type { ServerContext } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

type Operation = (context: ServerContext, fields: Fields) => Promise<unknown> | unknown

/** Answered by the broker that is asked. */
const OPERATIONS = new Map<number, Operation>([
  [ADMIN_OPERATIONS.describeTopic, describeTopic],
  [ADMIN_OPERATIONS.listTopics, listTopics],
  [ADMIN_OPERATIONS.brokerStatus, brokerStatus],
  [ADMIN_OPERATIONS.clusterStatus, clusterStatus],
])

/** Carried out by whoever leads the metadata; these names travel between brokers. */
const CHANGES = new Map<number, string>([
  [ADMIN_OPERATIONS.createTopic, 'createTopic'],
  [ADMIN_OPERATIONS.deleteTopic, 'deleteTopic'],
  [ADMIN_OPERATIONS.joinCluster, 'joinCluster'],
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
    const { result, version } = await context.metadata.perform(change, fields, expiresAtMs)
    // Whoever asks here finds the change here.
    await awaitMap(context, version, expiresAtMs)
    return result
  }
  const local = OPERATIONS.get(operation)
  if (local === undefined) throw new ProtocolError('UNKNOWN_OPERATION', `operation ${operation}`)
  return local(context, fields)
}

/** A caller that has seen a newer map than ours is not told of an older world. @throws ProtocolError DEADLINE_EXCEEDED. */
async function awaitMap(context: ServerContext, version: number, expiresAtMs: number): Promise<void> {
  const { clock } = context.environment
  const timeoutMs = Math.min(DEFAULT_MAP_WAIT_MS, expiresAtMs - clock.monotonicMs())
  if (!(await context.map.reaches(version, clock, timeoutMs))) {
    const known = context.map.version
    throw new ProtocolError(
      'DEADLINE_EXCEEDED',
      `the caller has seen version ${version} of the map, here it is ${known}`,
    )
  }
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
