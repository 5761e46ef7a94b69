// Whether a whole group in memory is what was written: envelope, every log part, every client part.
import {
  BATCH_CHECKSUM_START,
  BATCH_HEADER_BYTES,
  type BatchHeader,
  crc32,
  LOG_PART_BYTES,
  type LogPart,
  logPartIsValid,
  MAX_BATCH_BYTES,
  ProtocolError,
  readBatchHeader,
  readLogPart,
} from '@millrace/protocol'
import type { Block, Memory } from '../environment.js'
import { addToContentChecksum } from './group.js'
import { ENVELOPE_BYTES, GROUP_KINDS, type GroupEnvelope } from './group-envelope.js'
import { endOffsetOf } from './read-selection.js'

/** The batches of a group that holds, in order, or an empty list for a group of another kind; null for a bad one. */
export interface CheckedBatch {
  readonly part: LogPart
  readonly header: BatchHeader
  /** Where the client part stands in the block. */
  readonly clientAt: number
}

/** Batches of a group that are damaged: from one to before another, or to the end of the group. */
export interface DamagedBatches {
  readonly first: LogPart
  readonly next: LogPart | null
}

/** @param at where the envelope stands in the block; the whole group is there. */
export function checkGroup(block: Block, at: number, envelope: GroupEnvelope, memory: Memory): CheckedBatch[] | null {
  const start = at + ENVELOPE_BYTES
  const end = at + envelope.length
  if (envelope.kind !== GROUP_KINDS.batches) {
    const length = end - start
    const checksum = length === 0 ? 0 : memory.checksum(block, start, length, 0)
    return checksum === envelope.contentChecksum && envelope.batchCount === 0 ? [] : null
  }
  const batches: CheckedBatch[] = []
  let contentChecksum = 0
  let position = start
  let offset = envelope.firstOffset
  for (let i = 0; i < envelope.batchCount; i++) {
    const batch = checkBatchAt(block, position, end, memory)
    if (batch === null || batch.part.index !== envelope.firstIndex + i || batch.part.baseOffset !== offset) return null
    contentChecksum = addToContentChecksum(contentChecksum, block.view.getUint32(position, true))
    offset = endOffsetOf(offset, batch.header)
    batches.push(batch)
    position = batch.clientAt + batch.part.clientLength
  }
  return position === end && contentChecksum === envelope.contentChecksum && batches.length > 0 ? batches : null
}

function checkBatchAt(block: Block, at: number, end: number, memory: Memory): CheckedBatch | null {
  const { bytes, view } = block
  const clientAt = at + LOG_PART_BYTES
  if (clientAt + BATCH_HEADER_BYTES > end || !logPartIsValid(bytes, view, at, crc32)) return null
  const part = readLogPart(view, at)
  if (part.clientLength < BATCH_HEADER_BYTES || part.clientLength > MAX_BATCH_BYTES) return null
  if (clientAt + part.clientLength > end) return null
  const length = part.clientLength - BATCH_CHECKSUM_START
  const checksum = memory.checksum(block, clientAt + BATCH_CHECKSUM_START, length, 0)
  if (checksum !== part.clientChecksum || checksum !== view.getUint32(clientAt, true)) return null
  try {
    const header = readBatchHeader(view, clientAt)
    return header.length === part.clientLength ? { part, header, clientAt } : null
  } catch (cause) {
    if (cause instanceof ProtocolError) return null
    throw cause
  }
}

/**
 * Which batches of a group that does not hold are damaged, where all others surely are what was written: the envelope
 * vouches for every log part, and each log part for its client part. Null where that chain is broken: what stands there
 * may have been written for another group.
 */
export function damagedBatchesOf(
  block: Block,
  at: number,
  envelope: GroupEnvelope,
  memory: Memory,
): readonly DamagedBatches[] | null {
  if (envelope.kind !== GROUP_KINDS.batches) return null
  const { bytes, view } = block
  const end = at + envelope.length
  const found: { readonly first: LogPart; next: LogPart | null }[] = []
  let contentChecksum = 0
  let position = at + ENVELOPE_BYTES
  let isOpen = false
  for (let i = 0; i < envelope.batchCount; i++) {
    if (position + LOG_PART_BYTES > end || !logPartIsValid(bytes, view, position, crc32)) return null
    const part = readLogPart(view, position)
    if (part.index !== envelope.firstIndex + i) return null
    contentChecksum = addToContentChecksum(contentChecksum, view.getUint32(position, true))
    const isWhole = checkBatchAt(block, position, end, memory) !== null
    const open = isOpen ? found.at(-1) : undefined
    if (isWhole && open !== undefined) open.next = part
    else if (!isWhole && open === undefined) found.push({ first: part, next: null })
    isOpen = !isWhole
    position += LOG_PART_BYTES + part.clientLength
  }
  return position === end && contentChecksum === envelope.contentChecksum && found.length > 0 ? found : null
}
