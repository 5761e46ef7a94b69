// The replicated state of a partition: what replaying its log gives, and what checkpoints carry.
import { type BatchHeader, type LogPart, Reader, Writer } from '@millrace/protocol'
import type { LogState } from '../storage/log-store.js'
import { ProducerSessions } from './producer-sessions.js'

export class PartitionState implements LogState {
  readonly sessions = new ProducerSessions()
  /** Append time of the last batch; the next one's is not earlier. */
  lastAppendTime = 0

  /** Takes note of a batch that the log now holds. */
  appended(header: BatchHeader, baseOffset: number, index: number, appendTime: number): void {
    if (appendTime > this.lastAppendTime) this.lastAppendTime = appendTime
    if (!header.control) this.sessions.appended(header, baseOffset, index, appendTime)
  }

  encodeState(): Uint8Array {
    const writer = new Writer(1024)
    writer.u64(this.lastAppendTime)
    this.sessions.encode(writer)
    return writer.written()
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encodeState` did not write. */
  restoreState(state: Uint8Array | null): void {
    this.lastAppendTime = 0
    if (state === null) {
      this.sessions.clear()
      return
    }
    const reader = new Reader(state)
    this.lastAppendTime = reader.u64()
    this.sessions.restore(reader)
  }

  replay(part: LogPart, header: BatchHeader): void {
    this.appended(header, part.baseOffset, part.index, part.appendTime)
  }
}
