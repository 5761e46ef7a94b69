// What administration takes and tells.
import type { CodecName, Durability } from '@millrace/protocol'

export interface CreateTopicOptions {
  /** Default 1. `alterTopic` can make it more, never fewer. */
  readonly partitions?: number
  /** On how many nodes each partition is kept. Default: 3, or as many as the cluster has when these are fewer. */
  readonly replicas?: number
  /** `flushed` (default) survives power loss; `buffered` survives the end of the process. */
  readonly durability?: Durability
  /**
   * What producers may compress with. Default `none` and `gzip`, which every client can read; with `zstd`, consumers need
   * Node 22.15, 23.8, 24 or newer.
   */
  readonly codecs?: readonly CodecName[]
  /**
   * Records go this many milliseconds after they were appended, in whole segments. Default null: they are kept.
   */
  readonly retentionMs?: number | null
  /**
   * Of each partition this many bytes are kept at least, as they stand on disk; what is older goes in whole segments.
   * Default null: all are kept.
   */
  readonly retentionBytes?: number | null
}

/** What a topic keeps; null for no limit. */
export interface TopicRetention {
  readonly retentionMs: number | null
  readonly retentionBytes: number | null
}

export interface CreatedTopic {
  readonly topicId: number
  readonly name: string
  readonly partitions: number
}

export interface TopicSummary extends CreatedTopic, TopicRetention {
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
}

/** One copy of a partition, as its leader sees it. */
export interface ReplicaDescription {
  readonly nodeId: number
  /** Index of the last batch that it is known to have as durably as the topic asks; null when nothing is known. */
  readonly matchIndex: number | null
  /** Batches of the leader's log that it is not known to have; null when nothing is known. */
  readonly lagBatches: number | null
  /** It receives the log and does not count for commits. */
  readonly isLearner: boolean
}

export interface PartitionDescription {
  readonly partition: number
  /** Node id; 0 while there is no leader. */
  readonly leader: number
  /** The core of that node; 0 while there is no leader. */
  readonly shard: number
  /** Version of the route: the term of the leader … */
  readonly term: number
  /** … and how often the partition moved between its cores. */
  readonly placement: number
  /** Empty while there is no leader to tell. */
  readonly replicas: readonly ReplicaDescription[]
  /** Null while there is no leader to tell, like what follows. */
  readonly logStartOffset: number | null
  /** The offset that the next committed record will have. */
  readonly highWatermark: number | null
  /** At the leader. */
  readonly bytesOnDisk: number | null
}

export interface TopicDescription extends TopicRetention {
  readonly topicId: number
  readonly name: string
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  readonly partitions: readonly PartitionDescription[]
}

/** What a broker says of itself; brokers may say more. */
export interface BrokerStatus {
  readonly nodeId: number
  readonly clusterId: string
  readonly environment: string
  readonly uptimeMs: number
  readonly version: string
  readonly [name: string]: unknown
}

/** How busy a broker says it is; it says so every ten seconds or less often. */
export interface BrokerLoad {
  /** Of clients, in and out. */
  readonly bytesPerSecond: number
  readonly freeDiskBytes: number
  readonly partitionsLed: number
}

/**
 * How a broker is, as the brokers tell each other. `suspect`: it does not answer, and may yet. `dead`: nobody has heard from
 * it. `left`: it was stopped in order.
 */
export interface BrokerLife {
  /** Null while the broker that answered has heard nothing of it. */
  readonly life: 'alive' | 'suspect' | 'dead' | 'left' | null
  /** Milliseconds since the broker that answered found it so. */
  readonly lifeForMs: number | null
  readonly load: BrokerLoad | null
}

export interface NodeStatus extends BrokerLife {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  /** Whether the broker that answered hears from it, and knows nothing worse of it. */
  readonly alive: boolean
  /** Since that broker heard from it; 0 for itself, null when it never has. */
  readonly heardMsAgo: number | null
  /** Partitions it leads. */
  readonly partitionsLed: number
}

/** The state of the cluster as one of its brokers sees it. */
export interface ClusterStatus {
  readonly clusterId: string
  readonly nodes: readonly NodeStatus[]
  readonly metadata: {
    /** Node id; 0 while there is none: then nothing can be changed, and records flow on. */
    readonly leader: number
    readonly term: number
    /** Of the cluster map. */
    readonly version: number
  }
  /** Partitions with fewer replicas in touch than they should have. */
  readonly underReplicated: number
  /** Partitions without a leader: they take and give no records. */
  readonly leaderless: number
  /** Replicas that brokers should have and do not serve; a hundred of each broker at most. */
  readonly lacking: readonly LackingReplica[]
}

/** A replica that could not be opened, or whose log takes nothing any more; opening it is tried again. */
export interface LackingReplica {
  readonly nodeId: number
  readonly topic: string
  readonly partition: number
  /** Why, in words. */
  readonly reason: string
}

/** A node of the cluster; one that was removed stays in the list. */
export interface MemberDescription extends BrokerLife {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  /** What fails together with it; null: it fails by itself. */
  readonly rack: string | null
  readonly shards: number
  /** `draining`: nothing new comes to it, and what it has goes elsewhere. `removed`: it is gone for good. */
  readonly state: 'active' | 'draining' | 'removed'
  /** Whether the broker that answered hears from it, and knows nothing worse of it. */
  readonly alive: boolean
  readonly heardMsAgo: number | null
  /** Partitions that are to have a replica on it. */
  readonly replicas: number
  readonly partitionsLed: number
  /** Partitions on their way to it or away from it. */
  readonly moving: number
  /** Whether it is one of those that decide on the metadata. */
  readonly votes: boolean
}

/** A partition on its way to other brokers, as its leader sees it; or one that has no leader. */
export interface PartitionMove {
  readonly topic: string
  readonly partition: number
  /** Who is to have it, the one that should lead first. */
  readonly target: readonly number[]
  /** False: no broker that answers leads it, and what follows is what its replicas know, which may be nothing. */
  readonly hasLeader: boolean
  /** Who has it now … */
  readonly voters: readonly number[]
  /** … and who is getting it. */
  readonly learners: readonly number[]
  readonly replicas: readonly ReplicaDescription[]
}

export interface AlterTopicOptions {
  /** More than it has. Most keys then go to another partition than before: see `breakKeyOrder`. */
  readonly partitions?: number
  /** On how many nodes each partition is kept; they get there one after the other: see `moves`. */
  readonly replicas?: number
  /** Says that records of a key may come out of order when there are more partitions: without it they are refused. */
  readonly breakKeyOrder?: boolean
  /** As for `createTopic`; null takes the limit away, left out it stays. */
  readonly retentionMs?: number | null
  readonly retentionBytes?: number | null
}

/** A consumer group at a glance. */
export interface GroupSummary {
  readonly group: string
  /** How many. */
  readonly members: number
  /** Names of topics; a deleted one by its id, like `#7`. */
  readonly topics: readonly string[]
  /** `rebalancing`: partitions are on their way from one member to another. */
  readonly state: 'empty' | 'stable' | 'rebalancing'
}

export interface GroupMemberDescription {
  /** Drawn by the member when it joined: 16 hexadecimal digits. */
  readonly id: string
  /** Null for a member without a name. */
  readonly name: string | null
  readonly clientId: string
  readonly epoch: number
  readonly partitions: readonly {
    readonly topic: string
    readonly partition: number
    readonly epoch: number
    /** Another member waits for it. */
    readonly isRevoking: boolean
  }[]
}

/** How far a group has come in one partition. */
export interface GroupPartitionDescription {
  readonly topic: string
  readonly partition: number
  /** Client id of the member that has it; null while nobody has. */
  readonly member: string | null
  /** The next record to read; null when nothing was committed. */
  readonly committedOffset: number | null
  /** Milliseconds since 1970; null when nothing was committed. */
  readonly committedAtMs: number | null
  /** The offset that the next committed record will have; null while there is no leader to tell. */
  readonly highWatermark: number | null
  /** Records above the committed offset; all of them when nothing was committed. Null while that is not known. */
  readonly lag: number | null
}

export interface GroupDescription {
  readonly group: string
  readonly state: GroupSummary['state']
  readonly epoch: number
  readonly members: readonly GroupMemberDescription[]
  /** Every partition of the topics that the group reads or has read. */
  readonly partitions: readonly GroupPartitionDescription[]
}
