// One record of the vote journal: who this node has voted for in which term, of some groups or of all of them.
//
//   0  u32  checksum: CRC-32 of bytes 4 to the end of the last entry
//   4  u32  magic "MRVT"
//   8  u8   version of this layout: 2; 1 knew nothing of mark 16
//   9  u8   kind: 0 changes, 1 snapshot of every entry
//  10  u16  flags: bit 0 entries were lost, so a group that is not there may have had one
//  12  u32  generation: of the snapshot that the record follows
//  16  u32  sequence within the generation; 0 for the snapshot
//  20  u32  previous: checksum of the record before; 0 for the snapshot
//  24  u32  node id, 28 16B disk id
//  44  u32  count of entries
//  48       entries, 20 bytes each, then zeros to the next multiple of 4,096:
//           u32 topic id, u32 partition, u16 lane, u16 marks, u32 term, u32 voted for
import type { ChecksumFunction } from '@millrace/protocol'
import { BLOCK_BYTES } from '../environment.js'
import { ForeignSlotError, type LogKey } from './log-store.js'
import type { SlotIdentity } from './slot-header.js'

export const VOTE_RECORD_MAGIC = 0x5456524d
export const VOTE_RECORD_VERSION = 2
export const VOTE_HEADER_BYTES = 48
export const VOTE_ENTRY_BYTES = 20

/** What an entry says besides term and vote, one bit each. */
export const VOTE_MARKS = {
  /** The group is gone: so is its entry. */
  forgotten: 1,
  /** Term and vote could not be read any more; the term is the highest that is known. */
  lost: 2,
  /** The replica may lack batches that it had acknowledged. */
  damaged: 4,
  /** The power failed since the replica was last known to lack nothing. */
  powerLost: 8,
  /**
   * Nothing of a log of the group was ever on disk, so that none can be missing. Of what is not marked, the log is lost when
   * it cannot be found; that is all that entries of version 1 say.
   */
  withoutLog: 16,
} as const

/** Those that version 1 knew. */
const FIRST_MARKS = VOTE_MARKS.forgotten | VOTE_MARKS.lost | VOTE_MARKS.damaged | VOTE_MARKS.powerLost

export interface VoteEntry {
  readonly key: LogKey
  readonly term: number
  readonly votedFor: number
  readonly marks: number
}

export interface VoteRecord {
  readonly checksum: number
  readonly isSnapshot: boolean
  readonly isIncomplete: boolean
  readonly generation: number
  readonly sequence: number
  readonly previous: number
  readonly entries: readonly VoteEntry[]
  /** With the padding. */
  readonly byteLength: number
}

export function voteRecordBytes(entries: number): number {
  return Math.ceil((VOTE_HEADER_BYTES + entries * VOTE_ENTRY_BYTES) / BLOCK_BYTES) * BLOCK_BYTES
}

/** Writes a record at the beginning of `bytes`, padding included. @returns its checksum, which the next one refers to. */
export function writeVoteRecord(
  bytes: Uint8Array,
  view: DataView,
  record: Omit<VoteRecord, 'checksum' | 'byteLength'>,
  { nodeId, diskId }: SlotIdentity,
  crc: ChecksumFunction,
): number {
  const { entries } = record
  const end = VOTE_HEADER_BYTES + entries.length * VOTE_ENTRY_BYTES
  bytes.fill(0, 0, voteRecordBytes(entries.length))
  view.setUint32(4, VOTE_RECORD_MAGIC, true)
  view.setUint8(8, VOTE_RECORD_VERSION)
  view.setUint8(9, record.isSnapshot ? 1 : 0)
  view.setUint16(10, record.isIncomplete ? 1 : 0, true)
  view.setUint32(12, record.generation, true)
  view.setUint32(16, record.sequence, true)
  view.setUint32(20, record.previous, true)
  view.setUint32(24, nodeId, true)
  for (let i = 0; i < 16; i++) bytes[28 + i] = Number.parseInt(diskId.slice(i * 2, i * 2 + 2), 16)
  view.setUint32(44, entries.length, true)
  for (const [i, { key, marks, term, votedFor }] of entries.entries()) {
    const at = VOTE_HEADER_BYTES + i * VOTE_ENTRY_BYTES
    view.setUint32(at, key.topicId, true)
    view.setUint32(at + 4, key.partition, true)
    view.setUint16(at + 8, key.lane, true)
    view.setUint16(at + 10, marks, true)
    view.setUint32(at + 12, term, true)
    view.setUint32(at + 16, votedFor, true)
  }
  const checksum = crc(bytes.subarray(4, end), 0)
  view.setUint32(0, checksum, true)
  return checksum
}

/**
 * The record that stands at `at`, or null when no whole one does.
 * @throws ForeignSlotError when it is of another version, node or disk.
 */
export function readVoteRecord(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  identity: SlotIdentity,
  crc: ChecksumFunction,
): VoteRecord | null {
  if (at + VOTE_HEADER_BYTES > bytes.length || view.getUint32(at + 4, true) !== VOTE_RECORD_MAGIC) return null
  const count = view.getUint32(at + 44, true)
  const end = at + VOTE_HEADER_BYTES + count * VOTE_ENTRY_BYTES
  if (end > bytes.length) return null
  const checksum = view.getUint32(at, true)
  if (checksum !== crc(bytes.subarray(at + 4, end), 0)) return null
  assertOurs(bytes, view, at, identity)
  const entries: VoteEntry[] = []
  const known = view.getUint8(at + 8) === 1 ? FIRST_MARKS : FIRST_MARKS | VOTE_MARKS.withoutLog
  for (let from = at + VOTE_HEADER_BYTES; from < end; from += VOTE_ENTRY_BYTES) {
    const topicId = view.getUint32(from, true)
    const partition = view.getUint32(from + 4, true)
    entries.push({
      key: { topicId, partition, lane: view.getUint16(from + 8, true) },
      marks: view.getUint16(from + 10, true) & known,
      term: view.getUint32(from + 12, true),
      votedFor: view.getUint32(from + 16, true),
    })
  }
  return {
    checksum,
    isSnapshot: view.getUint8(at + 9) === 1,
    isIncomplete: (view.getUint16(at + 10, true) & 1) !== 0,
    generation: view.getUint32(at + 12, true),
    sequence: view.getUint32(at + 16, true),
    previous: view.getUint32(at + 20, true),
    entries,
    byteLength: voteRecordBytes(count),
  }
}

function assertOurs(bytes: Uint8Array, view: DataView, at: number, { nodeId, diskId }: SlotIdentity): void {
  const version = view.getUint8(at + 8)
  if (version < 1 || version > VOTE_RECORD_VERSION) {
    throw new ForeignSlotError(`the vote journal has format version ${version}, which this broker does not know`)
  }
  const theirNode = view.getUint32(at + 24, true)
  const theirDisk = Array.from(bytes.subarray(at + 28, at + 44), (byte) => byte.toString(16).padStart(2, '0')).join('')
  if (theirNode === nodeId && theirDisk === diskId) return
  throw new ForeignSlotError(
    `the vote journal belongs to node ${theirNode} on disk ${theirDisk}, not to node ${nodeId} on disk ${diskId}; ` +
      'nothing was changed',
  )
}
