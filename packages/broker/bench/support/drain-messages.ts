// What a bench and the process that consumes for it say to each other.
import type { From } from '@millrace/client'

export interface DrainOrder {
  readonly bootstrap: string
  readonly topic: string
  readonly consumers: number
  readonly from: From
  /** The first bytes of a value are the wall time it was due, as written by `stampDue`: latency is recorded. */
  readonly timed: boolean
  /** Bytes a second altogether that it takes at most; 0 for as fast as it can. */
  readonly bytesPerSecond: number
  /** Records count when a handler that takes so long is done with them; so many at once. */
  readonly handler?: { readonly ms: number; readonly concurrency: number }
}

/** `figures` asks for what was consumed since the beginning or the last `restart`, which asks and begins anew. */
export type DrainQuestion = 'figures' | 'restart' | 'stop'

export interface DrainFigures {
  readonly records: number
  readonly bytes: number
  /** From the first record to the last, in milliseconds. */
  readonly elapsedMs: number
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
}

/** Wall time with the resolution of the monotonic clock, the same in all processes of a machine. */
export const wallNowMs = (): number => performance.timeOrigin + performance.now()

export function stampDue(value: Uint8Array, dueMs: number): void {
  new DataView(value.buffer, value.byteOffset).setFloat64(0, dueMs, true)
}

export const dueOf = (value: Uint8Array): number => new DataView(value.buffer, value.byteOffset).getFloat64(0, true)
