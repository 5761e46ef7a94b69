// The content of a checkpoint group: everything recovery needs to go on from there instead of from the log start.
//
//   u16 length of the fixed part that follows
//     u64 index, u64 next offset, u32 term: of the last batch before the checkpoint
//     u64 greatest timestamp of all records so far, u64 greatest append time of all batches so far
//     u64 log start index, u64 log start offset, u32 term before the log start
//   u32 count of log starts proposed; each: u64 index of its control batch, u64 index, u64 offset, u32 term before
//   u32 count of truncations; each: u64 position, u64 last index kept, u64 next offset
//   u32 count of the term table; each: u32 term, u64 first index, u64 first offset
//   u32 count of the slot's index so far; each: u64 position, u64 first index, u64 first offset, u64 last timestamp
//   u32 length of the owner's state, then the state
import { ProtocolError, Reader, Writer } from '@millrace/protocol'
import type { GroupEnvelope } from './group-envelope.js'
import { LogStarts } from './log-start.js'
import type { Segment } from './segment.js'
import { indexIntervalOf } from './slot-layout.js'
import { SparseIndex } from './sparse-index.js'
import { TermTable } from './term-table.js'
import { Truncations } from './truncations.js'

export interface Checkpoint {
  readonly index: number
  readonly nextOffset: number
  readonly term: number
  readonly maxTimestamp: number
  readonly lastAppendTime: number
  readonly starts: LogStarts
  readonly truncations: Truncations
  readonly terms: TermTable
  readonly slotIndex: SparseIndex
  readonly state: Uint8Array
}

export function encodeCheckpoint(checkpoint: Checkpoint): Uint8Array {
  const writer = new Writer(checkpoint.state.length + 1024)
  writer.fixed(() => {
    writer.u64(checkpoint.index).u64(checkpoint.nextOffset).u32(checkpoint.term)
    writer.u64(checkpoint.maxTimestamp).u64(checkpoint.lastAppendTime)
    const { index, offset, previousTerm } = checkpoint.starts.current
    writer.u64(index).u64(offset).u32(previousTerm)
  })
  checkpoint.starts.encodeProposed(writer)
  checkpoint.truncations.encode(writer)
  checkpoint.terms.encode(writer)
  checkpoint.slotIndex.encode(writer)
  writer.u32(checkpoint.state.length).bytes(checkpoint.state)
  return writer.written()
}

/** @throws ProtocolError CORRUPT_FRAME for bytes that `encodeCheckpoint` did not write. */
export function decodeCheckpoint(bytes: Uint8Array, indexIntervalBytes: number): Checkpoint {
  const reader = new Reader(bytes)
  const { logStart, ...fixed } = reader.fixed(() => ({
    index: reader.u64(),
    nextOffset: reader.u64(),
    term: reader.u32(),
    maxTimestamp: reader.u64(),
    lastAppendTime: reader.u64(),
    logStart: { index: reader.u64(), offset: reader.u64(), previousTerm: reader.u32() },
  }))
  return {
    ...fixed,
    starts: LogStarts.decode(logStart, reader),
    truncations: Truncations.decode(reader),
    terms: TermTable.decode(reader),
    slotIndex: SparseIndex.decode(reader, indexIntervalBytes),
    state: reader.bytes(reader.u32()),
  }
}

/** What a checkpoint group says, or null when it does not fit its place. */
export function checkpointOf(segment: Segment, content: Uint8Array, envelope: GroupEnvelope): Checkpoint | null {
  try {
    const checkpoint = decodeCheckpoint(content, indexIntervalOf(segment.slot.byteLength))
    const fits = checkpoint.slotIndex.isWithin(segment.basePosition, envelope.position)
    return fits && checkpoint.index === envelope.firstIndex - 1 ? checkpoint : null
  } catch (cause) {
    if (cause instanceof ProtocolError) return null
    throw cause
  }
}
