// The cluster's metadata: a state machine that is fed by the metadata log and by nothing else. Synchronous and pure.
import { ProtocolError } from '@millrace/protocol'
import { list } from '../fields.js'
import type { Fields } from '../message-pack.js'
import {
  type Assignment,
  decodeTopic,
  type MetadataCommand,
  type TopicDefinition as Topic,
  topicFields,
} from './metadata-command.js'
import { decodeDisk, decodeNode, type NodeRecord, NodeRegistry } from './node-registry.js'

/** A group that moves has long begun: a node that comes to it, or comes again, must not take itself for a founder. */
const NOBODY: readonly number[] = []

/** The state as plain data, for checkpoints. */
export interface MetadataImage {
  readonly clusterId: string | null
  readonly nextTopicId: number
  readonly topics: readonly Topic[]
  readonly dropping: readonly Topic[]
  readonly nodes: readonly NodeRecord[]
}

export class MetadataState {
  clusterId: string | null = null
  /** Ids are never used twice, so that a topic of an old name is never taken for the new one. */
  nextTopicId = 1
  partitionCount = 0
  readonly #byId = new Map<number, Topic>()
  readonly #byName = new Map<string, Topic>()
  /** Deleted topics whose logs may still be on disk. */
  readonly #dropping = new Map<number, Topic>()
  readonly #nodes = new NodeRegistry()

  /** The disk that a node began with; null for one that never did. */
  diskOf(nodeId: number): string | null {
    return this.#nodes.find(nodeId)?.diskId ?? null
  }

  /** Above every id that a node ever had here. Nodes of a configuration that have not been heard of may have higher ones. */
  get nextNodeId(): number {
    return this.#nodes.nextNodeId
  }

  /** Grows whenever something about a node changes; it says nothing across nodes or restarts. */
  get registryVersion(): number {
    return this.#nodes.version
  }

  /** Every node that ever registered, those that are gone too. */
  nodes(): readonly NodeRecord[] {
    return this.#nodes.all()
  }

  node(nodeId: number): NodeRecord | undefined {
    return this.#nodes.find(nodeId)
  }

  nodeByDisk(diskId: string): NodeRecord | undefined {
    return this.#nodes.byDisk(diskId)
  }

  isRemoved(nodeId: number): boolean {
    return this.#nodes.isRemoved(nodeId)
  }

  topic(topicId: number): Topic | undefined {
    return this.#byId.get(topicId)
  }

  topicByName(name: string): Topic | undefined {
    return this.#byName.get(name)
  }

  get topicCount(): number {
    return this.#byId.size
  }

  topics(): readonly Topic[] {
    return [...this.#byId.values()]
  }

  dropping(): readonly Topic[] {
    return [...this.#dropping.values()]
  }

  /** How many partitions are to have a replica on a node. */
  replicasOn(nodeId: number): number {
    let replicas = 0
    for (const topic of this.#byId.values()) {
      for (const nodes of topic.replicas) if (nodes.includes(nodeId)) replicas++
    }
    return replicas
  }

  /** Applies a committed command. Commands are judged before they are proposed; one that does not fit changes nothing. */
  apply(command: MetadataCommand): void {
    switch (command.kind) {
      case 'bootstrap':
        this.clusterId ??= command.clusterId
        return
      case 'createTopic':
        this.#create(command.topic)
        return
      case 'deleteTopic':
        this.#delete(command.topicId)
        return
      case 'topicDropped':
        this.#dropping.delete(command.topicId)
        return
      case 'alterTopic':
        this.#alter(command)
        return
      case 'addPartitions':
        this.#addPartitions(command)
        return
      case 'assignReplicas':
        this.#assign(command.assignments)
        return
      default:
        this.#nodes.apply(command, (nodeId) => this.replicasOn(nodeId) > 0)
        return
    }
  }

  #create(topic: Topic): void {
    if (this.#byName.has(topic.name) || topic.topicId < this.nextTopicId) return
    if (!topic.replicas.every((nodes) => this.#mayHold(nodes))) return
    this.nextTopicId = topic.topicId + 1
    this.#put(topic)
    this.partitionCount += topic.partitions
  }

  #delete(topicId: number): void {
    const topic = this.#byId.get(topicId)
    if (topic === undefined) return
    this.#byId.delete(topicId)
    this.#byName.delete(topic.name)
    this.#dropping.set(topicId, topic)
    this.partitionCount -= topic.partitions
  }

  #alter({ topicId, retentionMs, retentionBytes }: MetadataCommand & { kind: 'alterTopic' }): void {
    const topic = this.#byId.get(topicId)
    if (topic !== undefined) this.#put({ ...topic, retentionMs, retentionBytes })
  }

  #addPartitions({ topicId, partitions, replicas }: MetadataCommand & { kind: 'addPartitions' }): void {
    const topic = this.#byId.get(topicId)
    if (topic === undefined || replicas.length === 0 || replicas.length !== partitions - topic.partitions) return
    if (!replicas.every((nodes) => this.#mayHold(nodes))) return
    this.#put({
      ...topic,
      partitions,
      replicas: [...topic.replicas, ...replicas],
      founders: [...topic.founders, ...replicas],
    })
    this.partitionCount += replicas.length
  }

  #assign(assignments: readonly Assignment[]): void {
    const changed = new Map<
      number,
      { readonly replicas: (readonly number[])[]; readonly founders: (readonly number[])[] }
    >()
    for (const { topicId, partition, replicas } of assignments) {
      const topic = this.#byId.get(topicId)
      if (topic === undefined || partition >= topic.partitions || !this.#mayHold(replicas)) continue
      // The lists of a topic are copied once: a node that is drained takes thousands along.
      const lists = changed.get(topicId) ?? { replicas: topic.replicas.slice(), founders: topic.founders.slice() }
      lists.replicas[partition] = replicas
      lists.founders[partition] = NOBODY
      changed.set(topicId, lists)
    }
    for (const [topicId, lists] of changed) this.#put({ ...this.#byId.get(topicId)!, ...lists })
  }

  /** Invariant: no partition is to have a replica on a node that is gone. */
  #mayHold(replicas: readonly number[]): boolean {
    return replicas.length > 0 && !replicas.some((nodeId) => this.#nodes.isRemoved(nodeId))
  }

  #put(topic: Topic): void {
    this.#byId.set(topic.topicId, topic)
    this.#byName.set(topic.name, topic)
  }

  image(): MetadataImage {
    return {
      clusterId: this.clusterId,
      nextTopicId: this.nextTopicId,
      topics: this.topics(),
      dropping: this.dropping(),
      nodes: this.nodes(),
    }
  }

  /** Replaces everything; null for the state before the first command. */
  restore(image: MetadataImage | null): void {
    this.clusterId = image?.clusterId ?? null
    this.nextTopicId = image?.nextTopicId ?? 1
    this.partitionCount = 0
    this.#byId.clear()
    this.#byName.clear()
    this.#dropping.clear()
    this.#nodes.restore(image?.nodes ?? [])
    for (const topic of image?.topics ?? []) {
      this.#put(topic)
      this.partitionCount += topic.partitions
    }
    for (const topic of image?.dropping ?? []) this.#dropping.set(topic.topicId, topic)
  }
}

/** An image as checkpoints carry it. */
export function imageFields({ topics, dropping, ...image }: MetadataImage): Fields {
  return { ...image, topics: topics.map(topicFields), dropping: dropping.map(topicFields) }
}

/** @throws ProtocolError INVALID_REQUEST for fields that are not an image. */
export function decodeImage(fields: Fields): MetadataImage {
  const { clusterId, nextTopicId } = fields
  if (typeof nextTopicId !== 'number') {
    throw new ProtocolError('INVALID_REQUEST', 'a checkpoint of the metadata that this version cannot read')
  }
  return {
    clusterId: typeof clusterId === 'string' ? clusterId : null,
    nextTopicId,
    topics: list(fields, 'topics', decodeTopic),
    dropping: list(fields, 'dropping', decodeTopic),
    nodes: 'nodes' in fields ? list(fields, 'nodes', decodeNode) : list(fields, 'disks', decodeDisk),
  }
}
