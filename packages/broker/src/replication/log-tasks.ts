// What the core wants done to the log, in order: entries wait for room, a truncation for everything under way.
import { assert, LOG_PART_BYTES } from '@millrace/protocol'
import { Fifo } from '../fifo.js'
import type { RaftStart } from '../raft/raft-types.js'
import { type PartitionLog, StorageError } from '../storage/log-store.js'
import type { LoggedEntry } from './group-ports.js'
import { encodeBeginning } from './group-state.js'
import { decodeInstalledState } from './installed-state.js'

interface TaskEvents {
  appended(entry: LoggedEntry): void
  truncated(lastIndex: number, sequence: number): void
  installed(start: RaftStart): void
  /** Something was done: commits may apply now that could not before. */
  progressed(): void
  /** The disk takes no more: what waits for the log is of no use now. */
  full(): void
  failed(error: unknown): void
}

type Task =
  | { readonly kind: 'append'; readonly entries: readonly LoggedEntry[]; next: number; readonly release: () => void }
  | { readonly kind: 'truncate'; readonly lastIndex: number; readonly sequence: number }
  | { readonly kind: 'install'; readonly start: RaftStart; readonly state: Uint8Array }
  | { readonly kind: 'own'; readonly append: () => boolean }

export class LogTasks {
  /** State that came with the message that the core is looking at. */
  offeredState: Uint8Array | null = null
  readonly #tasks = new Fifo<Task>()
  #busy = false
  /** Where the log ends once each cut that is on its way is made. */
  readonly #cuts: number[] = []
  #stopped = false
  #pumping = false

  constructor(
    private readonly log: PartitionLog,
    private readonly options: { readonly mode: 'flush' | 'write' },
    private readonly events: TaskEvents,
  ) {}

  /** Whether a truncation or a new start is on its way: until then the log is not what the core takes it for. */
  get isCutting(): boolean {
    return this.#cuts.length > 0
  }

  /** Index up to which the log is what the core takes it for. */
  get appliedIndex(): number {
    return Math.min(this.log.filled.index, ...this.#cuts)
  }

  append(entries: readonly LoggedEntry[], release: () => void): void {
    this.#add({ kind: 'append', entries, next: 0, release })
  }

  truncate(lastIndex: number, sequence: number): void {
    this.#cuts.push(lastIndex)
    this.#add({ kind: 'truncate', lastIndex, sequence })
  }

  install(start: RaftStart): void {
    const state = this.offeredState
    this.offeredState = null
    if (state === null) return
    this.#cuts.push(start.index - 1)
    this.#add({ kind: 'install', start, state })
  }

  /** Runs once everything before it is done; asked again while it says false. */
  whenRoom(append: () => boolean): void {
    this.#add({ kind: 'own', append })
  }

  stop(): void {
    this.#stopped = true
    this.clear()
  }

  /** Nothing that waits is done. Not while a cut is under way. */
  clear(): void {
    this.#cuts.length = 0
    for (const task of this.#tasks.drain()) if (task.kind === 'append') task.release()
  }

  #add(task: Task): void {
    this.#tasks.push(task)
    this.pump()
  }

  /** Does what can be done now. */
  pump(): void {
    if (this.#pumping) return
    this.#pumping = true
    try {
      while (!this.#busy && !this.#stopped) {
        const task = this.#tasks.peek()
        if (task === undefined || !this.#perform(task)) return
      }
    } catch (error) {
      this.events.failed(error)
    } finally {
      this.#pumping = false
    }
  }

  /** @returns whether to go on with the next one at once. */
  #perform(task: Task): boolean {
    switch (task.kind) {
      case 'append':
        return this.#append(task)
      case 'own':
        return this.#own(task)
      case 'truncate':
        this.#cut(this.log.truncateTo(task.lastIndex), () => this.events.truncated(task.lastIndex, task.sequence))
        return false
      case 'install':
        this.#cut(this.#install(task.start, task.state), () => this.events.installed(task.start))
        return false
    }
  }

  #append(task: Task & { kind: 'append' }): boolean {
    const { log } = this
    while (task.next < task.entries.length) {
      const entry = task.entries[task.next]!
      const { header } = entry
      if (!log.hasRoom(LOG_PART_BYTES + header.length, header.control)) {
        this.#wait()
        return false
      }
      if (!this.#appendOne(entry)) return false
      task.next++
      this.events.appended(entry)
    }
    this.#tasks.shift()
    task.release()
    this.events.progressed()
    return true
  }

  #appendOne({ block, clientAt, part, header }: LoggedEntry): boolean {
    const { term, baseOffset, index, appendTime } = part
    try {
      const stamp = { term, baseOffset, index, appendTime }
      assert(this.log.append(block, clientAt, header, stamp, this.options.mode), 'checksums were verified on arrival')
      return true
    } catch (error) {
      if (!(error instanceof StorageError) || error.code !== 'DISK_FULL') throw error
      this.events.full()
      return false
    }
  }

  #own(task: Task & { kind: 'own' }): boolean {
    if (!task.append()) {
      this.#wait()
      return false
    }
    this.#tasks.shift()
    return true
  }

  #wait(): void {
    this.log.onRoom(() => this.pump())
  }

  async #install({ index, previousTerm, configuration }: RaftStart, bytes: Uint8Array): Promise<void> {
    const { offset, state } = decodeInstalledState(bytes)
    await this.log.installStart({ index, offset, previousTerm }, encodeBeginning(configuration, state))
  }

  #cut(work: Promise<void>, done: () => void): void {
    this.#busy = true
    work.then(
      () => {
        this.#busy = false
        this.#cuts.shift()
        this.#tasks.shift()
        if (this.#stopped) return
        done()
        this.events.progressed()
        this.pump()
      },
      (error: unknown) => {
        this.#busy = false
        if (!this.#stopped) this.events.failed(error)
      },
    )
  }
}
