// Runs the real log store over a traced volume under a seed, and remembers what it was given and what it promised.
import { crc32 } from 'node:zlib'
import { type BatchHeader, LOG_PART_BYTES, type LogPart, RecordBatchBuilder, readBatchHeader } from '@millrace/protocol'
import type { LogKey, LogState, LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import type { StorageLimits } from '#src/storage/storage-limits.js'
import type { SeededRandom } from '../random.js'
import { type CrashEnvironment, crashEnvironment } from './crash-environment.js'
import { DiskTrace } from './disk-trace.js'
import { VolumeImage } from './page-image.js'
import { type CompletionOrder, TracedVolume } from './traced-volume.js'

export const IDENTITY = { clusterId: 'crash', nodeId: 7, diskId: '0123456789abcdef0123456789abcdef' }

/** Small enough that a few batches reach rolls, checkpoints and windows. */
export const CRASH_LIMITS: Partial<StorageLimits> = {
  slotBytes: [64 * 1024, 128 * 1024],
  reserveSlots: 1,
  fillBytesPerSecond: Number.POSITIVE_INFINITY,
  maxUnflushedBytes: 64 * 1024,
  maxGroupBytes: 64 * 1024,
  gatherBytes: 4096,
  writesInFlight: 3,
  extentBytes: 32 * 1024,
  appendMemoryBytes: 1024 * 1024,
  cacheBytes: 256 * 1024,
  frameBytes: 8192,
  checkpointBytes: 16 * 1024,
}

export interface AppendedBatch {
  readonly bytes: Uint8Array
  readonly baseOffset: number
  readonly endOffset: number
  readonly term: number
  readonly lastTimestamp: number
}

/** One log as its owner knows it. */
export class TracedLog {
  readonly batches: AppendedBatch[] = []
  /** By the time of the crash being looked at: how many were given, written and flushed. */
  given = 0
  written = 0
  flushed = 0
  dropAsked = false
  dropped = false

  constructor(readonly key: LogKey) {}

  get nextOffset(): number {
    return this.batches.at(-1)?.endOffset ?? 0
  }
}

/** Adds up what it is told; wrong when a checkpoint and the batches behind it do not make the log. */
export class SumState implements LogState {
  index = 0
  sum = 0

  encodeState(): Uint8Array {
    const bytes = new Uint8Array(8)
    const view = new DataView(bytes.buffer)
    view.setUint32(0, this.index)
    view.setUint32(4, this.sum)
    return bytes
  }

  restoreState(state: Uint8Array | null): void {
    const view = state === null ? null : new DataView(state.buffer, state.byteOffset, state.byteLength)
    this.index = view?.getUint32(0) ?? 0
    this.sum = view?.getUint32(4) ?? 0
  }

  replay(part: LogPart, header: BatchHeader): void {
    this.add(part.index, header.checksum)
  }

  add(index: number, checksum: number): void {
    if (index !== this.index + 1) throw new Error(`the state is told of batch ${index} behind ${this.index}`)
    this.index = index
    this.sum = (Math.imul(this.sum, 31) + checksum) >>> 0
  }
}

export const keyName = ({ topicId, partition }: LogKey): string => `${topicId}/${partition}`

/** Operations wait until the driver picks them, in any order. */
class PickedOrder implements CompletionOrder {
  readonly waiting: (() => void)[] = []

  run<T>(_: string, complete: () => T): Promise<T> {
    return new Promise((resolve, reject) => {
      this.waiting.push(() => {
        try {
          resolve(complete())
        } catch (cause) {
          reject(cause)
        }
      })
    })
  }
}

export type Step =
  | { readonly kind: 'append'; readonly log: number; readonly bytes: number; readonly mode: 'flush' | 'write' }
  | { readonly kind: 'settle' | 'flush' | 'drop'; readonly log: number }
  | { readonly kind: 'close' }

interface OpenedLog {
  readonly traced: TracedLog
  readonly state: SumState
  readonly log: PartitionLog
}

export interface WorkloadResult {
  readonly trace: DiskTrace
  readonly start: VolumeImage
  /** The image at the end, with everything that completed. */
  readonly image: VolumeImage
  readonly logs: ReadonlyMap<string, TracedLog>
}

export class Workload {
  private readonly trace = new DiskTrace()
  private readonly order = new PickedOrder()
  private readonly environment: CrashEnvironment
  private readonly logs = new Map<string, TracedLog>()
  private readonly opened: OpenedLog[] = []
  private store!: LogStore
  private failed: unknown = null

  constructor(private readonly random: SeededRandom) {
    this.environment = crashEnvironment(random.split('environment'))
  }

  async run(logCount: number, steps: readonly Step[]): Promise<WorkloadResult> {
    const start = new VolumeImage()
    const volume = new TracedVolume(start.copy(), this.trace, this.order)
    this.store = await this.until(openLogStore(this.environment, volume, IDENTITY, CRASH_LIMITS))
    for (let i = 0; i < logCount; i++) await this.openLog(i + 1)
    for (const step of steps) await this.take(step)
    return { trace: this.trace, start, image: volume.image, logs: this.logs }
  }

  private async openLog(topicId: number): Promise<void> {
    const traced = new TracedLog({ topicId, partition: 0, lane: 0 })
    const state = new SumState()
    const log = await this.until(this.store.open(traced.key, state))
    log.onAdvance = () => {
      const { writtenIndex, flushedIndex } = log
      if (log.failure !== null) this.failed ??= log.failure
      this.trace.note(() => {
        traced.written = Math.max(traced.written, writtenIndex)
        traced.flushed = Math.max(traced.flushed, flushedIndex)
      })
    }
    this.logs.set(keyName(traced.key), traced)
    this.opened.push({ traced, state, log })
  }

  private async take(step: Step): Promise<void> {
    if (step.kind === 'close') return this.until(this.store.close())
    const opened = this.opened[step.log % this.opened.length]!
    const { traced, log } = opened
    if (traced.dropAsked) return
    switch (step.kind) {
      case 'append':
        return this.append(opened, step.bytes, step.mode)
      case 'settle':
        return this.settleSome(this.random.integer(1, 6))
      case 'flush':
        return this.until(log.flush())
      case 'drop': {
        traced.dropAsked = true
        this.trace.note(() => {
          traced.dropAsked = true
        })
        await this.until(this.store.drop(traced.key))
        this.trace.note(() => {
          traced.dropped = true
        })
      }
    }
  }

  private async append({ traced, state, log }: OpenedLog, bytes: number, mode: 'flush' | 'write'): Promise<void> {
    const batch = drawBatch(this.random, traced.key, traced.batches.length, bytes)
    for (let tries = 0; !log.hasRoom(LOG_PART_BYTES + batch.length); tries++) {
      if (tries > 1000) throw new Error('there is never room')
      await this.settleSome(1)
    }
    const { memory } = this.environment
    const source = memory.allocate(batch.length)
    if (source === null) throw new Error('the workload has no memory')
    source.bytes.set(batch)
    const header = readBatchHeader(source.view, 0)
    const { index, nextOffset, term: lastTerm } = log.filled
    const term = Math.max(1, lastTerm + (this.random.chance(0.1) ? 1 : 0))
    const stamp = { term, baseOffset: nextOffset, index: index + 1, appendTime: this.environment.clock.wallMs() }
    if (!log.append(source, 0, header, stamp, mode)) throw new Error('a good batch was refused')
    memory.release(source)
    state.add(stamp.index, header.checksum)
    const endOffset = nextOffset + header.lastOffsetDelta + 1
    const { lastTimestamp } = header
    traced.batches.push({ bytes: batch, baseOffset: nextOffset, endOffset, term, lastTimestamp })
    const given = traced.batches.length
    this.trace.note(() => {
      traced.given = given
    })
    if (this.random.chance(0.5)) await turn()
  }

  /** Lets some operations complete, in an order that chance decides. */
  private async settleSome(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await turn()
      const { waiting } = this.order
      if (waiting.length > 0) waiting.splice(this.random.integer(0, waiting.length - 1), 1)[0]!()
      else this.environment.clock.fireNext()
      await turn()
      if (this.failed !== null) throw this.failed
    }
  }

  private async until<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const mark = (): void => {
      settled = true
    }
    promise.then(mark, mark)
    await turn()
    for (let steps = 0; !settled; steps++) {
      if (steps > 10_000) throw new Error('an operation of the store never ends')
      await this.settleSome(1)
    }
    return promise
  }
}

/** Every promise that can settle has settled, deferred work included. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

const PRODUCER = [1, 2, 3, 4] as const

export function drawBatch(random: SeededRandom, key: LogKey, sequence: number, bytes: number): Uint8Array {
  const builder = new RecordBatchBuilder(4 * 1024 * 1024)
  const records = random.integer(1, 3)
  const timestamp = 1_000_000 + sequence * 10 + random.integer(0, 30)
  for (let i = 0; i < records; i++) {
    const value = new Uint8Array(Math.max(1, Math.floor(bytes / records)))
    random.fill(value.subarray(0, 64))
    value.fill(random.integer(1, 255), 64)
    builder.tryAppend(null, value, null, timestamp + i)
  }
  return builder.seal({ identity: { ...key, control: false, producer: PRODUCER, epoch: 0, sequence }, checksum: crc32 })
}
