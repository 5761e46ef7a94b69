// What this broker can tell of the cluster as a whole: it asks the others for what only they know.
import type { Environment } from '../environment.js'
import type { Identity } from '../identity.js'
import { ASK_NODE_TIMEOUT_MS, MEMBER_ALIVE_MS } from '../limits.js'
import type { Fields } from '../message-pack.js'
import { isBug } from '../server/failures.js'
import type { Shard } from '../shard.js'
import type { LogKey } from '../storage/log-store.js'
import type { BrokerLife } from './cluster-gossip.js'
import type { ClusterMembers } from './cluster-members.js'
import type { LeaderTable } from './leader-table.js'
import { areOthersWhole, type PartitionLists, type Testimony } from './leaderless.js'
import type { TopicDefinition } from './metadata-command.js'
import type { MetadataLeader } from './metadata-leader.js'
import type { MetadataLog } from './metadata-log.js'
import type { NodePeers } from './no-peers.js'
import { type NodeStatus, nodeStatus, type PartitionStatus, partitionStatus } from './operations.js'
import { ledPartitions, testify } from './partition-membership.js'
import { type LedPartitions, PlacementSurvey } from './placement-survey.js'

export interface ClusterViewOptions {
  readonly environment: Environment
  readonly identity: Identity
  readonly members: ClusterMembers
  readonly metadata: MetadataLog
  readonly metadataLeader: MetadataLeader
  readonly peers: NodePeers
  readonly leaders: LeaderTable
  readonly shard: Shard
}

/** How a node is: by what was heard of it on streams, and by gossip (`life`, for how long, and how busy it says it is). */
interface ShownLife {
  readonly alive: boolean
  readonly heardMsAgo: number | null
  readonly life: BrokerLife['state'] | null
  readonly lifeForMs: number | null
  readonly load: BrokerLife['load']
}

const REMOVED: ShownLife = { alive: false, heardMsAgo: null, life: null, lifeForMs: null, load: null }

export class ClusterView {
  /** How a node is, as gossip has it; null where that has not heard of it. */
  lifeOf: (nodeId: number) => BrokerLife | null = () => null
  readonly #options: ClusterViewOptions
  #touchedMs: number

  constructor(options: ClusterViewOptions) {
    this.#options = options
    this.#touchedMs = options.environment.clock.monotonicMs()
  }

  /** How long ago this broker was last in touch with whoever leads the metadata, in milliseconds. */
  get metadataAgeMs(): number {
    const { environment, metadata, peers } = this.#options
    const now = environment.clock.monotonicMs()
    if (metadata.leads) this.#touchedMs = now
    else if (metadata.leader !== 0) this.#touchedMs = Math.max(this.#touchedMs, peers.heardMs(metadata.leader))
    return Math.max(0, Math.round(now - this.#touchedMs))
  }

  /** The answer to `clusterStatus`. */
  async status(): Promise<Fields> {
    const { environment, identity, metadata, leaders, members, shard } = this.#options
    const others = this.#askEach<NodeStatus>('nodeStatus', {})
    const own = await nodeStatus(shard, environment.clock)
    const answers = [[identity.nodeId, own] as const, ...(await others)]
    const underReplicated = answers.reduce((sum, [, answer]) => sum + answer.underReplicated, 0)
    const lacking = answers.flatMap(([nodeId, answer]) => this.#lackingAt(nodeId, answer))
    const ledBy = leaders.ledBy()
    const nodes = members.list().map(({ nodeId, host, port }) => ({
      nodeId,
      host,
      port,
      ...this.#lifeOf(nodeId),
      partitionsLed: ledBy.get(nodeId) ?? 0,
    }))
    const dead = new Set(nodes.filter(({ alive }) => !alive).map(({ nodeId }) => nodeId))
    let leaderless = 0
    for (const [nodeId, count] of ledBy) if (nodeId === 0 || dead.has(nodeId)) leaderless += count
    const { leader, term, version } = metadata
    const { clusterId } = identity
    return { clusterId, nodes, metadata: { leader, term, version }, leaderless, underReplicated, lacking }
  }

  #lackingAt(nodeId: number, { lacking = [] }: Partial<NodeStatus>): readonly Fields[] {
    const { state } = this.#options.metadata
    return lacking.flatMap(({ topicId, partition, reason }) => {
      const topic = state.topic(topicId)
      return topic === undefined ? [] : [{ nodeId, topic: topic.name, partition, reason }]
    })
  }

  #lifeOf(nodeId: number): ShownLife {
    const { environment, identity, peers } = this.#options
    const life = this.lifeOf(nodeId)
    const shown = { life: life?.state ?? null, lifeForMs: life?.forMs ?? null, load: life?.load ?? null }
    if (nodeId === identity.nodeId) return { alive: true, heardMsAgo: 0, ...shown }
    const ago = environment.clock.monotonicMs() - peers.heardMs(nodeId)
    // Who is heard is not always able to answer, and who has left may have been heard a moment ago.
    const isGone = shown.life === 'dead' || shown.life === 'left'
    const heardMsAgo = Number.isFinite(ago) ? Math.round(ago) : null
    return { alive: ago < MEMBER_ALIVE_MS && !isGone, heardMsAgo, ...shown }
  }

  /** Every node that ever was, with what is to be on it. */
  async members(): Promise<readonly Fields[]> {
    const { members, metadata, leaders } = this.#options
    const [survey, ledBy] = [await this.survey(), leaders.ledBy()]
    const { voters, outgoing } = metadata.configuration
    const places = new Map(members.list().map((node) => [node.nodeId, node]))
    return metadata.state.nodes().map(({ nodeId, host, port, rack, shards, state }) => {
      const life = state === 'removed' ? REMOVED : this.#lifeOf(nodeId)
      return {
        nodeId,
        host: places.get(nodeId)?.host ?? host,
        port: places.get(nodeId)?.port ?? port,
        rack,
        shards,
        state,
        ...life,
        replicas: metadata.state.replicasOn(nodeId),
        partitionsLed: ledBy.get(nodeId) ?? 0,
        moving: survey.movingAt(nodeId) + (state === 'draining' ? survey.stuckAt(nodeId) : 0),
        votes: voters.includes(nodeId) || outgoing.includes(nodeId),
      }
    })
  }

  /** Which partitions are not yet where the metadata wants them, as those who lead them know, and which have no leader. */
  survey(): Promise<PlacementSurvey> {
    const { shard, metadata, identity } = this.#options
    // A leader that has yet to hear of an assignment would say that nothing is on its way.
    const { version } = metadata
    const { nodeId } = identity
    return PlacementSurvey.take(() => metadata.state.topics(), {
      ledPartitions: async (skip) => [
        [nodeId, ledPartitions(shard, metadata, skip)],
        ...(await this.#askEach<LedPartitions>('ledPartitions', { version, skip })),
      ],
      testimonies: async (partitions) => [
        [nodeId, testify(shard, metadata, partitions)],
        ...(await this.#askEach<readonly Testimony[]>('testify', { version, partitions })),
      ],
    })
  }

  /**
   * Whether everything that was ever committed to a partition is to be had from others than this node: somebody else leads it,
   * and most of its members say so; or all of them are there without this one.
   */
  async haveOthersAll({ topicId, partition }: LogKey): Promise<boolean> {
    const { metadataLeader, leaders, identity } = this.#options
    const { nodeId: leader } = leaders.route(topicId, partition)
    const isElsewhere = leader !== 0 && leader !== identity.nodeId
    if (isElsewhere) {
      const asked = metadataLeader.askNode(leader, 'confirmLeader', { topicId, partition }, ASK_NODE_TIMEOUT_MS)
      if ((await settledAnswer(asked)) !== null) return true
    }
    const partitions: PartitionLists = [[topicId, [partition]]]
    const answers = await this.#askEach<readonly Testimony[]>('testify', { partitions })
    const testimonies = answers.flatMap(([nodeId, [testimony]]) =>
      testimony === undefined ? [] : ([[nodeId, testimony]] as const),
    )
    return areOthersWhole(testimonies, identity.nodeId)
  }

  /** Leaders, replicas and bounds of the partitions of a topic; nulls where the leader did not answer. */
  async describePartitions({ topicId, partitions }: TopicDefinition): Promise<readonly Fields[]> {
    const { leaders, shard } = this.#options
    const others = await this.#askOthers<readonly PartitionStatus[]>('partitionStatus', { topicId })
    const byPartition = new Map<number, PartitionStatus>()
    for (const status of [partitionStatus(shard, topicId), ...others].flat()) {
      const known = byPartition.get(status.partition)
      if (known === undefined || status.term > known.term) byPartition.set(status.partition, status)
    }
    return Array.from({ length: partitions }, (_, partition) => {
      const { nodeId, shard: core, term } = leaders.route(topicId, partition)
      const status = byPartition.get(partition)
      return {
        partition,
        leader: nodeId,
        nodeId,
        shard: core,
        term,
        replicas: status?.replicas ?? [],
        logStartOffset: status?.logStartOffset ?? null,
        highWatermark: status?.highWatermark ?? null,
        bytesOnDisk: status?.bytesOnDisk ?? null,
      }
    })
  }

  /** The answers of all other members that give one in time. */
  async #askOthers<T>(operation: string, fields: Fields): Promise<T[]> {
    return (await this.#askEach<T>(operation, fields)).map(([, answer]) => answer)
  }

  async #askEach<T>(operation: string, fields: Fields): Promise<(readonly [nodeId: number, answer: T])[]> {
    const { members, peers, metadataLeader } = this.#options
    const ask = async (nodeId: number): Promise<readonly [number, T]> => [
      nodeId,
      (await metadataLeader.askNode(nodeId, operation, fields, ASK_NODE_TIMEOUT_MS)) as T,
    ]
    const asked = members.others.filter(({ nodeId }) => peers.isConnected(nodeId)).map(({ nodeId }) => ask(nodeId))
    // A broker that does not answer shows as missing in what is told.
    return (await Promise.all(asked.map(settledAnswer))).filter((answer) => answer !== null)
  }
}

/** Null when there was none. */
async function settledAnswer<T>(asked: Promise<T>): Promise<T | null> {
  try {
    return await asked
  } catch (error) {
    if (isBug(error)) throw error
    return null
  }
}
