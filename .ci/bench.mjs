// Runs benches by name: every `packages/*/bench/*.bench.ts`, compiled, exporting `name` and
// `run({ tiny, json, argv })`, which resolves with one result or a list of them. Each runs in a process of its own, so that
// no bench sees the memory of another. `--tiny` is a second's work that shows that the bench still runs. `--profile DIR`
// leaves CPU profiles there, of the bench and of the brokers it starts. A bench that exports `byNameOnly` is not among `all`.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { globSync } from './glob.mjs'
import { node, printJson, root, stop, takeFlag } from './process.mjs'

const USAGE = 'npm run bench -- <name>|all|--list [--tiny] [--json] [--profile DIR] [arguments of the bench]'
const CHILD = '--in-own-process'

if (process.argv[2] === CHILD) await serve(JSON.parse(process.argv[3]))
else await main()

async function main() {
  const args = process.argv.slice(2)
  const json = takeFlag(args, '--json')
  const tiny = takeFlag(args, '--tiny')
  const profile = takeOption(args, '--profile')
  const skipBuild = takeFlag(args, '--no-build')
  if (!skipBuild) {
    const build = await node('.ci/build.mjs')
    if (build.code !== 0) process.exit(build.code)
  }
  const all = await findBenches()
  if (takeFlag(args, '--list')) {
    for (const { name, file } of all) console.log(`${name}  ${file}`)
    if (json) printJson({ benches: all })
    return
  }
  const name = args.shift()
  const names = all.map((bench) => bench.name).join(', ')
  if (name === undefined || name.startsWith('-')) stop(`usage: ${USAGE}\nbenches: ${names}`)
  const chosen = name === 'all' ? all.filter((bench) => !bench.byNameOnly) : all.filter((bench) => bench.name === name)
  if (chosen.length === 0) stop(`no bench ${name}; there are: ${names}`)

  const benches = []
  let failed = 0
  for (const { name: left } of name === 'all' ? all.filter((bench) => bench.byNameOnly) : [])
    console.log(`not among all: npm run bench -- ${left}`)
  for (const bench of chosen) {
    console.log(`\n== ${bench.name}`)
    const result = await runApart(bench, { tiny, json, argv: args }, profile)
    if (result === null) failed += 1
    else {
      benches.push(result)
      printTable(result)
    }
  }
  if (failed > 0) console.log(`${failed} benches failed`)
  if (json) printJson(name === 'all' ? { benches } : (benches[0] ?? { name, failed: true }))
  process.exitCode = failed > 0 ? 1 : 0
}

function takeOption(args, option) {
  const at = args.indexOf(option)
  if (at < 0) return undefined
  const [, value] = args.splice(at, 2)
  return value ?? stop(`${option} needs a value`)
}

async function findBenches() {
  const benches = []
  for (const file of globSync('packages/*/dist-dev/bench/*.bench.js')) {
    const module = await import(pathToFileURL(`${root}/${file}`).href)
    if (typeof module.name !== 'string' || typeof module.run !== 'function') stop(`${file} must export name and run`)
    const other = benches.find((bench) => bench.name === module.name)
    if (other !== undefined) stop(`${file} and ${other.file} are both named ${module.name}`)
    benches.push({ name: module.name, file, byNameOnly: module.byNameOnly === true })
  }
  return benches
}

/** The bench's result, or null when it failed (it has said why on standard error). */
async function runApart(bench, options, profile) {
  const profiling = profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${profile}`]
  const child = fork(fileURLToPath(import.meta.url), [CHILD, JSON.stringify({ file: bench.file, options })], {
    execArgv: ['--expose-gc', ...profiling],
  })
  let result = null
  child.on('message', (message) => {
    result = message
  })
  const [code] = await once(child, 'exit')
  if (code !== 0 || result === null) {
    process.stderr.write(`${bench.name} failed (exit ${code})\n`)
    return null
  }
  // One object stays one object; a list becomes one object with the bench's name and its rows.
  return Array.isArray(result) ? { name: bench.name, results: result } : { name: bench.name, ...result }
}

async function serve({ file, options }) {
  const { run } = await import(pathToFileURL(`${root}/${file}`).href)
  const result = await run(options)
  await new Promise((resolve, reject) => process.send(result, (error) => (error ? reject(error) : resolve())))
  process.disconnect()
}

function printTable(result) {
  const rows = 'results' in result && Array.isArray(result.results) ? result.results : [result]
  if (rows.length === 1) {
    const width = Math.max(...Object.keys(rows[0]).map((key) => key.length))
    for (const [key, value] of Object.entries(rows[0])) console.log(`  ${key.padEnd(width)}  ${show(value)}`)
    return
  }
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row)))]
  const cells = [columns, ...rows.map((row) => columns.map((column) => show(row[column])))]
  const widths = columns.map((_, at) => Math.max(...cells.map((line) => line[at].length)))
  for (const line of cells) console.log(`  ${line.map((cell, at) => cell.padStart(widths[at])).join('  ')}`)
}

function show(value) {
  if (value === undefined || value === null) return '-'
  if (typeof value === 'number') return formatNumber(value)
  if (Array.isArray(value)) return value.map(show).join(', ')
  if (typeof value === 'object')
    return Object.entries(value)
      .map(([key, inner]) => `${key} ${show(inner)}`)
      .join(', ')
  return String(value)
}

function formatNumber(value) {
  if (Number.isInteger(value)) return value.toLocaleString('en-US')
  return Math.abs(value) >= 100 ? Math.round(value).toLocaleString('en-US') : value.toPrecision(3)
}
