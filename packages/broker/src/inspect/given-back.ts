// Slots that a log has given back, and that lost the header which said so before anybody else took them: recovery knows them
// by the gap behind them and by the log start, which is flushed before any slot is given back, and gives them back again.
import type { Memory } from '../environment.js'
import { checkpointOf } from '../storage/checkpoint.js'
import { ENVELOPE_BYTES, isCheckpoint } from '../storage/group-envelope.js'
import type { GroupSource } from '../storage/group-source.js'
import { beginOf } from '../storage/log-layout.js'
import { LogStarts, logStartOf } from '../storage/log-start.js'
import type { Segment } from '../storage/segment.js'
import { firstIndexOf, LogWalk } from './log-walk.js'

/** The segments of a log but for such slots at its beginning. Where no log start allows the gap, all of them: it is damage. */
export async function withoutGivenBack(
  segments: readonly Segment[],
  watermark: number,
  source: GroupSource,
  memory: Memory,
): Promise<readonly Segment[]> {
  const before = segments.findLastIndex((segment, i) => isGap(segment, segments[i + 1]))
  if (before < 0) return segments
  const kept = segments.slice(before + 1)
  let starts = new LogStarts()
  const walk = new LogWalk(source, memory, kept, watermark, ({ segment, block, at, envelope, batches }) => {
    if (isCheckpoint(envelope)) {
      const content = block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length)
      starts = checkpointOf(segment, content, envelope)?.starts ?? starts
    }
    for (const { part, header, clientAt } of batches) {
      const start = logStartOf(header, block.bytes, clientAt)
      if (start !== null) starts.propose(part.index, start)
    }
  })
  await walk.run()
  return kept.some((segment) => starts.cover(firstIndexOf(segment, walk))) ? kept : segments
}

/** Whether something stood between two segments. */
function isGap({ basePosition, limit }: Segment, next: Segment | undefined): boolean {
  if (next === undefined) return false
  const end = beginOf(next)
  return end <= basePosition || end > limit
}
