// Decides when a log gets a checkpoint, and makes it.
import { encodeCheckpoint, type LogStart } from './checkpoint.js'
import type { LogState } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { Segment } from './segment.js'
import type { StorageContext } from './storage-context.js'

/** A large state is written less often: checkpoints cost at most about a sixteenth of the log. */
const LOG_BYTES_PER_STATE_BYTE = 16

export class Checkpointer {
  /** Position behind the last checkpoint written. */
  private lastEnd: number
  private lastStateBytes = 0
  private segment: Segment | undefined

  constructor(
    private readonly context: StorageContext,
    private readonly state: LogState,
    private readonly logStart: LogStart,
    checkpointEnd: number,
    segment: Segment | undefined,
  ) {
    this.lastEnd = checkpointEnd
    this.segment = segment
  }

  /** Every batch of the log is closed and the owner's state speaks of all of them: a checkpoint may be written. */
  consider(writer: LogWriter): void {
    const { chain } = writer
    if (chain.current === undefined || chain.end === this.lastEnd) return
    const interval = Math.max(this.context.limits.checkpointBytes, this.lastStateBytes * LOG_BYTES_PER_STATE_BYTE)
    const since = chain.end - this.lastEnd
    const isNew = chain.segments.length > 1 && chain.current !== this.segment
    const rolled = isNew && since >= this.lastStateBytes * LOG_BYTES_PER_STATE_BYTE
    if (since >= interval || rolled) this.write(writer)
  }

  /** Whether nothing was appended since the last checkpoint. */
  isCurrent(writer: LogWriter): boolean {
    return writer.chain.end === this.lastEnd
  }

  write(writer: LogWriter): boolean {
    const { chain, filled, terms } = writer
    const segment = chain.current
    if (segment?.index == null) return false
    const state = this.state.encodeState()
    const content = encodeCheckpoint({
      index: filled.index,
      nextOffset: filled.nextOffset,
      term: filled.term,
      maxTimestamp: chain.maxTimestamp,
      logStart: this.logStart,
      terms,
      slotIndex: segment.index,
      state,
    })
    this.lastStateBytes = state.length
    if (!writer.assembly.addCheckpoint(content)) return false
    this.segment = segment
    this.lastEnd = chain.end
    return true
  }
}
