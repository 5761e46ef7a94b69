// The coordinators of consumer groups on this node: one for each partition of their topic that has a replica here.
import { GROUPS_TOPIC, ProtocolError, partitionOfKey } from '@millrace/protocol'
import type { TopicDefinition } from '../cluster/metadata-command.js'
import type { MetadataState } from '../cluster/metadata-state.js'
import type { Environment } from '../environment.js'
import type { GroupsState } from '../groups/groups-state.js'
import type { Metrics } from '../metrics.js'
import type { Partition } from '../partition/partition.js'
import type { Refusal } from '../partition/pending-batch.js'
import { Coordinator } from './coordinator.js'
import { HeldBeats } from './held-beats.js'

interface CoordinationOptions {
  readonly environment: Environment
  readonly metrics: Metrics
  readonly metadata: { readonly state: MetadataState }
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

const UTF8 = new TextEncoder()

export class Coordination {
  readonly beats: HeldBeats
  readonly #options: CoordinationOptions
  readonly #coordinators = new Map<Partition, Coordinator>()

  constructor(options: CoordinationOptions) {
    this.#options = options
    this.beats = new HeldBeats(options.environment.clock)
  }

  /** A replica is about to take part in its group; only those of the groups' topic matter here. */
  adopt(topic: TopicDefinition, partition: Partition): void {
    if (topic.name !== GROUPS_TOPIC) return
    const { environment, metrics, report } = this.#options
    const coordinator = new Coordinator({
      partition,
      environment,
      metrics,
      beats: this.beats,
      topicSize: (topicId) => this.topicSize(topicId),
      onClosed: () => this.#coordinators.delete(partition),
      report,
    })
    this.#coordinators.set(partition, coordinator)
    coordinator.start()
  }

  /** The partition whose leader coordinates a group. @throws ProtocolError UNKNOWN_TOPIC while nobody has made the topic. */
  placeOf(group: string): { readonly topicId: number; readonly partition: number } {
    const { topicId, partitions } = this.topic
    return { topicId, partition: partitionOfKey(UTF8.encode(group), partitions) }
  }

  /** @throws ProtocolError UNKNOWN_TOPIC while nobody has made it. */
  get topic(): TopicDefinition {
    const topic = this.#options.metadata.state.topicByName(GROUPS_TOPIC)
    if (topic === undefined) throw new ProtocolError('UNKNOWN_TOPIC', `there is no topic ${GROUPS_TOPIC} yet`)
    return topic
  }

  /** @throws ProtocolError INVALID_REQUEST for a partition of another topic. */
  coordinatorOf(partition: Partition): Coordinator {
    const found = this.#coordinators.get(partition)
    if (found === undefined) throw new ProtocolError('INVALID_REQUEST', `groups belong to the topic ${GROUPS_TOPIC}`)
    return found
  }

  /** Partitions of a topic as far as is known here: 0 for one that was deleted, null for one that was not heard of yet. */
  topicSize(topicId: number): number | null {
    const { state } = this.#options.metadata
    const topic = state.topic(topicId)
    if (topic !== undefined) return topic.partitions
    return topicId > 0 && topicId < state.nextTopicId ? 0 : null
  }

  /** Something of the metadata has changed. */
  followTopics(): void {
    for (const coordinator of this.#coordinators.values()) coordinator.followTopics()
  }

  /** Groups that this node coordinates now, by the partition they belong to and the term it leads in. */
  *served(): Iterable<{ readonly partition: number; readonly term: number; readonly state: GroupsState }> {
    for (const { partition, served } of this.#coordinators.values()) {
      if (served !== null) yield { partition: partition.key.partition, ...served }
    }
  }

  /** Whoever waits is told why, and so is everybody who comes. */
  stop(reason: Refusal): void {
    for (const coordinator of this.#coordinators.values()) coordinator.stop(reason)
  }
}
