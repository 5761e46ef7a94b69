// Appends to one log of a store under test, and notes in the trace what was given to it and what it promised.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, RecordBatchBuilder, readBatchHeader } from '@millrace/protocol'
import { type ProducerId, sameProducer } from '#src/partition/producer-session.js'
import { logStartOf, sealLogStart } from '#src/storage/log-start.js'
import { type LogKey, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import type { SeededRandom } from '../random.js'
import type { CrashEnvironment } from './crash-environment.js'
import type { DiskTrace } from './disk-trace.js'
import { type AppendedBatch, type LogContent, type LogOperation, type TracedLog, TracedState } from './log-history.js'

/** Enough of them that their windows do not all move at once; two ids begin alike. */
const PRODUCERS: readonly ProducerId[] = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
  [1, 9, 9, 9],
]

export class LogDriver {
  committed = 0
  /** While a suffix is being cut off, or the log begins anew. */
  truncating: Promise<void> | null = null
  /** Called when the log fails, which is only right when the disk was made to. */
  onFailure: (failure: Error) => void = () => {}

  constructor(
    private readonly environment: CrashEnvironment,
    /** Null where nobody will crash what is done now. */
    private readonly trace: DiskTrace | null,
    readonly traced: TracedLog,
    readonly content: LogContent,
    readonly state: TracedState,
    readonly log: PartitionLog,
  ) {
    log.onAdvance = () => this.advanced()
  }

  /** What stands where the next batch of a producer would. */
  draw(random: SeededRandom, bytes: number): Uint8Array {
    const producer = random.pick(PRODUCERS)
    const sequence = this.content.batches.filter(({ header }) => sameProducer(header.producer, producer)).length
    return drawBatch(random, this.traced.key, producer, sequence, bytes)
  }

  /** The caller has asked for room. @param term at least that of the last batch. */
  append(bytes: Uint8Array, term: number, mode: 'flush' | 'write'): void {
    const { memory, clock } = this.environment
    const source = memory.allocate(bytes.length)
    if (source === null) throw new Error('no memory is left for a batch')
    source.bytes.set(bytes)
    const header = readBatchHeader(source.view, 0)
    const { index: last, nextOffset: baseOffset } = this.log.filled
    const stamp = { term, baseOffset, index: last + 1, appendTime: clock.wallMs() }
    if (!this.log.append(source, 0, header, stamp, mode)) throw new Error('a good batch was refused')
    memory.release(source)
    const { index, appendTime } = stamp
    const endOffset = header.control ? baseOffset : baseOffset + header.lastOffsetDelta + 1
    const start = logStartOf(header, bytes, 0)
    this.state.add(header, baseOffset, index, appendTime)
    const batch = { bytes, header, index, baseOffset, endOffset, term, appendTime, start }
    this.content.apply({ kind: 'append', batch })
    this.given({ kind: 'append', batch })
  }

  /** Some of what is there becomes committed, flushed or not: that is for others to decide. */
  commit(index: number): void {
    const { traced } = this
    this.committed = index
    this.trace?.note(() => {
      traced.committed = index
    })
    this.log.noteCommitted(index)
    this.noteStart()
  }

  /** The control batch that moves the start up to keep so many bytes, or null when nothing is to go. */
  expire(bytes: number | null): Uint8Array | null {
    const { log, environment, traced } = this
    const nowMs = environment.clock.wallMs()
    const start = log.expire({ bytes, appendedBefore: bytes === null ? nowMs + 1 : null })
    return start === null ? null : sealLogStart(start, traced.key, log.filled.index + 1, nowMs)
  }

  /** Begins to cut off what lies above an index, which is not below what is committed. */
  truncate(lastIndex: number): void {
    this.change({ kind: 'truncate', lastIndex }, () => this.log.truncateTo(lastIndex))
  }

  /** Begins to give up everything: the log is to begin with another start, which nothing committed lies behind. */
  install(random: SeededRandom): void {
    const { index: last, nextOffset, term } = this.log.filled
    const index = random.chance(0.3) ? random.integer(this.committed + 1, last + 1) : last + random.integer(1, 50)
    // No other log ever began or ended there.
    const offset = nextOffset + random.integer(1000, 100_000)
    const start = { index, offset, previousTerm: term + random.integer(0, 1) }
    const state = TracedState.installed(index - 1, random.uint32())
    const operation = this.change({ kind: 'install', start, state }, async () => {
      await this.log.installStart(start, state)
      this.committed = index - 1
      this.promised(operation)
    })
  }

  /** What has been installed is promised, and committed: it is of somebody's who had it committed. */
  private promised(operation: number): void {
    const { traced, committed } = this
    const given = traced.history.length
    while (traced.givenWhenFlushed.length < operation) traced.givenWhenFlushed.push(given)
    this.trace?.note(() => {
      traced.kept = Math.max(traced.kept, operation)
      traced.committed = committed
    })
  }

  /** @returns how many operations were given with it. */
  private change(operation: LogOperation, make: () => Promise<void>): number {
    const given = this.given(operation)
    this.truncating = make()
      .then(
        () => this.content.apply(operation),
        (cause: unknown) => {
          // The disk failed, or the store was closed on the way.
          if (!(cause instanceof StorageError)) throw cause
        },
      )
      .finally(() => {
        this.truncating = null
      })
    return given
  }

  private given(operation: LogOperation): number {
    const { traced } = this
    const given = traced.history.push(operation)
    this.trace?.note(() => {
      traced.given = given
    })
    return given
  }

  private advanced(): void {
    const { log, traced } = this
    if (log.failure !== null) this.onFailure(log.failure)
    const batch = this.content.at(log.flushedIndex)
    const kept = batch === undefined ? 0 : traced.history.findLastIndex((one) => isAppendOf(one, batch)) + 1
    const given = traced.history.length
    while (traced.givenWhenFlushed.length < kept) traced.givenWhenFlushed.push(given)
    this.trace?.note(() => {
      traced.kept = Math.max(traced.kept, kept)
    })
    if (this.committed > 0) log.noteCommitted(this.committed)
    this.noteStart()
  }

  private noteStart(): void {
    const { traced } = this
    const { startOffset } = this.log
    this.trace?.note(() => {
      traced.startOffset = Math.max(traced.startOffset, startOffset)
    })
  }
}

function isAppendOf(operation: LogOperation, batch: AppendedBatch): boolean {
  return operation.kind === 'append' && operation.batch === batch
}

function drawBatch(random: SeededRandom, key: LogKey, producer: ProducerId, sequence: number, bytes: number) {
  const builder = new RecordBatchBuilder(4 * 1024 * 1024)
  const records = random.integer(1, 3)
  const timestamp = 1_000_000 + sequence * 10 + random.integer(0, 30)
  for (let i = 0; i < records; i++) {
    const value = new Uint8Array(Math.max(1, Math.floor(bytes / records)))
    random.fill(value.subarray(0, 64))
    value.fill(random.integer(1, 255), 64)
    builder.tryAppend(null, value, null, timestamp + i)
  }
  const identity = { ...key, control: false, producer, epoch: 0, sequence }
  return builder.seal({ identity, checksum: crc32 })
}

/** What a batch needs of the log's room. */
export const roomFor = (bytes: Uint8Array): number => LOG_PART_BYTES + bytes.length

/** Every promise that can settle has settled, deferred work included. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}
