// What a batch has to satisfy before a log takes it. Nothing is changed here.
import {
  BATCH_CHECKSUM_START,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  type CodecName,
  checkRecords,
  ProtocolError,
  readBatchHeader,
} from '@millrace/protocol'
import type { Memory } from '../environment.js'
import type { LogKey } from '../storage/log-store.js'
import type { PendingBatch } from './pending-batch.js'

/**
 * Reads and checks the header of a batch against the place it was sent to, and walks uncompressed records. The
 * checksum is left to the copy into the log, unless something else is wrong: then it decides whether the producer sent
 * nonsense or the bytes were damaged on their way.
 * @throws ProtocolError CORRUPT_BATCH, INVALID_BATCH, BATCH_TOO_LARGE, CODEC_NOT_ALLOWED.
 */
export function checkBatch(
  batch: PendingBatch,
  key: LogKey,
  codecs: readonly CodecName[],
  memory: Memory,
): BatchHeader {
  try {
    const header = readBatchHeader(batch.block.view, batch.at)
    checkPlace(header, batch, key)
    if (!codecs.includes(header.codec)) {
      throw new ProtocolError('CODEC_NOT_ALLOWED', `codec ${header.codec}, the topic allows ${codecs.join(', ')}`)
    }
    if (header.codec === 'none') {
      const start = batch.at + BATCH_HEADER_BYTES
      const end = batch.at + header.length
      checkRecords(batch.block.bytes, start, end, header.recordCount, header.lastOffsetDelta, header)
    }
    return header
  } catch (error) {
    if (error instanceof ProtocolError && !checksumHolds(batch, memory)) {
      throw new ProtocolError('CORRUPT_BATCH', 'the checksum of the batch does not hold')
    }
    throw error
  }
}

function checkPlace(header: BatchHeader, batch: PendingBatch, key: LogKey): void {
  const invalid = (detail: string): never => {
    throw new ProtocolError('INVALID_BATCH', detail)
  }
  if (header.length !== batch.length) {
    invalid(`the batch says ${header.length} bytes, its frame ${batch.length}`)
  }
  if (header.topicId !== key.topicId || header.partition !== key.partition || header.lane !== key.lane) {
    const inside = `${header.topicId}/${header.partition}/${header.lane}`
    invalid(`the batch is for ${inside}, its frame for ${key.topicId}/${key.partition}/${key.lane}`)
  }
  if (header.control) invalid('control batches are written by brokers only')
  // Only compaction makes holes; offsets are dense when they are given out.
  if (header.lastOffsetDelta !== header.recordCount - 1) {
    invalid(`${header.recordCount} records with a last offset delta of ${header.lastOffsetDelta}`)
  }
}

/** Whether the bytes are those the producer sealed. */
export function checksumHolds(batch: PendingBatch, memory: Memory): boolean {
  const { block, at, length } = batch
  const computed = memory.checksum(block, at + BATCH_CHECKSUM_START, length - BATCH_CHECKSUM_START, 0)
  return computed === block.view.getUint32(at, true)
}
