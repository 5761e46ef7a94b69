// One flush at a time for the whole volume: it covers every write of every log that had completed when it began.
import type { Clock, DiskFile, Timer, Volume } from '../environment.js'
import type { Latch } from './latch.js'
import type { Slot } from './slot.js'
import type { StorageCounters } from './storage-counters.js'

/** A log with bytes that are written and not flushed. */
export interface FlushClient {
  /** A flush that covers everything written so far is about to be submitted. */
  flushBegins(): void
  /** That flush is done. */
  flushEnded(): void
}

export class Flusher {
  private clients = new Set<FlushClient>()
  /** Slots with completed writes that no flush has covered. */
  private dirty = new Set<Slot>()
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

  /** A write to the slot has completed. */
  wrote(slot: Slot): void {
    this.dirty.add(slot)
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
  private async flush(slots: ReadonlySet<Slot>): Promise<void> {
    const writtenThrough: DiskFile[] = []
    const grown: DiskFile[] = []
    const flushes: Promise<void>[] = []
    const unnamed: Slot[] = []
    for (const slot of slots) {
      if (slot.writtenThrough) writtenThrough.push(slot.file)
      else grown.push(slot.file)
      if (slot.needsDirectorySync) unnamed.push(slot)
    }
    if (writtenThrough.length > 0) flushes.push(this.volume.flush(writtenThrough))
    if (grown.length > 0) flushes.push(this.volume.flushGrown(grown))
    if (unnamed.length > 0) flushes.push(this.volume.syncDirectory())
    await Promise.all(flushes)
    for (const slot of unnamed) slot.needsDirectorySync = false
  }
}
