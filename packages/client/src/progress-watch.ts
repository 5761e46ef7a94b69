// Breaks the silence of a subscription that makes no progress: a record handed out long ago and not finished, or a
// partition whose broker cannot be asked. Warns once, then after twice the time, and so on.
import type { Cluster } from './cluster.js'
import { STALL_WARNING_MS, UNOPENED_WARNING_MS } from './limits.js'
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
  unopenedForMs(nowMs: number): number
}

export class ProgressWatch {
  readonly #cluster: Cluster
  readonly #warnings: Warnings
  readonly #topic: string
  #stalled: { readonly token: object | number; readonly sinceMs: number; warnAfterMs: number } | null = null
  #unopenedWarnAfterMs = UNOPENED_WARNING_MS

  constructor(cluster: Cluster, warnings: Warnings, topic: string) {
    this.#cluster = cluster
    this.#warnings = warnings
    this.#topic = topic
  }

  look(nowMs: number, unfinished: Unfinished | null, cursors: readonly WatchedCursor[]): void {
    this.#lookAtRecord(nowMs, unfinished)
    this.#lookAtCursors(nowMs, cursors)
  }

  #lookAtRecord(nowMs: number, unfinished: Unfinished | null): void {
    if (unfinished === null || unfinished.token !== this.#stalled?.token) {
      this.#stalled = unfinished && { token: unfinished.token, sinceMs: nowMs, warnAfterMs: STALL_WARNING_MS }
      return
    }
    const forMs = nowMs - this.#stalled.sinceMs
    if (forMs < this.#stalled.warnAfterMs) return
    this.#stalled.warnAfterMs = 2 * forMs
    const { partition, offset } = unfinished
    const message = `the record of ${this.#topic}/${partition} at offset ${offset} was handed out ${seconds(forMs)} ago and is not finished`
    this.#tell('MILLRACE_STALLED', message, { partition, offset })
  }

  #lookAtCursors(nowMs: number, cursors: readonly WatchedCursor[]): void {
    let longest: WatchedCursor | null = null
    let longestMs = 0
    for (const cursor of cursors) {
      const forMs = cursor.unopenedForMs(nowMs)
      if (forMs <= longestMs) continue
      longest = cursor
      longestMs = forMs
    }
    if (longest === null) this.#unopenedWarnAfterMs = UNOPENED_WARNING_MS
    if (longest === null || longestMs < this.#unopenedWarnAfterMs) return
    this.#unopenedWarnAfterMs = 2 * longestMs
    const { partition, lastError } = longest
    const why = lastError === null ? 'it has no leader, or nobody answers' : lastError.message
    const message = `${this.#topic}/${partition} could not be read for ${seconds(longestMs)}: ${why}`
    this.#tell('MILLRACE_UNREADABLE', message, { partition })
  }

  #tell(code: string, message: string, place: { readonly partition: number; readonly offset?: number }): void {
    const fields = { topic: this.#topic, ...place }
    this.#warnings.warn(code, message, fields)
    this.#cluster.report('stalled', message, fields)
  }
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`
