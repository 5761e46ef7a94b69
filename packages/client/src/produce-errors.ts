// What the senders of a batch are told when it was not acknowledged.
import { type FailedOutcome, MillraceError } from './errors.js'
import type { PendingBatch } from './pending-batch.js'

/** The error of every record of a batch that ends with this outcome. */
export function outcomeError(
  topic: string,
  partition: number,
  batch: PendingBatch,
  cause: MillraceError,
  outcome: FailedOutcome,
): MillraceError {
  const detail = `${batch.recordCount} records for ${topic}/${partition}: ${cause.detail}`
  const code = outcome === 'unknown' ? 'ERR_MILLRACE_DELIVERY_UNKNOWN' : cause.code
  return new MillraceError(code, detail, { topic, partition, outcome, cause })
}

/**
 * The time of a batch is up. A full disk is named by its own code: whoever looks after the broker has to act, and sending
 * again is of no use before that.
 * @param reason what was in the way last.
 */
export function timedOut(deliveryTimeoutMs: number, reason: MillraceError | null): MillraceError {
  const detail = `not acknowledged within ${deliveryTimeoutMs} ms`
  if (reason === null) return new MillraceError('ERR_MILLRACE_DELIVERY_TIMEOUT', detail)
  const code = reason.code === 'ERR_MILLRACE_DISK_FULL' ? reason.code : 'ERR_MILLRACE_DELIVERY_TIMEOUT'
  return new MillraceError(code, `${detail}: ${reason.detail}`, { cause: reason })
}
