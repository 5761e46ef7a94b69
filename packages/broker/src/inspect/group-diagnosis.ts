// Why a group is not what was written, in words: which batch of it, and what about it does not hold.
import {
  BATCH_CHECKSUM_START,
  BATCH_HEADER_BYTES,
  crc32,
  LOG_PART_BYTES,
  logPartIsValid,
  MAX_BATCH_BYTES,
  ProtocolError,
  readBatchHeader,
  readLogPart,
} from '@millrace/protocol'
import { BLOCK_BYTES, type Block, type Memory } from '../environment.js'
import { ENVELOPE_BYTES, GROUP_KINDS, GROUP_MAGIC, type GroupEnvelope } from '../storage/group-envelope.js'
import type { Segment } from '../storage/segment.js'

/** For a group whose envelope holds and whose content does not. @param at where the envelope stands in the block. */
export function whyGroupFails(block: Block, at: number, envelope: GroupEnvelope, memory: Memory): string {
  if (envelope.kind !== GROUP_KINDS.batches) return 'the checksum of its content does not hold'
  const end = at + envelope.length
  let position = at + ENVELOPE_BYTES
  for (let i = 0; i < envelope.batchCount; i++) {
    const why = whyBatchFails(block, position, end, memory)
    if (why !== null) return `batch ${envelope.firstIndex + i}: ${why}`
    const { index, clientLength } = readLogPart(block.view, position)
    if (index !== envelope.firstIndex + i) return `batch ${index} stands where ${envelope.firstIndex + i} belongs`
    position += LOG_PART_BYTES + clientLength
  }
  return 'its batches hold, and are not those that the envelope was written for'
}

function whyBatchFails(block: Block, at: number, end: number, memory: Memory): string | null {
  const { bytes, view } = block
  const clientAt = at + LOG_PART_BYTES
  if (clientAt + BATCH_HEADER_BYTES > end) return 'the group ends before it'
  if (!logPartIsValid(bytes, view, at, crc32)) return 'the checksum of its log part does not hold'
  const { clientLength, clientChecksum } = readLogPart(view, at)
  if (clientLength < BATCH_HEADER_BYTES || clientLength > MAX_BATCH_BYTES || clientAt + clientLength > end) {
    return `it has ${clientLength} bytes, which do not fit the group`
  }
  if (view.getUint32(clientAt, true) !== clientChecksum) return 'its log part was made for another client part'
  const from = BATCH_CHECKSUM_START
  const checksum = memory.checksum(block, clientAt + from, clientLength - from, 0)
  if (checksum !== clientChecksum) return 'the checksum of its client part does not hold'
  try {
    return readBatchHeader(view, clientAt).length === clientLength ? null : 'its two lengths differ'
  } catch (cause) {
    if (cause instanceof ProtocolError) return cause.detail
    throw cause
  }
}

/** For a place where a group ought to stand and no valid envelope of the log does. @throws DiskError. */
export async function whyNoGroup(segment: Segment, position: number, memory: Memory): Promise<string> {
  const from = segment.filePositionOf(position)
  if (from + BLOCK_BYTES > segment.slot.byteLength) return 'the segment ends there, and no other follows'
  const block = memory.allocate(BLOCK_BYTES)
  if (block === null) return 'no valid group stands there'
  try {
    const bytes = await segment.slot.file.read(from, block, 0, BLOCK_BYTES)
    if (bytes < BLOCK_BYTES) return 'the file ends before it'
    if (block.bytes.subarray(0, BLOCK_BYTES).every((byte) => byte === 0)) return 'nothing but zeros stands there'
    const isEnvelope = block.view.getUint32(4, true) === GROUP_MAGIC
    return isEnvelope ? 'the envelope that stands there does not hold, or is of another place' : 'no group stands there'
  } finally {
    memory.release(block)
  }
}
