// What one core owns: its partitions and the memory for frames. A broker has one shard today; nothing in it is
// shared with another, so that more can come.
import { ProtocolError, type Route } from '@millrace/protocol'
import type { TopicDefinition } from './cluster/metadata-command.js'
import { METADATA_KEY } from './cluster/metadata-log.js'
import type { Environment } from './environment.js'
import { MAX_CONCURRENT_OPENS } from './limits.js'
import type { Metrics } from './metrics.js'
import { Partition } from './partition/partition.js'
import { PartitionState } from './partition/partition-state.js'
import type { Refusal } from './partition/pending-batch.js'
import type { LogKey, LogStore } from './storage/log-store.js'

export class Shard {
  readonly #topics = new Map<number, readonly Partition[]>()

  constructor(
    readonly environment: Environment,
    readonly store: LogStore,
    readonly metrics: Metrics,
  ) {}

  /** Opens or creates the logs of a topic; on failure none stays open. @throws StorageError. */
  async openTopic(topic: TopicDefinition, route: Route): Promise<void> {
    const partitions = new Array<Partition>(topic.partitions)
    await inParallel(topic.partitions, async (partition) => {
      partitions[partition] = await this.#openPartition(topic, partition, route)
    })
    this.#topics.set(topic.topicId, partitions)
  }

  async #openPartition(topic: TopicDefinition, partition: number, route: Route): Promise<Partition> {
    const state = new PartitionState()
    const log = await this.store.open({ topicId: topic.topicId, partition, lane: 0 }, state)
    // What recovery found counts as committed once it is flushed again.
    if (log.flushedIndex < log.filled.index && log.failure === null) await log.flush()
    const { clock, memory } = this.environment
    const { durability, codecs } = topic
    const { metrics } = this
    return new Partition({ log, state, route, durability, codecs, retention: topic, clock, memory, metrics })
  }

  /** Closes the partitions of a topic and frees their logs. Harmless when repeated after an interruption. */
  async dropTopic(topic: TopicDefinition, reason: Refusal): Promise<void> {
    const partitions = this.#topics.get(topic.topicId)
    this.#topics.delete(topic.topicId)
    for (const partition of partitions ?? []) partition.close(reason)
    await inParallel(topic.partitions, (partition) => this.store.drop({ topicId: topic.topicId, partition, lane: 0 }))
  }

  /** @throws ProtocolError UNKNOWN_PARTITION, UNKNOWN_LANE; undefined when there is no such topic here. */
  partition(topicId: number, partition: number, lane: number): Partition | undefined {
    const partitions = this.#topics.get(topicId)
    if (partitions === undefined) return undefined
    const found = partitions[partition]
    if (found === undefined) {
      throw new ProtocolError('UNKNOWN_PARTITION', `partition ${partition} of a topic with ${partitions.length}`)
    }
    if (lane !== 0) throw new ProtocolError('UNKNOWN_LANE', `lane ${lane}`)
    return found
  }

  partitionsOf(topicId: number): readonly Partition[] {
    return this.#topics.get(topicId) ?? []
  }

  *partitions(): Iterable<Partition> {
    for (const partitions of this.#topics.values()) yield* partitions
  }

  get partitionCount(): number {
    let count = 0
    for (const partitions of this.#topics.values()) count += partitions.length
    return count
  }

  /** Logs that recovery found and no topic claimed. */
  unknownLogs(): readonly LogKey[] {
    const isMetadata = (key: LogKey): boolean => key.topicId === METADATA_KEY.topicId
    const unknown = this.store.found.filter((key) => !this.#topics.has(key.topicId) && !isMetadata(key))
    this.metrics.unknownLogs = unknown.length
    return unknown
  }

  /** Lets batches go that have waited for room until their time was over. */
  dropExpired(): void {
    for (const partitions of this.#topics.values()) {
      for (const partition of partitions) if (partition.hasWaiting) partition.dropExpired()
    }
  }

  /** Refuses what is pending and everything that comes. */
  close(reason: Refusal): void {
    for (const partitions of this.#topics.values()) for (const partition of partitions) partition.close(reason)
  }
}

/** Runs `work` for 0 to `count` - 1, a few at a time; waits for all that were begun before it throws. */
async function inParallel(count: number, work: (at: number) => Promise<void>): Promise<void> {
  let next = 0
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++)
  }
  const workers = Array.from({ length: Math.min(count, MAX_CONCURRENT_OPENS) }, worker)
  const results = await Promise.allSettled(workers)
  for (const result of results) if (result.status === 'rejected') throw result.reason
}
