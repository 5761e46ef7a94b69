// The repository's whole proof, ending with the totals as `N passed, N failed`: one step after the other, except for those
// that measure no time and use one core.
// What failed is said once more before them, since records of a run keep its end only.
// A step besides the tests that fails counts as one failure. `--quick` leaves out the simulation, crash, faults, fuzz and pack runs.
import { digestOf } from './digest.mjs'
import { node, printJson, refuseRest, takeFlag } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const quick = takeFlag(args, '--quick')
refuseRest(args, 'npm run ci -- [--quick] [--json]')

/** Each: its name, the program, its arguments, whether `--quick` runs it. Those in one list run side by side. */
const STEPS = [
  [['check', '.ci/check.mjs', ['--no-tidy'], true]],
  [['test', '.ci/test.mjs', ['--no-build'], true]],
  [['sim', 'packages/broker/dist-dev/sim/main.js', ['--seeds', '200'], false]],
  [['crash', 'packages/broker/dist-dev/sim/crash/main.js', ['--states', '500000'], false]],
  [['faults', 'packages/broker/dist-dev/bench/faults-main.js', ['--minutes', '1', '--quiet'], false]],
  [['fuzz', '.ci/fuzz.mjs', ['--seconds', '40', '--first', '1', '--no-build'], false]],
  [
    ['pack', '.ci/pack.mjs', ['--no-build'], false],
    ['docs', '.ci/docs.mjs', ['--no-build'], true],
  ],
]

const results = []
const digests = []
let passed = 0
let failed = 0
async function take([name, program, programArgs], output) {
  const { code, text, seconds } = await node(program, programArgs, { output })
  if (output === 'quiet') console.log(`\n==> ${name}\n${text.trimEnd()}`)
  const totals = name === 'test' ? /^(\d+) passed, (\d+) failed$/m.exec(text) : null
  if (totals !== null) {
    passed = Number(totals[1])
    failed += Number(totals[2])
    if (code !== 0 && Number(totals[2]) === 0) failed += 1
  } else if (code !== 0) failed += 1
  results.push({ name, ok: code === 0, seconds })
  if (code !== 0) digests.push({ name, lines: digestOf(text) })
}

for (const together of STEPS) {
  const steps = together.filter(([, , , inQuick]) => inQuick || !quick)
  if (steps.length === 1) console.log(`\n==> ${steps[0][0]}`)
  const output = steps.length === 1 ? 'tee' : 'quiet'
  await Promise.all(steps.map((step) => take(step, output)))
}

for (const { name, lines } of digests) console.log(`\n==> ${name} failed:\n${lines.join('\n')}`)

console.log('')
for (const { name, ok, seconds } of results)
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(0)} s)`)
console.log(`${passed} passed, ${failed} failed`)
if (json) printJson({ name: 'ci', passed, failed, steps: results })
process.exitCode = failed > 0 || passed === 0 ? 1 : 0
