// The header of a slot: one block that says whose the slot is. Four blocks of a slot may hold one (slot-layout.ts).
//
//   0  u32  checksum: CRC-32 of bytes 4 to 224
//   4  u32  magic "MRSL"
//   8  u8   version of this layout: 1
//   9  u8   state: 0 free, 1 owned by a log
//  10  u16  flags: bit 0 the slot was written through, bit 1 there is a checkpoint, bit 2 the log begins anew here
//  12  u32  slot id
//  16  u32  slot bytes
//  20  u32  generation: even while free, odd while owned, never going back
//  24  u32  sequence of this header within the generation
//  28  u32  node id
//  32  16B  disk id
//  48  u32  topic id, 52 u32 partition, 56 u16 lane: the owner
//  58  u16  length of the cluster id, which stands at 160
//  60  u32  previous: checksum of the group before the first one of this slot; 0 when there is none
//  64  u64  base position: where in its log the first group stands
//  72  u64  base index: of the first batch in the slot
//  80  u64  base offset: of the first record in the slot
//  88  u64  greatest timestamp of all records before the slot
//  96  u64  index position: of the index group of the slot before this one in the log; 0 for none
// 104  u64  checkpoint position: of a flushed checkpoint group in this slot (flag bit 1)
// 112  u64  watermark: every byte of the log before this position was flushed when the header was written
// 120  u32  look-ahead: a group that begins so far after a position in this slot or later was submitted after that
//           position was flushed
// 124  u32  zero
// 128  u64  greatest append time of all batches before the slot; 0 when that is not known
// 136  u64  cut from: what the log holds from this position on, up to this slot, is no part of it any more (flag bit 2)
// 144       zeros
// 160  64B  cluster id in UTF-8, zeros behind it
import { type ChecksumFunction, readU64, writeU64 } from '@millrace/protocol'
import type { LogKey } from './log-store.js'

export const SLOT_HEADER_BYTES = 224
export const SLOT_MAGIC = 0x4c53524d
export const SLOT_VERSION = 1
export const MAX_CLUSTER_ID_BYTES = 64

/** Whose disk it is; the same in every slot. */
export interface SlotIdentity {
  readonly clusterId: string
  readonly nodeId: number
  /** 32 hexadecimal digits. */
  readonly diskId: string
}

export interface SlotOwner {
  readonly key: LogKey
  readonly previous: number
  readonly basePosition: number
  readonly baseIndex: number
  readonly baseOffset: number
  readonly maxTimestampBefore: number
  readonly lastAppendTimeBefore: number
  readonly indexPosition: number
  readonly checkpointPosition: number | null
  readonly watermark: number
  readonly lookAheadBytes: number
  /** Of a slot with which the log begins anew: nothing from this position on, up to the slot, belongs to it; else null. */
  readonly cutFrom: number | null
}

export interface SlotHeader {
  readonly identity: SlotIdentity
  readonly slotId: number
  readonly slotBytes: number
  readonly generation: number
  readonly sequence: number
  /** Every block was written once, so that a flush of the device makes later writes durable. */
  readonly writtenThrough: boolean
  /** Null while the slot is free. */
  readonly owner: SlotOwner | null
}

const WRITTEN_THROUGH = 1
const HAS_CHECKPOINT = 2
const BEGINS_ANEW = 4
const NO_OWNER: SlotOwner = {
  key: { topicId: 0, partition: 0, lane: 0 },
  previous: 0,
  basePosition: 0,
  baseIndex: 0,
  baseOffset: 0,
  maxTimestampBefore: 0,
  lastAppendTimeBefore: 0,
  indexPosition: 0,
  checkpointPosition: null,
  watermark: 0,
  lookAheadBytes: 0,
  cutFrom: null,
}

const decoder = new TextDecoder()
const HEXADECIMAL = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, '0'))

/** Whether a stretch of whole eighths is all zeros. Every slot is asked at start, so it goes by words. */
export function isZero(view: DataView, from: number, to: number): boolean {
  for (let at = from; at < to; at += 8) {
    if ((view.getInt32(at, true) | view.getInt32(at + 4, true)) !== 0) return false
  }
  return true
}

/** Fills the block at `at`, all 4,096 bytes of it given as `bytes.length - at` or more. */
export function writeSlotHeader(
  bytes: Uint8Array,
  view: DataView,
  at: number,
  header: SlotHeader,
  crc: ChecksumFunction,
): void {
  bytes.fill(0, at, at + 4096)
  const owner = header.owner ?? NO_OWNER
  const cluster = new TextEncoder().encode(header.identity.clusterId)
  const flags =
    (header.writtenThrough ? WRITTEN_THROUGH : 0) |
    (owner.checkpointPosition === null ? 0 : HAS_CHECKPOINT) |
    (owner.cutFrom === null ? 0 : BEGINS_ANEW)
  view.setUint32(at + 4, SLOT_MAGIC, true)
  view.setUint8(at + 8, SLOT_VERSION)
  view.setUint8(at + 9, header.owner === null ? 0 : 1)
  view.setUint16(at + 10, flags, true)
  view.setUint32(at + 12, header.slotId, true)
  view.setUint32(at + 16, header.slotBytes, true)
  view.setUint32(at + 20, header.generation, true)
  view.setUint32(at + 24, header.sequence, true)
  view.setUint32(at + 28, header.identity.nodeId, true)
  for (let i = 0; i < 16; i++) {
    bytes[at + 32 + i] = Number.parseInt(header.identity.diskId.slice(i * 2, i * 2 + 2), 16)
  }
  view.setUint32(at + 48, owner.key.topicId, true)
  view.setUint32(at + 52, owner.key.partition, true)
  view.setUint16(at + 56, owner.key.lane, true)
  view.setUint16(at + 58, cluster.length, true)
  view.setUint32(at + 60, owner.previous, true)
  writeU64(view, at + 64, owner.basePosition)
  writeU64(view, at + 72, owner.baseIndex)
  writeU64(view, at + 80, owner.baseOffset)
  writeU64(view, at + 88, owner.maxTimestampBefore)
  writeU64(view, at + 96, owner.indexPosition)
  writeU64(view, at + 104, owner.checkpointPosition ?? 0)
  writeU64(view, at + 112, owner.watermark)
  view.setUint32(at + 120, owner.lookAheadBytes, true)
  writeU64(view, at + 128, owner.lastAppendTimeBefore)
  writeU64(view, at + 136, owner.cutFrom ?? 0)
  bytes.set(cluster, at + 160)
  view.setUint32(at, crc(bytes.subarray(at + 4, at + SLOT_HEADER_BYTES), 0), true)
}

export type ReadSlotHeader =
  | { readonly kind: 'header'; readonly header: SlotHeader }
  /** Every byte of the header is zero. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'invalid' }
  /** A whole header of a version this program does not know. */
  | { readonly kind: 'unknownVersion'; readonly version: number }

export function readSlotHeader(bytes: Uint8Array, view: DataView, at: number, crc: ChecksumFunction): ReadSlotHeader {
  const field = bytes.subarray(at, at + SLOT_HEADER_BYTES)
  if (view.getUint32(at + 4, true) !== SLOT_MAGIC) {
    return { kind: isZero(view, at, at + SLOT_HEADER_BYTES) ? 'empty' : 'invalid' }
  }
  if (view.getUint32(at, true) !== crc(field.subarray(4), 0)) return { kind: 'invalid' }
  const version = view.getUint8(at + 8)
  if (version !== SLOT_VERSION) return { kind: 'unknownVersion', version }
  const state = view.getUint8(at + 9)
  const clusterLength = view.getUint16(at + 58, true)
  if (state > 1 || clusterLength > MAX_CLUSTER_ID_BYTES) return { kind: 'invalid' }
  let diskId = ''
  for (let i = 32; i < 48; i++) diskId += HEXADECIMAL[field[i]!]!
  const flags = view.getUint16(at + 10, true)
  const header: SlotHeader = {
    identity: {
      clusterId: decoder.decode(field.subarray(160, 160 + clusterLength)),
      nodeId: view.getUint32(at + 28, true),
      diskId,
    },
    slotId: view.getUint32(at + 12, true),
    slotBytes: view.getUint32(at + 16, true),
    generation: view.getUint32(at + 20, true),
    sequence: view.getUint32(at + 24, true),
    writtenThrough: (flags & WRITTEN_THROUGH) !== 0,
    owner: state === 0 ? null : readOwner(view, at, flags),
  }
  return { kind: 'header', header }
}

function readOwner(view: DataView, at: number, flags: number): SlotOwner {
  return {
    key: {
      topicId: view.getUint32(at + 48, true),
      partition: view.getUint32(at + 52, true),
      lane: view.getUint16(at + 56, true),
    },
    previous: view.getUint32(at + 60, true),
    basePosition: readU64(view, at + 64),
    baseIndex: readU64(view, at + 72),
    baseOffset: readU64(view, at + 80),
    maxTimestampBefore: readU64(view, at + 88),
    indexPosition: readU64(view, at + 96),
    checkpointPosition: (flags & HAS_CHECKPOINT) === 0 ? null : readU64(view, at + 104),
    watermark: readU64(view, at + 112),
    lookAheadBytes: view.getUint32(at + 120, true),
    lastAppendTimeBefore: readU64(view, at + 128),
    cutFrom: (flags & BEGINS_ANEW) === 0 ? null : readU64(view, at + 136),
  }
}
