// The table of options in the README names every option there is, and no other.
import { readFileSync } from 'node:fs'
import { connect, MillraceError } from '@millrace/client'
import { expect, test } from 'vitest'

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8')

/** The options a function knows, as its refusal of another one tells. */
function known(call: () => unknown): string[] {
  try {
    call()
  } catch (error) {
    if (MillraceError.is(error)) return error.detail.replace(/^.*it knows /, '').split(', ')
  }
  throw new Error('an unknown option was taken')
}

test('the README names every option', () => {
  const mill = connect({ bootstrap: 'nobody' })
  const odd = { noSuchOption: 1 } as object
  const consumer = known(() => mill.consumer(odd))
  const options = [
    ...known(() => connect({ bootstrap: 'nobody', ...odd })),
    ...known(() => mill.producer('t', odd)),
    ...consumer,
    ...known(() => mill.consumer().subscribe('t', odd)).filter((name) => !consumer.includes(name) && name !== 'signal'),
  ]
  const table = readme.slice(readme.indexOf('## Options'), readme.indexOf('## When something'))
  const named = [...table.matchAll(/^\| (?:\*\*\w+\*\* )?`(\w+)` +\|/gm)].map(([, name]) => name)
  expect(named.sort()).toEqual(options.sort())
  expect(new Set(options).size).toBe(options.length)
})
