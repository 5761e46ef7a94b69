// npm run sim: runs seeds of the simulation one after the other and reports what broke, with the command to replay it.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { FOCUS_NAMES, focusNamed } from './focus.js'
import { optionsOf, type SimulationOptions } from './options.js'
import { runSimulation } from './simulation.js'
import { add, emptyReport, merge, type Report, summaryOf } from './simulation-report.js'
import type { SimulationResult } from './simulation-result.js'

const USAGE = `npm run sim -- [--seeds N] [--first S] [--seed S] [--json] [--trace]

  --seeds N   how many seeds to run (100)
  --first S   the first of them (1)
  --seed S    one seed, with its options, log lines and result
  --keep-going  go on after a failure
  --trace     print every event of the one seed
  --brokers N  so many in each cluster, instead of what the seed draws
  --focus F   every run dwells on one of: ${FOCUS_NAMES.join(', ')}
  --workers W  so many processes share the seeds (2, or as many as there are cores)
  --json      end with one line of JSON`

function tellFailure(result: SimulationResult, { brokers, focus }: Run): void {
  console.log(
    `\nseed ${result.seed} failed after ${result.events} events, ${result.virtualMs.toFixed(0)} ms virtual time`,
  )
  for (const { invariant, message } of result.failures.slice(0, 10)) console.log(`  ${invariant}: ${message}`)
  const options = `${brokers === null ? '' : ` --brokers ${brokers}`}${focus === null ? '' : ` --focus ${focus}`}`
  console.log(`replay: npm run sim -- --seed ${result.seed}${options}`)
}

interface Run {
  readonly first: number
  readonly seeds: number
  readonly brokers: number | null
  readonly focus: string | null
  readonly keepsGoing: boolean
  readonly isOne: boolean
  readonly traces: boolean
}

/** Less is not worth a process of its own. */
const FEWEST_SEEDS = 10

function optionsFor(seed: number, { brokers, focus }: Run): SimulationOptions {
  if (focus === null) return optionsOf(seed, brokers)
  const { brokers: usual, apply } = focusNamed(focus)
  return apply(optionsOf(seed, brokers ?? usual))
}

async function runSeeds(report: Report, run: Run): Promise<void> {
  const { first, seeds, keepsGoing, isOne, traces } = run
  for (let seed = first; seed < first + seeds; seed++) {
    const options = optionsFor(seed, run)
    if (isOne) console.log(JSON.stringify(options, null, 2))
    const result = await runSimulation(options, {
      onLog: !isOne ? null : (line) => console.log(line),
      onTrace: traces && isOne ? (line) => console.log(line) : null,
    })
    add(report, result)
    if (result.failures.length > 0) {
      tellFailure(result, run)
      if (!keepsGoing) break
    } else if (!isOne && report.seeds % 20 === 0) {
      console.log(
        `${report.seeds} of ${seeds} seeds, ${report.events} events, ${report.records.acknowledged} records acknowledged`,
      )
    }
  }
}

/** Each worker has a stretch of the seeds and reports by the last line of its output. */
async function runShared(report: Report, run: Run, workers: number): Promise<void> {
  const parts = Array.from({ length: workers }, (_, i) => {
    const from = Math.floor((run.seeds * i) / workers)
    return { first: run.first + from, seeds: Math.floor((run.seeds * (i + 1)) / workers) - from }
  })
  await Promise.all(
    parts.map(async ({ first, seeds }) => {
      const args = ['--first', String(first), '--seeds', String(seeds), '--workers', '1', '--json']
      if (run.keepsGoing) args.push('--keep-going')
      if (run.brokers !== null) args.push('--brokers', String(run.brokers))
      if (run.focus !== null) args.push('--focus', run.focus)
      const self = fileURLToPath(import.meta.url)
      const child = spawn(process.execPath, [...process.execArgv, self, ...args], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      let output = ''
      child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
        output += chunk
      })
      await once(child, 'close')
      const lines = output.trimEnd().split('\n')
      const last = lines.at(-1) ?? ''
      if (!last.startsWith('{')) throw new Error(`the seeds from ${first} on ended without a report:\n${output}`)
      const part = JSON.parse(last) as Report
      if (part.failures > 0)
        console.log(lines.filter((line) => /failed after|^ {2}[a-z-]+: |^replay/.test(line)).join('\n'))
      merge(report, part)
    }),
  )
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
      focus: { type: 'string' },
      workers: { type: 'string', default: String(Math.min(2, availableParallelism())) },
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
  const workers = Math.min(wholeNumber('--workers', values.workers), Math.ceil(seeds / FEWEST_SEEDS))
  const run: Run = {
    first,
    seeds,
    brokers,
    focus: values.focus ?? null,
    keepsGoing: values['keep-going'],
    isOne: one !== null,
    traces: values.trace,
  }
  if (workers > 1) await runShared(report, run, workers)
  else await runSeeds(report, run)
  report.seconds = Number(process.hrtime.bigint() - begunAt) / 1e9
  report.eventsPerSecond = Math.round(report.events / report.seconds)
  console.log(summaryOf(report).join('\n'))
  if (values.json) console.log(JSON.stringify(report))
  process.exitCode = report.failures > 0 ? 1 : 0
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
