// Who belongs to the groups of partitions, put together: what this node does for those it leads, and for those it leaves.
import type { Clock } from '../environment.js'
import { count, flag } from '../fields.js'
import { ASK_NODE_TIMEOUT_MS, MOVES_PER_ANSWER } from '../limits.js'
import type { Fields } from '../message-pack.js'
import type { Configuration } from '../raft/raft-types.js'
import { isBug } from '../server/failures.js'
import type { Shard } from '../shard.js'
import { keyText } from '../storage/group-envelope.js'
import type { LogKey } from '../storage/log-store.js'
import type { LeaderTable } from './leader-table.js'
import type { PartitionLists, Testimony } from './leaderless.js'
import { MembershipDriver } from './membership-driver.js'
import type { MetadataLeader } from './metadata-leader.js'
import type { MetadataLog } from './metadata-log.js'
import type { NodePeers } from './no-peers.js'
import { partitionMoves } from './partition-moves.js'
import type { LedPartitions } from './placement-survey.js'
import { type MembershipAnswer, ReplicaRemoval } from './replica-removal.js'
import { ReplicaRetry } from './replica-retry.js'
import type { Topics } from './topics.js'

interface MembershipParts {
  readonly clock: Clock
  readonly metadata: MetadataLog
  readonly metadataLeader: MetadataLeader
  readonly peers: NodePeers
  readonly leaders: LeaderTable
  readonly shard: Shard
  readonly topics: Topics
  /** Whether everything of a partition is to be had from other nodes than this one. */
  readonly haveOthersAll: (key: LogKey) => Promise<boolean>
  readonly report: (error: unknown) => void
}

export class PartitionMembership {
  readonly #driver: MembershipDriver
  readonly #removal: ReplicaRemoval
  readonly #retry: ReplicaRetry

  constructor({
    clock,
    metadata,
    metadataLeader,
    peers,
    leaders,
    shard,
    topics,
    haveOthersAll,
    report,
  }: MembershipParts) {
    const { nodeId } = shard
    const common = { nodeId, clock, report, partitions: () => shard.partitions(), targetOf: targetsOf(metadata) }
    this.#driver = new MembershipDriver({
      ...common,
      stateOf: (node) => metadata.state.node(node)?.state ?? 'active',
      isConnected: (node) => peers.isConnected(node),
    })
    this.#removal = new ReplicaRemoval({
      ...common,
      isBug,
      leaderOf: ({ topicId, partition }) => leaders.route(topicId, partition).nodeId,
      ask: (node, key) => askWhetherOut(metadataLeader, node, key, nodeId),
      remove: (key, isUnchanged) => topics.removeReplica(key, isUnchanged),
    })
    this.#retry = new ReplicaRetry({
      clock,
      report,
      lacking: () => shard.lacking(),
      reopen: (key) => topics.reopen(key),
      haveOthersAll,
      renew: (key) => topics.renew(key),
    })
  }

  start(): void {
    this.#driver.start()
    this.#removal.start()
    this.#retry.start()
  }

  stop(): void {
    this.#driver.stop()
    this.#removal.stop()
    this.#retry.stop()
  }
}

const targetsOf =
  ({ state }: MetadataLog) =>
  (topicId: number, partition: number): readonly number[] | undefined =>
    state.topic(topicId)?.replicas[partition]

async function askWhetherOut(
  leader: MetadataLeader,
  to: number,
  { topicId, partition }: LogKey,
  nodeId: number,
): Promise<MembershipAnswer> {
  const request = { topicId, partition, nodeId }
  const answer = (await leader.askNode(to, 'doesWithout', request, ASK_NODE_TIMEOUT_MS)) as Fields
  return { doesWithout: flag(answer, 'doesWithout'), term: count(answer, 'term') }
}

/** Whether the group of a partition, if this node leads it, does without another node. */
export function doesWithout(shard: Shard, fields: Fields): MembershipAnswer {
  const partition = count(fields, 'partition')
  const found = shard.partitionsOf(count(fields, 'topicId')).find(({ key }) => key.partition === partition)
  const isOut = found?.group.membership.doesWithout(count(fields, 'nodeId')) ?? false
  return { doesWithout: isOut, term: found?.group.term ?? 0 }
}

/** The partitions that this node leads, and those of them that are on their way. @param skip moves told of already. */
export function ledPartitions(shard: Shard, metadata: MetadataLog, skip: number): LedPartitions {
  const lists = new Map<number, number[]>()
  for (const { leads, key } of shard.partitions()) {
    if (leads) lists.set(key.topicId, [...(lists.get(key.topicId) ?? []), key.partition])
  }
  const all = partitionMoves(shard.partitions(), targetsOf(metadata))
  const moves = all.slice(skip, skip + MOVES_PER_ANSWER)
  return { led: [...lists], moves, hasMore: all.length > skip + moves.length }
}

/** What this node knows of partitions that nobody leads. */
export function testify(shard: Shard, metadata: MetadataLog, partitions: PartitionLists): readonly Testimony[] {
  const targetOf = targetsOf(metadata)
  const found = new Set(shard.store.found.map(keyText))
  const testimonies: Testimony[] = []
  for (const [topicId, list] of partitions) {
    if (!shard.hasTopic(topicId)) continue
    for (const partition of list) {
      const key = { topicId, partition, lane: 0 }
      const replica = shard.replica(topicId, partition)
      if (replica !== undefined) {
        const { core, log } = replica.group
        const { term, index } = log.filled
        const { configuration } = core
        const isRepairing = core.isRepairing || log.failure !== null
        testimonies.push({ topicId, partition, isHere: true, isRepairing, term, index, ...configuration })
      } else if (!found.has(keyText(key)) && targetOf(topicId, partition)?.includes(shard.nodeId) === false) {
        testimonies.push({ topicId, partition, isHere: false, isRepairing: false, term: 0, index: 0, ...NOBODY })
      }
    }
  }
  return testimonies
}

const NOBODY: Configuration = { voters: [], outgoing: [], learners: [] }
