// Retention: the control batch that moves the start of a log up, once the log has become too long or too old.
import { assert, type BatchHeader, LOG_PART_BYTES, readBatchHeader } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import { type LogStart, sealLogStart } from '../storage/log-start.js'
import type { PartitionLog } from '../storage/log-store.js'
import type { PartitionState } from './partition-state.js'

/** What a topic keeps; null for no limit. */
export interface Retention {
  /** Records go this long after they were appended. */
  readonly retentionMs: number | null
  /** Of each partition so many bytes are kept, as they stand on disk. */
  readonly retentionBytes: number | null
}

interface ProposalOptions {
  readonly retention: Retention
  readonly clock: Clock
  readonly memory: Memory
}

/** Writes the batch where it is due and there is room for it. @throws StorageError. */
export function proposeLogStart(
  group: ReplicaGroup,
  log: PartitionLog,
  state: PartitionState,
  { retention, clock, memory }: ProposalOptions,
): void {
  const { retentionMs, retentionBytes: bytes } = retention
  const wallMs = Math.max(clock.wallMs(), state.lastAppendTime)
  const start = log.expire({ bytes, appendedBefore: retentionMs === null ? null : wallMs - retentionMs })
  if (start === null) return
  const written = writeLogStart(group, start, wallMs, memory)
  if (written !== null) state.appended(written.header, written.baseOffset, written.index, wallMs)
}

/**
 * Has the log begin elsewhere, once that is committed. @param wallMs milliseconds since 1970, not before the last batch.
 * @returns what was written; null where there is no room for it now. @throws StorageError.
 */
export function writeLogStart(
  group: ReplicaGroup,
  start: LogStart,
  wallMs: number,
  memory: Memory,
): { readonly header: BatchHeader; readonly baseOffset: number; readonly index: number } | null {
  const { log } = group
  const index = log.filled.index + 1
  const batch = sealLogStart(start, log.key, index, wallMs)
  if (!log.hasRoom(LOG_PART_BYTES + batch.length, true)) return null
  const block = memory.allocate(batch.length)
  if (block === null) return null
  try {
    block.bytes.set(batch)
    const header = readBatchHeader(block.view, 0)
    const { nextOffset: baseOffset } = log.filled
    const written = group.append(block, 0, header, baseOffset, wallMs)
    assert(written === index, 'the checksum of a batch just sealed holds')
    return { header, baseOffset, index }
  } finally {
    memory.release(block)
  }
}
