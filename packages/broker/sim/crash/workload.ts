// Runs the real log store over a traced volume under a seed, and remembers what it was given and what it promised.
import { type LogKey, type LogStore, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import type { StorageLimits } from '#src/storage/storage-limits.js'
import type { SeededRandom } from '../random.js'
import { type CrashEnvironment, crashEnvironment } from './crash-environment.js'
import { DiskTrace } from './disk-trace.js'
import { LogDriver, roomFor, turn } from './log-driver.js'
import { LogContent, TracedLog, TracedState } from './log-history.js'
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
  frameBytes: 32 * 1024,
  checkpointBytes: 16 * 1024,
  voteAreaBytes: 8 * 1024,
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
  | { readonly kind: 'settle' | 'flush' | 'drop' | 'install'; readonly log: number }
  /** Of what could be: 0 nothing, 1 everything. */
  | { readonly kind: 'commit' | 'truncate'; readonly log: number; readonly share: number }
  /** The log is to keep so many bytes; null cuts off everything there is. */
  | { readonly kind: 'expire'; readonly log: number; readonly bytes: number | null }
  /** Whether to wait until the vote is saved. */
  | { readonly kind: 'vote'; readonly log: number; readonly wait: boolean }
  | { readonly kind: 'close' }
  /** The next flush answers an error. */
  | { readonly kind: 'failFlush' }

export interface WorkloadResult {
  readonly trace: DiskTrace
  readonly start: VolumeImage
  /** The image at the end, with everything that completed. */
  readonly image: VolumeImage
  readonly logs: ReadonlyMap<string, TracedLog>
  /** Events before this one belong to the opening of the store, which is much the same in every trace. */
  readonly opened: number
}

export class Workload {
  private readonly trace = new DiskTrace()
  private readonly order = new PickedOrder()
  private readonly environment: CrashEnvironment
  private readonly logs = new Map<string, TracedLog>()
  private readonly drivers: LogDriver[] = []
  private volume!: TracedVolume
  private store!: LogStore
  private failed: Error | null = null
  private failureIsMade = false

  constructor(private readonly random: SeededRandom) {
    this.environment = crashEnvironment(random.split('environment'))
  }

  async run(logCount: number, steps: readonly Step[]): Promise<WorkloadResult> {
    const start = new VolumeImage()
    this.volume = new TracedVolume(start.copy(), this.trace, this.order)
    this.store = await this.until(openLogStore(this.environment, this.volume, IDENTITY, CRASH_LIMITS))
    for (let i = 0; i < logCount; i++) await this.openLog(i + 1)
    const opened = this.trace.events.length
    for (const step of steps) {
      await this.take(step)
      // Whoever waits is told that the disk failed, and that is the end of the store.
      if (this.failed !== null) break
    }
    if (this.failed !== null) await this.settleSome(10)
    return { trace: this.trace, start, image: this.volume.image, logs: this.logs, opened }
  }

  private async openLog(topicId: number): Promise<void> {
    const traced = new TracedLog({ topicId, partition: 0, lane: 0 })
    const state = new TracedState()
    const log = await this.until(this.store.open(traced.key, state))
    const driver = new LogDriver(this.environment, this.trace, traced, new LogContent(), state, log)
    driver.onFailure = (failure) => {
      this.failed = failure
    }
    this.logs.set(keyName(traced.key), traced)
    this.drivers.push(driver)
  }

  private async take(step: Step): Promise<void> {
    if (step.kind === 'close') return this.orFailure(this.store.close())
    if (step.kind === 'failFlush') {
      this.volume.failingFlushes = 1
      this.failureIsMade = true
      return
    }
    const driver = this.drivers[step.log % this.drivers.length]!
    const { traced, log } = driver
    if (traced.dropAsked) return
    switch (step.kind) {
      case 'append':
        return this.append(driver, () => driver.draw(this.random, step.bytes), step.mode)
      case 'commit': {
        // What is being cut off is not committed any more.
        if (driver.truncating !== null) return
        const { committed } = driver
        const most = this.random.chance(0.3) ? log.filled.index : Math.max(committed, log.flushedIndex)
        return driver.commit(committed + Math.floor((most - committed) * step.share))
      }
      case 'truncate': {
        if (driver.truncating !== null || log.failure !== null) return
        const { index } = log.filled
        const cut = Math.ceil((index - driver.committed) * step.share)
        if (cut > 0) driver.truncate(index - cut)
        return
      }
      case 'install':
        if (driver.truncating === null && log.failure === null) driver.install(this.random)
        return
      case 'expire': {
        if (log.failure !== null || !(await this.room(driver, 4096))) return
        const batch = driver.expire(step.bytes)
        return batch === null ? undefined : this.append(driver, () => batch, 'flush')
      }
      case 'vote': {
        const saved = this.vote(traced)
        return step.wait ? this.until(saved) : undefined
      }
      case 'settle':
        return this.settleSome(this.random.integer(1, 6))
      case 'flush':
        return this.orFailure(log.flush())
      case 'drop': {
        traced.dropAsked = true
        this.trace.note(() => {
          traced.dropAsked = true
        })
        await this.orFailure(this.store.drop(traced.key))
        if (this.failed !== null) return
        this.trace.note(() => {
          traced.dropped = true
        })
      }
    }
  }

  private async vote({ key, votes }: TracedLog): Promise<void> {
    const given = votes.history.push(votes.draw(this.random))
    this.trace.note(() => {
      votes.given = given
    })
    try {
      await this.store.votes.save(key, votes.history[given - 1]!)
      this.trace.note(() => {
        votes.kept = Math.max(votes.kept, given)
      })
    } catch (cause) {
      // The disk failed, as it was made to, or the store was closed.
      if (!(cause instanceof StorageError)) this.failed = cause as Error
    }
  }

  private async append(driver: LogDriver, draw: () => Uint8Array, mode: 'flush' | 'write'): Promise<void> {
    // What a producer sends next is known when the log takes appends again.
    if (driver.truncating !== null) await this.until(driver.truncating)
    const batch = draw()
    if (!(await this.room(driver, roomFor(batch)))) return
    const term = Math.max(1, driver.log.filled.term + (this.random.chance(0.1) ? 1 : 0))
    driver.append(batch, term, mode)
    if (this.random.chance(0.5)) await turn()
  }

  /** @returns false when the log has failed, as it was made to. */
  private async room(driver: LogDriver, bytes: number): Promise<boolean> {
    for (let tries = 0; !driver.log.hasRoom(bytes); tries++) {
      if (tries > 1000) throw new Error('there is never room')
      await this.settleSome(1)
    }
    return driver.log.failure === null
  }

  /** Lets some operations complete, in an order that chance decides. */
  private async settleSome(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await turn()
      const { waiting } = this.order
      if (waiting.length > 0) waiting.splice(this.random.integer(0, waiting.length - 1), 1)[0]!()
      else this.environment.clock.fireNext()
      await turn()
      if (this.failed !== null && !this.failureIsMade) throw this.failed
    }
  }

  /** As `until`; that the disk failed, where it was made to, is no error of the trace. */
  private async orFailure(promise: Promise<void>): Promise<void> {
    try {
      await this.until(promise)
    } catch (cause) {
      if (!this.failureIsMade || !(cause instanceof StorageError)) throw cause
      this.failed ??= cause
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
