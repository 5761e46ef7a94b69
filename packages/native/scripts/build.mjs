// Builds the addon with node-gyp where that is possible, and says in one line why where it is not: the portable
// environment works without it. `--sanitize=address|undefined|thread` builds a variant beside it, `--force` anew.
import { spawnSync } from 'node:child_process'
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const packageFolder = dirname(dirname(fileURLToPath(import.meta.url)))
const USAGE = 'usage: node packages/native/scripts/build.mjs [--force] [--sanitize=address|undefined|thread]'

/** Ends the script: not being able to build is no error. */
function skip(reason) {
  console.log(`native addon not built: ${reason}; brokers will use the portable environment`)
  process.exit(0)
}

function parseArguments() {
  let force = false
  let sanitize = ''
  for (const arg of process.argv.slice(2)) {
    const variant = /^--sanitize=(address|undefined|thread)$/.exec(arg)?.[1]
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

/** A variant is built in a folder of its own, so that it never takes the place of the addon in use. */
function buildFolder(sanitize) {
  if (sanitize === '') return packageFolder
  const folder = join(packageFolder, 'build', `sanitize-${sanitize}`)
  mkdirSync(folder, { recursive: true })
  for (const name of ['binding.gyp', 'package.json', 'cpp']) {
    cpSync(join(packageFolder, name), join(folder, name), { recursive: true, preserveTimestamps: true })
  }
  return folder
}

const { force, sanitize } = parseArguments()
if (process.platform !== 'linux') skip(`io_uring is of Linux, this is ${process.platform}`)

const folder = buildFolder(sanitize)
const output = join(folder, 'build/Release/millrace_native.node')
const stampPath = join(folder, 'build/built-for.json')
const stamp = JSON.stringify({ napi: process.versions.napi, arch: process.arch, modules: process.versions.modules })
const sources = ['cpp', 'binding.gyp', 'scripts/build.mjs'].map((name) => join(packageFolder, name))
const fresh =
  existsSync(output) &&
  existsSync(stampPath) &&
  readFileSync(stampPath, 'utf8') === stamp &&
  Math.max(...sources.map(newestMs)) < statSync(output).mtimeMs
if (fresh && !force) process.exit(0)

const nodeGyp = findNodeGyp()
if (nodeGyp === null) skip('node-gyp is not installed (npm ci installs it)')
const missing = firstMissingTool()
if (missing !== null) skip(`${missing} is not installed`)

const headers = nodeDirectory()
const args = [nodeGyp, 'rebuild', '--jobs=2', '--loglevel=error', ...(headers === null ? [] : [`--nodedir=${headers}`])]
if (sanitize !== '') args.push('--', `-Dsanitize=${sanitize}`)
const built = spawnSync(process.execPath, args, {
  cwd: folder,
  encoding: 'utf8',
  // binding.gyp asks the node of the path where node-addon-api is: it has to be this one.
  env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env.PATH ?? ''}` },
})
if (built.status !== 0 || !existsSync(output)) {
  const why = headers === null ? 'the headers of Node are neither beside it nor to be had' : 'the compiler refused'
  process.stderr.write(`${built.stdout}${built.stderr}`)
  skip(`${why} (output above)`)
}
writeFileSync(stampPath, stamp)
console.log(`native addon built: ${output}`)
