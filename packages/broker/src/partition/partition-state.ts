// The replicated state of a partition: what replaying its log gives, and what checkpoints carry.
import { type BatchHeader, type LogPart, ProtocolError, Reader, Writer } from '@millrace/protocol'
import type { LogState } from '../storage/log-store.js'
import { ProducerSessions } from './producer-sessions.js'

const STATE_VERSION = 1

export class PartitionState implements LogState {
  readonly sessions = new ProducerSessions()
  /** Append time of the last batch; the next one's is not earlier. */
  lastAppendTime = 0
  /** Every batch up to here is part of the state. It may be ahead of a log that began with the state of its leader. */
  index = 0

  /** Takes note of a batch that the log now holds. */
  appended(header: BatchHeader, baseOffset: number, index: number, appendTime: number): void {
    if (index <= this.index) return
    this.index = index
    if (appendTime > this.lastAppendTime) this.lastAppendTime = appendTime
    if (!header.control) this.sessions.appended(header, baseOffset, index, appendTime)
  }

  encodeState(): Uint8Array {
    return this.stateAt(this.index)
  }

  /**
   * The state without the batches behind `index`. What they have pushed out of it stays out, which costs a producer at
   * most the offset of an old duplicate.
   */
  stateAt(index: number): Uint8Array {
    const writer = new Writer(1024)
    writer.u16(STATE_VERSION).u64(Math.min(index, this.index)).u64(this.lastAppendTime)
    this.sessions.encode(writer, index)
    return writer.written()
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encodeState` did not write. */
  restoreState(state: Uint8Array | null): void {
    this.lastAppendTime = 0
    this.index = 0
    if (state === null) {
      this.sessions.clear()
      return
    }
    const reader = new Reader(state)
    const version = reader.u16()
    if (version !== STATE_VERSION) throw new ProtocolError('CORRUPT_FRAME', `partition state of version ${version}`)
    this.index = reader.u64()
    this.lastAppendTime = reader.u64()
    this.sessions.restore(reader)
  }

  replay(part: LogPart, header: BatchHeader): void {
    this.appended(header, part.baseOffset, part.index, part.appendTime)
  }
}
