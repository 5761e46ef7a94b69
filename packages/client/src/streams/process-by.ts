// processByKey and processByPartition: as processEach, with order. What must not overtake each other waits in a lane;
// lanes are worked on side by side.
import type { OperatorFunction } from 'rxjs'
import type { Claim } from '../settlement.js'
import { concurrencyOf, type ProcessOptions, type Work, workOn } from './worker.js'

/**
 * As processEach(), but values of records with the same key are worked on one after the other, in the order of their
 * partition; up to `concurrency` keys at once. The key is that of the record, whatever the value was mapped to. Records
 * without a key, and batches, wait for nobody.
 */
export function processByKey<T, R>(work: Work<T, R>, options: ProcessOptions = {}): OperatorFunction<T, R> {
  const scheduling = {
    operator: 'processByKey',
    concurrency: concurrencyOf('processByKey', options),
    laneOf: ({ origin }: Claim) => (origin.key === null ? null : nameOf(origin.key)),
  }
  return (source) => workOn(source, work, scheduling)
}

/** As processEach(), but one value of a partition at a time, in order; up to `concurrency` partitions at once. */
export function processByPartition<T, R>(work: Work<T, R>, options: ProcessOptions = {}): OperatorFunction<T, R> {
  const scheduling = {
    operator: 'processByPartition',
    concurrency: concurrencyOf('processByPartition', options),
    laneOf: ({ topic, partition }: Claim) => `${topic}/${partition}`,
  }
  return (source) => workOn(source, work, scheduling)
}

const CHARACTERS_AT_ONCE = 1_024

/** Bytes as a string of as many characters: different keys have different names. */
function nameOf(key: Uint8Array): string {
  let name = ''
  for (let at = 0; at < key.length; at += CHARACTERS_AT_ONCE) {
    name += String.fromCharCode(...key.subarray(at, at + CHARACTERS_AT_ONCE))
  }
  return name
}
