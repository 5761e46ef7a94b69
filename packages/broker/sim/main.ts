// npm run sim: runs seeds of the simulation one after the other and reports what broke, with the command to replay it.
import { parseArgs } from 'node:util'
import { addCoverage, RARE_STATES } from './coverage.js'
import { optionsOf } from './options.js'
import { runSimulation } from './simulation.js'
import type { SimulationResult } from './simulation-result.js'

const USAGE = `npm run sim -- [--seeds N] [--first S] [--seed S] [--json] [--trace]

  --seeds N   how many seeds to run (100)
  --first S   the first of them (1)
  --seed S    one seed, with its options, log lines and result
  --keep-going  go on after a failure
  --trace     print every event of the one seed
  --brokers N  so many in each cluster, instead of what the seed draws
  --json      end with one line of JSON`

interface Report {
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

function emptyReport(): Report {
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

function add(report: Report, result: SimulationResult): void {
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

function tellFailure(result: SimulationResult): void {
  console.log(
    `\nseed ${result.seed} failed after ${result.events} events, ${result.virtualMs.toFixed(0)} ms virtual time`,
  )
  for (const { invariant, message } of result.failures.slice(0, 10)) console.log(`  ${invariant}: ${message}`)
  console.log(`replay: npm run sim -- --seed ${result.seed}`)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      seeds: { type: 'string', default: '100' },
      first: { type: 'string', default: '1' },
      seed: { type: 'string' },
      'keep-going': { type: 'boolean', default: false },
      trace: { type: 'boolean', default: false },
      brokers: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const one = values.seed === undefined ? null : wholeNumber('--seed', values.seed)
  const first = one ?? wholeNumber('--first', values.first)
  const brokers = values.brokers === undefined ? null : wholeNumber('--brokers', values.brokers)
  const seeds = one === null ? wholeNumber('--seeds', values.seeds) : 1
  const report = emptyReport()
  const begunAt = process.hrtime.bigint()
  for (let seed = first; seed < first + seeds; seed++) {
    if (one !== null) console.log(JSON.stringify(optionsOf(seed, brokers), null, 2))
    const result = await runSimulation(optionsOf(seed, brokers), {
      onLog: one === null ? null : (line) => console.log(line),
      onTrace: values.trace && one !== null ? (line) => console.log(line) : null,
    })
    add(report, result)
    if (result.failures.length > 0) {
      tellFailure(result)
      if (!values['keep-going']) break
    } else if (one === null && report.seeds % 20 === 0) {
      console.log(
        `${report.seeds} of ${seeds} seeds, ${report.events} events, ${report.records.acknowledged} records acknowledged`,
      )
    }
  }
  report.seconds = Number(process.hrtime.bigint() - begunAt) / 1e9
  report.eventsPerSecond = Math.round(report.events / report.seconds)
  summarise(report)
  if (values.json) console.log(JSON.stringify(report))
  process.exitCode = report.failures > 0 ? 1 : 0
}

function summarise(report: Report): void {
  const { seeds, failures, events, seconds, eventsPerSecond, virtualSeconds, records } = report
  console.log(
    `\n${seeds} seeds, ${failures} failures, ${events} events in ${seconds.toFixed(1)} s (${eventsPerSecond} per second), ${virtualSeconds.toFixed(0)} s of virtual time`,
  )
  console.log(
    `${records.sent} records sent: ${records.acknowledged} acknowledged, ${records.failed} failed, ${records.unknown} unknown; ${records.read} read`,
  )
  const never = RARE_STATES.filter((state) => report.coverage[state] === 0)
  for (const [state, count] of Object.entries(report.coverage))
    if (count > 0) console.log(`  ${count.toString().padStart(8)} ${state}`)
  if (never.length > 0) console.log(`never reached: ${never.join(', ')}`)
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < 0) throw new Error(`${option} takes a whole number, not ${text}`)
  return value
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.stack : error)
  process.exitCode = 2
})
