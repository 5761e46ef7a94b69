// Tells three kinds of errors apart: refusals, which clients get; bugs, which are logged; broken assertions, which end
// the broker.
import { ProtocolError } from '@millrace/protocol'
import type { Refusal } from '../partition/pending-batch.js'
import { refusalOf } from '../partition/refusal.js'
import { StorageError } from '../storage/log-store.js'

/** Whether an error is nobody's refusal. */
export function isBug(error: unknown): boolean {
  return !(error instanceof ProtocolError || error instanceof StorageError)
}

/** Broken assertions of every package and of node:assert. */
export function isBrokenAssertion(error: unknown): boolean {
  return error instanceof Error && error.name === 'AssertionError'
}

/** What a client is told: the refusal, or that the broker has a bug. */
export function refusalOrBug(error: unknown): Refusal {
  if (isBug(error)) return { code: 'INTERNAL', detail: 'the broker met an unexpected error' }
  return refusalOf(error)
}
