// Runs the fuzz targets: every `packages/*/fuzz/*.fuzz.ts`, compiled, exporting `name` and
// `run({ seed, iterations })`, which tries that many inputs, returns how many it tried, and throws on a finding.
// The seconds are shared out over the targets, each call with a fresh random seed, or with those from `--first` on, so that
// what a change is judged by does not depend on luck; a finding prints how to replay it.
// Each target runs in a worker thread with a watchdog and a memory limit: endless loops and decompression bombs are
// findings too. One target, the canary, has a planted bug: a run in which it stays alive has proved nothing.
import { randomInt } from 'node:crypto'
import { basename } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { globSync } from './glob.mjs'
import { node, printJson, refuseRest, root, stop, takeFlag, takeInteger, takeOption } from './process.mjs'

const USAGE = 'npm run fuzz -- [--seconds N] [--first S] [--target T [--seed S --iterations K]] [--list] [--json]'
const CANARY = 'canary'
/** One call may take this long before it counts as hung. Calls are sized to a quarter of a second. */
const HANG_MS = 60_000
const SLICE_MS = 250
const HEAP_MB = 1024
const CANARY_MS = 10_000

if (isMainThread) await main()
else await serve()

async function main() {
  const args = process.argv.slice(2)
  const json = takeFlag(args, '--json')
  const list = takeFlag(args, '--list')
  const skipBuild = takeFlag(args, '--no-build')
  const seconds = takeInteger(args, '--seconds', 60, 1)
  const only = takeOption(args, '--target', undefined)
  const seed = takeInteger(args, '--seed', undefined)
  const iterations = takeInteger(args, '--iterations', undefined, 1)
  const first = takeInteger(args, '--first', undefined, 0)
  refuseRest(args, USAGE)
  if ((seed === undefined) !== (iterations === undefined)) stop(`--seed and --iterations go together\nusage: ${USAGE}`)
  if (seed !== undefined && only === undefined) stop(`a replay needs --target\nusage: ${USAGE}`)

  if (!skipBuild) {
    const build = await node('.ci/build.mjs')
    if (build.code !== 0) process.exit(build.code)
  }
  const all = await findTargets()
  if (list) {
    for (const target of all) console.log(`${target.name}  ${target.file}`)
    return
  }
  const targets = only === undefined ? all : all.filter((target) => target.name === only)
  if (targets.length === 0)
    stop(`no fuzz target ${only ?? ''}; there are: ${all.map((target) => target.name).join(', ')}`)

  if (seed !== undefined) return replay(targets[0], seed, iterations, json)
  const chosen = targets.filter((target) => target.name !== CANARY)
  const report = { name: 'fuzz', seconds, inputs: 0, targets: [], findings: [], canary: 'not run' }
  for (const target of chosen) {
    const result = await fuzz(target, (seconds * 1000) / chosen.length, first)
    report.inputs += result.inputs
    report.targets.push({ target: target.name, inputs: result.inputs, calls: result.calls, seconds: result.seconds })
    if (result.finding !== null) report.findings.push(result.finding)
  }
  const canary = all.find((target) => target.name === CANARY)
  if (only === undefined || only === CANARY) {
    const caught = canary !== undefined && (await fuzz(canary, CANARY_MS, first, true)).finding !== null
    report.canary = caught ? 'caught' : 'missed'
    console.log(caught ? 'canary: its planted bug was found, as it must' : 'canary: its planted bug was NOT found')
  }
  const ok = report.findings.length === 0 && report.canary !== 'missed' && (report.inputs > 0 || only === CANARY)
  console.log(`${report.inputs} inputs over ${chosen.length} targets, ${report.findings.length} findings`)
  if (json) printJson({ ...report, ok })
  process.exitCode = ok ? 0 : 1
}

async function findTargets() {
  const targets = []
  for (const file of globSync('packages/*/dist-dev/fuzz/*.fuzz.js')) {
    const module = await import(pathToFileURL(`${root}/${file}`).href)
    if (typeof module.name !== 'string' || typeof module.run !== 'function') stop(`${file} must export name and run`)
    const other = targets.find((target) => target.name === module.name)
    if (other !== undefined) stop(`${file} and ${other.file} are both named ${module.name}`)
    if ((module.name === CANARY) !== (basename(file) === `${CANARY}.fuzz.js`))
      stop(`${file} must not be named ${module.name}`)
    targets.push({ name: module.name, file })
  }
  return targets
}

/** Calls one target for `budgetMs`, sizing each call to a slice, with seeds from `first` on or random ones. */
async function fuzz(target, budgetMs, first, quiet = false) {
  const runner = startWorker(target)
  const startedMs = performance.now()
  const result = { inputs: 0, calls: 0, seconds: 0, finding: null }
  let iterations = 16
  try {
    while (result.finding === null) {
      const leftMs = budgetMs - (performance.now() - startedMs)
      if (leftMs <= 0 && result.calls > 0) break
      const seed = first === undefined ? randomInt(0, 2 ** 32) : (first + result.calls) % 2 ** 32
      const answer = await runner.call(seed, iterations)
      result.calls += 1
      if (answer.error !== undefined) {
        result.finding = finding(target, seed, iterations, answer.error)
        break
      }
      result.inputs += answer.inputs
      const wanted = Math.min(SLICE_MS, Math.max(leftMs, 1)) / Math.max(answer.ms, 0.1)
      iterations = Math.max(1, Math.min(10_000_000, Math.round(iterations * Math.min(wanted, 4))))
    }
  } finally {
    await runner.end()
  }
  result.seconds = (performance.now() - startedMs) / 1000
  if (!quiet) {
    const rate = Math.round(result.inputs / result.seconds)
    console.log(`${target.name}: ${result.inputs} inputs in ${result.seconds.toFixed(1)} s (${rate}/s)`)
    if (result.finding !== null) printFinding(result.finding)
  }
  return result
}

async function replay(target, seed, iterations, json) {
  const runner = startWorker(target)
  const answer = await runner.call(seed, iterations)
  await runner.end()
  const found = answer.error === undefined ? null : finding(target, seed, iterations, answer.error)
  if (found === null) console.log(`${target.name}: ${answer.inputs} inputs with seed ${seed}, nothing found`)
  else printFinding(found)
  if (json)
    printJson({ name: 'fuzz', inputs: answer.inputs ?? 0, findings: found === null ? [] : [found], ok: found === null })
  process.exitCode = found === null ? 0 : 1
}

function finding(target, seed, iterations, error) {
  const command = `npm run fuzz -- --target ${target.name} --seed ${seed} --iterations ${iterations}`
  return { target: target.name, seed, iterations, error, replay: command }
}

function printFinding({ target, seed, iterations, error, replay: command }) {
  console.log(`FINDING in ${target}, seed ${seed}, iterations ${iterations}`)
  console.log(error.replace(/^/gm, '  '))
  console.log(`replay: ${command}`)
}

function startWorker(target) {
  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { file: target.file },
    resourceLimits: { maxOldGenerationSizeMb: HEAP_MB },
  })
  let settle = () => {}
  let death = null
  const die = (error) => {
    death ??= { error }
    settle(death)
  }
  worker.on('message', (message) => settle(message))
  worker.on('error', (error) => die(String(error.stack ?? error)))
  worker.on('exit', (code) => die(`the worker ended with ${code}`))
  return {
    call(seed, iterations) {
      return new Promise((resolve) => {
        if (death !== null) return resolve(death)
        const watchdog = setTimeout(() => settle({ error: `no end within ${HANG_MS / 1000} s` }), HANG_MS)
        settle = (message) => {
          clearTimeout(watchdog)
          settle = () => {}
          resolve(message)
        }
        worker.postMessage({ seed, iterations })
      })
    },
    end: () => worker.terminate(),
  }
}

/** The worker's side: one call at a time. */
async function serve() {
  const { run } = await import(pathToFileURL(`${root}/${workerData.file}`).href)
  parentPort.on('message', async ({ seed, iterations }) => {
    const startedMs = performance.now()
    try {
      const inputs = await run({ seed, iterations })
      if (!Number.isSafeInteger(inputs) || inputs < 1)
        throw new Error(`run must return the inputs it tried, not ${inputs}`)
      parentPort.postMessage({ inputs, ms: performance.now() - startedMs })
    } catch (error) {
      parentPort.postMessage({ error: String(error?.stack ?? error) })
    }
  })
}
