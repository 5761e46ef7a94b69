// Replies of brokers to administration, from MessagePack maps to what the public API tells.
import { type ClusterMap, CODEC_NAMES, type Durability } from '@millrace/protocol'
import { type AdminFields, choice, flag, list, map, number, numberOrNull, text } from './admin-fields.js'
import type {
  BrokerLife,
  BrokerStatus,
  ClusterStatus,
  LackingReplica,
  MemberDescription,
  PartitionDescription,
  PartitionMove,
  TopicDescription,
  TopicRetention,
  TopicSummary,
} from './admin-types.js'

const DURABILITIES = ['flushed', 'buffered'] as const satisfies readonly Durability[]
const NODE_STATES = ['active', 'draining', 'removed'] as const
const LIVES = ['alive', 'suspect', 'dead', 'left'] as const

const settingsOf = (fields: AdminFields): Pick<TopicSummary, 'durability' | 'codecs'> & TopicRetention => ({
  durability: choice(fields, 'durability', DURABILITIES),
  codecs: list(fields, 'codecs', (value) => choice({ codec: value }, 'codec', CODEC_NAMES)),
  retentionMs: numberOrNull(fields, 'retentionMs'),
  retentionBytes: numberOrNull(fields, 'retentionBytes'),
})

/** @param known the cluster map of this client: the core and the placement of each route stand there. */
export function readDescription(reply: AdminFields, known: ClusterMap): TopicDescription {
  const topicId = number(reply, 'topicId')
  return {
    topicId,
    name: text(reply, 'name'),
    ...settingsOf(reply),
    partitions: list(reply, 'partitions', (value) => readPartition(map(value), topicId, known)),
  }
}

function readPartition(fields: AdminFields, topicId: number, known: ClusterMap): PartitionDescription {
  const partition = number(fields, 'partition')
  const term = number(fields, 'term')
  const leader = number(fields, 'leader')
  const route = known.route(topicId, partition)
  const isRoute = route?.nodeId === leader && route.term === term
  return {
    partition,
    leader,
    shard: isRoute ? route.shard : 0,
    term,
    placement: isRoute ? route.placement : 0,
    replicas: list(fields, 'replicas', (value) => readReplica(map(value))),
    logStartOffset: numberOrNull(fields, 'logStartOffset'),
    highWatermark: numberOrNull(fields, 'highWatermark'),
    bytesOnDisk: numberOrNull(fields, 'bytesOnDisk'),
  }
}

const readReplica = (fields: AdminFields): PartitionDescription['replicas'][number] => ({
  nodeId: number(fields, 'nodeId'),
  matchIndex: numberOrNull(fields, 'matchIndex'),
  lagBatches: numberOrNull(fields, 'lagBatches'),
  isLearner: flag(fields, 'isLearner'),
})

export const readSummaries = (reply: AdminFields): readonly TopicSummary[] =>
  list(reply, 'topics', (value) => {
    const topic = map(value)
    return {
      topicId: number(topic, 'topicId'),
      name: text(topic, 'name'),
      partitions: number(topic, 'partitions'),
      ...settingsOf(topic),
    }
  })

export const readBrokerStatus = (reply: AdminFields): BrokerStatus => ({
  ...reply,
  nodeId: number(reply, 'nodeId'),
  clusterId: text(reply, 'clusterId'),
  environment: text(reply, 'environment'),
  uptimeMs: number(reply, 'uptimeMs'),
  version: text(reply, 'version'),
})

/** A broker of an earlier version says nothing of it. */
function lifeOf(fields: AdminFields): BrokerLife {
  const load = fields.load == null ? null : map(fields.load)
  return {
    life: fields.life == null ? null : choice(fields, 'life', LIVES),
    lifeForMs: fields.lifeForMs == null ? null : number(fields, 'lifeForMs'),
    load: load && {
      bytesPerSecond: number(load, 'bytesPerSecond'),
      freeDiskBytes: number(load, 'freeDiskBytes'),
      partitionsLed: number(load, 'partitionsLed'),
    },
  }
}

export function readClusterStatus(reply: AdminFields): ClusterStatus {
  const metadata = map(reply.metadata)
  return {
    clusterId: text(reply, 'clusterId'),
    nodes: list(reply, 'nodes', (value) => {
      const node = map(value)
      return {
        nodeId: number(node, 'nodeId'),
        host: text(node, 'host'),
        port: number(node, 'port'),
        alive: flag(node, 'alive'),
        heardMsAgo: numberOrNull(node, 'heardMsAgo'),
        partitionsLed: number(node, 'partitionsLed'),
        ...lifeOf(node),
      }
    }),
    metadata: {
      leader: number(metadata, 'leader'),
      term: number(metadata, 'term'),
      version: number(metadata, 'version'),
    },
    underReplicated: number(reply, 'underReplicated'),
    leaderless: number(reply, 'leaderless'),
    // Brokers that are older do not tell.
    lacking: reply.lacking === undefined ? [] : list(reply, 'lacking', readLacking),
  }
}

function readLacking(value: unknown): LackingReplica {
  const replica = map(value)
  return {
    nodeId: number(replica, 'nodeId'),
    topic: text(replica, 'topic'),
    partition: number(replica, 'partition'),
    reason: text(replica, 'reason'),
  }
}

export const readMembers = (reply: AdminFields): readonly MemberDescription[] =>
  list(reply, 'nodes', (value) => {
    const node = map(value)
    return {
      nodeId: number(node, 'nodeId'),
      host: text(node, 'host'),
      port: number(node, 'port'),
      rack: node.rack == null ? null : text(node, 'rack'),
      shards: number(node, 'shards'),
      state: choice(node, 'state', NODE_STATES),
      alive: flag(node, 'alive'),
      heardMsAgo: numberOrNull(node, 'heardMsAgo'),
      replicas: number(node, 'replicas'),
      partitionsLed: number(node, 'partitionsLed'),
      moving: number(node, 'moving'),
      votes: flag(node, 'votes'),
      ...lifeOf(node),
    }
  })

export const readMoves = (reply: AdminFields): readonly PartitionMove[] =>
  list(reply, 'moves', (value) => {
    const move = map(value)
    return {
      topic: text(move, 'name'),
      partition: number(move, 'partition'),
      target: nodes(move, 'target'),
      hasLeader: flag(move, 'hasLeader'),
      voters: nodes(move, 'voters'),
      learners: nodes(move, 'learners'),
      replicas: list(move, 'replicas', (replica) => readReplica(map(replica))),
    }
  })

export const nodes = (fields: AdminFields, name: string): readonly number[] =>
  list(fields, name, (nodeId) => number({ nodeId }, 'nodeId'))
