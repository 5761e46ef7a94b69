// What a log must hold after a crash: the batches given to it, and how far it has promised to keep them.
import { crc32 } from 'node:zlib'
import { type BatchHeader, type LogPart, RecordBatchBuilder } from '@millrace/protocol'
import type { HardState } from '#src/raft/raft-types.js'
import type { LogKey, LogState } from '#src/storage/log-store.js'
import type { SeededRandom } from './random.js'

export interface ModelBatch {
  readonly index: number
  readonly baseOffset: number
  readonly recordCount: number
  readonly term: number
  /** The client part. */
  readonly bytes: Uint8Array
}

const PRODUCER = [1, 2, 3, 4] as const

/** A client part with random records; every one differs from every other. */
export function drawBatch(random: SeededRandom, key: LogKey, sequence: number, largestBytes: number): Uint8Array {
  const builder = new RecordBatchBuilder(4 * 1024 * 1024)
  const records = random.integer(1, 5)
  for (let i = 0; i < records; i++) {
    const value = new Uint8Array(Math.floor(random.logBetween(1, largestBytes)))
    const word = random.uint32()
    for (let at = 0; at < value.byteLength; at++) value[at] = word >>> ((at & 3) * 8)
    builder.tryAppend(null, value, null, 1000 + i)
  }
  const identity = { ...key, control: false, producer: PRODUCER, epoch: 0, sequence }
  return builder.seal({ identity, checksum: crc32 })
}

/**
 * The state machine of a log under test: a hash over everything replayed. Its state travels through checkpoints, so
 * that a checkpoint which does not fit its log shows as a wrong hash at the end.
 */
export class HashState implements LogState {
  index = 0
  hash = 0

  encodeState(): Uint8Array {
    return HashState.encode(this)
  }

  static encode({ index, hash }: { readonly index: number; readonly hash: number }): Uint8Array {
    const bytes = new Uint8Array(8)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, index, true)
    view.setUint32(4, hash, true)
    return bytes
  }

  restoreState(state: Uint8Array | null): void {
    if (state === null) {
      this.index = 0
      this.hash = 0
      return
    }
    const view = new DataView(state.buffer, state.byteOffset, state.byteLength)
    this.index = view.getUint32(0, true)
    this.hash = view.getUint32(4, true)
  }

  replay(part: LogPart, header: BatchHeader): void {
    this.add(part.index, header.checksum)
  }

  add(index: number, checksum: number): void {
    if (index !== this.index + 1) throw new Error(`batch ${index} was replayed after batch ${this.index}`)
    this.index = index
    this.hash = chain(this.hash, checksum)
  }
}

function chain(hash: number, checksum: number): number {
  return (Math.imul(hash ^ checksum, 0x9e3779b1) ^ (hash >>> 15)) >>> 0
}

/** Where a log began anew. */
export interface ModelBase {
  /** Of the batch before the first one. */
  readonly index: number
  readonly offset: number
  /** Of the state machine there. */
  readonly hash: number
}

export class LogModel {
  readonly batches: ModelBatch[] = []
  base: ModelBase = { index: 0, offset: 0, hash: 0 }
  /** It was asked to begin anew there, and has not said that it has. */
  beginning: ModelBase | null = null
  readonly votes: HardState[] = []
  /** So many of them are saved. */
  votesSaved = 0
  /** Indexes that the log has reported: they survive the end of the process, and of power. */
  written = 0
  flushed = 0
  dropped = false

  constructor(readonly key: LogKey) {}

  get lastIndex(): number {
    return this.base.index + this.batches.length
  }

  get nextOffset(): number {
    const last = this.batches.at(-1)
    return last === undefined ? this.base.offset : last.baseOffset + last.recordCount
  }

  /** The hash of the state machine after every batch. */
  get finalHash(): number {
    let { hash } = this.base
    for (const { bytes } of this.batches) hash = chain(hash, checksumOf(bytes))
    return hash
  }

  /** After a crash the log ends earlier; what is behind was never promised. */
  cutTo(index: number): void {
    this.batches.length = index - this.base.index
    this.written = index
  }

  /** It has begun anew, as it was asked to. */
  begun(): void {
    if (this.beginning === null) return
    this.base = this.beginning
    this.beginning = null
    this.batches.length = 0
    this.written = this.flushed = this.base.index
  }
}

function checksumOf(bytes: Uint8Array): number {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength).getUint32(0, true)
}
