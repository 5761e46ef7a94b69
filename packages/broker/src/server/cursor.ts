// One cursor: where a consumer stands in a partition, and how much it may still be sent.
import { ProtocolError } from '@millrace/protocol'
import type { Follower, Partition } from '../partition/partition.js'
import type { LogRead } from '../storage/log-store.js'

export interface CursorBounds {
  readonly logStartOffset: number
  readonly highWatermark: number
}

export class Cursor implements Follower {
  /** False until CURSOR_OPENED is sent: nothing is pushed before. */
  opened = false
  ended = false
  /** A read is under way; there is one at a time, so that batches stay in order. */
  reading = false
  /** It stands in the line of its connection. */
  queued = false
  pushedSinceHeartbeat = false
  /** Offset of the next record to send. */
  nextOffset = 0
  /** Decoded bytes sent since it was opened, and the position up to which they may go. */
  #sentBytes = 0
  #credit: number
  /** Decoded bytes per byte read, of the last read: how far credit goes. */
  #expansion = 1
  /** The last read would have overdrawn the credit by more than one batch. */
  #onlyOne = false

  constructor(
    readonly id: number,
    readonly partition: Partition,
    credit: number,
    readonly onReady: (cursor: Cursor) => void,
  ) {
    this.#credit = credit
  }

  get bounds(): CursorBounds {
    const { logStartOffset, highWatermark } = this.partition
    return { logStartOffset, highWatermark }
  }

  /** Begins at an offset; batches may follow from now on. */
  begin(offset: number): void {
    this.nextOffset = offset
    this.opened = true
    this.partition.follow(this)
    this.onReady(this)
  }

  /** Credit is a position, so an older one that comes late changes nothing. */
  give(credit: number): void {
    if (credit <= this.#credit) return
    this.#credit = credit
    this.onReady(this)
  }

  get #hasCredit(): boolean {
    return this.#sentBytes < this.#credit
  }

  get hasToEnd(): boolean {
    return this.opened && !this.ended && this.partition.refusal !== null
  }

  /** Whether there is something to do for it now. */
  get wantsToRead(): boolean {
    if (!this.opened || this.ended || this.reading) return false
    return this.partition.refusal !== null || (this.#hasCredit && this.nextOffset < this.partition.highWatermark)
  }

  /** What the credit allows to read at once; a single batch may overdraw it. */
  get maxReadBytes(): number {
    return this.#onlyOne ? 1 : Math.max(1, Math.floor((this.#credit - this.#sentBytes) / this.#expansion))
  }

  /** @throws StorageError, ProtocolError. */
  async read(maxBytes: number): Promise<LogRead> {
    if (this.nextOffset < this.partition.logStartOffset) {
      throw new ProtocolError('OFFSET_OUT_OF_RANGE', `offset ${this.nextOffset} is no longer kept`)
    }
    return this.partition.read(this.nextOffset, maxBytes)
  }

  /** Whether a read may be sent: several batches only within the credit. */
  accepts(read: LogRead): boolean {
    if (read.byteLength > 0) this.#expansion = Math.max(1, read.decodedBytes / read.byteLength)
    this.#onlyOne = read.batchCount > 1 && this.#sentBytes + read.decodedBytes > this.#credit
    return !this.#onlyOne
  }

  sent(read: LogRead): void {
    this.#sentBytes += read.decodedBytes
    this.nextOffset = read.nextOffset
    this.pushedSinceHeartbeat = true
  }

  onCommit(): void {
    this.onReady(this)
  }

  end(): void {
    this.ended = true
    this.partition.unfollow(this)
  }
}
