// Topics as their owner runs them: created and deleted through the metadata log, opened and closed on the shard.
import { checkTopicName, isReservedTopicName, ProtocolError } from '@millrace/protocol'
import type { Logger } from '../environment.js'
import type { Refusal } from '../partition/pending-batch.js'
import type { Shard } from '../shard.js'
import { type LogKey, StorageError } from '../storage/log-store.js'
import { refuseToReplace } from '../storage/missing-log.js'
import type { LeaderTable } from './leader-table.js'
import type { MapPublisher } from './map-publisher.js'
import type { MetadataCommand, TopicDefinition } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import { checkedRequest, newTopic, type TopicRequest } from './new-topic.js'
import { placeableNodes } from './placement.js'

export interface TopicsOptions {
  readonly metadata: MetadataLog
  readonly shard: Shard
  readonly map: MapPublisher
  readonly leaders: LeaderTable
  /** Nodes of the cluster: topics are placed on them before they have registered. */
  readonly knownNodes: () => readonly number[]
  readonly log: Logger
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

interface Opening {
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

export class Topics {
  readonly #options: TopicsOptions
  /** What was committed is carried out one after the other. */
  #work: Promise<void> = Promise.resolve()
  /** The topics that were there before this start are being opened. */
  #isStarting = true
  /** Creations and deletions that somebody here waits for, by topic id. */
  readonly #opening = new Map<number, Opening>()
  readonly #dropped = new Map<number, Opening>()

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
    if (this.#options.metadata.state.topic(topicId) !== undefined) {
      return { code: 'NOT_LEADER', detail: `topic ${topicId} is being opened` }
    }
    return this.#isDeleted(topicId)
      ? { code: 'TOPIC_DELETED', detail: `topic ${topicId} was deleted` }
      : { code: 'UNKNOWN_TOPIC', detail: `there is no topic with id ${topicId}` }
  }

  #isDeleted(topicId: number): boolean {
    const { state } = this.#options.metadata
    return topicId > 0 && topicId < state.nextTopicId && state.topic(topicId) === undefined
  }

  /** Opens every topic of the metadata, and from now on every new one; finishes deletions. @throws StorageError. */
  async open(): Promise<void> {
    const { metadata, shard, map, log, knownNodes } = this.#options
    const { version } = metadata
    metadata.onApplied = (command, version) => this.#applied(command, version)
    await this.#queue(async () => {
      for (const topic of metadata.state.dropping()) await this.#finishDrop(topic)
      await shard.dropFound((topicId) => this.#isDeleted(topicId))
      // What others have too can come later; a broker that has all there is does not begin without a part of it.
      const mayLack = knownNodes().length > 1
      for (const topic of metadata.state.topics()) await this.#open(topic, metadata.version, mayLack)
    })
    // What came before is part of the map, also where it was about no topic.
    map.advanceTo(version)
    this.#isStarting = false
    const unknown = shard.unknownLogs()
    if (unknown.length === 0) return
    const fields = { logs: unknown.length, first: unknown[0] }
    // What was committed last is known to a member only when a leader tells it so: the topics may be created yet.
    if (knownNodes().length > 1) log.info(fields, 'logs on disk belong to topics that this node has yet to hear of')
    else log.error(fields, 'logs on disk belong to no topic the metadata knows; they are kept and not served')
  }

  #queue(work: () => Promise<void>): Promise<void> {
    const done = this.#work.then(work)
    // Whoever asked hears of a failure by `done`; what comes next does not depend on it.
    this.#work = done.catch(() => {})
    return done
  }

  #applied(command: MetadataCommand, version: number): void {
    switch (command.kind) {
      case 'createTopic':
        void this.#queue(() => this.#created(command.topic, version))
        return
      case 'deleteTopic': {
        // When its turn comes the state may have forgotten the topic: for the leader it is dropped once the leader has done so.
        const topic = this.#options.metadata.state.dropping().find(({ topicId }) => topicId === command.topicId)
        void this.#queue(() => this.#deleted(command.topicId, topic, version))
        return
      }
      case 'addPartitions':
        void this.#queue(() => this.#changed(command.topicId, version))
        return
      case 'assignReplicas':
        for (const topicId of new Set(command.assignments.map((assignment) => assignment.topicId))) {
          void this.#queue(() => this.#changed(topicId, version))
        }
        // Also where nothing was assigned anew.
        void this.#queue(async () => this.#options.map.advanceTo(version))
        return
      case 'alterTopic':
        void this.#queue(async () => {
          this.#options.shard.setRetention(command.topicId, command)
          this.#options.map.advanceTo(version)
        })
        return
      default:
        void this.#queue(async () => this.#options.map.advanceTo(version))
        return
    }
  }

  /** A topic has more partitions, or other nodes are to have its replicas: those that come to this one are opened. */
  async #changed(topicId: number, version: number): Promise<void> {
    const { metadata, shard, map, leaders, report } = this.#options
    const topic = metadata.state.topic(topicId)
    if (topic === undefined || !shard.hasTopic(topicId)) return map.advanceTo(version)
    const hasMore = topic.partitions > leaders.routes(topicId).length
    leaders.addTopic(topicId, topic.partitions)
    await shard.extendTopic(topic).catch(report)
    if (hasMore) map.putTopic(topic, leaders.routes(topicId), version)
    else map.advanceTo(version)
  }

  /** Tries once more to open what should be here. Always resolves; what cannot be opened still is tried again. */
  reopen({ topicId }: LogKey): Promise<void> {
    const { metadata, shard, report } = this.#options
    return this.#queue(async () => {
      const topic = metadata.state.topic(topicId)
      if (topic !== undefined) await shard.extendTopic(topic).catch(report)
    })
  }

  /** A replica that is damaged beyond repair begins anew: others are known to have everything. Always resolves. */
  renew({ topicId, partition }: LogKey): Promise<void> {
    const { metadata, shard, log, report } = this.#options
    return this.#queue(async () => {
      const topic = metadata.state.topic(topicId)
      if (topic === undefined) return
      log.warn({ topic: topic.name, partition }, 'a replica is damaged beyond repair: it begins anew, from the others')
      await shard.renewReplica(topic, partition).catch(report)
    })
  }

  /**
   * The group of a partition is known to do without this node: its log is given up, unless the node is to have one again, or
   * its replica has heard of something since. Always resolves.
   */
  removeReplica(key: LogKey, isUnchanged: () => boolean): Promise<void> {
    const { metadata, shard, log, report } = this.#options
    return this.#queue(async () => {
      const target = metadata.state.topic(key.topicId)?.replicas[key.partition]
      if (target === undefined || target.includes(shard.nodeId) || !isUnchanged()) return
      try {
        await shard.dropReplica(key, { code: 'NOT_LEADER', detail: 'the partition has moved to other nodes' })
      } catch (cause) {
        if (cause instanceof StorageError) log.error({ ...key, cause }, 'a replica that has moved could not be dropped')
        else report(cause)
      }
    })
  }

  /** Always resolves: whoever waits for the topic here hears of a failure, and everybody else of a route elsewhere. */
  async #created(topic: TopicDefinition, version: number): Promise<void> {
    const { topicId, name } = topic
    const waiter = this.#opening.get(topicId)
    this.#opening.delete(topicId)
    try {
      const { metadata, shard } = this.#options
      const isWanted = metadata.state.topic(topicId) !== undefined && !shard.hasTopic(topicId)
      // Whoever creates it hears of a failure, and takes it back.
      if (isWanted) await this.#open(topic, version, waiter === undefined)
      shard.topicHeardOf()
      waiter?.resolve()
    } catch (cause) {
      if (waiter !== undefined) waiter.reject(cause)
      else if (cause instanceof StorageError) {
        this.#options.log.error({ topic: name, cause }, 'the replicas of a new topic could not be opened here')
      } else this.#options.report(cause)
    }
    this.#options.map.advanceTo(version)
  }

  async #open(topic: TopicDefinition, version: number, mayLack: boolean): Promise<void> {
    const { shard, map, leaders } = this.#options
    this.#refuseToReplace(topic)
    leaders.addTopic(topic.topicId, topic.partitions)
    await shard.openTopic(topic, mayLack)
    map.putTopic(topic, leaders.routes(topic.topicId), version)
  }

  /** A log that nobody else has must not begin anew because it cannot be found. */
  #refuseToReplace({ topicId, replicas }: TopicDefinition): void {
    if (!this.#isStarting) return
    for (const [partition, nodes] of replicas.entries()) {
      if (nodes.length === 1 && nodes[0] === this.#options.shard.nodeId) {
        refuseToReplace(this.#options.shard.store, { topicId, partition, lane: 0 })
      }
    }
  }

  async #deleted(topicId: number, topic: TopicDefinition | undefined, version: number): Promise<void> {
    const { map, leaders } = this.#options
    map.removeTopic(topicId, version)
    leaders.removeTopic(topicId)
    const waiter = this.#dropped.get(topicId)
    this.#dropped.delete(topicId)
    try {
      if (topic !== undefined) await this.#drop(topic)
      waiter?.resolve()
    } catch (cause) {
      if (waiter !== undefined) waiter.reject(cause)
      else if (cause instanceof StorageError) {
        this.#options.log.error({ topicId, cause }, 'the logs of a deleted topic could not be dropped here')
      } else this.#options.report(cause)
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
   * Resolves once the topic is committed, and its replicas on this node, which leads the metadata, are open.
   * @throws ProtocolError TOPIC_EXISTS, INVALID_TOPIC_NAME, INVALID_CONFIG, NOT_LEADER; StorageError.
   */
  async create(request: TopicRequest): Promise<TopicDefinition> {
    if (isReservedTopicName(request.name)) {
      throw new ProtocolError('INVALID_TOPIC_NAME', `${request.name}: names that begin with __ are the brokers' own`)
    }
    return this.#create(request)
  }

  /**
   * A topic of the brokers' own, which is there already or is made now. It is kept for ever.
   * @throws ProtocolError INVALID_CONFIG, NOT_LEADER; StorageError.
   */
  async createInternal(name: string, partitions: number): Promise<TopicDefinition> {
    const { metadata } = this.#options
    const known = metadata.state.topicByName(name)
    if (known !== undefined) return known
    try {
      const kept = { retentionMs: null, retentionBytes: null }
      return await this.#create({ name, partitions, replicas: null, durability: 'flushed', codecs: ['none'], ...kept })
    } catch (error) {
      // Somebody else was sooner.
      const made = metadata.state.topicByName(name)
      if (made === undefined || !(error instanceof ProtocolError) || error.code !== 'TOPIC_EXISTS') throw error
      return made
    }
  }

  async #create(request: TopicRequest): Promise<TopicDefinition> {
    const { metadata, knownNodes } = this.#options
    const wanted = checkedRequest(request, placeableNodes(metadata.state.nodes(), knownNodes()).length)
    let opened: Promise<void> = Promise.resolve()
    const command = await metadata.propose((state) => {
      const topic = newTopic(wanted, knownNodes(), state)
      opened = this.#wait(this.#opening, topic.topicId)
      return { kind: 'createTopic', topic }
    })
    if (command.kind !== 'createTopic') throw new ProtocolError('INTERNAL', 'another command was applied')
    const { topic } = command
    try {
      await opened
    } catch (error) {
      // A topic that cannot be written to is taken back, so that a refusal has changed nothing.
      await this.#delete(topic)
      throw error
    }
    return topic
  }

  /**
   * Resolves once the topic is gone from the metadata and its logs on this node are dropped.
   * @param topicId which of the topics that had this name one after the other is meant; null for the present one.
   * @throws ProtocolError UNKNOWN_TOPIC.
   */
  async delete(name: string, topicId: number | null): Promise<TopicDefinition> {
    const topic = this.byName(name)
    if (topicId !== null && topicId !== topic.topicId) {
      throw new ProtocolError('UNKNOWN_TOPIC', `topic ${name} was deleted already, and made again since`)
    }
    await this.#delete(topic)
    return topic
  }

  async #delete({ topicId, name }: TopicDefinition): Promise<void> {
    const { metadata } = this.#options
    let dropped: Promise<void> = Promise.resolve()
    await metadata.propose((state) => {
      if (state.topic(topicId) === undefined) throw new ProtocolError('UNKNOWN_TOPIC', `there is no topic ${name}`)
      dropped = this.#wait(this.#dropped, topicId)
      return { kind: 'deleteTopic', topicId }
    })
    await dropped
  }

  #wait(waiters: Map<number, Opening>, topicId: number): Promise<void> {
    const promise = new Promise<void>((resolve, reject) => waiters.set(topicId, { resolve, reject }))
    // Whoever proposes may fail before anybody looks at this.
    promise.catch(() => {})
    return promise
  }

  async #drop(topic: TopicDefinition): Promise<void> {
    const { metadata, shard } = this.#options
    await shard.dropTopic(topic, { code: 'TOPIC_DELETED', detail: `topic ${topic.name} was deleted` })
    // Members that are away find out by themselves; the state need not remember the topic for ever.
    if (metadata.leads) await metadata.propose(() => ({ kind: 'topicDropped', topicId: topic.topicId }))
  }
}
