// Where a log begins. The start moves by control batches: one names a new start, and once it is committed and flushed
// the start is there. Until then it is proposed, and may still vanish with a suffix that is truncated.
//
// The value of its record is
//   u64 index, u64 offset: of the first batch and record to keep; u32 term of the batch before
import { type BatchHeader, ProtocolError, Reader, Writer } from '@millrace/protocol'
import { CONTROL_KINDS, controlValueOf, type LogPlace, sealControlBatch } from './control-batch.js'

export interface LogStart {
  /** Of the first batch of the log. */
  readonly index: number
  /** Of the first record. */
  readonly offset: number
  /** Of the batch before the first one; 0 when there never was one. */
  readonly previousTerm: number
}

export const FIRST_LOG_START: LogStart = { index: 1, offset: 0, previousTerm: 0 }

const MAX_PROPOSED = 100_000

/** The client part of the control batch that moves the start of a log. @param wallMs milliseconds since 1970. */
export function sealLogStart(start: LogStart, place: LogPlace, index: number, wallMs: number): Uint8Array {
  const value = new Writer(20).u64(start.index).u64(start.offset).u32(start.previousTerm).written()
  return sealControlBatch(CONTROL_KINDS.logStart, value, place, index, wallMs)
}

/** The start that a batch names, whose checksum holds; null for every batch that names none. */
export function logStartOf(header: BatchHeader, bytes: Uint8Array, clientAt: number): LogStart | null {
  const value = controlValueOf(CONTROL_KINDS.logStart, header, bytes, clientAt)
  if (value === null) return null
  try {
    const reader = new Reader(value)
    return { index: reader.u64(), offset: reader.u64(), previousTerm: reader.u32() }
  } catch (cause) {
    if (cause instanceof ProtocolError) return null
    throw cause
  }
}

interface ProposedStart {
  /** Index of the control batch. */
  readonly batchIndex: number
  readonly start: LogStart
}

export class LogStarts {
  private proposed: ProposedStart[] = []

  constructor(public current: LogStart = FIRST_LOG_START) {}

  get hasProposed(): boolean {
    return this.proposed.length > 0
  }

  /** A control batch was appended. Starts only ascend, whatever it says. */
  propose(batchIndex: number, start: LogStart): void {
    const latest = this.proposed.at(-1)?.start ?? this.current
    if (start.index > latest.index && start.index <= batchIndex) this.proposed.push({ batchIndex, start })
  }

  /** Everything up to `index` is committed and flushed. @returns whether the start has moved. */
  commit(index: number): boolean {
    const before = this.current
    while (this.proposed.length > 0 && this.proposed[0]!.batchIndex <= index) {
      this.current = this.proposed.shift()!.start
    }
    return this.current !== before
  }

  /** The start once everything up to `index` is committed, flushed here or not. */
  after(index: number): LogStart {
    return this.proposed.findLast(({ batchIndex }) => batchIndex <= index)?.start ?? this.current
  }

  /**
   * The log on disk begins with this batch: slots before it were given back, which happens only once the start that
   * allows it is committed. @returns whether there is such a start; nothing changes where there is none.
   */
  cover(firstIndex: number): boolean {
    const latest = this.proposed.at(-1)?.start ?? this.current
    if (latest.index < firstIndex) return false
    while (this.current.index < firstIndex) this.current = this.proposed.shift()!.start
    return true
  }

  /** Batches above `lastIndex` are gone. */
  truncateTo(lastIndex: number): void {
    this.proposed = this.proposed.filter(({ batchIndex }) => batchIndex <= lastIndex)
  }

  /** The starts that are proposed; the present one stands elsewhere. */
  encodeProposed(writer: Writer): void {
    writer.u32(this.proposed.length)
    for (const { batchIndex, start } of this.proposed) {
      writer.u64(batchIndex).u64(start.index).u64(start.offset).u32(start.previousTerm)
    }
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encodeProposed` did not write. */
  static decode(current: LogStart, reader: Reader): LogStarts {
    const starts = new LogStarts(current)
    starts.proposed = [
      ...reader.list(reader.u32(), 28, MAX_PROPOSED, (from) => ({
        batchIndex: from.u64(),
        start: { index: from.u64(), offset: from.u64(), previousTerm: from.u32() },
      })),
    ]
    return starts
  }
}
