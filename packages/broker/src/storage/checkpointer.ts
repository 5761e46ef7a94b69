// Decides when a log gets a checkpoint, and makes it.
import { assert } from '@millrace/protocol'
import { encodeCheckpoint } from './checkpoint.js'
import { ENVELOPE_BYTES } from './group-envelope.js'
import { type LogEnd, type LogState, StorageError } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { Segment } from './segment.js'
import { indexIntervalOf, padded } from './slot-layout.js'
import { SparseIndex } from './sparse-index.js'
import type { StorageContext } from './storage-context.js'

/** A large state is written less often: checkpoints cost at most about a sixteenth of the log. */
const LOG_BYTES_PER_STATE_BYTE = 16
/** Of one truncation in a checkpoint. */
const TRUNCATION_BYTES = 24

export class Checkpointer {
  /** Position behind the last checkpoint written. */
  private lastEnd: number
  private lastStateBytes = 0
  /** After one that could not be written, none is tried before this position: making the state is work. */
  private notBefore = 0
  private segment: Segment | undefined
  /** Set while the owner's state does not speak of the log: it is being made anew. */
  suspended = false

  constructor(
    private readonly context: StorageContext,
    private readonly state: LogState,
    checkpointEnd: number,
    segment: Segment | undefined,
  ) {
    this.lastEnd = checkpointEnd
    this.segment = segment
  }

  /** Every batch of the log is closed and the owner's state speaks of all of them: a checkpoint may be written. */
  consider(writer: LogWriter): void {
    const { chain } = writer
    if (this.suspended || chain.current === undefined) return
    if (chain.end === this.lastEnd || chain.end < this.notBefore) return
    const interval = Math.max(this.context.limits.checkpointBytes, this.lastStateBytes * LOG_BYTES_PER_STATE_BYTE)
    const since = chain.end - this.lastEnd
    const isNew = chain.segments.length > 1 && chain.current !== this.segment
    const rolled = isNew && since >= this.lastStateBytes * LOG_BYTES_PER_STATE_BYTE
    if (since >= interval || rolled) this.write(writer)
  }

  /** Like `consider`, for somebody who cannot go on without one. @returns whether it is on its way. */
  writeWanted(writer: LogWriter): boolean {
    if (this.suspended || writer.chain.current === undefined) return false
    return this.isCurrent(writer) || this.write(writer)
  }

  /** Whether nothing was appended since the last checkpoint. */
  isCurrent(writer: LogWriter): boolean {
    return writer.chain.end === this.lastEnd
  }

  write(writer: LogWriter): boolean {
    const { chain, assembly } = writer
    const state = this.state.encodeState().slice()
    this.lastStateBytes = state.length
    this.notBefore = chain.end + this.context.limits.checkpointBytes / 4
    let content = this.encode(writer, state)
    if (content === null) return false
    const before = chain.current
    if (!assembly.makeSlotFor(padded(ENVELOPE_BYTES + content.length))) return false
    // A checkpoint speaks of the segment it stands in.
    if (chain.current !== before) content = this.encode(writer, state)
    if (content === null || !assembly.addCheckpoint(content)) return false
    this.segment = chain.current
    this.lastEnd = chain.end
    return true
  }

  /**
   * Writes the checkpoint that supersedes everything behind a batch. The owner's state speaks of the log up to there.
   * @returns false, and nothing has changed, while there is no memory or no slot for it.
   */
  writeSuperseding(writer: LogWriter, end: LogEnd): boolean {
    const state = this.state.encodeState().slice()
    const content = this.encode(writer, state)
    if (content === null) return false
    // One truncation more will be in it, and nothing else becomes longer.
    const most = content.length + TRUNCATION_BYTES
    const superseded = writer.supersede(end, most, () => {
      const cut = this.encode(writer, state)
      assert(cut !== null, 'a log that is cut off has a segment with an index')
      return cut
    })
    if (!superseded) return false
    this.lastStateBytes = state.length
    this.segment = writer.chain.current
    this.lastEnd = writer.chain.end
    return true
  }

  /**
   * Writes the checkpoint with which the log begins anew, in a segment of its own. The owner's state and everything in
   * memory speak of the log as it is then. @returns false while there is no memory or no slot for it.
   * @throws StorageError when the state is larger than any slot takes; nothing has changed then.
   */
  writeBeginning(writer: LogWriter, cutFrom: number): boolean {
    const state = this.state.encodeState().slice()
    const { slotBytes, maxGroupBytes } = this.context.limits
    const contentBytes = encodeWith(writer, state, new SparseIndex(indexIntervalOf(slotBytes[0]!))).length
    if (padded(ENVELOPE_BYTES + contentBytes) > maxGroupBytes) {
      throw new StorageError('STORAGE_FAILED', `a state of ${state.length} bytes is larger than a group`)
    }
    const begun = writer.beginAnew(cutFrom, contentBytes, () => encodeWith(writer, state, writer.chain.current!.index!))
    if (!begun) return false
    this.lastStateBytes = state.length
    this.segment = writer.chain.current
    this.lastEnd = writer.chain.end
    return true
  }

  private encode(writer: LogWriter, state: Uint8Array): Uint8Array | null {
    const { current } = writer.chain
    return current?.index == null ? null : encodeWith(writer, state, current.index)
  }
}

function encodeWith(
  { chain, filled, terms, starts, truncations }: LogWriter,
  state: Uint8Array,
  slotIndex: SparseIndex,
) {
  const { maxTimestamp, lastAppendTime } = chain
  return encodeCheckpoint({ ...filled, maxTimestamp, lastAppendTime, starts, truncations, terms, slotIndex, state })
}
