// Appends to one log of a store under test, and notes in the trace what was given to it and what it promised.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, RecordBatchBuilder, readBatchHeader } from '@millrace/protocol'
import { type ProducerId, sameProducer } from '#src/partition/producer-session.js'
import type { LogKey, PartitionLog } from '#src/storage/log-store.js'
import type { SeededRandom } from '../random.js'
import type { CrashEnvironment } from './crash-environment.js'
import type { DiskTrace } from './disk-trace.js'
import type { LogContent, LogOperation, TracedLog, TracedState } from './log-history.js'

/** Enough of them that their windows do not all move at once; two ids begin alike. */
const PRODUCERS: readonly ProducerId[] = [
  [1, 2, 3, 4],
  [5, 6, 7, 8],
  [1, 9, 9, 9],
]

export class LogDriver {
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
    const endOffset = baseOffset + header.lastOffsetDelta + 1
    this.state.add(header, baseOffset, index, appendTime)
    this.given({ kind: 'append', batch: { bytes, header, index, baseOffset, endOffset, term, appendTime } })
  }

  private given(operation: LogOperation): void {
    const { traced } = this
    this.content.apply(operation)
    const given = traced.history.push(operation)
    this.trace?.note(() => {
      traced.given = given
    })
  }

  private advanced(): void {
    const { log, traced } = this
    if (log.failure !== null) this.onFailure(log.failure)
    const batch = this.content.batches[log.flushedIndex - 1]
    const kept = batch === undefined ? 0 : traced.history.findLastIndex((operation) => operation.batch === batch) + 1
    const given = traced.history.length
    while (traced.givenWhenFlushed.length < kept) traced.givenWhenFlushed.push(given)
    this.trace?.note(() => {
      traced.kept = Math.max(traced.kept, kept)
    })
  }
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
