// Entries of a log as they come from a peer: batches that stand in the block of their frame, checked as far as can be
// told without reading the records.
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  LOG_PART_BYTES,
  type LogPart,
  MAX_BATCH_BYTES,
  MAX_RECORDS_PER_BATCH,
  ProtocolError,
  type RaftAppend,
  readBatchHeader,
  readLogPart,
} from '@millrace/protocol'
import type { Block, Memory } from '../environment.js'
import type { AppendRequest, Configuration, Entry } from '../raft/raft-types.js'

/** A batch by reference. */
export interface LoggedEntry extends Entry {
  readonly block: Block
  /** Where the log part begins in the block, and where the client part does. */
  readonly at: number
  readonly clientAt: number
  /** Of both parts. */
  readonly byteLength: number
  readonly part: LogPart
  readonly header: BatchHeader
}

/** Entries that stand in a block; whoever gets them gives it back, once, when none of them is needed any more. */
export interface IncomingAppend {
  readonly message: AppendRequest<LoggedEntry>
  release(): void
}

/** The configuration that a control batch brings; null for all others. Checksums of control batches hold. */
export type DecodeConfiguration = (header: BatchHeader, bytes: Uint8Array, clientAt: number) => Configuration | null

const MAX_BASE_OFFSET = Number.MAX_SAFE_INTEGER - MAX_RECORDS_PER_BATCH
/** The checksum of a client part, and that of a log part, cover what follows it. */
const CHECKSUM_BYTES = 4

function corrupt(detail: string): never {
  throw new ProtocolError('CORRUPT_BATCH', detail)
}

/** What the next batch of a frame has to follow. */
interface Before {
  index: number
  term: number
  nextOffset: number
}

/**
 * The entries of an append frame, which fills `length` bytes of `block`. Log parts are verified, and that each belongs
 * to the client part behind it; records are left to the log. Nothing is copied.
 * @throws ProtocolError CORRUPT_BATCH, INVALID_BATCH and others of `readBatchHeader`.
 */
export function readEntries(
  memory: Memory,
  block: Block,
  length: number,
  frame: RaftAppend,
  decodeConfiguration: DecodeConfiguration,
): readonly LoggedEntry[] {
  const entries: LoggedEntry[] = []
  const before: Before = { index: frame.previousIndex, term: frame.previousTerm, nextOffset: 0 }
  let at = frame.batchesStart
  for (let i = 0; i < frame.batchCount; i++) {
    const entry = readEntry(memory, block, at, length, decodeConfiguration)
    checkPlace(entry, frame, before)
    at += entry.byteLength
    entries.push(entry)
  }
  if (at !== length) corrupt(`${length - at} bytes behind the last batch`)
  return entries
}

function readEntry(
  memory: Memory,
  block: Block,
  at: number,
  end: number,
  decodeConfiguration: DecodeConfiguration,
): LoggedEntry {
  if (end - at < LOG_PART_BYTES + BATCH_HEADER_BYTES) corrupt(`a batch cut short at ${at}`)
  const { view, bytes } = block
  const checksum = memory.checksum(block, at + CHECKSUM_BYTES, LOG_PART_BYTES - CHECKSUM_BYTES, 0)
  if (view.getUint32(at, true) !== checksum) corrupt(`a bad log part at ${at}`)
  const part = readLogPart(view, at)
  const clientAt = at + LOG_PART_BYTES
  const { clientLength } = part
  if (clientLength < BATCH_HEADER_BYTES || clientLength > MAX_BATCH_BYTES || clientLength > end - clientAt) {
    corrupt(`a client part of ${clientLength} bytes at ${clientAt}`)
  }
  const header = readBatchHeader(view, clientAt)
  if (header.length !== clientLength || header.checksum !== part.clientChecksum) {
    corrupt(`the log part at ${at} belongs to another client part`)
  }
  let configuration: Configuration | null = null
  if (header.control) {
    const covered = memory.checksum(block, clientAt + CHECKSUM_BYTES, clientLength - CHECKSUM_BYTES, 0)
    if (covered !== header.checksum) corrupt(`a damaged control batch at ${clientAt}`)
    configuration = decodeConfiguration(header, bytes, clientAt)
  }
  const byteLength = LOG_PART_BYTES + clientLength
  return { term: part.term, configuration, byteLength, block, at, clientAt, part, header }
}

/** Indexes are dense, terms never fall, offsets follow one another, and the batch is of this group. */
function checkPlace({ part, header }: LoggedEntry, frame: RaftAppend, before: Before): void {
  const { group } = frame
  if (header.topicId !== group.topicId || header.partition !== group.partition || header.lane !== group.lane) {
    corrupt(`a batch of topic ${header.topicId}, partition ${header.partition} in another one's frame`)
  }
  const { index, term, baseOffset, appendTime } = part
  if (!Number.isSafeInteger(index) || index !== before.index + 1) corrupt(`index ${index} after ${before.index}`)
  if (term < before.term || term > frame.term) corrupt(`term ${term} after ${before.term}, in term ${frame.term}`)
  const follows = baseOffset >= before.nextOffset && baseOffset <= MAX_BASE_OFFSET
  if (!follows || !Number.isSafeInteger(appendTime)) corrupt(`offset ${baseOffset} at index ${index}`)
  before.index = index
  before.term = term
  before.nextOffset = header.control ? baseOffset : baseOffset + header.lastOffsetDelta + 1
}
