// What every application of a simulated client works with.
import { MillraceError } from '@millrace/client'
import type { Coverage } from './coverage.js'
import type { SeededRandom } from './random.js'
import type { Recorder } from './recorder.js'
import type { SimulatedClientEnvironment } from './simulated-client-environment.js'

export interface AppContext {
  readonly environment: SimulatedClientEnvironment
  readonly recorder: Recorder
  readonly coverage: Coverage
  readonly random: SeededRandom
  /** Waits in virtual time; for ever once the client's process is dead. */
  readonly sleep: (delayMs: number) => Promise<void>
}

/** Everything the client rejects with is an error of its own kind; anything else is a bug. */
export function mustBeMillraceError(error: unknown): asserts error is MillraceError {
  if (!MillraceError.is(error)) throw error
}
