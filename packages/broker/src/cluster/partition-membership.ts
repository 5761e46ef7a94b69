// Who belongs to the groups of partitions, put together: what this node does for those it leads, and for those it leaves.
import type { Clock } from '../environment.js'
import { count, flag } from '../fields.js'
import { ASK_NODE_TIMEOUT_MS } from '../limits.js'
import type { Fields } from '../message-pack.js'
import { isBug } from '../server/failures.js'
import type { Shard } from '../shard.js'
import type { LogKey } from '../storage/log-store.js'
import type { LeaderTable } from './leader-table.js'
import { MembershipDriver } from './membership-driver.js'
import type { MetadataLeader } from './metadata-leader.js'
import type { MetadataLog } from './metadata-log.js'
import type { NodePeers } from './no-peers.js'
import { type PartitionMove, partitionMoves } from './partition-moves.js'
import { type MembershipAnswer, ReplicaRemoval } from './replica-removal.js'
import type { Topics } from './topics.js'

interface MembershipParts {
  readonly clock: Clock
  readonly metadata: MetadataLog
  readonly metadataLeader: MetadataLeader
  readonly peers: NodePeers
  readonly leaders: LeaderTable
  readonly shard: Shard
  readonly topics: Topics
  readonly report: (error: unknown) => void
}

export class PartitionMembership {
  readonly #driver: MembershipDriver
  readonly #removal: ReplicaRemoval

  constructor({ clock, metadata, metadataLeader, peers, leaders, shard, topics, report }: MembershipParts) {
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
  }

  start(): void {
    this.#driver.start()
    this.#removal.start()
  }

  stop(): void {
    this.#driver.stop()
    this.#removal.stop()
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

/** Partitions led by this node that are on their way. */
export function movesOf(shard: Shard, metadata: MetadataLog): readonly PartitionMove[] {
  return partitionMoves(shard.partitions(), targetsOf(metadata))
}
