// The logs of one volume: found, opened, dropped, and closed together.
import { assert } from '@millrace/protocol'
import { DiskError } from '../environment.js'
import { RECOVERIES_AT_ONCE } from '../limits.js'
import type { FormerSlot } from './former-slots.js'
import { keyText } from './group-envelope.js'
import { recoverLog } from './log-recovery.js'
import {
  type DiskPulse,
  type LogKey,
  type LogState,
  type LogStore,
  type PartitionLog,
  type RecoveryReport,
  StorageError,
  type StorageStatistics,
} from './log-store.js'
import { Places } from './places.js'
import type { RecoveredLog } from './recovered-log.js'
import { ReplicaMarks } from './replica-marks.js'
import { Scrubber } from './scrubber.js'
import type { OwnedSlot } from './slot-scan.js'
import type { StorageContext } from './storage-context.js'
import { StoredLog } from './stored-log.js'
import type { VolumeRecord } from './volume-record.js'
import { VoteJournal } from './vote-journal.js'
import { VOTE_MARKS } from './vote-record.js'

interface FoundLog {
  readonly key: LogKey
  readonly slots: OwnedSlot[]
}

class Report implements RecoveryReport {
  logs = 0
  replayedBytes = 0
  durationMs = 0
  readonly torn: { readonly key: LogKey; readonly position: number }[] = []
  readonly unreadable: string[] = []
  readonly damaged: { readonly key: LogKey; readonly position: number; readonly reason: string }[] = []
}

export class StoredLogs implements LogStore {
  readonly recovery = new Report()
  readonly votes: VoteJournal
  readonly pulse: DiskPulse
  wasPowerLost = false
  private readonly foundLogs = new Map<string, FoundLog>()
  private readonly opening = new Map<string, Promise<PartitionLog>>()
  private readonly logs = new Map<string, StoredLog>()
  private readonly dropping = new Set<Promise<void>>()
  /** Dropped since the store was opened: the record on disk may still say so. */
  private readonly recordedDrops = new Set<string>()
  /** Whether the store was closed in order the last time: then nothing was under way. */
  private readonly wasClean: boolean
  private readonly scrubber: Scrubber
  private readonly places = new Places(RECOVERIES_AT_ONCE)
  private closing: Promise<void> | null = null

  constructor(
    private readonly context: StorageContext,
    private readonly record: VolumeRecord,
    private readonly startedMs: number,
  ) {
    this.wasClean = record.clean
    const noteJournal = async (): Promise<void> => {
      record.hasVotes = true
      await record.save()
    }
    this.votes = new VoteJournal(context, noteJournal, (key) => this.mayBeOnDisk(keyText(key)))
    const { votes } = this
    this.pulse = {
      get completedAtMs() {
        return context.flusher.completedAtMs
      },
      probe: () => votes.probe(),
    }
    this.scrubber = new Scrubber(context, {
      all: () => [...this.logs.values()],
      has: (log) => this.logs.get(keyText(log.key)) === log,
    })
  }

  get found(): readonly LogKey[] {
    return [...this.foundLogs.values()].map(({ key }) => key)
  }

  private mayBeOnDisk(name: string): boolean {
    return this.foundLogs.has(name) || this.logs.get(name)?.marks.hasLog === true
  }

  addFound(slot: OwnedSlot): void {
    const { key } = slot.owner
    const found = this.foundLogs.get(keyText(key))
    if (found !== undefined) found.slots.push(slot)
    else this.foundLogs.set(keyText(key), { key, slots: [slot] })
  }

  /** Finishes drops that a crash interrupted, notes that the volume is in use, and begins to fill the reserve. */
  async begin(): Promise<void> {
    if (!this.wasClean) await this.flushFree()
    const { bootId } = this.context.environment
    // Where no record is left nobody knows; where there are no logs either, this is the first start.
    const wasUsed = this.record.exists || this.foundLogs.size > 0
    this.wasPowerLost = wasUsed && !this.wasClean && this.record.bootId !== bootId
    // Durable before the record says which start of the machine this is: after that nobody would know any more.
    await this.votes.recover(this.record.hasVotes, this.wasPowerLost ? VOTE_MARKS.powerLost : 0)
    this.record.bootId = bootId
    for (const name of this.record.dropped.keys()) {
      const slots = this.foundLogs.get(name)?.slots ?? []
      this.foundLogs.delete(name)
      for (const { slot } of slots) await this.context.pool.release(slot)
    }
    // What the disk refuses to read now may be a slot of one of them, and be read at the next start.
    if (this.recovery.unreadable.length === 0) this.record.dropped.clear()
    this.record.clean = false
    await this.noteInUse()
    this.recovery.logs = this.foundLogs.size
    this.recovery.durationMs = this.context.environment.clock.monotonicMs() - this.startedMs
    this.context.pool.start()
    this.scrubber.start()
  }

  /**
   * Headers that say a slot is free may have been read from a volatile cache. Once the drops that they finish are
   * forgotten, or slots behind them in their log are given back, nothing would set it right were they lost after all.
   */
  private async flushFree(): Promise<void> {
    const { pool, volume } = this.context
    const files = [...pool.slots].filter(({ generation }) => generation % 2 === 0).map(({ file }) => file)
    if (files.length > 0) await volume.flushGrown(files)
    // A slot is found by its name, which may have been seen before it was durable as well.
    await volume.syncDirectory()
  }

  /**
   * A full disk keeps nobody from reading. As long as the note could not be made, a crash would pass for an orderly close,
   * and recovery would not look for damage behind the ends of logs: so it is tried again until it is there.
   */
  private async noteInUse(): Promise<void> {
    const { environment, limits } = this.context
    try {
      await this.record.save()
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'NO_SPACE') throw cause
      environment.clock.timer(limits.spaceRetryMs, () => {
        if (this.closing === null) this.noteInUse().catch((error: unknown) => this.context.latch.fail('a note', error))
      })
    }
  }

  async open(key: LogKey, state: LogState): Promise<PartitionLog> {
    this.assertOpen()
    const name = keyText(key)
    assert(!this.logs.has(name) && !this.opening.has(name), `log ${name} is opened once`)
    const opening = this.openOne(key, state).finally(() => this.opening.delete(name))
    this.opening.set(name, opening)
    return opening
  }

  private async openOne(key: LogKey, state: LogState): Promise<PartitionLog> {
    const name = keyText(key)
    const found = this.foundLogs.get(name)
    if (found === undefined) {
      await this.forgetDrop(name)
      state.restoreState(null)
      const log = new StoredLog(this.context, key, state, null, new ReplicaMarks(this.votes, key, false, false, false))
      this.logs.set(name, log)
      return log
    }
    const volume = { clean: this.wasClean, refusesSlots: this.recovery.unreadable.length > 0 }
    const recovered = await this.places.run(() => recoverLog(this.context, key, found.slots, state, volume))
    const marks = new ReplicaMarks(this.votes, key, true, recovered.damage !== null, this.wasPowerLost)
    const log = new StoredLog(this.context, key, state, recovered, marks)
    if (recovered.damage === null) await this.settle(log, found, recovered)
    else log.former.add(keptSlots(found, recovered))
    this.report(key, recovered)
    this.foundLogs.delete(name)
    this.logs.set(name, log)
    return log
  }

  /**
   * Makes what was found count: slots beyond the end are given back, lost headers written again, and everything that
   * was walked is flushed, since it may have been read from a volatile cache.
   */
  private async settle(log: StoredLog, found: FoundLog, recovered: RecoveredLog): Promise<void> {
    const { pool } = this.context
    for (const { slot } of recovered.surplus) await pool.release(slot)
    if (!this.wasClean) await this.makeDurable(log, found, recovered)
    // That the log began anew is durable by now.
    log.former.add(recovered.former.map(({ slot, source }) => ({ slot, source, writtenBytes: 0 })))
    log.former.giveBack()
  }

  private async makeDurable(log: StoredLog, found: FoundLog, recovered: RecoveredLog): Promise<void> {
    const { flusher } = this.context
    for (const segment of recovered.segments.slice(recovered.firstWalked)) {
      const scanned = found.slots.find(({ slot }) => slot === segment.slot)
      if (scanned?.needsHeader) await log.writer.headers.writeRollHeader(segment)
      flusher.wrote(segment.slot)
    }
    await flusher.flushed()
  }

  private report(key: LogKey, { replayedBytes, tornAt, damage }: RecoveredLog): void {
    const { recovery } = this
    recovery.replayedBytes += replayedBytes
    recovery.durationMs = this.context.environment.clock.monotonicMs() - this.startedMs
    if (damage !== null) recovery.damaged.push({ key, position: damage.position, reason: damage.reason })
    else if (tornAt !== null) recovery.torn.push({ key, position: tornAt })
  }

  async drop(key: LogKey): Promise<void> {
    this.assertOpen()
    const dropping = this.dropOne(key)
    this.dropping.add(dropping)
    try {
      await dropping
    } finally {
      this.dropping.delete(dropping)
    }
  }

  /**
   * A log begins anew under the name of one that was dropped, whose slots are given back durably: a restart must not take it
   * for that one and finish the drop. @throws StorageError DAMAGED where a slot that cannot be read may be of the old one.
   */
  private async forgetDrop(name: string): Promise<void> {
    if (this.record.dropped.has(name)) {
      throw new StorageError('DAMAGED', `log ${name} was dropped, and a segment file that cannot be read may be of it`)
    }
    if (!this.recordedDrops.delete(name)) return
    try {
      await this.record.save()
    } catch (cause) {
      this.recordedDrops.add(name)
      throw new StorageError('STORAGE_FAILED', `the drop of log ${name} could not be forgotten`, { cause })
    }
  }

  private async dropOne(key: LogKey): Promise<void> {
    const name = keyText(key)
    await this.opening.get(name)
    if (this.context.latch.failure !== null) throw this.context.latch.failure
    const open = this.logs.get(name)
    const found = this.foundLogs.get(name)
    if (open === undefined && found === undefined) return
    this.logs.delete(name)
    this.foundLogs.delete(name)
    // From here on the log is gone, whatever its slots say, also after a crash.
    this.record.dropped.set(name, key)
    this.recordedDrops.add(name)
    await this.recordDrop(name)
    await open?.stop()
    for (const { slot, source, writtenBytes } of open?.slots ?? []) {
      if (source !== null) await this.context.frames.drop(source)
      await this.context.pool.release(slot, writtenBytes)
    }
    for (const { slot } of found?.slots ?? []) await this.context.pool.release(slot)
    // Saved with whatever is saved next: until then a restart finds nothing to give back.
    if (this.recovery.unreadable.length === 0) this.record.dropped.delete(name)
  }

  /** @throws StorageError STORAGE_FAILED. */
  private async recordDrop(name: string): Promise<void> {
    try {
      await this.record.save()
    } catch (cause) {
      // Dropping logs is what makes space on a full disk, so it goes on. Should a crash bring the log back in part, its
      // owner, who has noted the drop in a log of its own, drops it again.
      if (cause instanceof DiskError && cause.code === 'NO_SPACE') return
      throw new StorageError('STORAGE_FAILED', `the drop of log ${name} could not be recorded`, { cause })
    }
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private async closeOnce(): Promise<void> {
    const { pool, appendMemory, frames, latch } = this.context
    await this.scrubber.stop()
    await Promise.allSettled([...this.opening.values(), ...this.dropping])
    const closed = await Promise.allSettled([...this.logs.values()].map((log) => log.close()))
    await this.votes.close()
    await pool.close()
    if (closed.every(({ status }) => status === 'fulfilled') && latch.failure === null) await this.noteClosed()
    while (appendMemory.forgetOldest()) {
      // Until none is left.
    }
    await frames.close()
    await Promise.all([...pool.slots].map(({ file }) => file.close()))
  }

  /** What cannot be noted now costs the next start some time, and nothing else. */
  private async noteClosed(): Promise<void> {
    try {
      await this.context.flusher.flushed()
      this.record.clean = this.foundLogs.size === 0 && this.recovery.damaged.length === 0
      await this.record.save()
    } catch (cause) {
      const { log } = this.context.environment
      log.warn({ cause }, 'the log store could not be closed in order; the next start will look at it more closely')
    }
  }

  get statistics(): StorageStatistics {
    const { bytesAppended, bytesWritten, groups, flushes, copiedBytes } = this.context.counters
    const { failedReads, bytesFilled, slotsRecycled, scrubbedBytes, scrubPasses, damagedGroups } = this.context.counters
    const { slots, freeCount, full } = this.context.pool
    return {
      bytesAppended,
      bytesWritten,
      bytesFilled,
      slotsRecycled,
      groups,
      flushes,
      copiedBytes,
      scrubbedBytes,
      scrubPasses,
      damagedGroups,
      pagePool: this.context.frames.statistics,
      slots: slots.size,
      freeSlots: freeCount,
      failure: this.context.latch.failure?.message ?? null,
      full,
      failedReads,
    }
  }

  private assertOpen(): void {
    if (this.closing !== null) throw new StorageError('CLOSED', 'the log store is closed')
  }
}

/** Slots of a damaged log that are not read: kept as they are until the log is repaired. */
function keptSlots({ slots }: FoundLog, { segments }: RecoveredLog): FormerSlot[] {
  const used = new Set(segments.map(({ slot }) => slot))
  return slots.filter(({ slot }) => !used.has(slot)).map(({ slot }) => ({ slot, source: null, writtenBytes: 0 }))
}
