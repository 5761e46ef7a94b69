// Runs the native addon under sanitizers: its test suite, its fuzz targets, and threads that end in every way with
// I/O in flight.
// `address,undefined` is AddressSanitizer with UBSan, `thread` is ThreadSanitizer. Before, a planted bug of each kind has
// to be reported: a run whose sanitizer is asleep proves nothing. Any report at all fails the run.
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { node, printJson, refuseRest, root, run, stop, takeFlag, takeInteger, tool } from './process.mjs'

const USAGE = 'npm run test:asan|test:tsan -- [--seconds N] [--seed N] [--no-build] [--json]'
const NATIVE = `${root}/packages/native`

/** Runtime to preload, planted bugs it must report, and how. */
const SANITIZERS = {
  'address,undefined': {
    runtime: 'libasan.so',
    canaries: [
      ['overflow', /heap-buffer-overflow/],
      ['undefined', /signed integer overflow/],
      ['leak', /LeakSanitizer/],
    ],
  },
  thread: { runtime: 'libtsan.so', canaries: [['race', /data race/]] },
}

const args = process.argv.slice(2)
const kind = args.shift() ?? ''
const sanitizer = SANITIZERS[kind] ?? stop(`unknown sanitizer ${kind}\nusage: ${USAGE}`)
const json = takeFlag(args, '--json')
const skipBuild = takeFlag(args, '--no-build')
const seconds = takeInteger(args, '--seconds', 20, 1)
const seed = takeInteger(args, '--seed', 1)
refuseRest(args, USAGE)

const reports = mkdtempSync(join(tmpdir(), 'millrace-sanitize-'))
try {
  await main()
} finally {
  rmSync(reports, { recursive: true, force: true })
}

async function main() {
  if (process.platform !== 'linux') return finish([], `the addon is of Linux, this is ${process.platform}`)
  const preload = await run('gcc', [`-print-file-name=${sanitizer.runtime}`], { output: 'quiet' })
  const runtime = preload.text.trim()
  if (preload.code !== 0 || !runtime.startsWith('/')) return finish([], `gcc has no ${sanitizer.runtime}`)
  if (!skipBuild) await must(node('.ci/build.mjs'))
  await must(node('packages/native/scripts/build.mjs', [`--sanitize=${kind}`]))
  await awaken(runtime)

  const steps = []
  const step = async (name, leaks, begin) => {
    console.log(`\n==> ${name}`)
    const folder = join(reports, name)
    mkdirSync(folder)
    const { code, seconds: took } = await begin(environmentFor(runtime, folder, leaks))
    const found = readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8'))
    for (const report of found) console.log(report)
    steps.push({ name, ok: code === 0 && found.length === 0, reports: found.length, seconds: took })
  }
  await step('tests', false, (env) => tool('vitest', ['run', 'packages/native'], { env }))
  const fuzz = ['--no-build', '--seconds', '5', '--target']
  for (const target of ['native-entry-points', 'native-lifecycle']) {
    await step(target, false, (env) => node('.ci/fuzz.mjs', [...fuzz, target], { env }))
  }
  const stress = ['--seconds', String(seconds), '--seed', String(seed)]
  await step('stress', true, (env) => node('packages/native/dist-dev/test/stress/main.js', stress, { env }))
  finish(steps, null)
}

async function must(running) {
  const { code } = await running
  if (code !== 0) process.exit(code)
}

/**
 * The engine is not instrumented: what it does with memory and threads the sanitizers see in part only, and would take
 * for races. `ignore_noninstrumented_modules` leaves out accesses made by its code, and none of the addon's. There are
 * no suppressions besides.
 * @param leaks whether to look for leaks: only where processes end in order, since `process.exit` leaves the engine's
 * heap as it is.
 */
function environmentFor(runtime, folder, leaks) {
  const common = `log_path=${folder}/report:exitcode=66`
  return {
    ...process.env,
    LD_PRELOAD: runtime,
    MILLRACE_NATIVE_SANITIZE: kind,
    ASAN_OPTIONS: `${common}:detect_leaks=${leaks ? 1 : 0}:detect_stack_use_after_return=1`,
    UBSAN_OPTIONS: `${common}:print_stacktrace=1`,
    TSAN_OPTIONS: `${common}:ignore_noninstrumented_modules=1`,
  }
}

/** Builds the planted bugs with the same sanitizer and sees them reported. */
async function awaken(runtime) {
  const headers = join(dirname(dirname(process.execPath)), 'include/node')
  const addon = join(reports, 'canary.node')
  const flags = ['-shared', '-fPIC', '-g', `-fsanitize=${kind}`, '-fno-sanitize-recover=undefined', `-I${headers}`]
  await must(run('g++', [...flags, '-o', addon, `${NATIVE}/test/stress/canary.cc`]))
  for (const [bug, expected] of sanitizer.canaries) {
    const folder = join(reports, `canary-${bug}`)
    mkdirSync(folder)
    const program = `require(${JSON.stringify(addon)}).${bug}()`
    const env = environmentFor(runtime, folder, bug === 'leak')
    const { code, text } = await run(process.execPath, ['-e', program], { env, output: 'quiet', timeoutMs: 60_000 })
    const words = text + readdirSync(folder).map((file) => readFileSync(join(folder, file), 'utf8'))
    if (code === 0 || !expected.test(words)) stop(`the planted ${bug} was not reported (exit code ${code}):\n${words}`)
    console.log(`the planted ${bug} is reported`)
  }
}

function finish(steps, refused) {
  console.log('')
  for (const { name, ok, reports: count, seconds: took } of steps) {
    console.log(`${ok ? 'ok    ' : 'FAILED'} ${name} (${count} reports, ${took.toFixed(0)} s)`)
  }
  if (refused !== null) console.log(`not run: ${refused}`)
  const ok = steps.length > 0 && steps.every((step) => step.ok)
  if (json) printJson({ name: `sanitize-${kind}`, ok, refused, steps })
  process.exitCode = ok ? 0 : 1
}
