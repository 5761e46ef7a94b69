// Golden scenarios: each file of `scenarios/` says what was done and what came of it. RAFT_REWRITE=1 writes anew what came of it;
// the change is then to be read like prose.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runFile } from './scenario.js'

const FOLDER = join(import.meta.dirname, 'scenarios')
const FILES = readdirSync(FOLDER).filter((name) => name.endsWith('.txt'))
const REWRITES = process.env.RAFT_REWRITE === '1'

const titles: string[] = []

test.each(FILES)('%s', (name) => {
  const path = join(FOLDER, name)
  const text = readFileSync(path, 'utf8')
  const run = runFile(text)
  titles.push(...run.titles)
  if (REWRITES) writeFileSync(path, run.text)
  else expect(run.text).toBe(text)
})

test('there are enough, each with a title of its own', () => {
  expect(titles.length).toBeGreaterThanOrEqual(120)
  expect(new Set(titles).size).toBe(titles.length)
})
