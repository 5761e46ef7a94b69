// Golden scenarios: each file of `scenarios/` says what was done and what came of it. `scenarios-main.js --rewrite` writes anew
// what came of it; the change is then to be read like prose. Every command is judged by the invariants besides.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runFile } from './scenario.js'

const FOLDER = join(import.meta.dirname, 'scenarios')
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))

const titles: string[] = []

test.each(FILES)('%s', (name) => {
  const text = readFileSync(join(FOLDER, name), 'utf8')
  const run = runFile(text)
  titles.push(...run.titles)
  expect(run.text).toBe(text)
})

test('there are enough, each with a title of its own', () => {
  expect(titles.length).toBeGreaterThanOrEqual(20)
  expect(new Set(titles).size).toBe(titles.length)
})
