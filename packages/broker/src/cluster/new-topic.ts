// What a new topic is to be: what somebody asks for, checked, and where its replicas go.
import { CODEC_IDS, checkTopicName, MAX_PARTITIONS_PER_TOPIC, ProtocolError } from '@millrace/protocol'
import { DEFAULT_REPLICAS, MAX_PARTITIONS, MAX_TOPICS } from '../limits.js'
import { isCodec, type TopicDefinition } from './metadata-command.js'
import type { MetadataState } from './metadata-state.js'
import { Load, placeableNodes, placeReplicas } from './placement.js'

/** What somebody asks for: checked here, whatever it holds. */
export interface TopicRequest {
  readonly name: string
  readonly partitions: number
  /** Of each partition; null for three, or as many as there are brokers. */
  readonly replicas: number | null
  readonly durability: string
  readonly codecs: readonly string[]
  /** Milliseconds and bytes, from 1; null for no limit. */
  readonly retentionMs: number | null
  readonly retentionBytes: number | null
}

export type CheckedRequest = Omit<TopicDefinition, 'topicId' | 'replicas' | 'founders'> & {
  readonly replicationFactor: number
}

export function newTopic(request: CheckedRequest, known: readonly number[], state: MetadataState): TopicDefinition {
  if (state.topicByName(request.name) !== undefined) {
    throw new ProtocolError('TOPIC_EXISTS', `there is a topic ${request.name}`)
  }
  if (state.topicCount >= MAX_TOPICS)
    throw new ProtocolError('INVALID_CONFIG', `there are ${MAX_TOPICS} topics already`)
  if (state.partitionCount + request.partitions > MAX_PARTITIONS) {
    const total = `${state.partitionCount} + ${request.partitions}`
    throw new ProtocolError('INVALID_CONFIG', `${total} partitions in all topics, the limit is ${MAX_PARTITIONS}`)
  }
  const { replicationFactor, ...topic } = request
  const topicId = state.nextTopicId
  const replicas = placeReplicas({
    nodes: placeableNodes(state.nodes(), known),
    load: Load.of(state.topics()),
    firstPartition: 0,
    partitions: topic.partitions,
    factor: replicationFactor,
    topicId,
  })
  return { topicId, ...topic, replicas, founders: replicas }
}

/** @throws ProtocolError INVALID_TOPIC_NAME, INVALID_CONFIG. */
export function checkedRequest(request: TopicRequest, members: number): CheckedRequest {
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
  const replicationFactor = request.replicas ?? Math.min(DEFAULT_REPLICAS, members)
  if (!Number.isInteger(replicationFactor) || replicationFactor < 1 || replicationFactor > members) {
    throw new ProtocolError('INVALID_CONFIG', `replicas is ${request.replicas}; the cluster has ${members} brokers`)
  }
  checkLimit('retentionMs', retentionMs)
  checkLimit('retentionBytes', retentionBytes)
  return { name, partitions, durability, codecs: known, retentionMs, retentionBytes, replicationFactor }
}

/** @throws ProtocolError INVALID_CONFIG. */
export function checkLimit(name: string, value: number | null): void {
  if (value === null || (Number.isSafeInteger(value) && value > 0)) return
  throw new ProtocolError(
    'INVALID_CONFIG',
    `${name} is ${value}; it can be a whole number from 1, or null for no limit`,
  )
}
