// The command `npm run faults`: real broker processes that are killed, stopped, cut off and slowed under load, while brokers
// come and go and partitions move, and the history that clients saw, judged by the simulator's checker.
import { type FaultRunResult, type Phase, runFaults } from './faults/run-faults.js'
import { exitCodeOf, optionValues, preferenceOf, WrongUse } from './support/command.js'

const USAGE =
  'npm run faults -- [--minutes N] [--brokers 3,5] [--seed N] [--environment ring|portable|auto]\n' +
  '  [--phase schedule|cut-off] [--json] [--quiet]'

const options = {
  minutes: { type: 'string', default: '10' },
  brokers: { type: 'string', default: '3,5' },
  seed: { type: 'string' },
  environment: { type: 'string', default: 'auto' },
  phase: { type: 'string' },
  json: { type: 'boolean', default: false },
  quiet: { type: 'boolean', default: false },
} as const

const PHASES: readonly Phase[] = ['schedule', 'cut-off']

process.exitCode = await exitCodeOf(USAGE, main)

async function main(): Promise<number> {
  const values = optionValues(options)
  const minutes = Number(values.minutes)
  const sizes = values.brokers.split(',').map(Number)
  const seed = Number(values.seed ?? Date.now() % 1_000_000)
  const prefer = preferenceOf(values.environment)
  const phases = PHASES.filter((phase) => values.phase === undefined || values.phase === phase)
  if (phases.length === 0) throw new WrongUse(`--phase takes ${PHASES.join(' or ')}`)
  if (!(minutes > 0)) throw new WrongUse('--minutes takes a number above zero')
  if (!sizes.every((size) => Number.isInteger(size) && size >= 1 && size <= 9)) {
    throw new WrongUse('--brokers takes numbers from 1 to 9, separated by commas')
  }
  if (!Number.isSafeInteger(seed)) throw new WrongUse('--seed takes a whole number')

  const beganMs = performance.now()
  const runs: FaultRunResult[] = []
  for (const brokers of sizes) {
    console.log(`${brokers} brokers, seed ${seed}`)
    const onFault = (words: string): void => {
      const at = ((performance.now() - beganMs) / 1000).toFixed(1)
      if (!values.quiet) console.log(`${at.padStart(8)} s  ${words}`)
    }
    const run = await runFaults({ brokers, seconds: (minutes * 60) / sizes.length, seed, prefer, phases, onFault })
    show(run)
    runs.push(run)
  }
  const sum = (of: (run: FaultRunResult) => number) => runs.reduce((total, run) => total + of(run), 0)
  const [lost, duplicated, anomalies] = [
    sum((run) => run.lost),
    sum((run) => run.duplicated),
    sum((run) => run.anomalies),
  ]
  const ok = runs.every((run) => run.ok)
  console.log(`${lost} lost, ${duplicated} duplicated, ${anomalies} anomalies`)
  if (!ok) console.log(`again: npm run faults -- --minutes ${minutes} --brokers ${values.brokers} --seed ${seed}`)
  if (values.json) console.log(JSON.stringify({ name: 'faults', ok, minutes, seed, lost, duplicated, anomalies, runs }))
  return ok ? 0 : 1
}

function show(run: FaultRunResult): void {
  const { violations, ...figures } = run
  for (const [name, value] of Object.entries(figures)) console.log(`  ${name.padEnd(16)}${shown(value)}`)
  for (const violation of violations) console.log(`  VIOLATED  ${violation}`)
}

function shown(value: unknown): string {
  if (typeof value !== 'object' || value === null) return String(value)
  return Object.entries(value)
    .map(([name, figure]) => `${name} ${String(figure)}`)
    .join(', ')
}
