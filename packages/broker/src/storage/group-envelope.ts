// The envelope of a group: what one write to a slot begins with. It never leaves the node.
//
//   0  u32  checksum: CRC-32 of bytes 4 to 96
//   4  u32  magic "MRGP"
//   8  u8   version of this layout: 1
//   9  u8   kind of content: 0 batches, 1 checkpoint, 2 index of the slot, 3 checkpoint with which the log begins anew
//  10  u16  lane          )
//  12  u32  topic id      ) the log
//  16  u32  partition     )
//  20  u32  slot id
//  24  u32  generation of the slot
//  28  u32  session: drawn at random when the store was opened
//  32  u64  position in the log
//  40  u64  durable to: every byte of the log before this position was flushed when the group was submitted
//  48  u32  length: envelope and content, without the padding to 4,096
//  52  u32  batch count; 0 unless the content is batches
//  56  u32  checksum of the content: of batches, CRC-32 over the checksums of their log parts (each of which covers its
//           client part's checksum); otherwise CRC-32 of the bytes
//  60  u32  previous: the checksum of the group before this one in the log; 0 for the first
//  64  u64  index of the first batch; without batches, of the next one
//  72  u64  offset of the first record; without records, of the next one
//  80  u64  greatest timestamp of a record in the group, 0 without
//  88  u64  of kind 3, the position from which on nothing before this group belongs to the log; zero otherwise
//  96       content, then zeros to the next multiple of 4,096
import { type ChecksumFunction, readU64, writeU64 } from '@millrace/protocol'
import type { LogKey } from './log-store.js'

export const ENVELOPE_BYTES = 96
export const GROUP_MAGIC = 0x5047524d
export const GROUP_VERSION = 1
export const GROUP_KINDS = { batches: 0, checkpoint: 1, index: 2, beginning: 3 } as const
export type GroupKind = (typeof GROUP_KINDS)[keyof typeof GROUP_KINDS]

export interface GroupEnvelope {
  readonly checksum: number
  readonly kind: GroupKind
  readonly key: LogKey
  readonly slotId: number
  readonly generation: number
  readonly session: number
  readonly position: number
  readonly durableTo: number
  readonly length: number
  readonly batchCount: number
  readonly contentChecksum: number
  readonly previous: number
  readonly firstIndex: number
  readonly firstOffset: number
  readonly lastTimestamp: number
  /** Of a beginning: what stands in the log from this position on, up to the group itself, is no part of it any more. */
  readonly cutFrom: number
}

/** Writes an envelope of 96 bytes at `at` and returns its checksum, which the next group refers to. */
export function writeEnvelope(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  envelope: Omit<GroupEnvelope, 'checksum'>,
  crc: ChecksumFunction,
): number {
  view.setUint32(at + 4, GROUP_MAGIC, true)
  view.setUint8(at + 8, GROUP_VERSION)
  view.setUint8(at + 9, envelope.kind)
  view.setUint16(at + 10, envelope.key.lane, true)
  view.setUint32(at + 12, envelope.key.topicId, true)
  view.setUint32(at + 16, envelope.key.partition, true)
  view.setUint32(at + 20, envelope.slotId, true)
  view.setUint32(at + 24, envelope.generation, true)
  view.setUint32(at + 28, envelope.session, true)
  writeU64(view, at + 32, envelope.position)
  writeU64(view, at + 40, envelope.durableTo)
  view.setUint32(at + 48, envelope.length, true)
  view.setUint32(at + 52, envelope.batchCount, true)
  view.setUint32(at + 56, envelope.contentChecksum, true)
  view.setUint32(at + 60, envelope.previous, true)
  writeU64(view, at + 64, envelope.firstIndex)
  writeU64(view, at + 72, envelope.firstOffset)
  writeU64(view, at + 80, envelope.lastTimestamp)
  writeU64(view, at + 88, envelope.cutFrom)
  const checksum = crc(bytes.subarray(at + 4, at + ENVELOPE_BYTES), 0)
  view.setUint32(at, checksum, true)
  return checksum
}

/** The envelope at `at`, 96 bytes of which are there, or null when no valid one of this version stands there. */
export function readEnvelope(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  crc: ChecksumFunction,
): GroupEnvelope | null {
  if (view.getUint32(at + 4, true) !== GROUP_MAGIC || view.getUint8(at + 8) !== GROUP_VERSION) return null
  const checksum = view.getUint32(at, true)
  if (checksum !== crc(bytes.subarray(at + 4, at + ENVELOPE_BYTES), 0)) return null
  const kind = view.getUint8(at + 9)
  if (!isKind(kind)) return null
  return {
    checksum,
    kind,
    key: {
      topicId: view.getUint32(at + 12, true),
      partition: view.getUint32(at + 16, true),
      lane: view.getUint16(at + 10, true),
    },
    slotId: view.getUint32(at + 20, true),
    generation: view.getUint32(at + 24, true),
    session: view.getUint32(at + 28, true),
    position: readU64(view, at + 32),
    durableTo: readU64(view, at + 40),
    length: view.getUint32(at + 48, true),
    batchCount: view.getUint32(at + 52, true),
    contentChecksum: view.getUint32(at + 56, true),
    previous: view.getUint32(at + 60, true),
    firstIndex: readU64(view, at + 64),
    firstOffset: readU64(view, at + 72),
    lastTimestamp: readU64(view, at + 80),
    cutFrom: readU64(view, at + 88),
  }
}

function isKind(kind: number): kind is GroupKind {
  return kind <= GROUP_KINDS.beginning
}

/** Whether a group says how the log is: recovery may begin with it. */
export function isCheckpoint({ kind }: Pick<GroupEnvelope, 'kind'>): boolean {
  return kind === GROUP_KINDS.checkpoint || kind === GROUP_KINDS.beginning
}

export function sameKey(a: LogKey, b: LogKey): boolean {
  return a.topicId === b.topicId && a.partition === b.partition && a.lane === b.lane
}

export function keyText(key: LogKey): string {
  return `${key.topicId}/${key.partition}/${key.lane}`
}
