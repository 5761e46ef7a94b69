// What `log inspect` and `log verify` found, as plain data: what `--json` prints and the tables are made of.

/** Something that is not as it should be. `note` costs nothing but time; `damage` has lost something. */
export interface Problem {
  readonly severity: 'note' | 'damage'
  /** A file, or a log such as `orders/3`. */
  readonly where: string
  readonly problem: string
  readonly hint: string
}

/** What stands in one of the four blocks of a slot that may hold a header. */
export type HeaderState = 'valid' | 'empty' | 'invalid' | 'unknown version' | 'misplaced'

export interface SlotReport {
  readonly name: string
  readonly id: number
  readonly fileBytes: number
  /** By its header; null without one. */
  readonly slotBytes: number | null
  readonly state: 'free' | 'owned' | 'unfinished' | 'unreadable' | 'foreign'
  readonly generation: number | null
  readonly writtenThrough: boolean | null
  readonly topicId: number | null
  readonly partition: number | null
  readonly lane: number | null
  /** In the log of its owner. */
  readonly basePosition: number | null
  readonly checkpointPosition: number | null
  readonly watermark: number | null
  /** Blocks 0 (free), 1, 2 (checkpoint), 3 (roll). */
  readonly headers: readonly HeaderState[]
}

export interface SegmentReport {
  readonly slot: string
  readonly slotBytes: number
  readonly generation: number
  readonly basePosition: number
  /** Position behind the last group of the log in this segment. */
  readonly endPosition: number
  readonly baseIndex: number
  readonly baseOffset: number
  readonly groups: number
  readonly checkpointPosition: number | null
}

/** Batches that were cut off: a group behind them took their place in the log. */
export interface DeadRange {
  readonly position: number
  readonly endPosition: number
  readonly firstIndex: number
  readonly lastIndex: number
  readonly firstOffset: number
  readonly nextOffset: number
}

export interface DamagedRange {
  readonly slot: string
  /** In the log. */
  readonly position: number
  /** Where the next whole group stands; null when none was found. */
  readonly endPosition: number | null
  readonly filePosition: number
  readonly reason: string
  /** Offsets and indexes that cannot be read: from `firstOffset` to before `nextOffset`, null for unknown. */
  readonly firstOffset: number
  readonly nextOffset: number | null
  readonly firstIndex: number
  readonly nextIndex: number | null
}

/** A batch whose checksums hold and whose records cannot be read. */
export interface UndecodableBatch {
  readonly index: number
  readonly baseOffset: number
  readonly reason: string
}

export interface GroupRow {
  readonly position: number
  readonly slot: string
  readonly filePosition: number
  readonly kind: 'batches' | 'checkpoint' | 'index'
  /** Envelope and content, without the padding. */
  readonly length: number
  readonly batches: number
  readonly firstIndex: number
  readonly firstOffset: number
  readonly durableTo: number
  readonly session: number
}

export interface BatchRow {
  readonly index: number
  readonly baseOffset: number
  readonly records: number
  readonly control: boolean
  readonly term: number
  readonly bytes: number
  readonly codec: string
  readonly producer: string
  readonly epoch: number
  readonly sequence: number
  /** Milliseconds since 1970. */
  readonly appendTime: number
  readonly baseTimestamp: number
  readonly lastTimestamp: number
  /** Of the group that holds it. */
  readonly position: number
}

export interface LogEndReport {
  /** `torn`: a crash has left a group that was never promised; the next start cuts it. */
  readonly kind: 'clean' | 'torn' | 'damaged'
  readonly position: number
  readonly reason: string
}

/** First index and offset that a log still keeps. */
export interface LogStartReport {
  readonly index: number
  readonly offset: number
}

export interface LogReport {
  readonly topicId: number
  /** Null when the metadata does not know it; `(metadata)` for the log of the cluster itself. */
  readonly topic: string | null
  readonly partition: number
  readonly lane: number
  readonly state: 'clean' | 'torn' | 'damaged'
  /** By the last checkpoint. */
  readonly logStart: LogStartReport
  readonly nextOffset: number
  readonly lastIndex: number
  readonly lastTerm: number
  readonly maxTimestamp: number
  readonly batches: number
  readonly records: number
  readonly groups: { readonly batches: number; readonly checkpoints: number; readonly indexes: number }
  /** Of all groups, padding included, and the part of them that is batches. */
  readonly groupBytes: number
  readonly batchBytes: number
  readonly checkpoints: readonly number[]
  readonly segments: readonly SegmentReport[]
  readonly deadRanges: readonly DeadRange[]
  readonly damage: readonly DamagedRange[]
  readonly undecodable: readonly UndecodableBatch[]
  readonly end: LogEndReport
  /** Only where they were asked for, and cut at the limit of rows. */
  readonly groupRows?: readonly GroupRow[]
  readonly batchRows?: readonly BatchRow[]
  readonly rowsLeftOut?: number
}

export interface VolumeReport {
  readonly directory: string
  readonly clusterId: string
  readonly nodeId: number
  readonly diskId: string
  /** Times a broker has started on the directory; null when the identity file cannot be read. */
  readonly starts: number | null
  readonly closedInOrder: boolean
  readonly slots: readonly SlotReport[]
  readonly logs: readonly LogReport[]
  readonly problems: readonly Problem[]
}

/** The directory cannot be looked at, or not as asked: nothing is said about its content. */
export class InspectError extends Error {
  override readonly name = 'InspectError'
}
