// Breaks the silence of a subscription that makes no progress: a record handed out long ago and not finished, a partition
// whose broker cannot be asked, or one that goes on while nothing of it arrives. Warns once, then after twice the time, and
// so on; and ends the subscription after `stallTimeoutMs`, when that is set.
import type { Cluster } from './cluster.js'
import { MillraceError } from './errors.js'
import { CURSOR_OWED_MS, STALL_WARNING_MS, UNOPENED_WARNING_MS } from './limits.js'
import type { Warnings } from './warnings.js'

/** The oldest record that is not finished. */
export interface Unfinished {
  /** Stays the same as long as it is the same record. */
  readonly token: object | number
  readonly partition: number
  readonly offset: number
}

/** A cursor as far as it is watched. */
export interface WatchedCursor {
  readonly partition: number
  readonly lastError: Error | null
  readonly fetchOffset: number
  readonly highWatermark: number
  /** There are records and credit for them, and they are not here. */
  readonly isOwed: boolean
  unopenedForMs(nowMs: number): number
  reopen(detail: string): void
}

/** Since when a cursor is owed the record at `offset`. */
interface Debt {
  readonly offset: number
  readonly sinceMs: number
  askedAnewAtMs: number
}

/** What is wrong with one cursor. */
interface Trouble {
  readonly partition: number
  readonly offset: number | null
  readonly forMs: number
  readonly message: string
}

interface Place {
  readonly partition: number
  readonly offset?: number
}

export class ProgressWatch {
  readonly #cluster: Cluster
  readonly #warnings: Warnings
  readonly #topic: string
  readonly #stallTimeoutMs: number
  #stalled: { readonly token: object | number; readonly sinceMs: number; warnAfterMs: number } | null = null
  readonly #debts = new WeakMap<WatchedCursor, Debt>()
  #troubleWarnAfterMs = UNOPENED_WARNING_MS

  /** @param stallTimeoutMs null to warn only. */
  constructor(cluster: Cluster, warnings: Warnings, topic: string, stallTimeoutMs: number | null) {
    this.#cluster = cluster
    this.#warnings = warnings
    this.#topic = topic
    this.#stallTimeoutMs = stallTimeoutMs ?? Number.POSITIVE_INFINITY
  }

  /** The error that the subscription has to end with, or null. */
  look(nowMs: number, unfinished: Unfinished | null, cursors: readonly WatchedCursor[]): MillraceError | null {
    return this.#lookAtRecord(nowMs, unfinished) ?? this.#lookAtCursors(nowMs, cursors)
  }

  #lookAtRecord(nowMs: number, unfinished: Unfinished | null): MillraceError | null {
    if (unfinished === null || unfinished.token !== this.#stalled?.token) {
      this.#stalled = unfinished && { token: unfinished.token, sinceMs: nowMs, warnAfterMs: STALL_WARNING_MS }
      return null
    }
    const forMs = nowMs - this.#stalled.sinceMs
    const { partition, offset } = unfinished
    const message = `the record of ${this.#topic}/${partition} at offset ${offset} was handed out ${seconds(forMs)} ago and is not finished`
    if (forMs >= this.#stalled.warnAfterMs) {
      this.#stalled.warnAfterMs = 2 * forMs
      this.#tell('MILLRACE_STALLED', message, { partition, offset })
    }
    return this.#overdue(forMs, message, { partition, offset })
  }

  #lookAtCursors(nowMs: number, cursors: readonly WatchedCursor[]): MillraceError | null {
    let worst: Trouble | null = null
    for (const cursor of cursors) {
      const trouble = this.#unopened(nowMs, cursor) ?? this.#owed(nowMs, cursor)
      if (trouble !== null && (worst === null || trouble.forMs > worst.forMs)) worst = trouble
    }
    if (worst === null) {
      this.#troubleWarnAfterMs = UNOPENED_WARNING_MS
      return null
    }
    const { forMs, message, partition, offset } = worst
    const place = offset === null ? { partition } : { partition, offset }
    if (forMs >= this.#troubleWarnAfterMs) {
      this.#troubleWarnAfterMs = 2 * forMs
      this.#tell('MILLRACE_UNREADABLE', message, place)
    }
    return this.#overdue(forMs, message, place)
  }

  #unopened(nowMs: number, cursor: WatchedCursor): Trouble | null {
    const forMs = cursor.unopenedForMs(nowMs)
    if (forMs === 0) return null
    const { partition, lastError } = cursor
    const why = lastError === null ? 'it has no leader, or nobody answers' : lastError.message
    const message = `${this.#topic}/${partition} could not be read for ${seconds(forMs)}: ${why}`
    return { partition, offset: null, forMs, message }
  }

  /** Heartbeats alone are no progress: a broker that has records and sends none is told and asked anew. */
  #owed(nowMs: number, cursor: WatchedCursor): Trouble | null {
    const { partition, fetchOffset: offset, highWatermark } = cursor
    let debt = this.#debts.get(cursor)
    if (!cursor.isOwed || debt?.offset !== offset) {
      debt = { offset, sinceMs: nowMs, askedAnewAtMs: nowMs }
      this.#debts.set(cursor, debt)
    }
    const forMs = nowMs - debt.sinceMs
    if (forMs === 0) return null
    const message = `nothing of ${this.#topic}/${partition} came for ${seconds(forMs)}, though it goes on from offset ${offset} to ${highWatermark}`
    if (nowMs - debt.askedAnewAtMs >= CURSOR_OWED_MS) {
      debt.askedAnewAtMs = nowMs
      cursor.reopen(message)
    }
    return { partition, offset, forMs, message }
  }

  #overdue(forMs: number, message: string, place: Place): MillraceError | null {
    if (forMs < this.#stallTimeoutMs) return null
    return new MillraceError('ERR_MILLRACE_STALLED', message, { topic: this.#topic, ...place, fatal: true })
  }

  #tell(code: string, message: string, place: Place): void {
    const fields = { topic: this.#topic, ...place }
    this.#warnings.warn(code, message, fields)
    this.#cluster.report('stalled', message, fields)
  }
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`
