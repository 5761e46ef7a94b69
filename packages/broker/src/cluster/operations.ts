// What brokers do for each other and for administrators: changes of the metadata on the node that leads it, and questions
// about the partitions that a node leads. Fields are MessagePack maps; unknown ones are refused, so that a typing error is seen.
import { GROUPS_TOPIC, ProtocolError } from '@millrace/protocol'
import type { Clock } from '../environment.js'
import { count, list } from '../fields.js'
import { ASK_NODE_TIMEOUT_MS, MAX_LACKING_TOLD, REPLICA_GRACE_MS } from '../limits.js'
import type { Fields } from '../message-pack.js'
import type { Partition } from '../partition/partition.js'
import type { ReplicaStatus } from '../replication/group-ports.js'
import type { Shard } from '../shard.js'
import type { LeaderTable } from './leader-table.js'
import type { PartitionLists } from './leaderless.js'
import type { MapPublisher } from './map-publisher.js'
import type { LocalOperation } from './metadata-leader.js'
import { joinCluster, type NodeOperationsContext, registerNode } from './node-operations.js'
import { doesWithout, ledPartitions, testify } from './partition-membership.js'
import { alterTopic, drainBroker, movePartition, removeBroker } from './placement-operations.js'
import type { Topics } from './topics.js'

const DEFAULT_PARTITIONS = 1
const DEFAULT_DURABILITY = 'flushed'
const DEFAULT_CODECS = ['none', 'gzip']

export interface OperationsContext extends NodeOperationsContext {
  readonly topics: Topics
  readonly shard: Shard
  readonly clock: Clock
  readonly map: MapPublisher
  readonly leaders: LeaderTable
  /** Of the topic of consumer groups, when it is made. */
  readonly groupPartitions: number
}

/** What a leader tells of one of its partitions. */
export interface PartitionStatus {
  readonly partition: number
  readonly term: number
  readonly logStartOffset: number
  readonly highWatermark: number
  readonly bytesOnDisk: number
  readonly replicas: readonly ReplicaStatus[]
}

/** What a node tells of itself. */
export interface NodeStatus {
  readonly partitionsLed: number
  /** Of those, partitions of which a replica lacks batches that were committed a while ago. */
  readonly underReplicated: number
  /** Some of the replicas that it should have and does not serve. */
  readonly lacking: readonly LackingStatus[]
}

export interface LackingStatus {
  readonly topicId: number
  readonly partition: number
  readonly reason: string
}

type Operations = Readonly<Record<string, (fields: Fields) => Promise<unknown> | unknown>>

/** @returns the operations that this node carries out, by name. */
export function localOperations(context: OperationsContext): LocalOperation {
  const { topics, shard, clock, metadata } = context
  const changes: Operations = {
    createTopic: (fields) => createTopic(topics, fields),
    deleteTopic: (fields) => deleteTopic(topics, fields),
    createGroupsTopic: (fields) => createGroupsTopic(context, fields),
    registerNode: (fields) => registerNode(context, fields),
    joinCluster: (fields) => joinCluster(context, fields),
    drainBroker: (fields) => drainBroker(context, fields),
    removeBroker: (fields) => removeBroker(context, fields),
    movePartition: (fields) => movePartition(context, fields),
    alterTopic: (fields) => alterTopic(context, fields),
  }
  const questions: Operations = {
    partitionStatus: ({ topicId }) => partitionStatus(shard, Number(topicId)),
    nodeStatus: () => nodeStatus(shard, clock),
    confirmLeader: (fields) => confirmLeader(shard, fields),
    doesWithout: (fields) => doesWithout(shard, fields),
    ledPartitions: async (fields) => {
      await metadataReaches(context, fields)
      return ledPartitions(shard, context.metadata, fields.skip === undefined ? 0 : count(fields, 'skip'))
    },
    testify: async (fields) => {
      await metadataReaches(context, fields)
      return testify(shard, context.metadata, list(fields, 'partitions', partitionList))
    },
  }
  return async (operation, fields) => {
    const change = Object.hasOwn(changes, operation) ? changes[operation] : undefined
    // What is refused is refused for what is so now, not for what was so when this node led.
    if (change !== undefined) await metadata.catchUp()
    const perform = change ?? (Object.hasOwn(questions, operation) ? questions[operation] : undefined)
    if (perform === undefined) throw new ProtocolError('UNKNOWN_OPERATION', `the operation ${operation} is unknown`)
    return perform(fields)
  }
}

/** The answer is as of the metadata that the asker knows, or later. @throws ProtocolError DEADLINE_EXCEEDED when that does not come in time. */
async function metadataReaches({ clock, map }: OperationsContext, fields: Fields): Promise<void> {
  const version = fields.version === undefined ? 0 : count(fields, 'version')
  if (!(await map.reaches(version, clock, ASK_NODE_TIMEOUT_MS))) {
    throw new ProtocolError('DEADLINE_EXCEEDED', `version ${version} of the metadata has not come here`)
  }
}

function partitionList(value: unknown): PartitionLists[number] {
  const [topicId, partitions] = Array.isArray(value) ? value : []
  return [
    count({ topicId }, 'topicId'),
    list({ partitions }, 'partitions', (partition) => count({ partition }, 'partition')),
  ]
}

async function createTopic(topics: Topics, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['name', 'partitions', 'replicas', 'durability', 'codecs', 'retentionMs', 'retentionBytes'])
  const { partitions = DEFAULT_PARTITIONS, durability = DEFAULT_DURABILITY, codecs = DEFAULT_CODECS } = fields
  if (typeof partitions !== 'number') throw new ProtocolError('INVALID_CONFIG', 'partitions is no number')
  if (typeof durability !== 'string') throw new ProtocolError('INVALID_CONFIG', 'durability is no text')
  if (!Array.isArray(codecs) || !codecs.every((codec) => typeof codec === 'string')) {
    throw new ProtocolError('INVALID_CONFIG', 'codecs is no list of texts')
  }
  const topic = await topics.create({
    name: topicName(fields),
    partitions,
    durability,
    codecs,
    replicas: numberOrNull(fields, 'replicas'),
    retentionMs: numberOrNull(fields, 'retentionMs'),
    retentionBytes: numberOrNull(fields, 'retentionBytes'),
  })
  return { topicId: topic.topicId, name: topic.name, partitions: topic.partitions }
}

/** Harmless when repeated: whoever wants to consume in a group asks for it. */
async function createGroupsTopic({ topics, groupPartitions }: OperationsContext, fields: Fields): Promise<unknown> {
  onlyFields(fields, [])
  const { topicId, name, partitions } = await topics.createInternal(GROUPS_TOPIC, groupPartitions)
  return { topicId, name, partitions }
}

function numberOrNull(fields: Fields, name: string): number | null {
  const value = fields[name] ?? null
  if (value !== null && typeof value !== 'number') throw new ProtocolError('INVALID_CONFIG', `${name} is no number`)
  return value
}

async function deleteTopic(topics: Topics, fields: Fields): Promise<unknown> {
  onlyFields(fields, ['name', 'topicId'])
  const { topicId } = await topics.delete(topicName(fields), numberOrNull(fields, 'topicId'))
  return { topicId }
}

export function partitionStatus(shard: Shard, topicId: number): readonly PartitionStatus[] {
  return shard
    .partitionsOf(topicId)
    .filter(({ leads }) => leads)
    .map(statusOf)
}

function statusOf(partition: Partition): PartitionStatus {
  const { key, route, logStartOffset, highWatermark, bytesOnDisk } = partition
  return {
    partition: key.partition,
    term: route.term,
    logStartOffset,
    highWatermark,
    bytesOnDisk,
    replicas: partition.group.replicas(),
  }
}

/** Takes a moment when some replica lacks a batch: under load there is always one that has yet to say that it has the last. */
export async function nodeStatus(shard: Shard, clock: Clock): Promise<NodeStatus> {
  const led = [...shard.partitions()].filter(({ leads }) => leads)
  const behind = new Map<Partition, number>()
  for (const partition of led) {
    const { committedIndex } = partition
    if (lacks(partition, committedIndex)) behind.set(partition, committedIndex)
  }
  if (behind.size > 0) await new Promise<void>((resolve) => clock.timer(REPLICA_GRACE_MS, resolve))
  const underReplicated = [...behind].filter(([partition, index]) => partition.leads && lacks(partition, index)).length
  const lacking = [...shard.lacking()].slice(0, MAX_LACKING_TOLD)
  const told = lacking.map(({ key: { topicId, partition }, reason }) => ({ topicId, partition, reason }))
  return { partitionsLed: led.length, underReplicated, lacking: told }
}

/** Most of the members of the group say, after this was asked, that this node leads it. @throws ProtocolError NOT_LEADER. */
async function confirmLeader(shard: Shard, fields: Fields): Promise<unknown> {
  const partition = shard.replica(count(fields, 'topicId'), count(fields, 'partition'))
  if (partition?.leads !== true) throw new ProtocolError('NOT_LEADER', 'this node does not lead the partition')
  await partition.group.readBarrier()
  return {}
}

/** Whether some replica is not known to have the batch at `index`. */
const lacks = ({ group }: Partition, index: number): boolean =>
  group.replicas().some(({ matchIndex }) => matchIndex < index)

/** @throws ProtocolError INVALID_TOPIC_NAME. */
export function topicName(fields: Fields): string {
  if (typeof fields.name !== 'string') throw new ProtocolError('INVALID_TOPIC_NAME', 'the name is no text')
  return fields.name
}

/** @throws ProtocolError INVALID_REQUEST. */
export function onlyFields(fields: Fields, known: readonly string[]): void {
  for (const name of Object.keys(fields)) {
    if (!known.includes(name)) {
      throw new ProtocolError('INVALID_REQUEST', `the field ${JSON.stringify(name)} is unknown`)
    }
  }
}
