// Finds the sparse index of a finished segment: from its index group, or by walking the segment when that is lost.
import { crc32, ProtocolError, Reader, Writer } from '@millrace/protocol'
import { FrameWindow } from './frame-window.js'
import { ENVELOPE_BYTES, GROUP_KINDS } from './group-envelope.js'
import { type LogKey, StorageError } from './log-store.js'
import type { Segment } from './segment.js'
import { SegmentWalk, WALK_EVERYTHING } from './segment-walk.js'
import { indexIntervalOf } from './slot-layout.js'
import { SparseIndex } from './sparse-index.js'
import type { StorageContext } from './storage-context.js'
import type { Truncations } from './truncations.js'

/** The content of an index group. */
export function encodeIndex(index: SparseIndex): Uint8Array {
  const writer = new Writer(1024)
  index.encode(writer)
  return writer.written()
}

/**
 * Loads the index of a segment once, however many ask. The caller has a reservation of two frames at least.
 * @throws StorageError DAMAGED, DiskError, ProtocolError OVERLOADED.
 */
export function indexOf(
  context: StorageContext,
  key: LogKey,
  segment: Segment,
  next: Segment | undefined,
  truncations: Truncations,
) {
  if (segment.index !== null) return segment.index
  segment.loadingIndex ??= loadIndex(context, key, segment, next, truncations).then(
    (index) => {
      // What the slot says of itself is older than a truncation that reached back into it.
      dropDeadEntries(index, truncations)
      segment.index = index
      segment.loadingIndex = null
      return index
    },
    (cause: unknown) => {
      segment.loadingIndex = null
      throw cause
    },
  )
  return segment.loadingIndex
}

/** Entries of groups that were cut off would be out of order among those that came instead. */
export function dropDeadEntries(index: SparseIndex, truncations: Truncations): void {
  if (truncations.length > 0) index.drop(({ position, firstIndex }) => truncations.isDead(position, firstIndex))
}

async function loadIndex(
  context: StorageContext,
  key: LogKey,
  segment: Segment,
  next: Segment | undefined,
  truncations: Truncations,
): Promise<SparseIndex> {
  const end = segment.endPosition ?? segment.limit
  const window = new FrameWindow(
    context.frames,
    context.environment.memory,
    segment.source,
    segment.filePositionOf(end),
  )
  const walk = new SegmentWalk(window, key, segment)
  try {
    const position = next?.owner.indexPosition ?? 0
    if (position > segment.basePosition && position < end) {
      const stored = await readIndexGroup(walk, window, segment, position)
      if (stored?.isWithin(segment.basePosition, end)) return stored
    }
    window.releaseAll()
    // The index is the last group of its slot: it may be what is damaged, and has nothing behind it.
    const dataEnd = position > segment.basePosition && position < end ? position : end
    return await rebuildIndex(walk, segment, dataEnd, truncations)
  } finally {
    window.releaseAll()
  }
}

/** The index in its group, or null when the group is not what it should be: it is only a shortcut. */
async function readIndexGroup(
  walk: SegmentWalk,
  window: FrameWindow,
  segment: Segment,
  position: number,
): Promise<SparseIndex | null> {
  try {
    const envelope = await walk.envelopeAt(position)
    if (envelope.kind !== GROUP_KINDS.index) return null
    const from = segment.filePositionOf(position) + ENVELOPE_BYTES
    const content = new Uint8Array(envelope.length - ENVELOPE_BYTES)
    if (!(await window.pin(from, from + content.length))) return null
    window.copy(from, content)
    if (crc32(content, 0) !== envelope.contentChecksum) return null
    return SparseIndex.decode(new Reader(content), indexIntervalOf(segment.slot.byteLength))
  } catch (cause) {
    if (cause instanceof StorageError || (cause instanceof ProtocolError && cause.code === 'CORRUPT_FRAME')) return null
    throw cause
  }
}

/**
 * From the envelopes alone. Where one is damaged the index ends, and says of no time that it is not behind that place:
 * reading on from there finds the damage again. Groups that were cut off make no entries: those that came instead would hide in them, and go with them.
 */
async function rebuildIndex(
  walk: SegmentWalk,
  segment: Segment,
  end: number,
  truncations: Truncations,
): Promise<SparseIndex> {
  const index = new SparseIndex(indexIntervalOf(segment.slot.byteLength))
  try {
    await walk.run(segment.basePosition, end, {
      ...WALK_EVERYTHING,
      enter: (envelope) => {
        if (!truncations.isDead(envelope.position, envelope.firstIndex)) index.note(envelope)
        return false
      },
    })
  } catch (cause) {
    if (!(cause instanceof StorageError)) throw cause
    index.breakOff(segment.basePosition, segment.firstOffset)
  }
  return index
}
