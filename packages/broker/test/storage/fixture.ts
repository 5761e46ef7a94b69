// A log store on a volume in memory whose operations a test may hold, fail, count and look at.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, type LogPart, loggedBatches, RecordBatchBuilder, readBatchHeader } from '@millrace/protocol'
import { DiskError, type DiskErrorCode } from '#src/environment.js'
import type { LogKey, LogRead, LogState, LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import type { StorageLimits } from '#src/storage/storage-limits.js'
import { CrashMemory, crashEnvironment } from '../../sim/crash/crash-environment.js'
import { DiskTrace } from '../../sim/crash/disk-trace.js'
import { VolumeImage } from '../../sim/crash/page-image.js'
import { type CompletionOrder, TracedVolume } from '../../sim/crash/traced-volume.js'
import { SeededRandom } from '../../sim/random.js'

export const IDENTITY = { clusterId: 'test', nodeId: 3, diskId: '00112233445566778899aabbccddeeff' }
export const KEY: LogKey = { topicId: 1, partition: 0, lane: 0 }

/** Small slots; everything else as small as the relations allow, so that tests reach rolls and windows. */
export const SMALL: Partial<StorageLimits> = {
  slotBytes: [64 * 1024, 256 * 1024],
  reserveSlots: 2,
  fillBytesPerSecond: Number.POSITIVE_INFINITY,
  maxUnflushedBytes: 128 * 1024,
  maxGroupBytes: 128 * 1024,
  gatherBytes: 8192,
  extentBytes: 64 * 1024,
  appendMemoryBytes: 512 * 1024,
  cacheBytes: 320 * 1024,
  frameBytes: 8192,
  checkpointBytes: 32 * 1024,
}

interface Held {
  readonly label: string
  readonly go: () => void
}

/** Completes operations at once, but for those a test holds or fails. */
export class TestOrder implements CompletionOrder {
  readonly counts: Record<string, number> = {}
  readonly held: Held[] = []
  /** Kinds of operations that wait for `release`. */
  readonly holding = new Set<string>()
  private readonly refused = new Set<string>()
  private failing = new Map<string, { readonly code: DiskErrorCode; left: number }>()

  fail(label: string, code: DiskErrorCode, times = Number.POSITIVE_INFINITY): void {
    this.failing.set(label, { code, left: times })
  }

  /** No read of this file succeeds. */
  refuse(file: string): void {
    this.refused.add(file)
  }

  heal(): void {
    this.failing.clear()
    this.refused.clear()
  }

  async run<T>(label: string, complete: () => T, file = ''): Promise<T> {
    this.counts[label] = (this.counts[label] ?? 0) + 1
    if (this.holding.has(label)) await new Promise<void>((go) => this.held.push({ label, go }))
    if (this.refused.has(file)) throw new DiskError('INPUT_OUTPUT', `${label} of ${file} was made to fail`)
    const failing = this.failing.get(label)
    if (failing !== undefined && failing.left > 0) {
      failing.left--
      throw new DiskError(failing.code, `${label} was made to fail`)
    }
    return complete()
  }

  /** Lets held operations of a kind go on, oldest first; all of them without a count. */
  release(label: string, count = Number.POSITIVE_INFINITY): void {
    for (let left = count; left > 0; left--) {
      const at = this.held.findIndex((held) => held.label === label)
      if (at < 0) return
      this.held.splice(at, 1)[0]!.go()
    }
  }

  /** Lets the newest held operation of a kind go on. */
  releaseNewest(label: string): void {
    const at = this.held.findLastIndex((held) => held.label === label)
    if (at >= 0) this.held.splice(at, 1)[0]!.go()
  }
}

/** Every promise that can settle has settled. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve))
}

/** Remembers what recovery told it. */
export class RecordingState implements LogState {
  restored: Uint8Array | null | undefined
  readonly replayed: LogPart[] = []
  state = new Uint8Array([1, 2, 3])

  encodeState(): Uint8Array {
    return this.state
  }
  restoreState(state: Uint8Array | null): void {
    this.restored = state?.slice() ?? null
  }
  replay(part: LogPart): void {
    this.replayed.push(part)
  }
}

export interface BatchOptions {
  readonly bytes?: number
  readonly records?: number
  readonly timestamp?: number
  readonly control?: boolean
  readonly key?: LogKey
  readonly fill?: number
}

let sequence = 0

/** A client part with one value of about `bytes` in each record. */
export function batchOf(options: BatchOptions = {}): Uint8Array {
  const builder = new RecordBatchBuilder(4 * 1024 * 1024)
  for (let i = 0; i < (options.records ?? 1); i++) {
    const value = new Uint8Array(options.bytes ?? 100).fill(options.fill ?? (sequence % 251) + 1)
    if (!builder.tryAppend(null, value, null, (options.timestamp ?? 1000) + i)) throw new Error('the batch is full')
  }
  const { topicId, partition, lane } = options.key ?? KEY
  const identity = { topicId, partition, lane, control: options.control === true, producer: [1, 2, 3, 4] as const }
  return builder.seal({ identity: { ...identity, epoch: 0, sequence: sequence++ }, checksum: crc32 })
}

export class TestStore {
  readonly order = new TestOrder()
  /** Of what is appended next. */
  appendTime = 77
  readonly trace = new DiskTrace()
  readonly memory: CrashMemory
  readonly environment
  readonly volume: TracedVolume
  store!: LogStore

  constructor(
    readonly image = new VolumeImage(),
    readonly limits: Partial<StorageLimits> = SMALL,
    memoryBytes = 64 * 1024 * 1024,
  ) {
    this.memory = new CrashMemory(memoryBytes)
    this.environment = crashEnvironment(new SeededRandom(`test/${sequence}`), this.memory)
    this.volume = new TracedVolume(image, this.trace, this.order)
  }

  static async open(image?: VolumeImage, limits?: Partial<StorageLimits>, memoryBytes?: number): Promise<TestStore> {
    const test = new TestStore(image, limits, memoryBytes)
    await test.start()
    return test
  }

  async start(identity = IDENTITY): Promise<void> {
    this.store = await openLogStore(this.environment, this.volume, identity, this.limits)
    await turn()
  }

  open(key = KEY, state: LogState = new RecordingState()): Promise<PartitionLog> {
    return this.store.open(key, state)
  }

  /** Lets turns pass, and time where nothing happens without it, until `done`. */
  async until(done: () => boolean, what = 'the condition'): Promise<void> {
    for (let i = 0; i < 2000; i++) {
      if (done()) return
      await turn()
      if (done()) return
      if (i % 8 === 7) this.environment.clock.fireNext()
    }
    throw new Error(`${what} does not come about`)
  }

  async settled<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const mark = (): void => {
      settled = true
    }
    promise.then(mark, mark)
    await this.until(() => settled, 'the promise')
    return promise
  }

  /** Appends without asking for room; the answer of `append`. */
  append(log: PartitionLog, batch: Uint8Array, mode: 'flush' | 'write' = 'flush', term = 1): boolean {
    const source = this.memory.allocate(batch.length)
    if (source === null) throw new Error('the test has no memory')
    try {
      source.bytes.set(batch)
      const { index, nextOffset } = log.filled
      const stamp = { term, baseOffset: nextOffset, index: index + 1, appendTime: this.appendTime }
      return log.append(source, 0, readBatchHeader(source.view, 0), stamp, mode)
    } finally {
      this.memory.release(source)
    }
  }

  /** Appends once there is room. */
  async appendWhenRoom(
    log: PartitionLog,
    batch: Uint8Array,
    mode: 'flush' | 'write' = 'flush',
    term = 1,
  ): Promise<void> {
    await this.until(() => log.hasRoom(LOG_PART_BYTES + batch.length), 'room')
    if (!this.append(log, batch, mode, term)) throw new Error('a good batch was refused')
  }

  /** Appends batches one after another, and flushes them. */
  async fill(
    log: PartitionLog,
    count: number,
    options: BatchOptions = {},
    mode: 'flush' | 'write' = 'flush',
  ): Promise<Uint8Array[]> {
    const batches: Uint8Array[] = []
    for (let i = 0; i < count; i++) {
      const batch = batchOf({ key: log.key, ...options })
      await this.appendWhenRoom(log, batch, mode)
      batches.push(batch)
    }
    await this.settled(log.flush())
    return batches
  }

  /** The client parts from an offset to the end of what is flushed. */
  async readAll(log: PartitionLog, from = 0, maxBytes = 20_000): Promise<Uint8Array[]> {
    const batches: Uint8Array[] = []
    for (let offset = from; offset < log.filled.nextOffset; ) {
      const read = await this.settled(log.read(offset, maxBytes, log.flushedIndex))
      if (read.batchCount === 0) break
      batches.push(...clientPartsOf(read))
      offset = read.nextOffset
      read.release()
    }
    return batches
  }

  /** Another life on what the disk holds now, as after kill -9. */
  async restart(limits = this.limits): Promise<TestStore> {
    return TestStore.open(this.image.copy(), limits)
  }
}

export function bytesOf(read: LogRead): Uint8Array {
  return Buffer.concat(read.pieces.map(({ block, offset, length }) => block.bytes.slice(offset, offset + length)))
}

export function clientPartsOf(read: LogRead): Uint8Array[] {
  const bytes = bytesOf(read)
  return [...loggedBatches(bytes, crc32)].map(({ clientStart, end }) => bytes.slice(clientStart, end))
}

/** Changes bytes of a file behind everybody's back. */
export function damage(image: VolumeImage, name: string, position: number, change: (page: Uint8Array) => void): void {
  const file = image.files.get(name)
  if (file === undefined) throw new Error(`no file ${name}`)
  const page = file.page(Math.floor(position / 4096)).slice()
  change(page)
  file.setPage(Math.floor(position / 4096), page)
}

export function flipBit(image: VolumeImage, name: string, position: number): void {
  damage(image, name, position, (page) => {
    page[position % 4096]! ^= 1
  })
}

/** Slot files and the topic that owns each, by the first group in it. */
export function slotFiles(image: VolumeImage): string[] {
  return [...image.files.keys()].filter((name) => name.startsWith('slot-')).sort()
}
