// A batch between its arrival and its settlement: checked when it arrives, and where its memory goes when it is finished.
import {
  type BatchHeader,
  type ChecksumFunction,
  type LoggedBatch,
  ProtocolError,
  verifyBatch,
} from '@millrace/protocol'
import type { FrameBuffers } from './frame-buffers.js'

/** A batch of which something is unfinished. */
export interface ReceivedBatch {
  readonly header: BatchHeader
  /** The client part. */
  readonly bytes: Uint8Array
  readonly baseOffset: number
  /** Of the leader that appended it. */
  readonly term: number
  /** Claims, and one more until every record was delivered and the one after asked for. */
  unfinished: number
  /** Null when its memory is not used again. */
  frame: ReceivedFrame | null
  /** Its memory may hold something else by now. */
  isReused: boolean
}

/** The memory of batches that came together. */
export class ReceivedFrame {
  #unfinished = 0

  constructor(
    private readonly bytes: Uint8Array,
    private readonly buffers: FrameBuffers,
  ) {}

  /** One batch more stands in it. */
  holdOne(): void {
    this.#unfinished++
  }

  /** Nobody looks at the batch any more; with the last one the memory is given back. */
  finish(batch: ReceivedBatch): void {
    batch.isReused = true
    if (--this.#unfinished === 0) this.buffers.giveBack(this.bytes)
  }
}

/** @throws ProtocolError CORRUPT_BATCH. */
export function checkReceived(
  place: { readonly topicId: number; readonly partition: number },
  header: BatchHeader,
  logged: LoggedBatch,
  bytes: Uint8Array,
  checksum: ChecksumFunction,
): void {
  const at = `the batch at offset ${logged.baseOffset}`
  if (header.checksum !== logged.clientChecksum || !verifyBatch(bytes, checksum)) {
    throw new ProtocolError('CORRUPT_BATCH', `the checksum of ${at} is wrong`)
  }
  if (header.topicId !== place.topicId || header.partition !== place.partition) {
    throw new ProtocolError('CORRUPT_BATCH', `${at} belongs to another partition`)
  }
  if (!Number.isSafeInteger(logged.baseOffset + header.lastOffsetDelta)) {
    throw new ProtocolError('CORRUPT_BATCH', `${at} ends above 2^53`)
  }
}
