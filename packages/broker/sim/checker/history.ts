// What a run has shown from outside: sends with their outcomes, deliveries, crashes, and the logs at the end.
// Nothing here knows the broker or the client; tests write such histories by hand.

/** How a send ended for the application. `unknown` may or may not be in the log; `failed` surely is not. */
export type SendOutcome = 'acknowledged' | 'failed' | 'unknown'

export type SendAcks = 'all' | 'leader' | 'none'

export interface SendFact {
  /** Unique in the history; every record carries its own. */
  readonly recordId: number
  readonly topic: string
  readonly key: string | null
  /** One producer object; the order of its sends is promised per key. */
  readonly producer: string
  /** Counts the sends of this producer. */
  readonly order: number
  /** Of key, value, headers and timestamp together. */
  readonly digest: string
  readonly acks: SendAcks
  readonly invokedAtMs: number
  readonly outcome: SendOutcome
  readonly settledAtMs: number
  /** Where an acknowledgement says that the record is; null when it does not say. */
  readonly position: { readonly partition: number; readonly offset: number } | null
}

export interface ReadFact {
  readonly partition: number
  readonly offset: number
  /** Null when the value is not one that the workload makes. */
  readonly recordId: number | null
  readonly digest: string
  readonly atMs: number
}

/** One subscription from its start to its end. */
export interface SessionFact {
  readonly name: string
  readonly topic: string
  readonly from: 'earliest' | 'latest'
  /** Whether it was to end at what was committed when it was opened, and did. */
  readonly reachedEnd: boolean
  readonly openedAtMs: number
  readonly reads: readonly ReadFact[]
  /** Whether it was open until the end and had time to be given everything that there is. */
  readonly isDrained?: boolean
}

export interface TopicFact {
  /** Lives of a topic under one name are topics of their own: `orders#1`, `orders#2`. */
  readonly name: string
  readonly durability: 'flushed' | 'buffered'
  readonly partitions: number
  /** How many nodes have a copy of each partition; 1 when left out. */
  readonly replicas?: number
  /** Whether old records go, so that logs may begin above 0. */
  readonly hasRetention?: boolean
  /** Whether it got partitions while it was used: a key goes to another one then, and its records are in both. */
  readonly hasMorePartitions?: boolean
  /** Moments at which a deletion was known to be complete. */
  readonly deletedAtMs: readonly number[]
}

/** The power of a node failed, or a flush did: what was not flushed may be gone from its disk. */
export interface DiskLoss {
  readonly atMs: number
  /** 1 when left out. */
  readonly node?: number
}

/**
 * A partition got a leader in a new term, or one of an older term still took itself for it: what only that one had is out
 * of the log, or will be.
 */
export interface LeaderChange {
  readonly atMs: number
  readonly topic: string
  readonly partition: number
}

/** What a leader answered when it was asked for the bounds of a partition. */
export interface BoundsFact {
  readonly topic: string
  readonly partition: number
  readonly askedAtMs: number
  readonly answeredAtMs: number
  readonly startOffset: number
  /** The offset that the next committed record will have. */
  readonly highWatermark: number
}

/** A batch as it stands in the log of one replica. */
export interface BatchFact {
  readonly index: number
  readonly term: number
  /** Of the first record; of the next one, for a batch without records. */
  readonly offset: number
  /** 0 for a control batch. */
  readonly records: number
  /** Of everything in it that replicas must have in common. */
  readonly digest: string
}

/** The log of one replica at the end, read from its disk. */
export interface ReplicaLog {
  readonly topic: string
  readonly partition: number
  readonly node: number
  /** The last batch that this replica knew to be committed. */
  readonly committedIndex: number
  readonly batches: readonly BatchFact[]
}

/** Every partition read from its first to its last record after everything has healed. */
export interface FinalLog {
  readonly topic: string
  readonly partition: number
  /** Where the broker said that the log begins; 0 when left out. */
  readonly startOffset?: number
  readonly reads: readonly ReadFact[]
}

/** Where a log began after everybody had been given all there was: retention goes on behind the final read. */
export interface LastStart {
  readonly topic: string
  readonly partition: number
  readonly askedAtMs: number
  readonly startOffset: number
}

export interface History {
  readonly topics: readonly TopicFact[]
  readonly sends: readonly SendFact[]
  readonly sessions: readonly SessionFact[]
  readonly finalLogs: readonly FinalLog[]
  /** Of logs that retention shortens; the final read stands for those left out. */
  readonly lastStarts?: readonly LastStart[]
  readonly diskLosses: readonly DiskLoss[]
  readonly leaderChanges?: readonly LeaderChange[]
  readonly bounds?: readonly BoundsFact[]
  readonly replicaLogs?: readonly ReplicaLog[]
}

/** The names are those of `docs` and of the mutants' headers; most come from Jepsen's log workload. */
export type Invariant =
  | 'lost-write'
  | 'duplicate'
  | 'key-order'
  | 'offset-gap'
  | 'divergence'
  | 'dirty-read'
  | 'aborted-read'
  | 'wrong-bytes'
  | 'misroute'
  | 'phantom'
  | 'session-skip'
  | 'session-repeat'
  | 'stale-end'
  | 'resurrected'
  | 'below-start'
  | 'dedup-false'
  | 'nonmonotonic-send'
  | 'unseen'
  | 'hwm-regress'
  | 'stale-bound'
  | 'start-regress'
  | 'start-overrun'
  | 'replica-divergence'
  | 'torn-batch'

export interface Violation {
  readonly invariant: Invariant
  readonly message: string
}
