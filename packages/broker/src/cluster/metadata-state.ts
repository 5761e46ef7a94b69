// The cluster's metadata: a state machine that is fed by the metadata log and by nothing else. Synchronous and pure.
import { ProtocolError } from '@millrace/protocol'
import type { Fields } from '../message-pack.js'
import { decodeTopic, type MetadataCommand, type TopicDefinition as Topic } from './metadata-command.js'

/** The state as plain data, for checkpoints. */
export interface MetadataImage {
  readonly clusterId: string | null
  readonly nextTopicId: number
  readonly topics: readonly Topic[]
  readonly dropping: readonly Topic[]
  /** Disk of each node that ever began, 32 hexadecimal digits. */
  readonly disks: readonly (readonly [nodeId: number, diskId: string])[]
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
  readonly #disks = new Map<number, string>()

  /** The disk that a node began with; null for one that never did. */
  diskOf(nodeId: number): string | null {
    return this.#disks.get(nodeId) ?? null
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
      case 'registerNode':
        if (!this.#disks.has(command.nodeId)) this.#disks.set(command.nodeId, command.diskId)
        return
    }
  }

  #create(topic: Topic): void {
    if (this.#byName.has(topic.name) || topic.topicId < this.nextTopicId) return
    this.nextTopicId = topic.topicId + 1
    this.#byId.set(topic.topicId, topic)
    this.#byName.set(topic.name, topic)
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

  image(): MetadataImage {
    return {
      clusterId: this.clusterId,
      nextTopicId: this.nextTopicId,
      topics: this.topics(),
      dropping: this.dropping(),
      disks: [...this.#disks],
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
    this.#disks.clear()
    for (const topic of image?.topics ?? []) {
      this.#byId.set(topic.topicId, topic)
      this.#byName.set(topic.name, topic)
      this.partitionCount += topic.partitions
    }
    for (const [nodeId, diskId] of image?.disks ?? []) this.#disks.set(nodeId, diskId)
    for (const topic of image?.dropping ?? []) this.#dropping.set(topic.topicId, topic)
  }
}

/** @throws ProtocolError INVALID_REQUEST for fields that are not an image. */
export function decodeImage(fields: Fields): MetadataImage {
  const { clusterId, nextTopicId, topics, dropping, disks } = fields
  if (
    typeof nextTopicId !== 'number' ||
    !Array.isArray(topics) ||
    !Array.isArray(dropping) ||
    !Array.isArray(disks) ||
    !disks.every(isDisk)
  ) {
    throw new ProtocolError('INVALID_REQUEST', 'a checkpoint of the metadata that this version cannot read')
  }
  return {
    clusterId: typeof clusterId === 'string' ? clusterId : null,
    nextTopicId,
    topics: topics.map(decodeTopic),
    dropping: dropping.map(decodeTopic),
    disks,
  }
}

function isDisk(entry: unknown): entry is readonly [number, string] {
  return Array.isArray(entry) && typeof entry[0] === 'number' && typeof entry[1] === 'string'
}
