// Everything a machine can say about the code without running it: types (by building), lint, formatting, tidy.
// `--fix` lets Biome repair what it can first.
import { node, printJson, refuseRest, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const fix = takeFlag(args, '--fix')
refuseRest(args, 'npm run check -- [--fix] [--json]')

/** The tests of the repository itself that run no product code; `npm test` runs the others as well. */
const TIDY = ['tidy.test.ts', 'documentation.test.ts']

const steps = [
  ['types', () => node('.ci/build.mjs')],
  ['lint and formatting', () => tool('biome', ['check', '--error-on-warnings', ...(fix ? ['--write'] : [])])],
  [
    'promises',
    () => tool('eslint', ['--max-warnings', '0', '--no-error-on-unmatched-pattern', 'packages', 'examples']),
  ],
  [
    'tidy',
    () => tool('vitest', ['run', '--reporter=dot', ...TIDY.map((name) => `packages/broker/test/repository/${name}`)]),
  ],
]

const results = []
for (const [name, step] of steps) {
  const { code, seconds } = await step()
  results.push({ name, ok: code === 0, seconds })
  console.log(`${code === 0 ? 'ok    ' : 'FAILED'} ${name} (${seconds.toFixed(1)} s)`)
}
const ok = results.every((result) => result.ok)
if (json) printJson({ name: 'check', ok, steps: results })
process.exitCode = ok ? 0 : 1
