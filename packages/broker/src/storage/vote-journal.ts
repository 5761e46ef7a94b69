// Term and vote of all groups of a store, durable before anything is said because of them: one journal, kept twice.
//
// A save is gathered with all others of the turn into one record, which is written to both files and flushed with
// whatever else is to be flushed. Nothing durable is written again: when an area is full, a snapshot of everything goes to
// the other area of both files.
import { assert, crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, DiskError, type DiskFile } from '../environment.js'
import type { HardState } from '../raft/raft-types.js'
import type { FlushedFile } from './flusher.js'
import { keyText } from './group-envelope.js'
import { type LogKey, StorageError, type VoteStore } from './log-store.js'
import type { StorageContext } from './storage-context.js'
import {
  VOTE_ENTRY_BYTES,
  VOTE_HEADER_BYTES,
  VOTE_MARKS,
  type VoteEntry,
  voteRecordBytes,
  writeVoteRecord,
} from './vote-record.js'
import { type RecoveredVotes, readAreas, recoverVotes, VOTE_AREAS, type VoteArea } from './vote-recovery.js'

export const VOTE_FILES = ['votes-a', 'votes-b'] as const
/** Of both areas: what is read and filled at once. */
const TRANSFER_BYTES = 64 * 1024

/** One of the two files. */
class Copy implements FlushedFile {
  /** It was filled and synced before anything was written to it. */
  readonly writtenThrough = true
  needsDirectorySync = false
  constructor(readonly file: DiskFile) {}
}

interface Waiter {
  /** Waits for what is written only: what it guards is flushed with it or later. */
  readonly isBeside: boolean
  readonly resolve: () => void
  readonly reject: (cause: unknown) => void
}

export class VoteJournal implements VoteStore {
  /** The last word on each group that is durable. */
  private entries = new Map<string, VoteEntry>()
  /** What the next record says. */
  private pending = new Map<string, VoteEntry>()
  private waiters: Waiter[] = []
  /** What is being written. */
  private writing = new Map<string, VoteEntry>()
  private writingFor: Waiter[] = []
  private running: Promise<void> | null = null
  private scheduled = false
  private copies: readonly Copy[] = []
  private isIncomplete = false
  private generation = 0
  private area = VOTE_AREAS - 1
  /** Of the present area, that are taken. */
  private usedBytes = Number.POSITIVE_INFINITY
  private sequence = 0
  private previous = 0
  /** Whether the volume knows that there is a journal. */
  private isNoted = false
  private closed = false

  /**
   * @param noteJournal makes it durable that there is a journal, before anything that stands in it is promised.
   * @param hasLog whether something of a log may be on disk.
   */
  constructor(
    private readonly context: StorageContext,
    private readonly noteJournal: () => Promise<void>,
    private readonly hasLog: (key: LogKey) => boolean,
  ) {}

  // -------------------------------------------------------------- the groups

  find(key: LogKey): HardState | 'lost' | null {
    const entry = this.entries.get(keyText(key))
    if (entry === undefined) return this.isIncomplete ? 'lost' : null
    if ((entry.marks & VOTE_MARKS.lost) !== 0) return 'lost'
    return entry.term === 0 && entry.votedFor === 0 ? null : { term: entry.term, votedFor: entry.votedFor }
  }

  save(key: LogKey, { term, votedFor }: HardState): Promise<void> {
    const before = this.latest(keyText(key))
    const isLost = before === undefined || (before.marks & VOTE_MARKS.lost) !== 0
    if (!isLost) {
      assert(term >= before.term, `term ${term} of ${keyText(key)} behind ${before.term}`)
      const isFree = term > before.term || before.votedFor === 0 || before.votedFor === votedFor
      assert(isFree, `a second vote of ${keyText(key)} in term ${term}: ${votedFor}, after ${before.votedFor}`)
    }
    const marks = before?.marks ?? (this.isIncomplete || this.hasLog(key) ? 0 : VOTE_MARKS.withoutLog)
    return this.put({ key, term, votedFor, marks: marks & ~VOTE_MARKS.lost })
  }

  hadLog(key: LogKey): boolean {
    return this.find(key) !== null && ((this.entries.get(keyText(key))?.marks ?? 0) & VOTE_MARKS.withoutLog) === 0
  }

  /**
   * Something of a log goes to disk. Resolves once that stands in the journal, written but not flushed: whatever counts as
   * written only then is flushed with it or later. @throws StorageError.
   */
  noteLog(key: LogKey): Promise<void> {
    const before = this.latest(keyText(key))
    if (before === undefined || (before.marks & VOTE_MARKS.withoutLog) === 0) return Promise.resolve()
    return this.put({ ...before, marks: before.marks & ~VOTE_MARKS.withoutLog }, true)
  }

  /** Written with whatever is saved next: a group whose key comes back after a crash is forgotten again. */
  forget(key: LogKey): void {
    const before = this.latest(keyText(key))
    if (before !== undefined) this.pending.set(keyText(key), { ...before, marks: VOTE_MARKS.forgotten })
  }

  /** Whether an entry, durable or on its way, has a mark. */
  hasMark(key: LogKey, mark: number): boolean {
    return ((this.latest(keyText(key))?.marks ?? 0) & mark) !== 0
  }

  has(key: LogKey): boolean {
    return this.latest(keyText(key)) !== undefined
  }

  /** Sets some marks of a group and clears others; resolves when that is durable. @throws StorageError. */
  mark(key: LogKey, set: number, clear: number): Promise<void> {
    const before = this.latest(keyText(key)) ?? this.unknown(key)
    const marks = (before.marks | set) & ~clear
    if (marks === before.marks) return Promise.resolve()
    return this.put({ ...before, marks })
  }

  /** No word on the group is there: that none was ever given is certain only while nothing was lost. */
  private unknown(key: LogKey): VoteEntry {
    return { key, term: 0, votedFor: 0, marks: this.isIncomplete ? VOTE_MARKS.lost : 0 }
  }

  private latest(name: string): VoteEntry | undefined {
    const entry = this.pending.get(name) ?? this.writing.get(name) ?? this.entries.get(name)
    return entry === undefined || (entry.marks & VOTE_MARKS.forgotten) !== 0 ? undefined : entry
  }

  private put(entry: VoteEntry, isBeside = false): Promise<void> {
    const { latch, limits } = this.context
    if (latch.failure !== null) return Promise.reject(latch.failure)
    if (this.closed) return Promise.reject(new StorageError('CLOSED', 'the log store is closed'))
    if (this.entries.size + this.writing.size + this.pending.size >= mostVotes(limits.voteAreaBytes)) {
      if (this.latest(keyText(entry.key)) === undefined)
        return Promise.reject(new StorageError('DISK_FULL', 'the vote journal is full'))
    }
    this.pending.set(keyText(entry.key), entry)
    const saved = new Promise<void>((resolve, reject) => this.waiters.push({ isBeside, resolve, reject }))
    this.schedule()
    return saved
  }

  /** Has the disk show that it lives, by a flush of the journal. Nothing happens as long as there is none. */
  probe(): void {
    const copy = this.copies[0]
    if (copy !== undefined && !this.closed) this.context.flusher.probe(copy)
  }

  // -------------------------------------------------------------- opening and closing

  /**
   * Reads what is there, has it flushed, since it may have been read from a volatile cache, and writes it anew to both files.
   * @param isExpected a journal was there: one that cannot be found is lost.
   * @param marks for every group.
   * @throws ForeignSlotError, DiskError, StorageError.
   */
  async recover(isExpected: boolean, marks: number): Promise<void> {
    this.isNoted = isExpected
    const { volume, limits, identity } = this.context
    const names = new Set((await volume.list()).map(({ name }) => name))
    const files: DiskFile[] = []
    for (const name of VOTE_FILES) if (names.has(name)) files.push(await volume.open(name))
    const block = await this.block(TRANSFER_BYTES)
    let areas: VoteArea[][]
    try {
      areas = []
      for (const file of files) areas.push(await readAreas(file, limits.voteAreaBytes, block))
    } finally {
      this.context.environment.memory.release(block)
    }
    const recovered = recoverVotes(areas, identity)
    if (recovered !== null) return this.goOn(recovered, files, areas, marks)
    await Promise.all(files.map((file) => file.close()))
    this.isIncomplete = isExpected
    if (isExpected) {
      this.context.environment.log.error(
        {},
        'the vote journal is lost: no group of this broker votes before it has caught up',
      )
    }
  }

  private async goOn(
    recovered: RecoveredVotes,
    files: readonly DiskFile[],
    areas: readonly (readonly VoteArea[])[],
    marks: number,
  ): Promise<void> {
    const { identity } = this.context
    this.entries = recovered.entries
    this.isIncomplete = recovered.isIncomplete
    this.generation = recovered.generation
    this.area = recovered.area
    if (this.isIncomplete) {
      this.context.environment.log.error({}, 'the vote journal is damaged: groups it says nothing of do not vote')
    }
    const whole = files.filter((_, i) => recoverVotes([areas[i]!], identity) !== null)
    await Promise.all(whole.map((file) => file.sync()))
    await Promise.all(files.filter((file) => !whole.includes(file)).map((file) => file.close()))
    this.copies = await this.makeMissing(whole)
    for (const [name, entry] of this.entries) {
      // Of a log that was not promised there may be something all the same, which is promised from now on.
      const withoutLog = this.hasLog(entry.key) ? VOTE_MARKS.withoutLog : 0
      this.pending.set(name, { ...entry, marks: (entry.marks | marks) & ~withoutLog })
    }
    await this.write()
  }

  /** Nothing is promised any more that is not durable when this resolves. */
  async close(): Promise<void> {
    const { latch } = this.context
    this.closed = true
    await this.running
    if (this.pending.size > 0 && this.copies.length > 0 && latch.failure === null) await this.run()
    this.settle(this.waiters.splice(0), new StorageError('CLOSED', 'the log store is closed'))
    await Promise.all(this.copies.map(({ file }) => file.close()))
  }

  // -------------------------------------------------------------- the files

  /** A file is there with both areas written through, or it is not there. @throws DiskError NO_SPACE when none is. */
  private async makeMissing(present: readonly DiskFile[]): Promise<readonly Copy[]> {
    const copies: Copy[] = present.map((file) => new Copy(file))
    for (const name of VOTE_FILES) {
      if (present.some((file) => file.name === name)) continue
      const made = await this.make(name, copies.length > 0)
      if (made !== null) copies.push(made)
    }
    await this.context.volume.syncDirectory()
    return copies
  }

  /** Null when the disk is full and the other copy will do until the next start. */
  private async make(name: string, isSecond: boolean): Promise<Copy | null> {
    const { volume, limits, environment } = this.context
    const byteLength = VOTE_AREAS * limits.voteAreaBytes
    const file = await volume.open(name, { create: true })
    try {
      await file.allocate(byteLength)
      const block = await this.block(Math.min(TRANSFER_BYTES, byteLength))
      try {
        block.bytes.fill(0)
        for (let at = 0; at < byteLength; at += block.byteLength) {
          await file.write(at, block, 0, Math.min(block.byteLength, byteLength - at))
        }
      } finally {
        environment.memory.release(block)
      }
      await file.sync()
      return new Copy(file)
    } catch (cause) {
      await file.close()
      await volume.remove(name)
      if (!isSecond || !(cause instanceof DiskError) || cause.code !== 'NO_SPACE') throw cause
      environment.log.warn({ cause }, 'the disk is full: there is one copy of the vote journal until the next start')
      return null
    }
  }

  private async block(byteLength: number): Promise<Block> {
    const { memory, clock } = this.context.environment
    while (true) {
      const block = memory.allocate(byteLength)
      if (block !== null) return block
      if (!this.context.frames.reclaim()) await new Promise<void>((resolve) => clock.timer(1, resolve))
    }
  }

  // -------------------------------------------------------------- writing

  private schedule(): void {
    if (this.scheduled || this.running !== null) return
    this.scheduled = true
    this.context.environment.clock.defer(() => {
      this.scheduled = false
      if (this.running !== null || this.closed) return
      this.running = this.run().finally(() => {
        this.running = null
      })
    })
  }

  /** One record after the other, each durable before the next, until nothing waits. */
  private async run(): Promise<void> {
    while (this.pending.size > 0) {
      try {
        if (this.copies.length === 0) this.copies = await this.makeMissing([])
        this.writingFor = this.waiters.splice(0)
        await this.write()
        this.settle(this.writingFor.splice(0), null)
      } catch (cause) {
        this.writing = new Map()
        return this.settle([...this.writingFor.splice(0), ...this.waiters.splice(0)], this.refusalOf(cause))
      }
    }
  }

  private settle(waiters: readonly Waiter[], refusal: unknown): void {
    // Where nothing can be saved nothing is promised, and no log has to be noted.
    const isNothingThere = refusal instanceof StorageError && refusal.code === 'DISK_FULL'
    for (const { isBeside, resolve, reject } of waiters) {
      if (refusal === null || (isBeside && isNothingThere)) resolve()
      else reject(refusal)
    }
  }

  /** Only a journal that is not there yet can find the disk full: its files are written through. */
  private refusalOf(cause: unknown): StorageError {
    const { latch } = this.context
    if (cause instanceof DiskError && cause.code === 'NO_SPACE') {
      this.pending = new Map()
      return new StorageError('DISK_FULL', 'the disk has no space for the vote journal', { cause })
    }
    return cause instanceof StorageError ? cause : latch.fail('writing the vote journal', cause)
  }

  /** Invariant: a record is submitted only once the one before is durable in both files. */
  private async write(): Promise<void> {
    this.writing = this.pending
    this.pending = new Map()
    const isSnapshot = this.usedBytes + voteRecordBytes(this.writing.size) > this.context.limits.voteAreaBytes
    const entries = isSnapshot ? this.snapshot() : [...this.writing.values()]
    if (isSnapshot) {
      this.generation++
      this.area = (this.area + 1) % VOTE_AREAS
      this.usedBytes = 0
      this.sequence = 0
      this.previous = 0
    }
    await this.writeRecord(entries, isSnapshot)
    if (!this.isNoted) await this.noteJournal()
    this.isNoted = true
    for (const [name, entry] of this.writing) {
      if ((entry.marks & VOTE_MARKS.forgotten) !== 0) this.entries.delete(name)
      else this.entries.set(name, entry)
    }
    this.writing = new Map()
  }

  private snapshot(): VoteEntry[] {
    const all = new Map([...this.entries, ...this.writing])
    return [...all.values()].filter(({ marks }) => (marks & VOTE_MARKS.forgotten) === 0)
  }

  private async writeRecord(entries: readonly VoteEntry[], isSnapshot: boolean): Promise<void> {
    const { identity, environment, flusher, counters, latch, limits } = this.context
    const byteLength = voteRecordBytes(entries.length)
    assert(this.usedBytes + byteLength <= limits.voteAreaBytes, 'a snapshot of the most groups fits an area')
    const { generation, sequence, previous, isIncomplete } = this
    const block = await this.block(byteLength)
    try {
      if (latch.failure !== null) throw latch.failure
      const record = { isSnapshot, isIncomplete, generation, sequence, previous, entries }
      this.previous = writeVoteRecord(block.bytes, block.view, record, identity, crc32)
      const position = this.area * limits.voteAreaBytes + this.usedBytes
      // All have to settle before the block is given back.
      const writes = await Promise.allSettled(this.copies.map(({ file }) => file.write(position, block, 0, byteLength)))
      for (const write of writes) if (write.status === 'rejected') throw write.reason
    } finally {
      environment.memory.release(block)
    }
    counters.bytesWritten += byteLength * this.copies.length
    this.usedBytes += byteLength
    this.sequence++
    for (const copy of this.copies) flusher.wrote(copy)
    if (this.isNoted) for (const { isBeside, resolve } of this.writingFor) if (isBeside) resolve()
    await flusher.flushed()
  }
}

/** So many groups that a snapshot takes half an area, and there is room for what changes. */
export function mostVotes(areaBytes: number): number {
  return Math.floor((areaBytes / 2 - VOTE_HEADER_BYTES) / VOTE_ENTRY_BYTES)
}

assert(TRANSFER_BYTES % BLOCK_BYTES === 0, 'blocks are transferred whole')
