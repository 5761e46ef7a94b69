// What was done to one log, in order, and what it holds after any part of it: the log is append-only on disk, so a crash
// leaves the outcome of some first part of its history, and nothing else.
import { type BatchHeader, type LogPart, Writer } from '@millrace/protocol'
import { PartitionState } from '#src/partition/partition-state.js'
import { FIRST_LOG_START, type LogStart } from '#src/storage/log-start.js'
import type { LogKey, LogState } from '#src/storage/log-store.js'
import { type OwedVotes, TracedVotes } from './vote-history.js'

export interface AppendedBatch {
  readonly bytes: Uint8Array
  readonly header: BatchHeader
  readonly index: number
  readonly baseOffset: number
  readonly endOffset: number
  readonly term: number
  readonly appendTime: number
  /** A control batch that moves the start of the log, once it is committed. */
  readonly start: LogStart | null
}

export type LogOperation =
  | { readonly kind: 'append'; readonly batch: AppendedBatch }
  /** Every batch above the index is cut off. */
  | { readonly kind: 'truncate'; readonly lastIndex: number }
  /** Everything is given up, and the log begins anew with the owner's state. */
  | { readonly kind: 'install'; readonly start: LogStart; readonly state: Uint8Array }

/**
 * What a log holds after some of its operations: every batch of its branch from where it began, or began anew, also below its
 * start.
 */
export class LogContent {
  readonly batches: AppendedBatch[] = []
  /** Where it began, and the owner's state then. */
  base: LogStart = FIRST_LOG_START
  state: Uint8Array | null = null

  get lastIndex(): number {
    return this.base.index - 1 + this.batches.length
  }

  /** Offset behind the last batch. */
  get nextOffset(): number {
    return this.batches.at(-1)?.endOffset ?? this.base.offset
  }

  at(index: number): AppendedBatch | undefined {
    return this.batches[index - this.base.index]
  }

  apply(operation: LogOperation): void {
    switch (operation.kind) {
      case 'append':
        this.batches.push(operation.batch)
        return
      case 'truncate':
        this.batches.length = Math.max(0, Math.min(this.batches.length, operation.lastIndex - this.base.index + 1))
        return
      case 'install':
        this.batches.length = 0
        this.base = operation.start
        this.state = operation.state
    }
  }

  /** Where the log begins when everything up to an index is committed. */
  startWhen(committed: number): LogStart {
    return this.batches.findLast(({ index, start }) => start !== null && index <= committed)?.start ?? this.base
  }

  static after(history: readonly LogOperation[], count: number): LogContent {
    const content = new LogContent()
    for (let i = 0; i < count; i++) content.apply(history[i]!)
    return content
  }
}

/** The real state of a partition, and a sum over everything that it was told of, in order. */
export class TracedState implements LogState {
  private partition = new PartitionState()
  index = 0
  sum = 0
  /** It was told of a batch that does not follow: what is left of a damaged log. */
  private isBroken = false

  encodeState(): Uint8Array {
    const state = this.partition.encodeState()
    return new Writer(state.length + 8).u32(this.index).u32(this.sum).bytes(state).written()
  }

  restoreState(state: Uint8Array | null): void {
    this.partition = new PartitionState()
    this.isBroken = false
    const view = state === null ? null : new DataView(state.buffer, state.byteOffset, state.byteLength)
    this.index = view?.getUint32(0, true) ?? 0
    this.sum = view?.getUint32(4, true) ?? 0
    this.partition.restoreState(state?.subarray(8) ?? null)
  }

  replay(part: LogPart, header: BatchHeader): void {
    this.add(header, part.baseOffset, part.index, part.appendTime)
  }

  add(header: BatchHeader, baseOffset: number, index: number, appendTime: number): void {
    if (index !== this.index + 1) this.isBroken = true
    this.index = index
    this.sum = (Math.imul(this.sum, 31) + header.checksum) >>> 0
    this.partition.appended(header, baseOffset, index, appendTime)
  }

  /** What it would be had it been told of these batches behind its first state, and of nothing else. */
  static of({ batches, state: first }: LogContent): TracedState {
    const state = new TracedState()
    state.restoreState(first)
    for (const { header, baseOffset, index, appendTime } of batches) state.add(header, baseOffset, index, appendTime)
    return state
  }

  /** A state that nothing but the installing of it makes, of a log that begins behind `lastIndex`. */
  static installed(lastIndex: number, sum: number): Uint8Array {
    const state = new TracedState()
    state.index = lastIndex
    state.sum = sum
    return state.encodeState()
  }

  equals(other: TracedState): boolean {
    if (this.isBroken || other.isBroken) return false
    return Buffer.compare(this.encodeState(), other.encodeState()) === 0
  }
}

/** One log as its owner knows it. */
export class TracedLog {
  readonly history: LogOperation[] = []
  /** Of each operation: how many had been given when it was first known to be flushed. */
  readonly givenWhenFlushed: number[] = []
  /** By the time of the crash being looked at: how many operations were given, and how many are promised. */
  given = 0
  kept = 0
  /** Everything up to this index is committed: never cut off, and log starts up to there hold. */
  committed = 0
  /** Where readers were told that the log begins: it never goes back. */
  startOffset = 0
  dropAsked = false
  dropped = false

  constructor(
    readonly key: LogKey,
    readonly votes = new TracedVotes(),
  ) {}
}

/** What a log owes at the moment of a crash. */
export interface Owed {
  readonly topicId: number
  /** Everything that was ever done to it; of what lies behind `given` nobody may see anything. */
  readonly history: readonly LogOperation[]
  readonly given: number
  /** So much of it has to be there. */
  readonly kept: number
  readonly givenWhenFlushed: readonly number[]
  readonly committed: number
  /** It begins there or behind. */
  readonly startOffset: number
  /** It may be gone altogether. */
  readonly dropAsked: boolean
  /** It has to be gone. */
  readonly dropped: boolean
  /** Those of its group, which stay when it is dropped. */
  readonly votes: OwedVotes
}
