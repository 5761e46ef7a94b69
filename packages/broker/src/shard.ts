// What one core owns: its partitions and the memory for frames. A broker has one shard today; nothing in it is
// shared with another, so that more can come.
import { ProtocolError, type Route } from '@millrace/protocol'
import type { LeaderTable } from './cluster/leader-table.js'
import type { TopicDefinition } from './cluster/metadata-command.js'
import { METADATA_KEY } from './cluster/metadata-log.js'
import type { Environment } from './environment.js'
import { MAX_CONCURRENT_OPENS } from './limits.js'
import type { Metrics } from './metrics.js'
import type { Retention } from './partition/log-start-proposal.js'
import { Partition } from './partition/partition.js'
import { PartitionState } from './partition/partition-state.js'
import type { Refusal } from './partition/pending-batch.js'
import { cutDamage } from './replication/cut-damage.js'
import { GroupState } from './replication/group-state.js'
import { type Groups, isSoleReplica } from './replication/groups.js'
import type { LogKey, LogStore } from './storage/log-store.js'

export interface ShardOptions {
  readonly environment: Environment
  readonly store: LogStore
  readonly metrics: Metrics
  readonly groups: Groups
  readonly leaders: LeaderTable
  readonly nodeId: number
  /** The log of a replica that has moved away is gone. */
  readonly onReplicaDropped: (key: LogKey) => void
}

/** By partition; undefined where other nodes have all replicas. */
type Replicas = (Partition | undefined)[]

export class Shard {
  readonly #topics = new Map<number, Replicas>()
  readonly #retention = new Map<number, Retention>()

  constructor(private readonly options: ShardOptions) {}

  get nodeId(): number {
    return this.options.nodeId
  }

  get store(): LogStore {
    return this.options.store
  }

  /**
   * Opens the logs of the partitions that have a replica here, or are to have one; on failure none stays open. One that is
   * to move away and was found counts in its group until that does without it. @throws StorageError.
   */
  async openTopic(topic: TopicDefinition): Promise<void> {
    const partitions = new Array<Partition | undefined>(topic.partitions).fill(undefined)
    const found = new Set<number>()
    for (const { topicId, partition } of this.store.found) if (topicId === topic.topicId) found.add(partition)
    try {
      await inParallel(topic.partitions, async (partition) => {
        if (!topic.replicas[partition]!.includes(this.options.nodeId) && !found.has(partition)) return
        partitions[partition] = await this.#openPartition(topic, partition)
      })
    } catch (error) {
      for (const partition of partitions) {
        if (partition === undefined) continue
        this.options.groups.remove(partition.key)
        partition.close({ code: 'STORAGE_FAILED', detail: 'the topic could not be opened' })
      }
      throw error
    }
    this.#topics.set(topic.topicId, partitions)
  }

  /** Opens what of a topic is to be here and is not yet. @throws StorageError; what could be opened stays. */
  async extendTopic(topic: TopicDefinition): Promise<void> {
    const partitions = this.#topics.get(topic.topicId)
    if (partitions === undefined) return
    while (partitions.length < topic.partitions) partitions.push(undefined)
    await inParallel(topic.partitions, async (partition) => {
      if (partitions[partition] !== undefined || !topic.replicas[partition]!.includes(this.options.nodeId)) return
      partitions[partition] = await this.#openPartition(topic, partition)
    })
  }

  /** The replica is no part of its group any more. What this node has voted stays known. @throws StorageError. */
  async dropReplica(key: LogKey, reason: Refusal): Promise<void> {
    const partitions = this.#topics.get(key.topicId)
    const partition = partitions?.[key.partition]
    if (partitions === undefined || partition === undefined) return
    partitions[key.partition] = undefined
    this.options.groups.remove(key)
    partition.close(reason)
    await this.options.store.drop(key)
    this.options.onReplicaDropped(key)
  }

  async #openPartition(topic: TopicDefinition, number: number): Promise<Partition> {
    const { environment, store, metrics, groups, leaders, nodeId } = this.options
    const { clock, memory } = environment
    const { topicId, durability, codecs } = topic
    const state = new PartitionState()
    const groupState = new GroupState(state)
    const { configurations } = groupState
    const log = await store.open({ topicId, partition: number, lane: 0 }, groupState)
    const founders = topic.founders[number]!
    const isSole = isSoleReplica({ log, configurations, founders }, nodeId)
    // Where this copy is to be the only one the others may be gone: what stands behind the damage is not theirs to give.
    const isLastCopy = topic.replicas[number]!.every((kept) => kept === nodeId)
    if (!isSole && !isLastCopy) await cutDamage(log)
    // What recovery found counts once it is flushed again.
    if (log.flushedIndex < log.filled.index && log.failure === null) await log.flush()
    const partition = new Partition({
      log,
      state,
      nodeId,
      wasSole: isSole,
      knownRoute: () => leaders.route(topicId, number),
      onLeadership: ({ route, leads }) => {
        if (leads) leaders.learn([{ topicId, partition: number, route }])
      },
      durability,
      codecs,
      retention: this.#retentionOf(topic),
      clock,
      memory,
      metrics,
    })
    const mode = durability === 'flushed' ? 'flush' : 'write'
    const group = await groups.add({ key: log.key, log, configurations, founders, mode, owner: partition })
    partition.join(group)
    group.start()
    await partition.opened()
    return partition
  }

  /** One for all partitions of the topic, so that it can be changed while they are open. */
  #retentionOf({ topicId, retentionMs, retentionBytes }: TopicDefinition): Retention {
    const known = this.#retention.get(topicId) ?? { retentionMs, retentionBytes }
    this.#retention.set(topicId, known)
    return known
  }

  /** The topic keeps more or less from now on. */
  setRetention(topicId: number, { retentionMs, retentionBytes }: Retention): void {
    const known = this.#retention.get(topicId)
    if (known !== undefined) Object.assign(known, { retentionMs, retentionBytes })
  }

  /** Closes the partitions of a topic and frees their logs. Harmless when repeated after an interruption. */
  async dropTopic(topic: TopicDefinition, reason: Refusal): Promise<void> {
    const partitions = this.#topics.get(topic.topicId) ?? []
    this.#topics.delete(topic.topicId)
    this.#retention.delete(topic.topicId)
    for (const partition of partitions) {
      if (partition === undefined) continue
      this.options.groups.remove(partition.key)
      partition.close(reason)
    }
    await inParallel(topic.partitions, (partition) => this.#drop({ topicId: topic.topicId, partition, lane: 0 }))
  }

  async #drop(key: LogKey): Promise<void> {
    await this.options.store.drop(key)
    await this.options.store.votes.forget(key)
  }

  /** Drops logs that were found and whose topic is known to be deleted. @returns how many. */
  async dropFound(isDeleted: (topicId: number) => boolean): Promise<number> {
    const deleted = this.options.store.found.filter(
      ({ topicId }) => topicId !== METADATA_KEY.topicId && isDeleted(topicId),
    )
    await inParallel(deleted.length, (at) => this.#drop(deleted[at]!))
    return deleted.length
  }

  /**
   * Undefined when there is no such topic here.
   * @throws ProtocolError UNKNOWN_PARTITION, UNKNOWN_LANE; NOT_LEADER where this node has no replica.
   */
  partition(topicId: number, partition: number, lane: number): Partition | undefined {
    const partitions = this.#topics.get(topicId)
    if (partitions === undefined) return undefined
    if (partition >= partitions.length) {
      throw new ProtocolError('UNKNOWN_PARTITION', `partition ${partition} of a topic with ${partitions.length}`)
    }
    if (lane !== 0) throw new ProtocolError('UNKNOWN_LANE', `lane ${lane}`)
    const found = partitions[partition]
    if (found === undefined) throw new ProtocolError('NOT_LEADER', 'this node has no replica of the partition')
    return found
  }

  hasTopic(topicId: number): boolean {
    return this.#topics.has(topicId)
  }

  /** Who leads a partition as far as this node knows. */
  routeOf(topicId: number, partition: number): Route {
    return this.#topics.get(topicId)?.[partition]?.route ?? this.options.leaders.route(topicId, partition)
  }

  /** Undefined where this node has none. */
  replica(topicId: number, partition: number): Partition | undefined {
    return this.#topics.get(topicId)?.[partition]
  }

  /** The replicas of a topic that are here. */
  partitionsOf(topicId: number): readonly Partition[] {
    return (this.#topics.get(topicId) ?? []).filter((partition) => partition !== undefined)
  }

  *partitions(): Iterable<Partition> {
    for (const topicId of this.#topics.keys()) yield* this.partitionsOf(topicId)
  }

  get partitionCount(): number {
    let count = 0
    for (const _partition of this.partitions()) count++
    return count
  }

  /** Logs that recovery found and no topic claimed. */
  unknownLogs(): readonly LogKey[] {
    const isMetadata = (key: LogKey): boolean => key.topicId === METADATA_KEY.topicId
    const unknown = this.options.store.found.filter((key) => !this.#topics.has(key.topicId) && !isMetadata(key))
    this.options.metrics.unknownLogs = unknown.length
    return unknown
  }

  /** A topic was heard of: logs that recovery found may be its own. */
  topicHeardOf(): void {
    if (this.options.metrics.unknownLogs > 0) this.unknownLogs()
  }

  /** Lets batches go that have waited for room until their time was over. */
  dropExpired(): void {
    for (const partition of this.partitions()) if (partition.hasWaiting) partition.dropExpired()
  }

  /** Refuses what is pending and everything that comes. */
  close(reason: Refusal): void {
    for (const partition of this.partitions()) partition.close(reason)
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
