// npm run crash: builds the states that power cuts could leave of the log store, and recovers from every one of them.
import { parseArgs } from 'node:util'
import { type FoundFailure, SHORT_TRACES, searchTrace } from './crash-search.js'

const USAGE = `npm run crash -- [--states N] [--first S] [--state K] [--json]

  --states N  how many crash states to recover from (20000)
  --first S   the first trace; even ones are all sequences of up to three steps, odd ones are random (0)
  --state K   only this state of the first trace
  --json      end with one line of JSON`

const MAX_FAILURES = 10

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      states: { type: 'string', default: '20000' },
      first: { type: 'string', default: '0' },
      state: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const wanted = wholeNumber('--states', values.states)
  const first = wholeNumber('--first', values.first)
  const only = values.state === undefined ? null : wholeNumber('--state', values.state)
  const failures: FoundFailure[] = []
  const begunAt = performance.now()
  let states = 0
  let trace = first
  for (; states < wanted && failures.length < MAX_FAILURES; trace++) {
    const result = await searchTrace(trace, wanted - states, only)
    states += result.states
    if (result.failure !== null) failures.push(printed(result.failure))
    if (only !== null) break
  }
  const seconds = (performance.now() - begunAt) / 1000
  const lost = failures.filter(({ invariant }) => invariant === 'lost').length
  const statesPerSecond = Math.round(states / seconds)
  console.log(
    `${states} crash states of ${trace - first} traces (of ${SHORT_TRACES.length} short ones, and random ones) ` +
      `recovered in ${seconds.toFixed(1)} s: ${lost} lost, ${failures.length} failures, ${statesPerSecond} states/s`,
  )
  if (values.json) {
    const report = { name: 'crash', states, lost, failures: failures.length, statesPerSecond, traces: trace - first }
    console.log(JSON.stringify({ ...report, firstFailure: failures[0] ?? null }))
  }
  process.exitCode = failures.length > 0 ? 1 : 0
}

function printed(failure: FoundFailure): FoundFailure {
  console.log(`trace ${failure.trace}, state ${failure.state}: ${failure.invariant}: ${failure.message}`)
  console.log(`replay: npm run crash -- --first ${failure.trace} --state ${failure.state}`)
  return failure
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= 0) return value
  console.error(`${option} takes a whole number from 0, not ${text}\n${USAGE}`)
  process.exit(2)
}

await main()
