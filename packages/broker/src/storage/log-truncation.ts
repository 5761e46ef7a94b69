// Makes the owner's state anew as it was at an earlier batch: from the last checkpoint before, by replay.
import { DiskError } from '../environment.js'
import { READ_RETRIES_PER_LOG } from '../limits.js'
import { type Checkpoint, checkpointOf } from './checkpoint.js'
import { checkGroup } from './group-check.js'
import { ENVELOPE_BYTES, GROUP_KINDS, isCheckpoint, keyText } from './group-envelope.js'
import { type FoundGroup, GroupSource } from './group-source.js'
import { type LogEnd, type LogKey, type LogState, StorageError } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import { endOffsetOf } from './read-selection.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'
import type { StorageContext } from './storage-context.js'

/**
 * Everything is flushed, and the log holds the batch.
 * @returns where the log ends with that batch. @throws StorageError DAMAGED.
 */
export async function rewindState(
  context: StorageContext,
  key: LogKey,
  writer: LogWriter,
  state: LogState,
  lastIndex: number,
): Promise<LogEnd> {
  const { memory, clock } = context.environment
  const source = new GroupSource(memory, clock, key, READ_RETRIES_PER_LOG)
  try {
    return await new Rewind(context, key, writer, state, source, lastIndex).run()
  } catch (cause) {
    if (!(cause instanceof DiskError)) throw cause
    throw new StorageError('DAMAGED', `log ${keyText(key)} cannot be read: ${cause.message}`, { cause })
  } finally {
    source.close()
  }
}

interface Place {
  readonly segment: number
  /** In the log. */
  readonly position: number
}

class Rewind {
  private index = 0
  private nextOffset = 0
  private term = 0
  /**
   * As they are when it begins: slots may be given back meanwhile. None of those is asked for, since the checkpoint that
   * recycling leaves behind is one that truncation cannot reach.
   */
  private readonly segments: readonly Segment[]

  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    private readonly writer: LogWriter,
    private readonly state: LogState,
    private readonly source: GroupSource,
    private readonly lastIndex: number,
  ) {
    this.segments = [...writer.chain.segments]
  }

  /**
   * Invariant: the last checkpoint on disk that is not above `lastIndex` was never cut off, and neither was any batch
   * behind it up to `lastIndex`. Either was cut off only by a checkpoint that lies lower still, and farther behind.
   */
  async run(): Promise<LogEnd> {
    const { segments } = this
    for (let i = segments.length - 1; i >= 0; i--) {
      const found = await this.lastCheckpointIn(segments[i]!)
      if (found === null) continue
      const { index, nextOffset, term, state } = found.checkpoint
      this.state.restoreState(state)
      this.index = index
      this.nextOffset = nextOffset
      this.term = term
      return this.replay({ segment: i, position: found.end })
    }
    const first = segments[0]
    if (first === undefined || first.basePosition !== 0) throw this.damaged(0, 'no checkpoint is left')
    this.state.restoreState(null)
    return this.replay({ segment: 0, position: 0 })
  }

  private async lastCheckpointIn(segment: Segment): Promise<{ checkpoint: Checkpoint; end: number } | null> {
    let found: { checkpoint: Checkpoint; end: number } | null = null
    for await (const group of this.groupsOf(segment, segment.basePosition)) {
      const { block, at, envelope } = group
      if (!isCheckpoint(envelope) || envelope.firstIndex - 1 > this.lastIndex) continue
      if (checkGroup(block, at, envelope, this.context.environment.memory) === null) continue
      const content = block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length)
      const checkpoint = checkpointOf(segment, content, envelope)
      if (checkpoint !== null) found = { checkpoint, end: envelope.position + padded(envelope.length) }
    }
    return found
  }

  private async replay({ segment: first, position }: Place): Promise<LogEnd> {
    const { segments } = this
    for (let i = first; i < segments.length && this.index < this.lastIndex; i++) {
      const segment = segments[i]!
      const from = i === first ? position : segment.basePosition
      for await (const group of this.groupsOf(segment, from)) {
        if (group.envelope.kind === GROUP_KINDS.batches) this.replayGroup(group)
        if (this.index === this.lastIndex) break
      }
    }
    if (this.index !== this.lastIndex) throw this.damaged(position, `batch ${this.lastIndex} is not found`)
    return { index: this.index, nextOffset: this.nextOffset, term: this.term }
  }

  private replayGroup({ block, at, envelope }: FoundGroup): void {
    const batches = checkGroup(block, at, envelope, this.context.environment.memory)
    if (batches === null) throw this.damaged(envelope.position, 'a group fails its checksum')
    for (const { part, header, clientAt } of batches) {
      // What was written behind the checkpoint and cut off later has a higher index than what is looked for.
      if (part.index !== this.index + 1 || part.index > this.lastIndex) continue
      this.index = part.index
      this.term = part.term
      this.nextOffset = endOffsetOf(part.baseOffset, header)
      this.state.replay(part, header, block.bytes, clientAt)
    }
  }

  private async *groupsOf(segment: Segment, from: number): AsyncIterable<FoundGroup> {
    const end = segment.endPosition ?? this.writer.chain.end
    for (let at = from; at < end; ) {
      const group = await this.source.groupAt(segment, at)
      if (group === null) throw this.damaged(at, 'no valid group stands there')
      const next = at + padded(group.envelope.length)
      yield group
      at = next
    }
  }

  private damaged(position: number, reason: string): StorageError {
    return new StorageError('DAMAGED', `log ${keyText(this.key)} is damaged at ${position}: ${reason}`)
  }
}
