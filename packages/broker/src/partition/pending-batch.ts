// One batch on its way from a frame into a log and back out as a result.
import type { Acks, BatchHeader, ErrorName } from '@millrace/protocol'
import type { Block } from '../environment.js'

/** Why a batch, a request or a cursor is refused. */
export interface Refusal {
  readonly code: ErrorName
  /** What happened, without advice. */
  readonly detail: string
}

/** Who brought a batch and wants to know. */
export interface BatchSink {
  /** When it wants to know. */
  readonly acks: Acks
  /** The bytes of the batch are in the log, or not wanted: its block is not read any more. Once, before `settled`. */
  taken(batch: PendingBatch): void
  /** How it ended; null for acknowledged. Once. */
  settled(batch: PendingBatch, refusal: Refusal | null): void
}

/** Fields are filled in as the batch gets on; one object serves all queues it passes through. */
export class PendingBatch {
  /** Set once the batch was found valid. */
  header: BatchHeader | null = null
  /** Offset of the first record; null while unknown, and for ever when it is a duplicate outside the window. */
  baseOffset: number | null = null
  /** Milliseconds since 1970; 0 until appended. */
  appendTime = 0
  /** It is acknowledged when the batch of this index is committed. */
  index = 0

  constructor(
    readonly sink: BatchSink,
    /** Position in the request. */
    readonly entry: number,
    readonly block: Block,
    /** Where the client part begins in the block. */
    readonly at: number,
    /** Bytes of the client part, as the frame announces them. */
    readonly length: number,
    /** Monotonic milliseconds after which it must not be appended any more; Infinity for never. */
    readonly expiresAtMs: number,
  ) {}
}
