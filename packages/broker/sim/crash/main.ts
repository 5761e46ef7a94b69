// npm run crash: builds the states that power cuts could leave of the log store, and recovers from every one of them.
import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'
import { CRASH_INVARIANTS, type CrashInvariant } from './crash-failure.js'
import { type CrashRun, runCrashes } from './crash-run.js'
import { type FoundFailure, searchTrace } from './crash-search.js'
import { SHORT_TRACES } from './traces.js'

const USAGE = `npm run crash -- [--states N] [--first S] [--state K] [--workers W] [--json]

  --states N   how many crash states to recover from, all of them different (20000)
  --first S    the first trace; even ones are all sequences of up to three steps, odd ones are random (0)
  --state K    only this state of the first trace
  --workers W  processes; what is found does not depend on it (as many as there are cores)
  --until I    end with the first failure of this kind, such as lost, and with no other
  --json       end with one line of JSON`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      states: { type: 'string', default: '20000' },
      first: { type: 'string', default: '0' },
      state: { type: 'string' },
      until: { type: 'string' },
      workers: { type: 'string', default: String(availableParallelism()) },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const states = wholeNumber('--states', values.states)
  const first = wholeNumber('--first', values.first)
  const workers = Math.max(1, wholeNumber('--workers', values.workers))
  const begunAt = performance.now()
  const run =
    values.state === undefined
      ? await runCrashes({ states, first, workers, ...until(values.until), onFailure: printFailure })
      : await oneState(first, wholeNumber('--state', values.state))
  report(run, (performance.now() - begunAt) / 1000, values.json)
}

async function oneState(trace: number, state: number): Promise<CrashRun> {
  const { images, duplicates, failure } = await searchTrace(trace, state)
  if (failure !== null) printFailure(failure)
  const failures = failure === null ? [] : [failure]
  return { states: images.length + failures.length, duplicates, traces: 1, failures }
}

function report({ states, duplicates, traces, failures }: CrashRun, seconds: number, json: boolean): void {
  const lost = failures.filter(({ invariant }) => invariant === 'lost').length
  const statesPerSecond = Math.round(states / seconds)
  console.log(
    `${states} crash states of ${traces} traces (of ${SHORT_TRACES.length} short ones, and random ones) recovered in ` +
      `${seconds.toFixed(1)} s, ${duplicates} met again: ${lost} lost, ${failures.length} failures, ` +
      `${statesPerSecond} states/s`,
  )
  if (json) {
    const counts = { states, lost, failures: failures.length, duplicates, statesPerSecond, traces }
    const invariants = [...new Set(failures.map(({ invariant }) => invariant))]
    console.log(JSON.stringify({ name: 'crash', ...counts, invariants, firstFailure: failures[0] ?? null }))
  }
  process.exitCode = failures.length > 0 ? 1 : 0
}

function printFailure(failure: FoundFailure): void {
  console.log(`trace ${failure.trace}, state ${failure.state}: ${failure.invariant}: ${failure.message}`)
  console.log(`replay: npm run crash -- --first ${failure.trace} --state ${failure.state}`)
}

function until(text: string | undefined): { until?: CrashInvariant } {
  if (text === undefined) return {}
  const invariant = CRASH_INVARIANTS.find((one) => one === text)
  if (invariant !== undefined) return { until: invariant }
  console.error(`--until takes one of ${CRASH_INVARIANTS.join(', ')}, not ${text}`)
  process.exit(2)
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  console.error(`${option} takes a whole number from 0, not ${text}\n${USAGE}`)
  process.exit(2)
}

await main()
