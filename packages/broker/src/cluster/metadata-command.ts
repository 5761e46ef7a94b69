// The commands of the metadata log, each one record of a control batch, as a MessagePack map.
import { CODEC_IDS, type CodecName, type Durability, ProtocolError } from '@millrace/protocol'
import { decodeFields, encodeMessagePack, type Fields } from '../message-pack.js'

export interface TopicDefinition {
  readonly topicId: number
  readonly name: string
  readonly partitions: number
  /** For each partition the nodes that have a replica, the one that should lead first. */
  readonly replicas: readonly (readonly number[])[]
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  /** Records go this long after they were appended; null keeps them. */
  readonly retentionMs: number | null
  /** Of each partition so many bytes are kept; null keeps all. */
  readonly retentionBytes: number | null
}

export type MetadataCommand =
  /** The first command of a cluster: its identity. */
  | { readonly kind: 'bootstrap'; readonly clusterId: string }
  | { readonly kind: 'createTopic'; readonly topic: TopicDefinition }
  | { readonly kind: 'deleteTopic'; readonly topicId: number }
  /** The logs of a deleted topic are gone from the disks. */
  | { readonly kind: 'topicDropped'; readonly topicId: number }
  /** A node has begun with a disk. It is the node's disk for good: an empty one under an old name is another node. */
  | { readonly kind: 'registerNode'; readonly nodeId: number; readonly diskId: string }

export function encodeCommand(command: MetadataCommand): Uint8Array {
  return encodeMessagePack(command)
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
    case 'registerNode':
      return { kind: 'registerNode', nodeId: count(fields, 'nodeId'), diskId: text(fields, 'diskId') }
    default:
      throw new ProtocolError('INVALID_REQUEST', `the metadata command ${String(fields.kind)} is unknown`)
  }
}

/** @throws ProtocolError INVALID_REQUEST */
export function decodeTopic(value: unknown): TopicDefinition {
  if (typeof value !== 'object' || value === null) throw new ProtocolError('INVALID_REQUEST', 'a topic is not a map')
  const fields = value as Fields
  const { durability, codecs } = fields
  if (durability !== 'flushed' && durability !== 'buffered') wrong('durability')
  if (!Array.isArray(codecs) || !codecs.every(isCodec)) wrong('codecs')
  return {
    topicId: count(fields, 'topicId'),
    name: text(fields, 'name'),
    partitions: count(fields, 'partitions'),
    replicas: replicas(fields, count(fields, 'partitions')),
    durability,
    codecs,
    retentionMs: countOrNull(fields, 'retentionMs'),
    retentionBytes: countOrNull(fields, 'retentionBytes'),
  }
}

export function isCodec(name: unknown): name is CodecName {
  return typeof name === 'string' && Object.hasOwn(CODEC_IDS, name)
}

function text(fields: Fields, name: string): string {
  const value = fields[name]
  return typeof value === 'string' ? value : wrong(name)
}

function count(fields: Fields, name: string): number {
  const value = fields[name]
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : wrong(name)
}

function replicas(fields: Fields, partitions: number): readonly (readonly number[])[] {
  const { replicas: lists } = fields
  const isNode = (node: unknown) => typeof node === 'number' && Number.isSafeInteger(node) && node > 0
  const isList = (list: unknown) => Array.isArray(list) && list.length > 0 && list.every(isNode)
  return Array.isArray(lists) && lists.length === partitions && lists.every(isList) ? lists : wrong('replicas')
}

/** Topics made before there was such a field do not have it. */
function countOrNull(fields: Fields, name: string): number | null {
  return fields[name] == null ? null : count(fields, name)
}

function wrong(name: string): never {
  throw new ProtocolError('INVALID_REQUEST', `the field ${name} of a metadata record has the wrong type`)
}
