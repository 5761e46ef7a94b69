// Finds a checkpoint of a log whose headers name none any more, by walking the groups from the first one that is there.
import { DiskError, type Memory } from '../environment.js'
import { type Checkpoint, checkpointOf } from './checkpoint.js'
import { checkGroup } from './group-check.js'
import { ENVELOPE_BYTES, type GroupEnvelope, isCheckpoint } from './group-envelope.js'
import type { FoundGroup, GroupSource } from './group-source.js'
import { logStartOf } from './log-start.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'

export interface ReadCheckpoint {
  readonly checkpoint: Checkpoint
  readonly envelope: GroupEnvelope
}

/** What a group says as a checkpoint; null when it is none, or is not whole. */
export function checkpointIn(segment: Segment, group: FoundGroup, memory: Memory): ReadCheckpoint | null {
  const { block, at, envelope } = group
  if (!isCheckpoint(envelope) || checkGroup(block, at, envelope, memory) === null) return null
  const checkpoint = checkpointOf(segment, block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length), envelope)
  return checkpoint === null ? null : { checkpoint, envelope }
}

/**
 * The first checkpoint from which the log can be known although its beginning was given back: the log start that allowed
 * that is in it, or in a batch behind. Each group has to follow the one before, so that none of an earlier life counts.
 */
export async function checkpointOnTheWay(
  segments: readonly Segment[],
  source: GroupSource,
  memory: Memory,
): Promise<(ReadCheckpoint & { readonly segmentNumber: number }) | null> {
  const { firstIndex, basePosition, owner } = segments[0]!
  let found: (ReadCheckpoint & { readonly segmentNumber: number }) | null = null
  let number = 0
  let position = basePosition
  let previous = owner.previous
  while (true) {
    const next = segments[number + 1]
    if (next !== undefined && next.basePosition === position && next.owner.previous === previous) number++
    const segment = segments[number]!
    const group = await readableGroupAt(source, segment, position)
    if (group === null || group.envelope.previous !== previous) return null
    const { block, at, envelope } = group
    const batches = checkGroup(block, at, envelope, memory)
    if (batches === null) return null
    const read = checkpointIn(segment, group, memory)
    if (read !== null) found = { segmentNumber: number, ...read }
    for (const { part, header, clientAt } of batches) {
      const start = logStartOf(header, block.bytes, clientAt)
      if (start !== null) found?.checkpoint.starts.propose(part.index, start)
    }
    if (found?.checkpoint.starts.cover(firstIndex)) return found
    position += padded(envelope.length)
    previous = envelope.checksum
  }
}

async function readableGroupAt(source: GroupSource, segment: Segment, position: number): Promise<FoundGroup | null> {
  try {
    return await source.groupAt(segment, position)
  } catch (cause) {
    if (cause instanceof DiskError && cause.code === 'INPUT_OUTPUT') return null
    throw cause
  }
}
