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

/** @param reason what was in the way last. */
export function timedOut(deliveryTimeoutMs: number, reason: MillraceError | null): MillraceError {
  const detail = `not acknowledged within ${deliveryTimeoutMs} ms`
  const why = reason === null ? detail : `${detail}: ${reason.detail}`
  return new MillraceError('ERR_MILLRACE_DELIVERY_TIMEOUT', why, { cause: reason ?? undefined })
}
