// Retention: the control batch that moves the start of a log up, once the log has become too long or too old.
import { assert, LOG_PART_BYTES, readBatchHeader } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import { sealLogStart } from '../storage/log-start.js'
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
  const index = log.filled.index + 1
  const batch = sealLogStart(start, log.key, index, wallMs)
  if (!log.hasRoom(LOG_PART_BYTES + batch.length, true)) return
  const block = memory.allocate(batch.length)
  if (block === null) return
  try {
    block.bytes.set(batch)
    const header = readBatchHeader(block.view, 0)
    const { nextOffset } = log.filled
    const written = group.append(block, 0, header, nextOffset, wallMs)
    assert(written === index, 'the checksum of a batch just sealed holds')
    state.appended(header, nextOffset, index, wallMs)
  } finally {
    memory.release(block)
  }
}
