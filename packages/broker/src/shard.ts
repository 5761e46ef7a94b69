// What one core owns: its partitions and the memory for frames. A broker has one shard today; nothing in it is
// shared with another, so that more can come.
import { BATCH_HEADER_BYTES, isReservedTopicName, LOG_PART_BYTES, ProtocolError, type Route } from '@millrace/protocol'
import type { LeaderTable } from './cluster/leader-table.js'
import type { TopicDefinition } from './cluster/metadata-command.js'
import { METADATA_KEY } from './cluster/metadata-log.js'
import { DiskError, type Environment } from './environment.js'
import { MAX_CONCURRENT_OPENS, OPENING_TURN_MS } from './limits.js'
import { Metrics } from './metrics.js'
import type { Retention } from './partition/log-start-proposal.js'
import { Partition } from './partition/partition.js'
import { PartitionState } from './partition/partition-state.js'
import type { Refusal } from './partition/pending-batch.js'
import { cutDamage } from './replication/cut-damage.js'
import type { GroupConfigurations } from './replication/group-configurations.js'
import { GroupState } from './replication/group-state.js'
import { type Groups, isSoleReplica } from './replication/groups.js'
import type { ReplicaGroup } from './replication/replica-group.js'
import { keyText } from './storage/group-envelope.js'
import { FIRST_LOG_START } from './storage/log-start.js'
import { type LogKey, type LogStore, type PartitionLog, StorageError } from './storage/log-store.js'

export interface ShardOptions {
  readonly environment: Environment
  readonly store: LogStore
  readonly metrics: Metrics
  readonly groups: Groups
  readonly leaders: LeaderTable
  readonly nodeId: number
  /** A replica is about to take part in its group. */
  readonly onReplica: (topic: TopicDefinition, partition: Partition) => void
  /** The log of a replica that has moved away is gone. */
  readonly onReplicaDropped: (key: LogKey) => void
}

interface OpenedLog {
  readonly log: PartitionLog
  readonly state: PartitionState
  readonly configurations: GroupConfigurations
}

/** A replica that this node should have and does not serve. */
export interface LackingReplica {
  readonly key: LogKey
  readonly reason: string
  /** It is open, and its log damaged; otherwise it could not be opened. */
  readonly isDamaged: boolean
}

/** By partition; undefined where other nodes have all replicas. */
type Replicas = (Partition | undefined)[]

export class Shard {
  readonly #topics = new Map<number, Replicas>()
  readonly #retention = new Map<number, Retention>()
  /** Logs that the store has opened: what their replicas are made of, again if need be. */
  readonly #opened = new Map<string, OpenedLog>()
  readonly #unopened = new Map<string, LackingReplica>()
  /** Topics that only brokers write to; what they write is not counted as produced. */
  readonly #internal = new Set<number>()
  readonly #internalMetrics = new Metrics()

  constructor(private readonly options: ShardOptions) {}

  get nodeId(): number {
    return this.options.nodeId
  }

  get store(): LogStore {
    return this.options.store
  }

  /**
   * Opens the logs of the partitions that have a replica here, or are to have one. One that is to move away and was found
   * counts in its group until that does without it.
   * @param mayLack the topic is there also without a replica that cannot be opened, which is tried again; otherwise none
   * stays open then. @throws StorageError, DiskError.
   */
  async openTopic(topic: TopicDefinition, mayLack: boolean): Promise<void> {
    const partitions = new Array<Partition | undefined>(topic.partitions).fill(undefined)
    const found = new Set<number>()
    if (isReservedTopicName(topic.name)) this.#internal.add(topic.topicId)
    for (const { topicId, partition } of this.store.found) if (topicId === topic.topicId) found.add(partition)
    try {
      await this.#inParallel(topic.partitions, async (partition) => {
        if (!topic.replicas[partition]!.includes(this.options.nodeId) && !found.has(partition)) return
        const opening = this.#openPartition(topic, partition)
        partitions[partition] = await (mayLack ? this.#noted(topic, partition, opening) : opening)
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

  /** What cannot be opened is noted: it is tried again. */
  async #noted(topic: TopicDefinition, partition: number, opening: Promise<Partition>): Promise<Partition | undefined> {
    const key = { topicId: topic.topicId, partition, lane: 0 }
    try {
      const opened = await opening
      if (this.#unopened.delete(keyText(key))) {
        this.options.environment.log.info({ ...key }, 'a replica that could not be opened is open now')
      }
      return opened
    } catch (cause) {
      if (!(cause instanceof StorageError || cause instanceof DiskError)) throw cause
      const isNews = this.#unopened.get(keyText(key))?.reason !== cause.message
      this.#unopened.set(keyText(key), { key, reason: cause.message, isDamaged: false })
      if (isNews) {
        const fields = { topic: topic.name, partition, cause }
        this.options.environment.log.error(fields, 'a replica could not be opened here; it is tried again')
      }
      return undefined
    }
  }

  /** Replicas that should be here and do not do their part. */
  *lacking(): Iterable<LackingReplica> {
    yield* this.#unopened.values()
    for (const { key, group } of this.partitions()) {
      const { failure } = group.log
      if (failure !== null) yield { key, reason: failure.message, isDamaged: failure.code === 'DAMAGED' }
    }
  }

  /** Opens what of a topic is to be here and is not yet; what cannot be opened is noted. */
  async extendTopic(topic: TopicDefinition): Promise<void> {
    const partitions = this.#topics.get(topic.topicId)
    if (partitions === undefined) return
    while (partitions.length < topic.partitions) partitions.push(undefined)
    await this.#inParallel(topic.partitions, async (partition) => {
      if (partitions[partition] !== undefined) return
      const isWanted = topic.replicas[partition]!.includes(this.options.nodeId)
      if (!isWanted && !this.#isFoundUnopened(topic.topicId, partition)) return
      partitions[partition] = await this.#noted(topic, partition, this.#openPartition(topic, partition))
    })
  }

  /** Whether there is a log of a replica that is to move away, and could not be opened. */
  #isFoundUnopened(topicId: number, partition: number): boolean {
    const name = keyText({ topicId, partition, lane: 0 })
    if (!this.#unopened.has(name)) return false
    const isFound = this.store.found.some((key) => keyText(key) === name)
    if (!isFound && !this.#opened.has(name)) this.#unopened.delete(name)
    return this.#unopened.has(name)
  }

  /**
   * Gives up a log that is damaged beyond repair: the replica begins anew, known to have lost what it had, and gets
   * everything from the others, who are known to have it.
   */
  async renewReplica(topic: TopicDefinition, number: number): Promise<void> {
    const partitions = this.#topics.get(topic.topicId)
    const damaged = partitions?.[number]
    if (partitions === undefined || damaged?.group.log.failure?.code !== 'DAMAGED') return
    const { key, group } = damaged
    this.options.groups.remove(key)
    damaged.close({ code: 'NOT_LEADER', detail: 'the replica begins anew' })
    partitions[number] = undefined
    const opened = this.#opened.get(keyText(key))!
    const renewed = group.log.installStart(FIRST_LOG_START, null).then(() => this.#join(topic, number, opened))
    partitions[number] = await this.#noted(topic, number, renewed)
  }

  /** The replica is no part of its group any more. What this node has voted stays known. @throws StorageError. */
  async dropReplica(key: LogKey, reason: Refusal): Promise<void> {
    const partitions = this.#topics.get(key.topicId)
    const partition = partitions?.[key.partition]
    if (partitions === undefined || partition === undefined) return
    partitions[key.partition] = undefined
    this.options.groups.remove(key)
    partition.close(reason)
    this.#opened.delete(keyText(key))
    await this.options.store.drop(key)
    this.options.onReplicaDropped(key)
  }

  async #openPartition(topic: TopicDefinition, number: number): Promise<Partition> {
    const key = { topicId: topic.topicId, partition: number, lane: 0 }
    return this.#join(topic, number, this.#opened.get(keyText(key)) ?? (await this.#openLog(key)))
  }

  async #openLog(key: LogKey): Promise<OpenedLog> {
    const state = new PartitionState()
    const groupState = new GroupState(state)
    const log = await this.options.store.open(key, groupState)
    const opened = { log, state, configurations: groupState.configurations }
    this.#opened.set(keyText(key), opened)
    return opened
  }

  async #join(topic: TopicDefinition, number: number, opened: OpenedLog): Promise<Partition> {
    const { environment, metrics, groups, leaders, nodeId, onReplica } = this.options
    const { clock, memory } = environment
    const { topicId, durability, codecs } = topic
    const { log, state, configurations } = opened
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
      metrics: this.#internal.has(topicId) ? this.#internalMetrics : metrics,
    })
    const mode = durability === 'flushed' ? 'flush' : 'write'
    const group = await groups.add({ key: log.key, log, configurations, founders, mode, owner: partition })
    partition.join(group)
    onReplica(topic, partition)
    startWithRoom(group)
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
    this.#internal.delete(topic.topicId)
    for (const partition of partitions) {
      if (partition === undefined) continue
      this.options.groups.remove(partition.key)
      partition.close(reason)
    }
    await this.#inParallel(topic.partitions, (partition) => this.#drop({ topicId: topic.topicId, partition, lane: 0 }))
  }

  async #drop(key: LogKey): Promise<void> {
    this.#opened.delete(keyText(key))
    this.#unopened.delete(keyText(key))
    await this.options.store.drop(key)
    await this.options.store.votes.forget(key)
  }

  /** Drops logs that were found and whose topic is known to be deleted. @returns how many. */
  async dropFound(isDeleted: (topicId: number) => boolean): Promise<number> {
    const deleted = this.options.store.found.filter(
      ({ topicId }) => topicId !== METADATA_KEY.topicId && isDeleted(topicId),
    )
    await this.#inParallel(deleted.length, (at) => this.#drop(deleted[at]!))
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

  /** Whether only brokers write to the topic. */
  isInternal(topicId: number): boolean {
    return this.#internal.has(topicId)
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

  /**
   * Runs `work` for 0 to `count` - 1, many at a time; waits for all that were begun before it throws. What thousands of them
   * do without waiting for anything is spread over turns, so that peers and clients are heard meanwhile.
   */
  async #inParallel(count: number, work: (at: number) => Promise<void>): Promise<void> {
    const { clock } = this.options.environment
    let next = 0
    let turnBeganMs = clock.monotonicMs()
    let nextTurn: Promise<void> | null = null
    const worker = async (): Promise<void> => {
      while (next < count) {
        await work(next++)
        if (nextTurn === null && clock.monotonicMs() - turnBeganMs < OPENING_TURN_MS) continue
        nextTurn ??= new Promise((resolve) => {
          clock.defer(() => {
            nextTurn = null
            turnBeganMs = clock.monotonicMs()
            resolve()
          })
        })
        await nextTurn
      }
    }
    const workers = Array.from({ length: Math.min(count, MAX_CONCURRENT_OPENS) }, worker)
    const results = await Promise.allSettled(workers)
    for (const result of results) if (result.status === 'rejected') throw result.reason
  }
}

/**
 * A replica that is new counts time from when its log has a slot: thousands that are made together would all be elected at
 * once, and each beat for itself until it can begin its term.
 */
function startWithRoom(group: ReplicaGroup): void {
  const { log } = group
  if (log.bytesOnDisk > 0 || log.hasRoom(LOG_PART_BYTES + BATCH_HEADER_BYTES, true)) group.start()
  else log.onRoom(() => startWithRoom(group))
}
