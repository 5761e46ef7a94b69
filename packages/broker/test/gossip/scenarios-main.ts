// node packages/broker/dist-dev/test/gossip/scenarios-main.js [--rewrite]: runs the golden scenarios; with --rewrite the files
// are written as they should be, else each difference is an error.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { runFile } from './scenario.js'

const FOLDER = fileURLToPath(new URL('../../../test/gossip/scenarios', import.meta.url))
const rewrites = process.argv.includes('--rewrite')

let count = 0
for (const name of readdirSync(FOLDER)) {
  const path = join(FOLDER, name)
  const text = readFileSync(path, 'utf8')
  const run = runFile(text)
  count += run.titles.length
  if (run.text === text) continue
  process.stdout.write(`${name} ${rewrites ? 'rewritten' : 'differs'}\n`)
  if (rewrites) writeFileSync(path, run.text)
  else process.exitCode = 1
}
process.stdout.write(`${count} scenarios\n`)
