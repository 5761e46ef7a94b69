// What storage offers to the partitions of a shard: logs that are appended to, read, and found again after a crash.
import type { BatchHeader, LogPart } from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { PoolStatistics } from '../memory/page-pool.js'
import type { HardState } from '../raft/raft-types.js'
import type { LogStart } from './log-start.js'

/** Names one log: a lane of a partition. Topic 0 is the metadata topic. */
export interface LogKey {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
}

/** Where a log's state machine stands; written with checkpoints and given back at recovery. */
export interface LogState {
  /**
   * The owner's state (producer sessions, applied metadata) after every batch appended so far, flushed or not. Opaque
   * to storage, which asks for it between turns (never inside `append`) and copies it at once.
   */
  encodeState(): Uint8Array
  /** Recovery begins from this state (null: from nothing, at the log start). */
  restoreState(state: Uint8Array | null): void
  /**
   * Recovery passes every batch after that state, in order, client part verified: it begins at `clientAt` of `bytes`, which
   * are valid during the call.
   */
  replay(part: LogPart, header: BatchHeader, bytes: Uint8Array, clientAt: number): void
}

/** What a log may go beyond before its oldest segments are to go. */
export interface RetentionLimits {
  /** At least so many bytes of the log, padding included, are kept; null for no limit. */
  readonly bytes: number | null
  /** Batches appended before this time, in milliseconds since 1970, may go; null for no limit. */
  readonly appendedBefore: number | null
}

/** Positions are indexes and offsets of whole batches. */
export interface LogEnd {
  /** Index of the last batch; 0 when there is none. */
  readonly index: number
  /** Offset the next record would get. Control batches take no offset. */
  readonly nextOffset: number
  /** Term of the last batch; 0 when there is none. */
  readonly term: number
}

/** A stretch of a log that was written in one term. */
export interface TermRun {
  readonly term: number
  readonly firstIndex: number
  readonly firstOffset: number
}

/** A range of batches pinned in memory. */
export interface LogRead {
  /** Pieces in order; end to end they are whole batches (log part, client part). Empty at the end of the log. */
  readonly pieces: readonly { readonly block: Block; readonly offset: number; readonly length: number }[]
  readonly byteLength: number
  readonly batchCount: number
  /** Decoded bytes of all batches: what they cost in credit. */
  readonly decodedBytes: number
  /** Indexes of the first and the last batch; 0 and 0 when there is none. */
  readonly firstIndex: number
  readonly lastIndex: number
  /** Offset after the last record of the range; the next read starts there. */
  readonly nextOffset: number
  /** Unpins. Call exactly once, when the bytes have been sent. */
  release(): void
}

/** OUT_OF_RANGE: the offset lies below the log start. */
export type StorageErrorCode = 'DISK_FULL' | 'STORAGE_FAILED' | 'DAMAGED' | 'CLOSED' | 'OUT_OF_RANGE'

export class StorageError extends Error {
  override readonly name = 'StorageError'
  constructor(
    readonly code: StorageErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

/**
 * One log. Appends are synchronous into memory; writes and flushes follow in groups, and the watermarks report them.
 * filled >= written >= flushed, all as log indexes.
 */
export interface PartitionLog {
  readonly key: LogKey
  readonly filled: LogEnd
  /** Index up to which every batch is written to its file (it survives the end of the process). */
  readonly writtenIndex: number
  /** Index up to which every batch is flushed (it survives power loss). */
  readonly flushedIndex: number
  /** Where the log begins. Moves up when a control batch that names a log start is committed and flushed. */
  readonly start: LogStart
  /** First offset that can be read. */
  readonly startOffset: number
  /**
   * The same by what is committed, whether it is flushed here or not: a leader whose flush lags must not tell an older start
   * than the leader before it did.
   */
  readonly committedStartOffset: number
  /** Bytes appended and not yet flushed. */
  readonly unflushedBytes: number
  /** Set once a write or flush of the volume has failed: no append is accepted any more. */
  readonly failure: StorageError | null
  /** Called whenever `writtenIndex` or `flushedIndex` has moved, and once when `failure` is set. */
  onAdvance: () => void

  /**
   * Copies a client part into the log behind a log part made of `stamp`, verifying its checksum in the same pass.
   * Appends within one turn of the environment become one group.
   * @param stamp term, base offset, index (filled.index + 1) and append time.
   * @param mode `flush` makes the group flushed as soon as it is written, `write` within FLUSH_INTERVAL_MS or
   * MAX_UNFLUSHED_BYTES.
   * @returns false, and nothing has changed, when the checksum does not hold.
   * @throws StorageError STORAGE_FAILED after a latch; DISK_FULL or CLOSED; nothing has changed then either.
   */
  append(
    source: Block,
    sourceOffset: number,
    header: BatchHeader,
    stamp: { readonly term: number; readonly baseOffset: number; readonly index: number; readonly appendTime: number },
    mode: 'flush' | 'write',
  ): boolean
  /**
   * Whether `bytes` more can be appended now; false when memory or pre-written slots are short (then `onRoom`). There is
   * room for one control batch longer than for others.
   */
  hasRoom(bytes: number, isControl?: boolean): boolean
  /** Calls back once when room may have come up, or appends have come to fail. */
  onRoom(callback: () => void): void

  /**
   * Batches from the one that holds `offset` on: at least one if there is any below `limitIndex`, then as many as fit
   * `maxBytes`. Never beyond batch `limitIndex` (what is committed). Control batches are included; the reader skips them.
   * @throws StorageError DAMAGED when the bytes on disk are not what was written; CLOSED.
   */
  read(offset: number, maxBytes: number, limitIndex: number): Promise<LogRead>
  /**
   * Batches from the one with this index on, committed or not, control batches included: at least one if the log holds it,
   * then as many as fit `maxBytes`. At once when they are in memory; empty above `filled.index`. What is cut off while it
   * waits for the disk is not in it. A failure is always a promise that rejects.
   * @throws StorageError OUT_OF_RANGE below `start.index`; DAMAGED, CLOSED.
   */
  readFrom(index: number, maxBytes: number): LogRead | Promise<LogRead>
  /** First offset whose record has a timestamp >= `timestamp` and index <= `limitIndex`, with that timestamp; null when none. */
  offsetForTime(timestamp: number, limitIndex: number): Promise<{ offset: number; timestamp: number } | null>
  /** Term of the batch that holds `offset`; 0 when the log does not hold it. */
  termAt(offset: number): Promise<number>
  /** Term of the batch with this index, or of the one before `start`; 0 when the log knows neither. */
  termAtIndex(index: number): number
  /** Which term each stretch of the log was written in, ascending, from `start` on; empty for an empty log. */
  termRuns(): readonly TermRun[]
  /**
   * Everything up to `index` is committed, whatever commits it: truncation never reaches below, and a control batch up
   * to there (`sealLogStart`) moves the log start as soon as it is flushed as well. Slots that lie wholly below the start
   * are then given back in the background. To be called whenever the commit or `flushedIndex` has moved.
   */
  noteCommitted(index: number): void
  /**
   * Where the log would begin without what lies beyond the limits: to be written into a control batch, with
   * `sealLogStart`. Null when nothing is to go, or a start is on its way. Begins a new segment when everything is too old.
   */
  expire(limits: RetentionLimits): LogStart | null
  /**
   * Cuts off every batch above `lastIndex`: the next append has index `lastIndex + 1` and goes to the physical end.
   * Flushes what is under way, has the owner's state made anew (`restoreState`, then `replay` up to `lastIndex`), and
   * resolves when appends are taken again; there is no room until then. What was cut off stays cut off from the next
   * flush on; a crash before may bring it back. Below what is committed it is an assertion. Of a log that is damaged at
   * its end, `lastIndex` at or above `filled.index` cuts off the damage: it takes appends again, and may lack what it had
   * acknowledged. Where the damage lies elsewhere it is refused, and only `installStart` helps.
   * @throws StorageError.
   */
  truncateTo(lastIndex: number): Promise<void>
  /**
   * Gives up everything: the log begins anew at `start`, empty, with the owner's state `state` (`restoreState` is called
   * with it). Appends are taken again when it resolves. A crash before leaves the old log or the new one; afterwards the old
   * one never comes back, and its slots are given back in the background. A damaged log is sound again afterwards; a sound
   * one has to hold nothing committed from `start` on.
   * @throws StorageError; STORAGE_FAILED also when the state is larger than a group.
   */
  installStart(start: LogStart, state: Uint8Array | null): Promise<void>
  /** Resolves when everything appended so far is flushed. @throws StorageError. */
  flush(): Promise<void>
  /**
   * This replica may lack batches that it had acknowledged: recovery met damage. Stays so, over restarts and repairs, until
   * `noteWhole`.
   */
  readonly lostAcknowledged: boolean
  /** As `lostAcknowledged` for batches appended with mode 'write': the power failed since the replica was last whole. */
  readonly wasPowerLost: boolean
  /** The owner knows that this replica holds everything it ever acknowledged. Resolves when that is durable. */
  noteWhole(): Promise<void>
  /** Bytes of slots this log occupies. */
  readonly bytesOnDisk: number
}

/** Term and vote of every group that this store keeps the log of, apart from the logs. */
export interface VoteStore {
  /**
   * What was last saved durably; null when nothing ever was. 'lost' when there may have been something that cannot be read
   * any more: the group may not vote before it has been repaired.
   */
  find(key: LogKey): HardState | 'lost' | null
  /**
   * Resolves when term and vote are durable. What is saved in one turn becomes one write and takes part in the next flush;
   * terms never go back, and a vote is never changed within a term.
   * @throws StorageError STORAGE_FAILED after a latch; DISK_FULL, CLOSED.
   */
  save(key: LogKey, hardState: HardState): Promise<void>
  /**
   * Whether a group that has voted may have had a log that counted for something: false where it is known that nothing of one
   * was ever written. A log that is not found then was not lost.
   */
  hadLog(key: LogKey): boolean
  /** The group is gone, its key never used again. Written with whatever is saved next. */
  forget(key: LogKey): void
}

/** Whether the disk still does what it is asked. */
export interface DiskPulse {
  /** Monotonic milliseconds at which it last completed a flush; minus infinity when it never has. */
  readonly completedAtMs: number
  /** Asks it for a flush, unless one is under way; `completedAtMs` tells when that is done. */
  probe(): void
}

export interface LogStoreOptions {
  readonly clusterId: string
  readonly nodeId: number
  /** 32 hexadecimal digits; written into every slot header. */
  readonly diskId: string
}

/** A slot of another cluster, node, disk or format version lies in the directory. Nothing has been changed. */
export class ForeignSlotError extends Error {
  override readonly name = 'ForeignSlotError'
}

/** Fills up as logs are opened; complete once `found` is empty. */
export interface RecoveryReport {
  readonly logs: number
  readonly replayedBytes: number
  /** Logs whose tail was torn by a crash and cut, with what was cut. */
  readonly torn: readonly { readonly key: LogKey; readonly position: number }[]
  /** Logs with damage below a durable position: they serve what is whole and accept no appends. */
  readonly damaged: readonly { readonly key: LogKey; readonly position: number; readonly reason: string }[]
  /** Segment files that the disk refuses to read: a log that was not found may be in there. */
  readonly unreadable: readonly string[]
  readonly durationMs: number
}

/** All logs of one volume and shard. Made by `openLogStore` in `open-log-store.ts`. */
export interface LogStore {
  readonly recovery: RecoveryReport
  /** Logs found at recovery whose state has not been asked for yet: their owner must call `open` or `drop`. */
  readonly found: readonly LogKey[]
  readonly votes: VoteStore
  readonly pulse: DiskPulse
  /**
   * The machine was started anew since this store was last open, and the store was not closed in order: what was not flushed
   * is gone.
   */
  readonly wasPowerLost: boolean
  /** Opens a log found at recovery, or creates an empty one, replaying into `state`. */
  open(key: LogKey, state: LogState): Promise<PartitionLog>
  /** Frees a log and its slots. What is opened under its key later is another log. */
  drop(key: LogKey): Promise<void>
  /** Flushes, writes checkpoints, closes files. Appends are refused from now on. */
  close(): Promise<void>
  readonly statistics: StorageStatistics
}

export interface StorageStatistics {
  readonly bytesAppended: number
  readonly bytesWritten: number
  /** Bytes of zeros written to make slots ready. */
  readonly bytesFilled: number
  /** Slots given back behind a log start. */
  readonly slotsRecycled: number
  readonly groups: number
  readonly flushes: number
  /** What the scrubber has read, how often it has been round, and stretches of the logs found damaged. */
  readonly scrubbedBytes: number
  readonly scrubPasses: number
  readonly damagedGroups: number
  readonly copiedBytes: number
  readonly pagePool: PoolStatistics
  readonly slots: number
  readonly freeSlots: number
  /** Why nothing is written any more until the broker is started again; null while the disk does what it is asked. */
  readonly failure: string | null
  /** Whether appends that need a new segment are refused until the disk has space. */
  readonly full: boolean
  /** Reads that failed: the disk refused, or the bytes were not what was written. */
  readonly failedReads: number
}
