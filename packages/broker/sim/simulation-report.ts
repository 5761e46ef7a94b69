// What many runs come to together.
import { addCoverage, RARE_STATES } from './coverage.js'
import type { SimulationResult } from './simulation-result.js'

export interface Report {
  readonly name: 'sim'
  seeds: number
  failures: number
  firstFailure: {
    readonly seed: number
    readonly invariant: string
    readonly message: string
    /** All that the seed broke. */
    readonly invariants: readonly string[]
  } | null
  eventsPerSecond: number
  seconds: number
  events: number
  virtualSeconds: number
  records: { sent: number; acknowledged: number; failed: number; unknown: number; read: number }
  coverage: Record<string, number>
  traceHashes: Record<string, string>
}

export function emptyReport(): Report {
  return {
    name: 'sim',
    seeds: 0,
    failures: 0,
    firstFailure: null,
    eventsPerSecond: 0,
    seconds: 0,
    events: 0,
    virtualSeconds: 0,
    records: { sent: 0, acknowledged: 0, failed: 0, unknown: 0, read: 0 },
    coverage: Object.fromEntries(RARE_STATES.map((state) => [state, 0])),
    traceHashes: {},
  }
}

export function add(report: Report, result: SimulationResult): void {
  report.seeds++
  report.events += result.events
  report.virtualSeconds += result.virtualMs / 1000
  for (const outcome of ['sent', 'acknowledged', 'failed', 'unknown', 'read'] as const) {
    report.records[outcome] += result.records[outcome]
  }
  addCoverage(report.coverage, result.coverage)
  report.traceHashes[result.seed] = result.traceHash
  const failure = result.failures[0]
  if (failure === undefined) return
  report.failures++
  const invariants = [...new Set(result.failures.map(({ invariant }) => invariant))]
  report.firstFailure ??= { seed: result.seed, ...failure, invariants }
}

/** Of seeds that other processes have run. */
export function merge(report: Report, part: Report): void {
  report.seeds += part.seeds
  report.failures += part.failures
  report.events += part.events
  report.virtualSeconds += part.virtualSeconds
  for (const outcome of ['sent', 'acknowledged', 'failed', 'unknown', 'read'] as const) {
    report.records[outcome] += part.records[outcome]
  }
  addCoverage(report.coverage, part.coverage)
  Object.assign(report.traceHashes, part.traceHashes)
  const { firstFailure } = part
  if (firstFailure !== null && firstFailure.seed < (report.firstFailure?.seed ?? Number.POSITIVE_INFINITY)) {
    report.firstFailure = firstFailure
  }
}

/** For people to read, line by line. */
export function summaryOf(report: Report): string[] {
  const { seeds, failures, events, seconds, eventsPerSecond, virtualSeconds, records } = report
  const reached = Object.entries(report.coverage).filter(([, count]) => count > 0)
  const never = RARE_STATES.filter((state) => report.coverage[state] === 0)
  return [
    `\n${seeds} seeds, ${failures} failures, ${events} events in ${seconds.toFixed(1)} s (${eventsPerSecond} per second), ${virtualSeconds.toFixed(0)} s of virtual time`,
    `${records.sent} records sent: ${records.acknowledged} acknowledged, ${records.failed} failed, ${records.unknown} unknown; ${records.read} read`,
    ...reached.map(([state, count]) => `  ${count.toString().padStart(8)} ${state}`),
    ...(never.length > 0 ? [`never reached: ${never.join(', ')}`] : []),
  ]
}
