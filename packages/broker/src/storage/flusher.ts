// One flush at a time for the whole volume: it covers every write of every log that had completed when it began.
import type { Clock, DiskFile, Timer, Volume } from '../environment.js'
import type { Latch } from './latch.js'
import type { StorageCounters } from './storage-counters.js'

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
  /** A flush that covers everything written so far is about to be submitted. */
  flushBegins(): void
  /** That flush is done. */
  flushEnded(): void
}

export class Flusher {
  private clients = new Set<FlushClient>()
  /** Files with completed writes that no flush has covered. */
  private dirty = new Set<FlushedFile>()
  private timer: Timer | null = null
  private scheduled = false
  private flushing = false
  private wantedAgain = false

  constructor(
    private readonly volume: Volume,
    private readonly clock: Clock,
    private readonly latch: Latch,
    private readonly intervalMs: number,
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
    else this.timer ??= this.clock.timer(this.intervalMs, () => this.request())
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

  /** Flushes at the end of this turn, so that writes completing in the same turn are covered. */
  request(): void {
    if (this.flushing) {
      this.wantedAgain = true
      return
    }
    if (this.scheduled) return
    this.scheduled = true
    this.clock.defer(() => {
      this.scheduled = false
      void this.run()
    })
  }

  private async run(): Promise<void> {
    this.timer?.cancel()
    this.timer = null
    if (this.latch.failure !== null || (this.clients.size === 0 && this.dirty.size === 0)) return
    const { clients, dirty } = this
    this.clients = new Set()
    this.dirty = new Set()
    this.flushing = true
    for (const client of clients) client.flushBegins()
    try {
      await this.flush(dirty)
    } catch (cause) {
      this.latch.fail('a flush', cause)
      return
    }
    this.flushing = false
    this.counters.flushes++
    for (const client of clients) client.flushEnded()
    if (this.wantedAgain) {
      this.wantedAgain = false
      this.request()
    }
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
