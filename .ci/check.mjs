// Everything a machine can say about the code without running it: types, lint, formatting, tidy.
// `--fix` lets Biome repair what it can first.
import { node, printJson, refuseRest, takeFlag, tool } from './process.mjs'

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const fix = takeFlag(args, '--fix')
refuseRest(args, 'npm run check -- [--fix] [--json]')

const steps = [
  ['types', () => node('.ci/build.mjs', ['--types'])],
  ['lint and formatting', () => tool('biome', ['check', '--error-on-warnings', ...(fix ? ['--write'] : [])])],
  [
    'promises',
    () => tool('eslint', ['--max-warnings', '0', '--no-error-on-unmatched-pattern', 'packages', 'examples']),
  ],
  ['tidy', () => tool('vitest', ['run', 'packages/broker/test/repository'])],
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
