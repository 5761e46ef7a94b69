// The typed error that a piece of code must throw.
import { type ErrorName, ProtocolError } from '@millrace/protocol'

/** Runs `work` and returns the code of the ProtocolError it throws; anything else it throws, or nothing, fails. */
export function codeOf(work: () => unknown): ErrorName {
  try {
    work()
  } catch (error) {
    if (error instanceof ProtocolError) return error.code
    throw error
  }
  throw new Error('nothing was thrown')
}
