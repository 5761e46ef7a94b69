// processEach: asynchronous work on each record with real back-pressure. A record counts as finished when its work is
// done, so that a slow handler holds back the broker's reads instead of filling memory.
import type { OperatorFunction } from 'rxjs'
import { concurrencyOf, type ProcessOptions, type Work, workOn } from './worker.js'

/**
 * Runs `work` for each value and emits its results as they come. Values may be filtered or mapped before, but only
 * synchronously: behind an asynchronous operator the subscription fails with ERR_MILLRACE_NOT_IN_DELIVERY. When `work`
 * throws or rejects, nothing new is begun, work in progress is awaited and settled, and then the error is emitted.
 */
export function processEach<T, R>(work: Work<T, R>, options: ProcessOptions = {}): OperatorFunction<T, R> {
  const scheduling = {
    operator: 'processEach',
    concurrency: concurrencyOf('processEach', options),
    laneOf: () => null,
  }
  return (source) => workOn(source, work, scheduling)
}
