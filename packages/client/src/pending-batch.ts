// One batch on its way from `send` to its outcome: the records, who waits for them, and what is known of its attempts.
import { BATCH_CHECKSUM_START, type BatchIdentity, type ChecksumFunction, RecordBatchBuilder } from '@millrace/protocol'
import type { Compression } from './codec.js'
import { copyBytes } from './copy-bytes.js'
import type { RecordWaiter } from './delivery.js'
import type { MillraceError } from './errors.js'

const EPOCH_AT = 40
const SEQUENCE_AT = 44

export class PendingBatch {
  readonly builder: RecordBatchBuilder
  readonly #waiters: RecordWaiter[] = []
  readonly #tags: number[] = []
  #bytes: Uint8Array | null = null
  #doneListeners: (() => void)[] = []
  sequence = -1
  epoch = -1
  /** Bytes it holds of the budget. */
  heldBytes = 0
  /** Times it was handed to a link. */
  attempts = 0
  /** Handed to a link, and neither answered nor known to be lost. */
  onWire = false
  /** An attempt may have reached the log without our knowing. */
  ambiguous = false
  /** It was refused because the broker misses batches of the epoch before it. */
  missesEarlier = false
  done = false
  lastError: MillraceError | null = null

  constructor(
    maxBytes: number,
    buffer: Uint8Array,
    readonly createdMs: number,
  ) {
    this.builder = new RecordBatchBuilder(maxBytes, buffer)
  }

  get recordCount(): number {
    return this.#waiters.length
  }

  /** The sealed batch. */
  get bytes(): Uint8Array {
    return this.#bytes ?? new Uint8Array(0)
  }

  /** What the batch takes in a frame: exact once sealed, an upper bound before. */
  get frameBytes(): number {
    return this.#bytes?.length ?? this.builder.byteLength
  }

  /**
   * The buffer of the batch when it may be used again: the batch was handed to a link exactly once, and its own answer
   * proves that every byte has left. Null otherwise: after a second attempt the answer may be that of the first.
   */
  get reusableBuffer(): Uint8Array | null {
    return this.attempts === 1 && !this.ambiguous ? this.#bytes : null
  }

  /** Whoever appended a record to the builder says here who waits for it. */
  addWaiter(waiter: RecordWaiter, tag: number): void {
    this.#waiters.push(waiter)
    this.#tags.push(tag)
  }

  /** Seals the batch, or stamps a new epoch and sequence on one sealed before, which surely is in no log. */
  stamp(identity: BatchIdentity, checksum: ChecksumFunction, compression: Compression | null): void {
    this.epoch = identity.epoch
    this.sequence = identity.sequence
    if (this.#bytes === null) {
      this.#bytes = this.builder.seal({ identity, checksum, ...(compression !== null && { compression }) })
      return
    }
    // A copy, because the bytes sent before may not be changed while anybody could still read them.
    const bytes = copyBytes(this.#bytes)
    const view = new DataView(bytes.buffer)
    view.setUint32(EPOCH_AT, identity.epoch, true)
    view.setUint32(SEQUENCE_AT, identity.sequence, true)
    view.setUint32(0, checksum(bytes.subarray(BATCH_CHECKSUM_START), 0), true)
    this.#bytes = bytes
  }

  /** It is handed to a link. */
  beginAttempt(): void {
    this.onWire = true
    this.attempts++
    this.missesEarlier = false
  }

  /** An answer to that attempt has come, or will not. @returns whether it is still waited for. */
  answered(attempt: number): boolean {
    if (!this.onWire || attempt !== this.attempts) return false
    this.onWire = false
    return true
  }

  onDone(listener: () => void): void {
    this.#doneListeners.push(listener)
  }

  acknowledge(partition: number, baseOffset: number | null): void {
    this.#end()
    const waiters = this.#waiters
    for (let i = 0; i < waiters.length; i++) {
      waiters[i]!.acknowledged(this.#tags[i]!, partition, baseOffset === null ? null : baseOffset + i)
    }
    for (const listener of this.#doneListeners) listener()
  }

  fail(partition: number, error: MillraceError): void {
    this.#end()
    const waiters = this.#waiters
    for (let i = 0; i < waiters.length; i++) waiters[i]!.failed(this.#tags[i]!, partition, error)
    for (const listener of this.#doneListeners) listener()
  }

  #end(): void {
    this.done = true
    this.#bytes = null
  }
}
