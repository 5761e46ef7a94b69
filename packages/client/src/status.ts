// What the client tells about its connections and subscriptions while it goes on by itself.
import type { MillraceError } from './errors.js'

/**
 * - `connecting`: looking for a broker
 * - `connected`: the control connection is up and the cluster map is fresh
 * - `control-lost`: the control connection broke; another is sought
 * - `control-stale`: its broker was silent for 2.5 s, or had not heard from the metadata leader for 5 s; another is sought,
 *   unless no broker knows more, and then `connected` follows when one does
 * - `unreachable`: no broker answered the first contact within `connectTimeoutMs`; everything pending has failed
 * - `link-up`, `link-lost`: a data connection to one core of one broker
 * - `cursor-retry`: a partition of a subscription is not to be had at the moment; it is tried again
 * - `cursor-reopened`: a subscription goes on after a break, at the next undelivered offset
 * - `stalled`: a record was handed out and not finished for long, or a partition could not be read for long
 * - `record-skipped`: a record that could not be decoded was skipped, as asked
 * - `dead-lettered`: a record was given up and is in its dead-letter topic, acknowledged
 * - `group-joined`, `group-lost`: a consumer belongs to its group; its lease ran out, and it joins again
 * - `closed`: the client is closed; nothing follows
 */
export type StatusKind =
  | 'connecting'
  | 'connected'
  | 'control-lost'
  | 'control-stale'
  | 'unreachable'
  | 'link-up'
  | 'link-lost'
  | 'cursor-retry'
  | 'cursor-reopened'
  | 'stalled'
  | 'record-skipped'
  | 'dead-lettered'
  | 'group-joined'
  | 'group-lost'
  | 'closed'

export interface MillStatus {
  readonly kind: StatusKind
  /** Milliseconds since 1970. */
  readonly timestamp: number
  readonly message: string
  readonly nodeId?: number
  readonly shard?: number
  readonly topic?: string
  readonly partition?: number
  readonly offset?: number
  readonly error?: MillraceError
}

/** Counts since `connect()`. */
export interface ClientStatistics {
  /** Requests served by another core of the node than the one they were sent to. 0 in the steady state. */
  readonly misroutes: number
  /** Batches and cursors refused because another node leads the partition. 0 while leaders stay. */
  readonly refusals: number
  /** Times the cluster map was asked for anew, in doubt about it. 0 while connections hold and leaders stay. */
  readonly refreshes: number
  /** Connections opened again after a loss. */
  readonly reconnects: number
}

export type MutableStatistics = { -readonly [Name in keyof ClientStatistics]: number }
