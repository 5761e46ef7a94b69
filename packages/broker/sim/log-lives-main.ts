// Many short lives of the log store, each recovered by the real code and compared with what was promised.
import { parseArgs } from 'node:util'
import { addCoverage } from './coverage.js'
import { liveThrough } from './log-lives.js'
import { wholeNumber } from './whole-number.js'

const USAGE = `node packages/broker/dist-dev/sim/log-lives-main.js -- [--states N] [--first S] [--seed S] [--json]

  --states N  how many crash images to recover from (1000)
  --first S   the first seed (1)
  --seed S    one seed only
  --json      end with one line of JSON`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      states: { type: 'string', default: '1000' },
      first: { type: 'string', default: '1' },
      seed: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(USAGE)
    return
  }
  const one = values.seed === undefined ? null : wholeNumber('--seed', values.seed)
  const wanted = wholeNumber('--states', values.states)
  const report = {
    name: 'log-lives',
    states: 0,
    seeds: 0,
    failures: 0,
    firstFailure: null as null | { seed: number; invariant: string; message: string },
    statesPerSecond: 0,
    coverage: {} as Record<string, number>,
  }
  const begunAt = process.hrtime.bigint()
  for (let seed = one ?? wholeNumber('--first', values.first); report.failures === 0; seed++) {
    const result = await liveThrough(seed)
    report.seeds++
    report.states += result.images
    addCoverage(report.coverage, result.coverage)
    if (result.failure !== null) {
      report.failures++
      report.firstFailure = { seed, ...result.failure }
      console.log(`seed ${seed} failed: ${result.failure.invariant}: ${result.failure.message}`)
      console.log(`replay: node packages/broker/dist-dev/sim/log-lives-main.js -- --seed ${seed}`)
    }
    if (one !== null || report.states >= wanted) break
  }
  const seconds = Number(process.hrtime.bigint() - begunAt) / 1e9
  report.statesPerSecond = Math.round(report.states / seconds)
  console.log(
    `${report.states} crash images of ${report.seeds} seeds recovered, ${report.failures} failures, ${seconds.toFixed(1)} s`,
  )
  for (const [what, count] of Object.entries(report.coverage)) console.log(`  ${count.toString().padStart(8)} ${what}`)
  if (values.json) console.log(JSON.stringify(report))
  process.exitCode = report.failures > 0 ? 1 : 0
}

main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.stack : error)
  process.exitCode = 2
})
