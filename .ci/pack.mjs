// Uses the packages as a stranger gets them: packs all four, installs the tarballs in empty folders without install
// scripts and with an empty home, then runs the README's program, the command lines and a bundle of the client there.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build as bundle, transform } from 'esbuild'
import { build, printJson, root, run, takePlainFlags, tool } from './process.mjs'
import { firstProgram, shellBlock } from './readme.mjs'
import { PACKAGES, slim, stage, tarball } from './staging.mjs'

const CLIENT_BYTES = 500_000
/** Judges what the types of a package promise: too large to be a dependency, so it is fetched like the rest. */
const TYPES_JUDGE = '@arethetypeswrong/cli@0.18.5'
const START_MS = 30_000

const { json, isBuilt } = takePlainFlags('npm run test:pack -- [--json]')

const scratch = mkdtempSync(join(tmpdir(), 'millrace-pack-'))
const home = join(scratch, 'home')
const environment = { PATH: process.env.PATH, HOME: home, TMPDIR: scratch }
const brokers = new Set()
const report = { name: 'pack', checks: [] }

try {
  await build(isBuilt)
  await main()
  report.ok = report.checks.every(({ ok }) => ok)
} catch (error) {
  report.ok = false
  console.log(`FAILED ${error.message}`)
} finally {
  for (const broker of brokers) broker.kill('SIGKILL')
  rmSync(scratch, { recursive: true, force: true })
}
if (json) printJson(report)
process.exitCode = report.ok ? 0 : 1

async function main() {
  mkdirSync(home)
  const tarballs = {}
  for (const name of PACKAGES) tarballs[name] = await pack(name)
  await judgeTypes(tarballs)
  await installClientAlone(tarballs)
  const folder = await install('everything', Object.values(tarballs), ['rxjs@7.8.2'])
  await useInstallation(folder)
  await useWithoutAddon(folder)
}

/** Stages a package as it would be published, checks it, and packs it. */
async function pack(name) {
  const staged = stage(name, join(scratch, 'staged'))
  if (name === 'client') await must('the client is made slim', slim(staged))
  await must(`publint finds nothing in ${name}`, tool('publint', [staged, '--strict'], { output: 'quiet' }))
  const packed = await must(`${name} packs`, npm(['pack', '--json', '--pack-destination', scratch], staged))
  const { filename, files, size } = tarball(packed.text)
  const stray = files.find(({ path }) => /(^|\/)(test|src|fuzz|bench|sim)\/|tsbuildinfo|(?<!\.d)\.ts$/.test(path))
  check(`${name}: ${files.length} files, ${size} bytes, nothing but what users need`, stray === undefined, stray?.path)
  for (const wanted of ['LICENSE', 'README.md']) {
    check(
      `${name} ships ${wanted}`,
      files.some(({ path }) => path === wanted),
    )
  }
  return join(scratch, filename)
}

/** ESM alone is promised, and `require` of it where Node can: from 20.19 on. */
async function judgeTypes(tarballs) {
  const folder = join(scratch, 'judge')
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "judge", "private": true }\n')
  await must(
    'the judge of types installs',
    npm(['install', '--ignore-scripts', '--no-audit', '--no-fund', TYPES_JUDGE], folder),
  )
  const program = join(folder, 'node_modules/@arethetypeswrong/cli/dist/index.js')
  for (const [name, tarball] of Object.entries(tarballs)) {
    const words = [program, '--profile', 'esm-only', '--format', 'ascii', '--no-color', tarball]
    await must(`arethetypeswrong finds nothing in ${name}`, inside(folder, words))
  }
}

/** The client by itself must stay small and free of native code. */
async function installClientAlone({ protocol, client }) {
  const folder = await install('client-alone', [protocol, client], ['rxjs@7.8.2'])
  const files = filesBelow(join(folder, 'node_modules'))
  const packages = readdirSync(join(folder, 'node_modules')).filter((name) => !name.startsWith('.'))
  check(
    `the client brings nothing but itself (${packages.join(', ')})`,
    packages.sort().join() === '@millrace,rxjs,tslib',
  )
  check('the client has no native code', !files.some((file) => file.endsWith('.node')))
  const bytes = files
    .filter((file) => file.includes('@millrace/client'))
    .reduce((sum, file) => sum + statSync(file).size, 0)
  check(`the client takes ${bytes} bytes on disk`, bytes <= CLIENT_BYTES)
  const entries = ['@millrace/client', '@millrace/client/admin']
  const program = entries.map((entry) => `await import('${entry}')`).join('\n')
  writeFileSync(join(folder, 'load.mjs'), program)
  await must('the client loads without the broker', inside(folder, ['load.mjs']))
  const required = entries.map((entry) => `require('${entry}')`).join(', ')
  writeFileSync(
    join(folder, 'load.cjs'),
    `for (const loaded of [${required}]) if (!Object.keys(loaded).length) process.exit(1)`,
  )
  const { text } = await must('CommonJS requires it', inside(folder, ['load.cjs']))
  check('without a word of warning', text.trim() === '', text)
  const typed = entries.map((entry, i) => `import entry${i} = require('${entry}')\nexport const kept${i} = entry${i}`)
  writeFileSync(join(folder, 'typed.cts'), typed.join('\n'))
  await must('and its types can be had from there', typeCheck(folder, 'typed.cts'))
}

async function install(name, tarballs, others) {
  const folder = join(scratch, name)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "name": "stranger", "private": true, "type": "module" }\n')
  const options = ['install', '--ignore-scripts', '--no-audit', '--no-fund']
  const installed = await must(`${name} installs`, npm([...options, ...tarballs, ...others], folder))
  check(`${name} installs without a warning`, !/npm warn/i.test(installed.text), installed.text)
  return folder
}

/** The README's program and its command lines, against a broker started from the packed command. */
async function useInstallation(folder) {
  if (process.platform === 'linux') {
    const program = "import { loadBinding } from '@millrace/native'\nconsole.log(loadBinding().loaded)\n"
    writeFileSync(join(folder, 'addon.mjs'), program)
    const { text } = await must('the packed native package loads', inside(folder, ['addon.mjs']))
    check('its addon is the prebuilt one', text.trim() === 'true', text)
  }
  const broker = await startBroker(folder, 'data')
  await must('the topic of the README is made', shell(folder, readmeLines('topic create'), broker))
  const program = firstProgram(broker.address)
  writeFileSync(join(folder, 'readme.ts'), program)
  await must('the program of the README type-checks against the packed types', typeCheck(folder, 'readme.ts'))
  const { code } = await transform(program, { loader: 'ts', target: 'node20', format: 'esm' })
  writeFileSync(join(folder, 'readme.mjs'), code)
  const first = await must('the program of the README runs', inside(folder, ['readme.mjs']))
  check('and reads back what it sent', first.text.includes('customer-42'), first.text)
  await useBundle(folder)
  const lines = await must(
    'the command lines of the README run',
    shell(folder, readmeLines('millrace produce'), broker),
  )
  for (const wanted of ['customer-1', 'customer-2'])
    check(`they print ${wanted}`, lines.text.includes(wanted), lines.text)
  await useCommandLine(folder, broker.address)
  await stopBroker(broker)
}

async function useCommandLine(folder, address) {
  const millrace = (words, input) => command(folder, 'millrace', [...words, '--bootstrap', address], input)
  await must('millrace topic create', millrace(['topic', 'create', 'packed', '--partitions', '2']))
  const listed = await must('millrace topic list --json', millrace(['topic', 'list', '--json']))
  check('the topic is listed', listed.text.includes('"packed"'), listed.text)
  await must('millrace produce', millrace(['produce', 'packed', '-k', ':'], 'a:one\nb:two\na:three\n'))
  const words = ['consume', 'packed', '--from', 'earliest', '--until', 'end', '-o', 'json']
  const read = await must('millrace consume', millrace(words))
  for (const value of ['one', 'two', 'three']) check(`${value} came back`, read.text.includes(value), read.text)
  await must('millrace topic delete', millrace(['topic', 'delete', 'packed', '--yes']))
  const gone = await millrace(['topic', 'describe', 'packed'])
  check('a topic that is not there is exit code 3', gone.code === 3, gone.text)
  await must('millrace-broker doctor', command(folder, 'millrace-broker', ['doctor', '--data', join(folder, 'data')]))
}

/** One file with everything in it, run where nothing is installed. */
async function useBundle(folder) {
  const alone = join(scratch, 'bundle')
  mkdirSync(alone)
  const outfile = join(alone, 'bundle.mjs')
  const options = {
    bundle: true,
    platform: 'node',
    target: 'node20',
    format: 'esm',
    logLevel: 'silent',
    metafile: true,
  }
  const { warnings, metafile } = await bundle({ ...options, entryPoints: [join(folder, 'readme.mjs')], outfile })
  check('esbuild bundles the client without a warning', warnings.length === 0, JSON.stringify(warnings))
  const inputs = Object.keys(metafile.inputs)
  check('the bundle has no admin code in it', !inputs.some((input) => input.includes('msgpackr')))
  await must(`the bundle of ${statSync(outfile).size} bytes runs alone`, inside(alone, ['bundle.mjs']))
}

/** Without the prebuilt addon the broker must start on its portable side and say why. */
async function useWithoutAddon(folder) {
  rmSync(join(folder, 'node_modules/@millrace/native/prebuilds'), { recursive: true, force: true })
  const broker = await startBroker(folder, 'data-portable')
  const saysWhy = typeof broker.reason === 'string' && broker.reason !== ''
  check(`without the addon the broker is portable: ${broker.reason}`, broker.environment === 'portable' && saysWhy)
  const millrace = (words, input) => command(folder, 'millrace', [...words, '--bootstrap', broker.address], input)
  await must('and makes a topic', millrace(['topic', 'create', 'plain']))
  await must('and takes records', millrace(['produce', 'plain'], 'one\n'))
  await stopBroker(broker)
  rmSync(join(folder, 'node_modules/@millrace/native'), { recursive: true, force: true })
  const without = await startBroker(folder, 'data-portable')
  check(`without the native package it is ${without.environment}`, without.environment === 'portable')
  await stopBroker(without)
}

/** Starts the packed broker and waits for its ready line. */
async function startBroker(folder, data) {
  const words = ['start', '--data', join(folder, data), '--port', '0', '--json']
  const child = spawn(join(folder, 'node_modules/.bin/millrace-broker'), words, { cwd: folder, env: environment })
  brokers.add(child)
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (chunk) => {
    log += chunk
  })
  const { host, port, environment: kind, reason } = await readyLine(child, () => log)
  return { child, address: `${host}:${port}`, environment: kind, reason, log: () => log }
}

function readyLine(child, log) {
  return new Promise((resolve, reject) => {
    const late = () => reject(new Error(`the broker was not ready within ${START_MS / 1000} s\n${log()}`))
    const timer = setTimeout(late, START_MS)
    let line = ''
    child.stdout.setEncoding('utf8').on('data', (chunk) => {
      line += chunk
      if (!line.includes('\n')) return
      clearTimeout(timer)
      resolve(JSON.parse(line))
    })
    child.once('close', (code) => {
      clearTimeout(timer)
      reject(new Error(`the broker ended with ${code} before it was ready\n${log()}`))
    })
  })
}

async function stopBroker({ child, log }) {
  const closed = once(child, 'close')
  child.kill('SIGTERM')
  const [code] = await closed
  brokers.delete(child)
  check('the broker stops in good order', code === 0, log())
}

/** The lines of the README's shell block that mentions `words`, without the `npx`. */
function readmeLines(words) {
  return shellBlock(words).replaceAll('npx ', '')
}

function shell(folder, lines, { address }) {
  const path = `${join(folder, 'node_modules/.bin')}:${environment.PATH}`
  const env = { ...environment, PATH: path, MILLRACE_BOOTSTRAP: address }
  return run('bash', ['-euo', 'pipefail', '-c', lines], { cwd: folder, env, output: 'quiet', timeoutMs: 120_000 })
}

function typeCheck(folder, file) {
  const types = join(root, 'node_modules/@types')
  const options = [
    '--noEmit',
    '--strict',
    '--target',
    'es2022',
    '--module',
    'nodenext',
    '--typeRoots',
    types,
    '--types',
    'node',
  ]
  return tool('tsc', [...options, file], { cwd: folder, output: 'quiet' })
}

function npm(words, cwd) {
  return run('npm', words, { cwd, env: environment, output: 'quiet', timeoutMs: 300_000 })
}

function inside(folder, words) {
  return run(process.execPath, words, { cwd: folder, env: environment, output: 'quiet', timeoutMs: 60_000 })
}

/** Runs an installed command, with `input` on its standard input. */
async function command(folder, name, words, input = '') {
  const child = spawn(join(folder, 'node_modules/.bin', name), words, { cwd: folder, env: environment })
  let text = ''
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (chunk) => {
      text += chunk
    })
  }
  // A program that fails may not read to the end; its exit code tells.
  child.stdin.on('error', () => {}).end(input)
  const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
  const [code] = await once(child, 'close')
  clearTimeout(timer)
  return { code: code ?? 1, text }
}

function filesBelow(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath, entry.name))
}

/** Ends the run with what the program said when it did not end with 0. */
async function must(what, running) {
  const result = await running
  if (!check(what, result.code === 0, result.text)) throw new Error('the rest needs this')
  return result
}

/** One line of the report. A failure is remembered, and the rest goes on. */
function check(what, ok, detail = '') {
  report.checks.push({ what, ok })
  console.log(`${ok ? 'ok    ' : 'FAILED'} ${what}`)
  if (!ok && detail !== '') console.log(String(detail).trimEnd().replace(/^/gm, '       '))
  return ok
}
