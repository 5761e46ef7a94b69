// Topics as their owner runs them: created and deleted through the metadata log, opened and closed on the shard.
import { CODEC_IDS, checkTopicName, MAX_PARTITIONS_PER_TOPIC, ProtocolError, type Route } from '@millrace/protocol'
import type { Logger } from '../environment.js'
import { MAX_PARTITIONS, MAX_TOPICS } from '../limits.js'
import type { Refusal } from '../partition/pending-batch.js'
import type { Shard } from '../shard.js'
import { StorageError } from '../storage/log-store.js'
import { refuseToReplace } from '../storage/missing-log.js'
import type { MapPublisher } from './map-publisher.js'
import { isCodec, type TopicDefinition } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import type { MetadataState } from './metadata-state.js'

/** What somebody asks for: checked here, whatever it holds. */
export interface TopicRequest {
  readonly name: string
  readonly partitions: number
  readonly durability: string
  readonly codecs: readonly string[]
  /** Milliseconds and bytes, from 1; null for no limit. */
  readonly retentionMs: number | null
  readonly retentionBytes: number | null
}

export interface TopicsOptions {
  readonly metadata: MetadataLog
  readonly shard: Shard
  readonly map: MapPublisher
  readonly route: Route
  readonly log: Logger
}

export class Topics {
  readonly #options: TopicsOptions

  constructor(options: TopicsOptions) {
    this.#options = options
  }

  list(): readonly TopicDefinition[] {
    return this.#options.metadata.state.topics()
  }

  /** @throws ProtocolError UNKNOWN_TOPIC, INVALID_TOPIC_NAME. */
  byName(name: string): TopicDefinition {
    checkTopicName(name)
    const topic = this.#options.metadata.state.topicByName(name)
    if (topic === undefined) throw new ProtocolError('UNKNOWN_TOPIC', `there is no topic ${name}`)
    return topic
  }

  /** Why the shard has no topic of this id. */
  whyMissing(topicId: number): Refusal {
    const wasThere = topicId > 0 && topicId < this.#options.metadata.state.nextTopicId
    return wasThere
      ? { code: 'TOPIC_DELETED', detail: `topic ${topicId} was deleted` }
      : { code: 'UNKNOWN_TOPIC', detail: `there is no topic with id ${topicId}` }
  }

  /** Opens every topic of the metadata; finishes deletions that were interrupted. @throws StorageError. */
  async open(): Promise<void> {
    const { metadata, shard, map, route, log } = this.#options
    for (const topic of metadata.state.dropping()) await this.#finishDrop(topic)
    for (const topic of metadata.state.topics()) {
      for (let partition = 0; partition < topic.partitions; partition++) {
        refuseToReplace(shard.store, { topicId: topic.topicId, partition, lane: 0 })
      }
      await shard.openTopic(topic, route)
      map.putTopic(topic, route, metadata.version)
    }
    const unknown = shard.unknownLogs()
    if (unknown.length > 0) {
      log.error(
        { logs: unknown.length, first: unknown[0] },
        'logs on disk belong to no topic the metadata knows; they are kept and not served',
      )
    }
  }

  /** A disk that refuses to forget a topic must not keep the others from being served. */
  async #finishDrop(topic: TopicDefinition): Promise<void> {
    try {
      await this.#drop(topic)
    } catch (cause) {
      if (!(cause instanceof StorageError)) throw cause
      this.#options.log.error({ topic: topic.name, cause }, 'the deletion of a topic could not be finished')
    }
  }

  /**
   * Resolves once the topic is durable, its partitions are open and the map names them.
   * @throws ProtocolError TOPIC_EXISTS, INVALID_TOPIC_NAME, INVALID_CONFIG; StorageError.
   */
  async create(request: TopicRequest): Promise<TopicDefinition> {
    const wanted = checkedRequest(request)
    const { metadata, shard, map, route } = this.#options
    const command = await metadata.propose((state) => ({ kind: 'createTopic', topic: newTopic(wanted, state) }))
    if (command.kind !== 'createTopic') throw new ProtocolError('INTERNAL', 'another command was applied')
    const { topic } = command
    try {
      await shard.openTopic(topic, route)
    } catch (error) {
      // A topic that cannot be written to is taken back, so that a refusal has changed nothing.
      await this.#delete(topic)
      throw error
    }
    map.putTopic(topic, route, metadata.version)
    return topic
  }

  /** Resolves once the topic is gone from the metadata and its logs are dropped. @throws ProtocolError UNKNOWN_TOPIC. */
  async delete(name: string): Promise<TopicDefinition> {
    const topic = this.byName(name)
    await this.#delete(topic)
    return topic
  }

  async #delete(topic: TopicDefinition): Promise<void> {
    const { metadata, map } = this.#options
    const { topicId, name } = topic
    await metadata.propose((state) => {
      if (state.topic(topicId) === undefined) throw new ProtocolError('UNKNOWN_TOPIC', `there is no topic ${name}`)
      return { kind: 'deleteTopic', topicId }
    })
    map.removeTopic(topicId, metadata.version)
    await this.#drop(topic)
  }

  async #drop(topic: TopicDefinition): Promise<void> {
    const { metadata, shard } = this.#options
    await shard.dropTopic(topic, { code: 'TOPIC_DELETED', detail: `topic ${topic.name} was deleted` })
    await metadata.propose(() => ({ kind: 'topicDropped', topicId: topic.topicId }))
  }
}

type CheckedRequest = Omit<TopicDefinition, 'topicId'>

function newTopic(request: CheckedRequest, state: MetadataState): TopicDefinition {
  if (state.topicByName(request.name) !== undefined) {
    throw new ProtocolError('TOPIC_EXISTS', `there is a topic ${request.name}`)
  }
  if (state.topicCount >= MAX_TOPICS)
    throw new ProtocolError('INVALID_CONFIG', `there are ${MAX_TOPICS} topics already`)
  if (state.partitionCount + request.partitions > MAX_PARTITIONS) {
    const total = `${state.partitionCount} + ${request.partitions}`
    throw new ProtocolError('INVALID_CONFIG', `${total} partitions in all topics, the limit is ${MAX_PARTITIONS}`)
  }
  return { topicId: state.nextTopicId, ...request }
}

/** @throws ProtocolError INVALID_TOPIC_NAME, INVALID_CONFIG. */
function checkedRequest(request: TopicRequest): CheckedRequest {
  const { name, partitions, durability, codecs, retentionMs, retentionBytes } = request
  checkTopicName(name)
  if (!Number.isInteger(partitions) || partitions < 1 || partitions > MAX_PARTITIONS_PER_TOPIC) {
    throw new ProtocolError('INVALID_CONFIG', `partitions is ${partitions}; it can be 1 to ${MAX_PARTITIONS_PER_TOPIC}`)
  }
  if (durability !== 'flushed' && durability !== 'buffered') {
    throw new ProtocolError('INVALID_CONFIG', `durability is ${durability}; it can be flushed or buffered`)
  }
  const known = codecs.filter(isCodec)
  if (known.length !== codecs.length || new Set(known).size !== known.length || !known.includes('none')) {
    const all = Object.keys(CODEC_IDS).join(', ')
    throw new ProtocolError(
      'INVALID_CONFIG',
      `codecs is ${codecs.join(', ')}; it can be none and others of ${all}, once each`,
    )
  }
  checkLimit('retentionMs', retentionMs)
  checkLimit('retentionBytes', retentionBytes)
  return { name, partitions, durability, codecs: known, retentionMs, retentionBytes }
}

/** @throws ProtocolError INVALID_CONFIG. */
function checkLimit(name: string, value: number | null): void {
  if (value === null || (Number.isSafeInteger(value) && value > 0)) return
  throw new ProtocolError(
    'INVALID_CONFIG',
    `${name} is ${value}; it can be a whole number from 1, or null for no limit`,
  )
}
