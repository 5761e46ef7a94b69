// Everything a machine can say about the code without running it: types (by building), lint, formatting, tidy.
// `--fix` lets Biome repair what it can first. `--no-tidy` is for those who run `npm test` next, which is tidy too.
import { node, printJson, refuseRest, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const fix = takeFlag(args, '--fix')
const noTidy = takeFlag(args, '--no-tidy')
refuseRest(args, 'npm run check -- [--fix] [--no-tidy] [--json]')

/** The tests of the repository itself that run no product code; `npm test` runs the others as well. */
const TIDY = ['tidy.test.ts', 'documentation.test.ts'].map((name) => `packages/broker/test/repository/${name}`)

const QUIET = { output: 'quiet' }
const results = []

/** Runs a step, and says what it said once it is done: several may be under way. */
async function step(name, begin) {
  const { code, seconds, text } = await begin()
  results.push({ name, ok: code === 0, seconds })
  process.stdout.write(text)
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`)
}

await step('lint and formatting', () =>
  tool('biome', ['check', '--error-on-warnings', ...(fix ? ['--write'] : [])], QUIET),
)
await step('types', () => node('.ci/build.mjs', ['--sources'], QUIET))
// The types of what was built are all that these need.
await Promise.all([
  step('promises', () =>
    tool('eslint', ['--max-warnings', '0', '--no-error-on-unmatched-pattern', 'packages', 'examples'], QUIET),
  ),
  step('types of tests', () => node('.ci/build.mjs', [], QUIET)).then(() =>
    noTidy ? undefined : step('tidy', () => tool('vitest', ['run', '--reporter=dot', ...TIDY], QUIET)),
  ),
])

const ok = results.every((result) => result.ok)
if (json) printJson({ name: 'check', ok, steps: results })
process.exitCode = ok ? 0 : 1
