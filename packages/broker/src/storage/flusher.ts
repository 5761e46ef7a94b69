// Flushes of the whole volume: each covers every write of every log that had completed when it began.
import type { Clock, DiskFile, Timer, Volume } from '../environment.js'
import type { Latch } from './latch.js'
import type { StorageCounters } from './storage-counters.js'
import type { StorageLimits } from './storage-limits.js'

/** A file of the volume that a flush covers. */
export interface FlushedFile {
  readonly file: DiskFile
  /** Every block was written once: flushed by `Volume.flush`, otherwise by `DiskFile.sync`. */
  readonly writtenThrough: boolean
  /** Whether the file's name may still be lost in a power failure. */
  needsDirectorySync: boolean
}

/** A log with bytes that are written and not flushed. */
export interface FlushClient {
  /** A flush that covers everything written so far is about to be submitted; others may be under way. */
  flushBegins(): void
  /** That flush is done. Flushes end in the order in which they began. */
  flushEnded(): void
}

interface FlushUnderWay {
  readonly clients: ReadonlySet<FlushClient>
  /** Nothing but a flush of the device: several may be under way. */
  readonly isPlain: boolean
  isDone: boolean
}

export class Flusher {
  private clients = new Set<FlushClient>()
  /** Files with completed writes that no flush has covered. */
  private dirty = new Set<FlushedFile>()
  private timer: Timer | null = null
  private scheduled = false
  private wantedAgain = false
  /**
   * Oldest first. A flush of the device that waits for another is joined with it by the kernel and begins the moment
   * that one ends, so the disk does not stand still while a turn goes by.
   * Invariant: nobody hears that a flush is done before all older ones are, so that no failure is overtaken by what a
   * younger one says of the same bytes.
   */
  private readonly underWay: FlushUnderWay[] = []
  /** Monotonic milliseconds at which the last flush was done; minus infinity when none was. */
  completedAtMs = Number.NEGATIVE_INFINITY

  constructor(
    private readonly volume: Volume,
    private readonly clock: Clock,
    private readonly latch: Latch,
    private readonly limits: Pick<StorageLimits, 'flushIntervalMs' | 'flushesInFlight'>,
    private readonly counters: StorageCounters,
  ) {}

  /** A write to the file has completed. */
  wrote(file: FlushedFile): void {
    this.dirty.add(file)
  }

  /** The client has written bytes without a gap that wait for a flush: now, or within the interval. */
  enlist(client: FlushClient, now: boolean): void {
    this.clients.add(client)
    if (now) this.request()
    else this.timer ??= this.clock.timer(this.limits.flushIntervalMs, () => this.request())
  }

  /** The client hears of the next flush, whoever asks for it. */
  join(client: FlushClient): void {
    this.clients.add(client)
  }

  /** Resolves when a flush that began after this call is done. @throws StorageError when it fails. */
  async flushed(): Promise<void> {
    if (this.latch.failure !== null) throw this.latch.failure
    let settle: { readonly resolve: () => void; readonly reject: (failure: unknown) => void } | null = null
    const done = new Promise<void>((resolve, reject) => {
      settle = { resolve, reject }
    })
    const onFailure = (failure: unknown): void => settle?.reject(failure)
    this.latch.listen(onFailure)
    this.enlist({ flushBegins: () => {}, flushEnded: () => settle?.resolve() }, true)
    try {
      await done
    } finally {
      this.latch.ignore(onFailure)
    }
  }

  /** Has the disk complete something, whether there is anything to flush or not. */
  probe(file: FlushedFile): void {
    if (this.underWay.length > 0 || this.scheduled || this.latch.failure !== null) return
    this.dirty.add(file)
    this.request()
  }

  /** Flushes at the end of this turn, so that writes completing in the same turn are covered. */
  request(): void {
    if (this.scheduled) return
    this.scheduled = true
    this.clock.defer(() => {
      this.scheduled = false
      void this.run()
    })
  }

  private async run(): Promise<void> {
    if (this.latch.failure !== null) return
    const isPlain = this.isPlain()
    if (!this.mayBegin(isPlain)) {
      this.wantedAgain = true
      return
    }
    this.timer?.cancel()
    this.timer = null
    if (this.clients.size === 0 && this.dirty.size === 0) return
    const { clients, dirty } = this
    this.clients = new Set()
    this.dirty = new Set()
    const flush: FlushUnderWay = { clients, isPlain, isDone: false }
    this.underWay.push(flush)
    for (const client of clients) client.flushBegins()
    try {
      await this.flush(dirty)
    } catch (cause) {
      this.latch.fail('a flush', cause)
      return
    }
    flush.isDone = true
    this.counters.flushes++
    this.completedAtMs = this.clock.monotonicMs()
    this.tellEnded()
  }

  /** Whether what is to be flushed now needs nothing but a flush of the device. */
  private isPlain(): boolean {
    if (this.volume.flushMethod !== 'device') return false
    for (const { writtenThrough, needsDirectorySync } of this.dirty) {
      if (!writtenThrough || needsDirectorySync) return false
    }
    return true
  }

  private mayBegin(isPlain: boolean): boolean {
    const { underWay } = this
    if (underWay.length === 0) return true
    return isPlain && underWay.length < this.limits.flushesInFlight && underWay.every((flush) => flush.isPlain)
  }

  private tellEnded(): void {
    while (this.latch.failure === null && this.underWay[0]?.isDone === true) {
      for (const client of this.underWay.shift()!.clients) client.flushEnded()
    }
    if (!this.wantedAgain) return
    this.wantedAgain = false
    this.request()
  }

  /** Invariant: submitted only for writes that have completed, hence one flush covers all of them. */
  private async flush(files: ReadonlySet<FlushedFile>): Promise<void> {
    const writtenThrough: DiskFile[] = []
    const grown: DiskFile[] = []
    const flushes: Promise<void>[] = []
    const unnamed: FlushedFile[] = []
    for (const flushed of files) {
      if (flushed.writtenThrough) writtenThrough.push(flushed.file)
      else grown.push(flushed.file)
      if (flushed.needsDirectorySync) unnamed.push(flushed)
    }
    if (writtenThrough.length > 0) flushes.push(this.volume.flush(writtenThrough))
    if (grown.length > 0) flushes.push(this.volume.flushGrown(grown))
    if (unnamed.length > 0) flushes.push(this.volume.syncDirectory())
    await Promise.all(flushes)
    for (const flushed of unnamed) flushed.needsDirectorySync = false
  }
}
