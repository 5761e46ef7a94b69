// The commands of the metadata log, each one record of a control batch, as a MessagePack map.
import { CODEC_IDS, type CodecName, type Durability, ProtocolError } from '@millrace/protocol'
import { count, flag, list, nodeList, numberOrNull, text, textOrNull, wrong } from '../fields.js'
import { decodeFields, encodeMessagePack, type Fields } from '../message-pack.js'

export interface TopicDefinition {
  readonly topicId: number
  readonly name: string
  readonly partitions: number
  /**
   * For each partition the nodes that are to have a replica, the one that should lead first. While a partition moves, the
   * group itself knows who belongs to it.
   */
  readonly replicas: readonly (readonly number[])[]
  /**
   * For each partition the nodes that its group began with: what is in force before anything stands in its log. Nobody once
   * it was assigned anew: it has begun, and its log says who belongs to it.
   */
  readonly founders: readonly (readonly number[])[]
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  /** Records go this long after they were appended; null keeps them. */
  readonly retentionMs: number | null
  /** Of each partition so many bytes are kept; null keeps all. */
  readonly retentionBytes: number | null
}

/** Where a node is reached, and what placement has to know of it. */
export interface NodePlace {
  /** Empty, and port 0, while nobody has said it. */
  readonly host: string
  readonly port: number
  /** What fails together: replicas are spread over racks. Null: the node fails by itself. */
  readonly rack: string | null
  readonly shards: number
}

/** What a partition's replicas are to be from now on, the one that should lead first. */
export interface Assignment {
  readonly topicId: number
  readonly partition: number
  readonly replicas: readonly number[]
}

export type MetadataCommand =
  /** The first command of a cluster: its identity. */
  | { readonly kind: 'bootstrap'; readonly clusterId: string }
  | { readonly kind: 'createTopic'; readonly topic: TopicDefinition }
  | { readonly kind: 'deleteTopic'; readonly topicId: number }
  /** The logs of a deleted topic are gone from the disks. */
  | { readonly kind: 'topicDropped'; readonly topicId: number }
  | AlterTopic
  | AddPartitions
  | { readonly kind: 'assignReplicas'; readonly assignments: readonly Assignment[] }
  | RegisterNode
  /** A new node, by the id the cluster gives it. */
  | ({ readonly kind: 'joinNode'; readonly nodeId: number; readonly diskId: string } & NodePlace)
  /** A node is reached elsewhere, or is another machine. */
  | ({ readonly kind: 'updateNode'; readonly nodeId: number } & NodePlace)
  /** Nothing new is placed on the node, and it leads nothing it can hand over; or that is taken back. */
  | { readonly kind: 'drainNode'; readonly nodeId: number; readonly drain: boolean }
  /** The node is gone for good; it never comes back, and its id is never another's. */
  | { readonly kind: 'removeNode'; readonly nodeId: number }

/** A node has begun with a disk. It is the node's disk for good: an empty one under an old name is another node. */
interface RegisterNode extends Partial<NodePlace> {
  readonly kind: 'registerNode'
  readonly nodeId: number
  readonly diskId: string
}

interface AlterTopic {
  readonly kind: 'alterTopic'
  readonly topicId: number
  readonly retentionMs: number | null
  readonly retentionBytes: number | null
}

interface AddPartitions {
  readonly kind: 'addPartitions'
  readonly topicId: number
  /** Of the topic from now on. */
  readonly partitions: number
  /** For each of the new ones. */
  readonly replicas: readonly (readonly number[])[]
}

export function encodeCommand(command: MetadataCommand): Uint8Array {
  return encodeMessagePack(command.kind === 'createTopic' ? { ...command, topic: topicFields(command.topic) } : command)
}

/** @throws ProtocolError INVALID_REQUEST for a command this version cannot read: then the log is of a newer one. */
export function decodeCommand(bytes: Uint8Array): MetadataCommand {
  const fields = decodeFields(bytes)
  switch (fields.kind) {
    case 'bootstrap':
      return { kind: 'bootstrap', clusterId: text(fields, 'clusterId') }
    case 'createTopic':
      return { kind: 'createTopic', topic: decodeTopic(fields.topic) }
    case 'deleteTopic':
      return { kind: 'deleteTopic', topicId: count(fields, 'topicId') }
    case 'topicDropped':
      return { kind: 'topicDropped', topicId: count(fields, 'topicId') }
    case 'alterTopic':
      return { kind: 'alterTopic', topicId: count(fields, 'topicId'), ...retention(fields) }
    case 'addPartitions':
      return decodeAddPartitions(fields)
    case 'assignReplicas':
      return { kind: 'assignReplicas', assignments: list(fields, 'assignments', decodeAssignment) }
    case 'registerNode':
      return { kind: 'registerNode', ...identified(fields), ...('host' in fields && place(fields)) }
    case 'joinNode':
      return { kind: 'joinNode', ...identified(fields), ...place(fields) }
    case 'updateNode':
      return { kind: 'updateNode', nodeId: count(fields, 'nodeId'), ...place(fields) }
    case 'drainNode':
      return { kind: 'drainNode', nodeId: count(fields, 'nodeId'), drain: flag(fields, 'drain') }
    case 'removeNode':
      return { kind: 'removeNode', nodeId: count(fields, 'nodeId') }
    default:
      throw new ProtocolError('INVALID_REQUEST', `the metadata command ${String(fields.kind)} is unknown`)
  }
}

/** A topic as commands and checkpoints carry it: who a group began with is left out while it is whom it is to have. */
export function topicFields({ founders, ...topic }: TopicDefinition): Fields {
  const isAsBegun = founders.every((nodes, partition) => isSameList(nodes, topic.replicas[partition]!))
  return isAsBegun ? topic : { ...topic, founders }
}

/** @throws ProtocolError INVALID_REQUEST */
export function decodeTopic(value: unknown): TopicDefinition {
  if (typeof value !== 'object' || value === null) throw new ProtocolError('INVALID_REQUEST', 'a topic is not a map')
  const fields = value as Fields
  const { durability, codecs } = fields
  if (durability !== 'flushed' && durability !== 'buffered') wrong('durability')
  if (!Array.isArray(codecs) || !codecs.every(isCodec)) wrong('codecs')
  const partitions = count(fields, 'partitions')
  const replicas = nodeLists(fields, 'replicas', partitions)
  return {
    topicId: count(fields, 'topicId'),
    name: text(fields, 'name'),
    partitions,
    replicas,
    founders: fields.founders === undefined ? replicas : foundersOf(fields, partitions),
    durability,
    codecs,
    ...retention(fields),
  }
}

export function isCodec(name: unknown): name is CodecName {
  return typeof name === 'string' && Object.hasOwn(CODEC_IDS, name)
}

/** @throws ProtocolError INVALID_REQUEST */
export function place(fields: Fields): NodePlace {
  return {
    host: text(fields, 'host'),
    port: count(fields, 'port'),
    rack: textOrNull(fields, 'rack'),
    shards: count(fields, 'shards'),
  }
}

function identified(fields: Fields): { nodeId: number; diskId: string } {
  return { nodeId: count(fields, 'nodeId'), diskId: text(fields, 'diskId') }
}

/** Topics made before there were such fields do not have them. */
function retention(fields: Fields): { retentionMs: number | null; retentionBytes: number | null } {
  return {
    retentionMs: numberOrNull(fields, 'retentionMs'),
    retentionBytes: numberOrNull(fields, 'retentionBytes'),
  }
}

function decodeAddPartitions(fields: Fields): AddPartitions {
  const replicas = list(fields, 'replicas', (nodes) => nodeList(nodes, 'replicas'))
  return {
    kind: 'addPartitions',
    topicId: count(fields, 'topicId'),
    partitions: count(fields, 'partitions'),
    replicas,
  }
}

function decodeAssignment(value: unknown): Assignment {
  if (typeof value !== 'object' || value === null) wrong('assignments')
  const fields = value as Fields
  return {
    topicId: count(fields, 'topicId'),
    partition: count(fields, 'partition'),
    replicas: nodeList(fields.replicas, 'replicas'),
  }
}

function foundersOf(fields: Fields, partitions: number): readonly (readonly number[])[] {
  const isNobody = (nodes: unknown): boolean => Array.isArray(nodes) && nodes.length === 0
  const lists = list(fields, 'founders', (nodes) => (isNobody(nodes) ? [] : nodeList(nodes, 'founders')))
  return lists.length === partitions ? lists : wrong('founders')
}

function nodeLists(fields: Fields, name: string, length: number): readonly (readonly number[])[] {
  const lists = list(fields, name, (nodes) => nodeList(nodes, name))
  return lists.length === length ? lists : wrong(name)
}

const isSameList = (left: readonly number[], right: readonly number[]): boolean =>
  left === right || (left.length === right.length && left.every((nodeId, at) => nodeId === right[at]))
