// Starts the programs the repository's runners are made of, and ends them when the runner is ended.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** The repository's root, without a slash at the end. */
export const root = fileURLToPath(new URL('..', import.meta.url)).replace(/\/$/, '')

const running = new Set()

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    for (const child of running) child.kill(signal)
    process.exitCode = signal === 'SIGINT' ? 130 : 143
    // Children that ignore the signal must not keep the runner; they get a second, then the runner goes.
    setTimeout(() => process.exit(), 1000).unref()
  })
}

/**
 * Runs a program to its end. `output` says what happens to its standard output and error: `inherit` shows both,
 * `tee` shows both and keeps them, `quiet` keeps them.
 * @returns {Promise<{ code: number, text: string, seconds: number }>} `code` is 1 for a program ended by a signal.
 */
export async function run(command, args, { cwd = root, env = process.env, output = 'inherit', timeoutMs } = {}) {
  const startedMs = performance.now()
  const stdio = output === 'inherit' ? ['ignore', 'inherit', 'inherit'] : ['ignore', 'pipe', 'pipe']
  const child = spawn(command, args, { cwd, env, stdio })
  running.add(child)
  let text = ''
  const keep = (target) => (chunk) => {
    text += chunk
    if (output === 'tee') target.write(chunk)
  }
  child.stdout?.setEncoding('utf8').on('data', keep(process.stdout))
  child.stderr?.setEncoding('utf8').on('data', keep(process.stderr))
  const timer =
    timeoutMs === undefined
      ? undefined
      : setTimeout(() => {
          text += `\n(ended after ${timeoutMs / 1000} s)\n`
          child.kill('SIGKILL')
        }, timeoutMs)
  try {
    const [code] = await once(child, 'close')
    return { code: code ?? 1, text, seconds: (performance.now() - startedMs) / 1000 }
  } catch (error) {
    return { code: 1, text: `${text}${command} could not be started: ${error.message}`, seconds: 0 }
  } finally {
    clearTimeout(timer)
    running.delete(child)
  }
}

/** Runs a Node program of this repository. */
export function node(script, args = [], options = {}) {
  return run(process.execPath, [script, ...args], options)
}

/** Runs a tool that `npm ci` installed, by the name of its command. */
export function tool(name, args = [], options = {}) {
  return run(process.execPath, [`${root}/node_modules/.bin/${name}`, ...args], options)
}

/** Prints the closing JSON line of a runner started with `--json`. */
export function printJson(value) {
  process.stdout.write(`${JSON.stringify(value)}\n`)
}

/** Builds everything, unless that was done. @throws when it fails. */
export async function build(isBuilt) {
  if (!isBuilt && (await node('.ci/build.mjs')).code !== 0) throw new Error('the build failed')
}

/** The flags of a runner that takes no arguments besides. */
export function takePlainFlags(usage) {
  const args = process.argv.slice(2)
  const flags = { json: takeFlag(args, '--json'), isBuilt: takeFlag(args, '--no-build') }
  refuseRest(args, usage)
  return flags
}

/** Removes `flag` from `args`; true when it was there. */
export function takeFlag(args, flag) {
  const at = args.indexOf(flag)
  if (at < 0) return false
  args.splice(at, 1)
  return true
}

/** Removes `flag value` from `args` and returns the value, or `otherwise` when it was not given. */
export function takeOption(args, flag, otherwise) {
  const at = args.indexOf(flag)
  if (at < 0) return otherwise
  const value = args[at + 1]
  if (value === undefined) stop(`${flag} needs a value`)
  args.splice(at, 2)
  return value
}

/** As `takeOption`, for a whole number of at least `minimum`. */
export function takeInteger(args, flag, otherwise, minimum = 0) {
  const text = takeOption(args, flag, undefined)
  if (text === undefined) return otherwise
  const value = Number(text)
  if (!Number.isSafeInteger(value) || value < minimum)
    stop(`${flag} needs a whole number of at least ${minimum}, not ${text}`)
  return value
}

/** Refuses arguments nobody took. */
export function refuseRest(args, usage) {
  if (args.length > 0) stop(`unknown argument ${args[0]}\nusage: ${usage}`)
}

/** Says what is wrong with the call and ends with 2. */
export function stop(message) {
  process.stderr.write(`${message}\n`)
  process.exit(2)
}
