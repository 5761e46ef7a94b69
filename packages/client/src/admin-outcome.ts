// What a failed operation of administration means: asked again, or told, and whether it may have been done all the same.
import type { AdminOperation } from '@millrace/protocol'
import { MillraceError, type MillraceErrorCode } from './errors.js'

/** Operations that change nothing may be asked again whatever became of the first time. */
const READS: ReadonlySet<AdminOperation> = new Set([
  'describeTopic',
  'listTopics',
  'brokerStatus',
  'clusterStatus',
  'members',
  'moves',
])
/** Refusals after which nothing was done: another broker, or the same a moment later, may do it. */
const NOTHING_DONE: ReadonlySet<MillraceErrorCode> = new Set([
  'ERR_MILLRACE_OVERLOADED',
  'ERR_MILLRACE_DEADLINE_EXCEEDED',
])
/**
 * What says nothing about whether the operation was done; among it NOT_LEADER, which a broker answers also when the
 * metadata leader it had asked went away before it answered.
 */
const LOST: ReadonlySet<MillraceErrorCode> = new Set([
  'ERR_MILLRACE_NOT_LEADER',
  'ERR_MILLRACE_CONNECTION',
  'ERR_MILLRACE_SHUTTING_DOWN',
  'ERR_MILLRACE_TIMEOUT',
])

/** Whether it is worth asking once more. */
export const mayAskAgain = (operation: AdminOperation, error: MillraceError): boolean =>
  NOTHING_DONE.has(error.code) || (READS.has(operation) && LOST.has(error.code))

/** What to say of a change whose answer did not come. */
export function lostOn(operation: AdminOperation, error: MillraceError): MillraceError {
  if (READS.has(operation) || !LOST.has(error.code)) return error
  const detail = `${error.detail}; whether ${operation} was done is unknown`
  return new MillraceError(error.code, detail, { outcome: 'unknown', cause: error })
}
