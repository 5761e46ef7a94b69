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
import { DEFAULT_MAP_WAIT_MS } from '../../limits.js'
import { decodeFields, encodeMessagePack, type Fields } from '../../message-pack.js'
import type { ServerContext } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

type Operation = (context: ServerContext, fields: Fields) => Promise<unknown> | unknown

const OPERATIONS = new Map<number, Operation>([
  [ADMIN_OPERATIONS.createTopic, createTopic],
  [ADMIN_OPERATIONS.deleteTopic, deleteTopic],
  [ADMIN_OPERATIONS.describeTopic, describeTopic],
  [ADMIN_OPERATIONS.listTopics, listTopics],
  [ADMIN_OPERATIONS.brokerStatus, brokerStatus],
])

const DEFAULT_PARTITIONS = 1
const DEFAULT_DURABILITY = 'flushed'
const DEFAULT_CODECS = ['none', 'gzip']
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
    const operation = OPERATIONS.get(message.operation)
    if (operation === undefined) throw new ProtocolError('UNKNOWN_OPERATION', `operation ${message.operation}`)
    await awaitMap(context, message.mapVersion, request.expiresAtMs)
    const result = encodeMessagePack(await operation(context, fields))
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

async function createTopic(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['name', 'partitions', 'durability', 'codecs', 'retentionMs', 'retentionBytes'])
  const { partitions = DEFAULT_PARTITIONS, durability = DEFAULT_DURABILITY, codecs = DEFAULT_CODECS } = fields
  if (typeof partitions !== 'number') throw new ProtocolError('INVALID_CONFIG', 'partitions is no number')
  if (typeof durability !== 'string') throw new ProtocolError('INVALID_CONFIG', 'durability is no text')
  if (!Array.isArray(codecs) || !codecs.every((codec) => typeof codec === 'string')) {
    throw new ProtocolError('INVALID_CONFIG', 'codecs is no list of texts')
  }
  const limits = { retentionMs: limitOf(fields, 'retentionMs'), retentionBytes: limitOf(fields, 'retentionBytes') }
  const topic = await context.topics.create({ name: topicName(fields), partitions, durability, codecs, ...limits })
  return { topicId: topic.topicId, name: topic.name, partitions: topic.partitions }
}

function limitOf(fields: Fields, name: string): number | null {
  const value = fields[name] ?? null
  if (value !== null && typeof value !== 'number') throw new ProtocolError('INVALID_CONFIG', `${name} is no number`)
  return value
}

async function deleteTopic(context: ServerContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['name'])
  const topic = await context.topics.delete(topicName(fields))
  return { topicId: topic.topicId }
}

function describeTopic(context: ServerContext, fields: Fields): unknown {
  onlyFields(fields, ['name'])
  const topic = context.topics.byName(topicName(fields))
  const partitions = context.shard.partitionsOf(topic.topicId).map((partition) => ({
    partition: partition.key.partition,
    nodeId: partition.route.nodeId,
    shard: partition.route.shard,
    term: partition.route.term,
    logStartOffset: partition.logStartOffset,
    highWatermark: partition.highWatermark,
    bytesOnDisk: partition.bytesOnDisk,
  }))
  return { ...plain(topic), partitions }
}

function listTopics(context: ServerContext, fields: Fields): unknown {
  onlyFields(fields, [])
  return { topics: context.topics.list().map(plain) }
}

/** A topic as clients see it. */
function plain(topic: TopicDefinition) {
  const { topicId, name, partitions, durability, codecs, retentionMs, retentionBytes } = topic
  return { topicId, name, partitions, durability, codecs, retentionMs, retentionBytes }
}

function brokerStatus(context: ServerContext, fields: Fields): unknown {
  onlyFields(fields, [])
  return context.status()
}

function topicName(fields: Fields): string {
  if (typeof fields.name !== 'string') throw new ProtocolError('INVALID_TOPIC_NAME', 'the name is no text')
  return fields.name
}

function onlyFields(fields: Fields, known: readonly string[]): void {
  for (const name of Object.keys(fields)) {
    if (!known.includes(name)) {
      throw new ProtocolError('INVALID_REQUEST', `the field ${JSON.stringify(name)} is unknown`)
    }
  }
}
