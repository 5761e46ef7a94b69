// Which entries of another node the core gets to see: those that are whole, and that the disk has space for.
import { BATCH_CHECKSUM_START } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import { RAFT_RETRY_MS } from '../limits.js'
import type { LogKey } from '../storage/log-store.js'
import type { IncomingAppend, LoggedEntry } from './group-ports.js'

interface EntryGateOptions {
  readonly key: LogKey
  readonly clock: Clock
  readonly memory: Memory
  readonly damagedOnTheWay: (key: LogKey) => void
}

export class EntryGate {
  /** Until then, on the monotonic clock, entries are not looked at. */
  #fullUntilMs = 0

  constructor(private readonly options: EntryGateOptions) {}

  /** The disk is full: what comes within the next moment could not be kept. */
  close(): void {
    this.#fullUntilMs = this.options.clock.monotonicMs() + RAFT_RETRY_MS
  }

  /** Damaged on its way, or in the memory of the leader: it is as if it had been lost. */
  lets({ message: { entries } }: IncomingAppend): boolean {
    if (entries.length > 0 && this.options.clock.monotonicMs() < this.#fullUntilMs) return false
    return entries.every((entry) => this.#isWhole(entry))
  }

  #isWhole({ block, clientAt, header }: LoggedEntry): boolean {
    const { key, memory, damagedOnTheWay } = this.options
    const from = clientAt + BATCH_CHECKSUM_START
    const holds = memory.checksum(block, from, header.length - BATCH_CHECKSUM_START, 0) === header.checksum
    if (!holds) damagedOnTheWay(key)
    return holds
  }
}
