// What a run of the simulation comes to, and the words for it.
import type { CoverageCounts } from './coverage.js'

export interface Failure {
  /**
   * Of the checker's history, or `exception`, `stuck`, `leak`, `limit`, `memory`, `start-refused`, `unreadable`,
   * `false-damage`, `rot-unseen`, `rot-served`, `no-progress`, or of `BROKEN_REPLICAS`.
   */
  readonly invariant: string
  readonly message: string
}

export interface SimulationResult {
  readonly seed: number
  readonly failures: readonly Failure[]
  readonly traceHash: string
  readonly events: number
  readonly virtualMs: number
  readonly records: { sent: number; acknowledged: number; failed: number; unknown: number; read: number }
  readonly coverage: CoverageCounts
}

export interface SimulationOutput {
  readonly onLog: ((line: string) => void) | null
  readonly onTrace: ((line: string) => void) | null
}

export const QUIET: SimulationOutput = { onLog: null, onTrace: null }

export function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\n  caused by ${stackOf(error.cause)}`
  return `${error.stack ?? error.message}${cause}`
}

export function describe(fields: object): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value instanceof Error ? value.message : JSON.stringify(value)}`)
    .join(' ')
}
