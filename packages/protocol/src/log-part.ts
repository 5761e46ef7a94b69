// The log part of a batch: stamped once by the leader in front of the client part, identical on every replica.
//
//   0  u32  checksum: CRC-32 of bytes 4 to 40
//   4  u32  term of the leader that appended it
//   8  u64  base offset: that of the first record
//  16  u64  index of the batch in the partition's log, from 1
//  24  u64  append time, milliseconds since 1970
//  32  u32  length of the client part that follows
//  36  u32  checksum of the client part: ties the two together
import type { ChecksumFunction } from './checksum.js'
import { ProtocolError } from './errors.js'
import { MAX_BATCH_BYTES, MAX_RECORDS_PER_BATCH } from './limits.js'
import { BATCH_HEADER_BYTES, readU64, writeU64 } from './record-batch.js'

export const LOG_PART_BYTES = 40
const MAX_BASE_OFFSET = Number.MAX_SAFE_INTEGER - MAX_RECORDS_PER_BATCH

export interface LogPart {
  readonly term: number
  readonly baseOffset: number
  readonly index: number
  /** Milliseconds since 1970. */
  readonly appendTime: number
  readonly clientLength: number
  readonly clientChecksum: number
}

/** Writes a log part of 40 bytes at `at`, its checksum included. */
export function writeLogPart(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  part: LogPart,
  crc: ChecksumFunction,
): void {
  view.setUint32(at + 4, part.term, true)
  writeU64(view, at + 8, part.baseOffset)
  writeU64(view, at + 16, part.index)
  writeU64(view, at + 24, part.appendTime)
  view.setUint32(at + 32, part.clientLength, true)
  view.setUint32(at + 36, part.clientChecksum, true)
  view.setUint32(at, crc(bytes.subarray(at + 4, at + LOG_PART_BYTES), 0), true)
}

/** Reads a log part without verifying its checksum; 40 bytes are there. */
export function readLogPart(view: DataView, at: number): LogPart {
  return {
    term: view.getUint32(at + 4, true),
    baseOffset: readU64(view, at + 8),
    index: readU64(view, at + 16),
    appendTime: readU64(view, at + 24),
    clientLength: view.getUint32(at + 32, true),
    clientChecksum: view.getUint32(at + 36, true),
  }
}

export function logPartIsValid(bytes: Uint8Array, view: DataView, at: number, crc: ChecksumFunction): boolean {
  return view.getUint32(at, true) === crc(bytes.subarray(at + 4, at + LOG_PART_BYTES), 0)
}

/** One batch as consumers and followers get it: log part, then client part. Offsets are into `bytes`. */
export interface LoggedBatch extends LogPart {
  /** Where the client part begins. */
  readonly clientStart: number
  /** Where the next batch begins. */
  readonly end: number
}

/**
 * Walks a list of batches. Verifies every log part, and that the client part behind it is the one it was written for;
 * the checksum over the client part is left to whoever reads the records.
 * @throws ProtocolError CORRUPT_BATCH for a bad log part or a batch cut short.
 */
export function* loggedBatches(bytes: Uint8Array, crc: ChecksumFunction): Generator<LoggedBatch> {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let at = 0
  while (at < bytes.length) {
    if (bytes.length - at < LOG_PART_BYTES) throw new ProtocolError('CORRUPT_BATCH', `a log part cut short at ${at}`)
    if (!logPartIsValid(bytes, view, at, crc)) throw new ProtocolError('CORRUPT_BATCH', `a bad log part at ${at}`)
    const part = readLogPart(view, at)
    checkPositions(part, at)
    const clientStart = at + LOG_PART_BYTES
    const end = clientStart + part.clientLength
    if (part.clientLength < BATCH_HEADER_BYTES || part.clientLength > MAX_BATCH_BYTES || end > bytes.length) {
      throw new ProtocolError('CORRUPT_BATCH', `a client part of ${part.clientLength} bytes at ${clientStart}`)
    }
    if (view.getUint32(clientStart, true) !== part.clientChecksum) {
      throw new ProtocolError('CORRUPT_BATCH', `the log part at ${at} belongs to another client part`)
    }
    yield { ...part, clientStart, end }
    at = end
  }
}

/** Positions are safe integers, and stay so when the offset deltas of the batch are added. */
function checkPositions(part: LogPart, at: number): void {
  const { baseOffset, index, appendTime } = part
  if (baseOffset <= MAX_BASE_OFFSET && Number.isSafeInteger(index) && Number.isSafeInteger(appendTime)) return
  throw new ProtocolError('CORRUPT_BATCH', `a number above 2^53 in the log part at ${at}`)
}
