// Builds the addon with node-gyp where that is possible, and says in one line why where it is not: the portable
// environment works without it. `--sanitize=address,undefined` (or one of them,
// or `thread`) builds a variant beside it, `--force` anew.
import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const packageFolder = dirname(dirname(fileURLToPath(import.meta.url)))
const FILE = 'millrace_native.node'
const USAGE =
  'usage: node packages/native/scripts/build.mjs [--force] [--sanitize=address,undefined|address|undefined|thread]'

function parseArguments() {
  let force = false
  let sanitize = ''
  for (const arg of process.argv.slice(2)) {
    const variant = /^--sanitize=(address,undefined|address|undefined|thread)$/.exec(arg)?.[1]
    if (arg === '--force') force = true
    else if (variant !== undefined) sanitize = variant
    else {
      console.error(USAGE)
      process.exit(2)
    }
  }
  return { force, sanitize }
}

function newestMs(path) {
  const status = statSync(path)
  if (!status.isDirectory()) return status.mtimeMs
  return Math.max(...readdirSync(path).map((name) => newestMs(join(path, name))))
}

function findNodeGyp() {
  try {
    return createRequire(import.meta.url).resolve('node-gyp/bin/node-gyp.js')
  } catch {
    return null
  }
}

/** Headers beside the running binary make the build independent of the network. */
function nodeDirectory() {
  const prefix = dirname(dirname(process.execPath))
  return existsSync(join(prefix, 'include/node/node_api.h')) ? prefix : null
}

function firstMissingTool() {
  for (const tool of [process.env.CXX ?? 'g++', 'make', 'python3']) {
    if (spawnSync(tool, ['--version'], { stdio: 'ignore' }).status !== 0) return tool
  }
  return null
}

/**
 * The build happens in a folder of its own and the result is moved into place: builds may run side by side, and a
 * process that has the old addon loaded keeps it.
 */
function stage() {
  mkdirSync(join(packageFolder, 'build'), { recursive: true })
  const folder = mkdtempSync(join(packageFolder, 'build', 'stage-'))
  for (const name of ['binding.gyp', 'package.json', 'cpp']) {
    cpSync(join(packageFolder, name), join(folder, name), { recursive: true })
  }
  return folder
}

/** Why the addon cannot be built here, or null. */
function obstacle(nodeGyp) {
  if (process.platform !== 'linux') return `io_uring is of Linux, this is ${process.platform}`
  if (nodeGyp === null) return 'node-gyp is not installed (npm ci installs it)'
  const missing = firstMissingTool()
  return missing === null ? null : `${missing} is not installed`
}

function isFresh(output, stampPath, stamp) {
  if (!existsSync(output) || !existsSync(stampPath) || readFileSync(stampPath, 'utf8') !== stamp) return false
  const sources = ['cpp', 'binding.gyp', 'scripts/build.mjs'].map((name) => join(packageFolder, name))
  return Math.max(...sources.map(newestMs)) < statSync(output).mtimeMs
}

function build(nodeGyp, sanitize, output) {
  const headers = nodeDirectory()
  const args = [nodeGyp, 'rebuild', '--jobs=2', '--loglevel=error']
  if (headers !== null) args.push(`--nodedir=${headers}`)
  if (sanitize !== '') args.push('--', `-Dsanitize=${sanitize}`)
  const startedAt = new Date()
  const folder = stage()
  try {
    const built = spawnSync(process.execPath, args, {
      cwd: folder,
      encoding: 'utf8',
      // binding.gyp asks the node of the path where node-addon-api is: it has to be this one.
      env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` },
    })
    const result = join(folder, 'build/Release', FILE)
    if (built.status === 0 && existsSync(result)) {
      mkdirSync(dirname(output), { recursive: true })
      // As old as its sources: an edit during the build makes it stale.
      utimesSync(result, startedAt, startedAt)
      renameSync(result, output)
      return null
    }
    process.stderr.write(`${built.stdout}${built.stderr}`)
    return headers === null ? 'the headers of Node are neither beside it nor to be had' : 'see the output above'
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

const { force, sanitize } = parseArguments()
const outputFolder = join(packageFolder, 'build', sanitize === '' ? 'Release' : `sanitize-${sanitize}`)
const output = join(outputFolder, FILE)
const stampPath = join(outputFolder, 'built-for.json')
const stamp = JSON.stringify({ napi: process.versions.napi, arch: process.arch, modules: process.versions.modules })
if (force || !isFresh(output, stampPath, stamp)) {
  const nodeGyp = findNodeGyp()
  const reason = obstacle(nodeGyp) ?? build(nodeGyp, sanitize, output)
  if (reason === null) {
    writeFileSync(stampPath, stamp)
    console.log(`native addon built: ${relative(process.cwd(), output)}`)
  } else {
    console.log(`native addon not built: ${reason}; brokers will use the portable environment`)
  }
}
