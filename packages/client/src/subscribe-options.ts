// Where a subscription begins and ends, and what it may hold.
import type { CursorStart } from '@millrace/protocol'
import { invalidArgument } from './errors.js'
import { MAX_PARTITION } from './limits.js'
import {
  DELIVERY_KEYS,
  type DeliveryOptions,
  integer,
  onlyKnown,
  type ResolvedDeliveryOptions,
  resolveDeliveryOptions,
} from './options.js'

/**
 * - `latest`: records sent from now on
 * - `earliest`: the oldest record there is
 * - `offset`: this offset, in each partition read
 * - `offsets`: for each partition its own; partitions not named are not read
 * - `timestamp`: the first record at or after this time, milliseconds since 1970
 */
export type From =
  | 'latest'
  | 'earliest'
  | { readonly offset: number }
  | { readonly offsets: Readonly<Record<number, number>> }
  | { readonly timestamp: number }

/**
 * - `end`: what was committed when the subscription opened
 * - `offset`: records below this offset, in each partition
 * - `timestamp`: records before the first one at or after this time, as found when the subscription opens; when there
 *   is none yet, up to the end
 */
export type Until = 'end' | { readonly offset: number } | { readonly timestamp: number }

export interface SubscribeOptions extends DeliveryOptions {
  /** Default `latest`; in a group, where it is for partitions of which nothing was committed, `earliest`. */
  readonly from?: From
  /** Default: for ever. The subscription completes when every partition has reached it. Not in a group. */
  readonly until?: Until
  /** Default: all; in a group those that it assigns. */
  readonly partitions?: readonly number[]
  /** Aborting it ends the subscription with ERR_MILLRACE_ABORTED. */
  readonly signal?: AbortSignal
}

export interface StartPosition {
  readonly start: CursorStart
  readonly position: number
  /** Of the record before an offset where somebody else has stopped; undefined when that is not known. */
  readonly term?: number
}

export interface ResolvedSubscribeOptions extends ResolvedDeliveryOptions {
  startOf(partition: number): StartPosition
  readonly until: Until | null
  /** Null for all. */
  readonly partitions: readonly number[] | null
  readonly signal: AbortSignal | null
}

const KEYS = [
  'from',
  'until',
  'partitions',
  'signal',
  ...DELIVERY_KEYS,
] as const satisfies readonly (keyof SubscribeOptions)[]
const MAX = Number.MAX_SAFE_INTEGER

/** @throws MillraceError INVALID_ARGUMENT. */
export function resolveSubscribeOptions(
  options: SubscribeOptions,
  defaults: DeliveryOptions,
  inGroup = false,
): ResolvedSubscribeOptions {
  onlyKnown('subscribe()', options, KEYS)
  if (inGroup && (options.until !== undefined || options.partitions !== undefined)) {
    throw invalidArgument('until and partitions are not for groups, which have no end and assign partitions themselves')
  }
  const from = options.from ?? (inGroup ? 'earliest' : 'latest')
  const startOf = resolveFrom(from)
  return {
    ...resolveDeliveryOptions({ ...defaults, ...options }),
    startOf,
    until: resolveUntil(options.until),
    partitions: resolvePartitions(from, options.partitions),
    signal: options.signal ?? null,
  }
}

function resolveFrom(from: From): (partition: number) => StartPosition {
  if (from === 'latest' || from === 'earliest') return () => ({ start: from, position: 0 })
  if (typeof from === 'object' && from !== null) {
    if ('offset' in from) {
      const position = integer('from.offset', from.offset, 0, MAX)
      return () => ({ start: 'offset', position })
    }
    if ('timestamp' in from) {
      const position = integer('from.timestamp', from.timestamp, 0, MAX)
      return () => ({ start: 'timestamp', position })
    }
    if ('offsets' in from && typeof from.offsets === 'object' && from.offsets !== null) {
      const { offsets } = from
      for (const [partition, offset] of Object.entries(offsets)) integer(`from.offsets[${partition}]`, offset, 0, MAX)
      return (partition) => ({ start: 'offset', position: offsets[partition] ?? 0 })
    }
  }
  throw invalidArgument('from must be latest, earliest, { offset }, { offsets } or { timestamp }')
}

function resolveUntil(until: Until | undefined): Until | null {
  if (until === undefined) return null
  if (until === 'end') return until
  if (typeof until === 'object' && until !== null) {
    if ('offset' in until) return { offset: integer('until.offset', until.offset, 0, MAX) }
    if ('timestamp' in until) return { timestamp: integer('until.timestamp', until.timestamp, 0, MAX) }
  }
  throw invalidArgument('until must be end, { offset } or { timestamp }')
}

function resolvePartitions(from: From, partitions: readonly number[] | undefined): readonly number[] | null {
  if (partitions !== undefined) {
    if (!Array.isArray(partitions) || partitions.length === 0)
      throw invalidArgument('partitions must be a list of numbers')
    return [...new Set(partitions.map((partition) => integer('partitions', partition, 0, MAX_PARTITION)))]
  }
  if (typeof from === 'string' || !('offsets' in from)) return null
  const named = Object.keys(from.offsets).map((name) => integer('from.offsets', Number(name), 0, MAX_PARTITION))
  if (named.length === 0) throw invalidArgument('from.offsets names no partition')
  return named
}
