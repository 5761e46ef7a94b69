// The repository's whole proof, one step after the other, ending with the totals as `N passed, N failed`.
// What failed is said once more before them, since records of a run keep its end only.
// A step besides the tests that fails counts as one failure. `--quick` leaves out the simulation, crash, faults, fuzz and pack runs.
import { digestOf } from './digest.mjs'
import { node, printJson, refuseRest, takeFlag } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const quick = takeFlag(args, '--quick')
refuseRest(args, 'npm run ci -- [--quick] [--json]')

/** Each: its name, the program, its arguments, whether `--quick` runs it. */
const STEPS = [
  ['check', '.ci/check.mjs', [], true],
  ['test', '.ci/test.mjs', [], true],
  ['sim', 'packages/broker/dist-dev/sim/main.js', ['--seeds', '200'], false],
  ['crash', 'packages/broker/dist-dev/sim/crash/main.js', ['--states', '500000'], false],
  ['faults', 'packages/broker/dist-dev/bench/faults-main.js', ['--minutes', '1', '--quiet'], false],
  ['fuzz', '.ci/fuzz.mjs', ['--seconds', '40', '--no-build'], false],
  ['docs', '.ci/docs.mjs', ['--no-build'], true],
  ['pack', '.ci/pack.mjs', ['--no-build'], false],
]

const results = []
const digests = []
let passed = 0
let failed = 0
for (const [name, program, programArgs, inQuick] of STEPS) {
  if (quick && !inQuick) continue
  console.log(`\n==> ${name}`)
  const { code, text, seconds } = await node(program, programArgs, { output: 'tee' })
  const totals = name === 'test' ? /^(\d+) passed, (\d+) failed$/m.exec(text) : null
  if (totals !== null) {
    passed = Number(totals[1])
    failed += Number(totals[2])
    if (code !== 0 && Number(totals[2]) === 0) failed += 1
  } else if (code !== 0) failed += 1
  results.push({ name, ok: code === 0, seconds })
  if (code !== 0) digests.push({ name, lines: digestOf(text) })
}

for (const { name, lines } of digests) console.log(`\n==> ${name} failed:\n${lines.join('\n')}`)

console.log('')
for (const { name, ok, seconds } of results)
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(0)} s)`)
console.log(`${passed} passed, ${failed} failed`)
if (json) printJson({ name: 'ci', passed, failed, steps: results })
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
