// What `npm run ci` says once more at the end of its output about a step that failed.
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { expect, it } from 'vitest'
import { ROOT } from './repository.js'

const { digestOf } = (await import(pathToFileURL(join(ROOT, '.ci/digest.mjs')).href)) as {
  digestOf(text: string): string[]
}

const FAILED_TESTS = `
 \u001b[31m❯\u001b[39m packages/a/test/a.test.ts (2 tests | 1 failed)
⎯⎯⎯⎯⎯⎯⎯ Failed Tests 1 ⎯⎯⎯⎯⎯⎯⎯

\u001b[41m\u001b[1m FAIL \u001b[22m\u001b[49m packages/a/test/a.test.ts\u001b[2m > \u001b[22mfails
AssertionError: expected 1 to be 2 // Object.is equality

- Expected
+ Received

 ❯ packages/a/test/a.test.ts:3:42
    1| // a
 Test Files  1 failed (1)
1 passed, 1 failed
`

it('names the tests that failed, why and where', () => {
  expect(digestOf(FAILED_TESTS)).toEqual([
    ' FAIL  packages/a/test/a.test.ts > fails',
    'AssertionError: expected 1 to be 2 // Object.is equality',
    '- Expected',
    '+ Received',
    ' ❯ packages/a/test/a.test.ts:3:42',
  ])
})

it('says the last lines of a step without tests', () => {
  const lines = Array.from({ length: 40 }, (_, i) => `line ${i}`)
  expect(digestOf(`${lines.join('\n\n')}\n`)).toEqual(lines.slice(-25))
})

it('stays short however much failed', () => {
  const many = ` FAIL  x\n${'y\n'.repeat(40)}`.repeat(9)
  expect(digestOf(many)).toHaveLength(81)
  expect(digestOf(many).at(-1)).toBe('(46 more lines)')
})
