// Reads the headers of one slot file at start and says whose the slot is.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, DiskError, type DiskFile } from '../environment.js'
import { GROUP_KINDS, readEnvelope } from './group-envelope.js'
import { ForeignSlotError } from './log-store.js'
import type { PatientReads } from './patient-reads.js'
import { Slot, slotName } from './slot.js'
import { isZero, readSlotHeader, type SlotHeader, type SlotIdentity, type SlotOwner } from './slot-header.js'
import {
  CHECKPOINT_HEADER_POSITIONS,
  FREE_HEADER_POSITION,
  maxGroupBytesOf,
  ROLL_HEADER_POSITION,
  SLOT_DATA_START,
  unflushedWindowOf,
} from './slot-layout.js'

/** Headers and the first block of data. */
export const SCAN_BYTES = SLOT_DATA_START + BLOCK_BYTES

export interface OwnedSlot {
  readonly kind: 'owned'
  readonly slot: Slot
  readonly owner: SlotOwner
  readonly sequence: number
  /** Owners by all headers of this generation, latest first: each may name another checkpoint and watermark. */
  readonly copies: readonly SlotOwner[]
  /** The header was lost and read off the first group; it has to be written again. */
  readonly needsHeader: boolean
}

export type SlotReads = Pick<PatientReads, 'read'>

export type ScannedSlot =
  | OwnedSlot
  | { readonly kind: 'free'; readonly slot: Slot }
  /** Never owned: left over from filling. */
  | { readonly kind: 'unfinished'; readonly id: number; readonly file: DiskFile; readonly byteLength: number }
  /** No header can be read, and it is not empty: torn before anything in it was durable (or damaged all over). */
  | {
      readonly kind: 'unreadable'
      readonly id: number
      readonly file: DiskFile
      readonly reason: string
      /** The disk refuses to read it: what is in there may be whole. */
      readonly refused: boolean
    }

/**
 * @param listed asked only where no header tells the size: it may cost a call of the system.
 * @param block at least SCAN_BYTES, used during the call.
 * @throws ForeignSlotError when a header of another cluster, node, disk or version is found.
 */
export async function scanSlot(
  id: number,
  file: DiskFile,
  listed: { readonly byteLength: number },
  block: Block,
  identity: SlotIdentity,
  maxUnflushedBytes: number,
  reads: SlotReads,
): Promise<ScannedSlot> {
  block.bytes.fill(0, 0, SCAN_BYTES)
  try {
    await reads.read(file, 0, block, SCAN_BYTES)
  } catch (cause) {
    if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
    return { kind: 'unreadable', id, file, reason: cause.message, refused: true }
  }
  const headers = readHeaders(id, block, identity)
  const free = headers.find((header) => header.owner === null)
  const generation = Math.max(-1, ...headers.map((header) => header.generation))
  const owned = headers.filter((header) => header.owner !== null && header.generation === generation)
  const adopted = adoptFromFirstGroup(
    id,
    block,
    generation,
    headers[0]?.slotBytes ?? listed.byteLength,
    maxUnflushedBytes,
  )
  if (adopted !== null) {
    const writtenThrough = headers.some((header) => header.writtenThrough)
    const slot = slotOf(id, file, headers[0]?.slotBytes ?? listed.byteLength, adopted.generation, writtenThrough)
    return { kind: 'owned', slot, owner: adopted.owner, sequence: 0, copies: [adopted.owner], needsHeader: true }
  }
  if (owned.length > 0) {
    owned.sort((a, b) => b.sequence - a.sequence)
    const { slotBytes, writtenThrough, sequence } = owned[0]!
    const copies = owned.map((header) => header.owner!)
    const slot = slotOf(id, file, slotBytes, generation, writtenThrough)
    return { kind: 'owned', slot, owner: copies[0]!, sequence, copies, needsHeader: false }
  }
  if (free !== undefined) {
    return { kind: 'free', slot: slotOf(id, file, free.slotBytes, free.generation, free.writtenThrough) }
  }
  // The first header is written when everything else is zero and flushed: only it may be torn in a slot never owned.
  if (isZero(block.view, BLOCK_BYTES, SCAN_BYTES))
    return { kind: 'unfinished', id, file, byteLength: listed.byteLength }
  return { kind: 'unreadable', id, file, reason: 'no header is valid', refused: false }
}

function slotOf(id: number, file: DiskFile, byteLength: number, generation: number, writtenThrough: boolean): Slot {
  const slot = new Slot(id, byteLength, file, generation, writtenThrough)
  // The name of a slot that was filled is durable before its header; of others nobody knows.
  slot.needsDirectorySync = !writtenThrough
  return slot
}

function readHeaders(id: number, block: Block, identity: SlotIdentity): SlotHeader[] {
  const headers: SlotHeader[] = []
  for (const position of [FREE_HEADER_POSITION, ROLL_HEADER_POSITION, ...CHECKPOINT_HEADER_POSITIONS]) {
    const read = readSlotHeader(block.bytes, block.view, position, crc32)
    if (read.kind === 'unknownVersion') {
      throw new ForeignSlotError(`${slotName(id)} has format version ${read.version}, which this broker does not know`)
    }
    if (read.kind !== 'header') continue
    const { header } = read
    if ((header.owner === null) !== (position === FREE_HEADER_POSITION)) continue
    assertOurs(id, header, identity)
    if (header.slotId === id && header.generation % 2 === (header.owner === null ? 0 : 1)) headers.push(header)
  }
  return headers
}

function assertOurs(id: number, { identity: theirs }: SlotHeader, ours: SlotIdentity): void {
  const differences: string[] = []
  if (theirs.clusterId !== ours.clusterId) differences.push(`cluster ${theirs.clusterId}, not ${ours.clusterId}`)
  if (theirs.nodeId !== ours.nodeId) differences.push(`node ${theirs.nodeId}, not ${ours.nodeId}`)
  if (theirs.diskId !== ours.diskId) differences.push(`disk ${theirs.diskId}, not ${ours.diskId}`)
  if (differences.length > 0) {
    throw new ForeignSlotError(`${slotName(id)} belongs to ${differences.join(', ')}; nothing was changed`)
  }
}

/** The owner as its first group tells it, where that is of a later generation than every header. */
function adoptFromFirstGroup(
  id: number,
  block: Block,
  headerGeneration: number,
  slotBytes: number,
  maxUnflushedBytes: number,
): { readonly generation: number; readonly owner: SlotOwner } | null {
  const envelope = readEnvelope(block.bytes, block.view, SLOT_DATA_START, crc32)
  if (envelope === null || envelope.slotId !== id || envelope.generation <= headerGeneration) return null
  if (envelope.generation % 2 === 0) return null
  return {
    generation: envelope.generation,
    owner: {
      key: envelope.key,
      previous: envelope.previous,
      basePosition: envelope.position,
      baseIndex: envelope.firstIndex,
      baseOffset: envelope.firstOffset,
      // Nobody knows: it may have been any, unless there was nothing before.
      maxTimestampBefore: envelope.position === 0 ? 0 : Number.MAX_SAFE_INTEGER,
      lastAppendTimeBefore: 0,
      indexPosition: 0,
      checkpointPosition: null,
      watermark: envelope.durableTo,
      // What older versions wrote, which is more than `lookAheadOf`.
      lookAheadBytes: unflushedWindowOf(slotBytes, maxUnflushedBytes) + maxGroupBytesOf(slotBytes),
      cutFrom: envelope.kind === GROUP_KINDS.beginning ? envelope.cutFrom : null,
    },
  }
}
