// How long a newcomer waits: from an empty folder to the first consumed record, by what the README says, taken from the README
// itself. By default the packages are installed as from a registry, packed beforehand; `--clone` begins with a clone of this
// repository at its last commit and builds it, as the guide says. Exit code 1 when it takes longer than the goal.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { build, printJson, refuseRest, root, run, takeFlag } from './process.mjs'
import { firstProgram, shellBlock } from './readme.mjs'
import { PACKAGES, slim, stage, tarball } from './staging.mjs'

const GOAL_SECONDS = 180
const LISTEN_MS = 60_000
const POLL_MS = 20
/** What the README's program prints of the record it reads back. */
const CONSUMED = 'customer-42 '

const args = process.argv.slice(2)
const json = takeFlag(args, '--json')
const clone = takeFlag(args, '--clone')
const isBuilt = takeFlag(args, '--no-build')
refuseRest(args, 'npm run first-record -- [--clone] [--json]')

const scratch = mkdtempSync(join(tmpdir(), 'millrace-first-record-'))
const folder = join(scratch, 'empty')
const home = join(scratch, 'home')
const environment = { PATH: process.env.PATH, HOME: home, TMPDIR: scratch }
const steps = []
let broker = null

try {
  mkdirSync(folder)
  mkdirSync(home)
  const tarballs = clone ? [] : await packAll()
  const seconds = await followReadme(tarballs)
  const report = { name: 'first-record', way: clone ? 'clone' : 'packages', seconds, goalSeconds: GOAL_SECONDS, steps }
  console.log(`${seconds} s from an empty folder to the first consumed record (goal: under ${GOAL_SECONDS})`)
  if (json) printJson(report)
  process.exitCode = seconds < GOAL_SECONDS ? 0 : 1
} finally {
  if (broker !== null && broker.exitCode === null && broker.signalCode === null) {
    const ended = once(broker, 'exit')
    // Its own group: `npx` is between.
    process.kill(-broker.pid, 'SIGTERM')
    await ended
  }
  rmSync(scratch, { recursive: true, force: true })
}

/** Outside of the time: what a registry would have. */
async function packAll() {
  await build(isBuilt)
  const tarballs = []
  for (const name of PACKAGES) {
    const staged = stage(name, join(scratch, 'staged'))
    if (name === 'client' && (await slim(staged)).code !== 0) throw new Error('the client cannot be made slim')
    const text = await must('npm pack', 'npm', ['pack', '--json', '--pack-destination', scratch], staged)
    tarballs.push(join(scratch, tarball(text).filename))
  }
  return tarballs
}

async function followReadme(tarballs) {
  const port = await freePort()
  // The README's commands and program stand as they are; where they go is said by variables, lest another broker be met.
  Object.assign(environment, { MILLRACE_PORT: `${port}`, MILLRACE_BOOTSTRAP: `127.0.0.1:${port}` })
  const began = performance.now()
  if (clone) await installClone()
  else await timed('install', () => must('npm install', 'npm', ['install', ...tarballs, 'rxjs@7'], folder))
  const work = clone ? join(folder, 'millrace') : folder
  await timed('start the broker', () => startBroker(work, port))
  await timed('make the topic', () => bash(shellBlock('topic create orders'), work))
  await timed('run the program', async () => {
    writeFileSync(join(work, 'orders.mjs'), firstProgram(`127.0.0.1:${port}`))
    const text = await must('node orders.mjs', process.execPath, ['orders.mjs'], work)
    if (!text.includes(CONSUMED)) throw new Error(`no record was consumed:\n${text}`)
  })
  return Number(((performance.now() - began) / 1000).toFixed(1))
}

async function installClone() {
  await timed('clone', () => must('git clone', 'git', ['clone', '-q', root, join(folder, 'millrace')], folder))
  const guide = readFileSync(join(folder, 'millrace/docs/guide/start.md'), 'utf8')
  const commands = /`(npm ci && [^`]+)`/.exec(guide)?.[1]
  if (commands === undefined) throw new Error('the guide does not say how to build a clone')
  await timed('build', () => bash(commands, join(folder, 'millrace')))
}

async function startBroker(work, port) {
  const lines = shellBlock('millrace-broker start').trimEnd()
  broker = spawn('bash', ['-c', lines], { cwd: work, env: environment, stdio: 'ignore', detached: true })
  const until = performance.now() + LISTEN_MS
  while (!(await answers(port))) {
    if (broker.exitCode !== null || performance.now() > until) throw new Error(`the broker does not listen: ${lines}`)
    await sleep(POLL_MS)
  }
}

function answers(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    const end = (answer) => () => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', end(true)).once('error', end(false))
  })
}

async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function timed(step, work) {
  const began = performance.now()
  await work()
  const seconds = Number(((performance.now() - began) / 1000).toFixed(1))
  steps.push({ step, seconds })
  console.log(`${seconds.toFixed(1).padStart(7)} s  ${step}`)
}

function bash(lines, cwd) {
  return must(lines.trim(), 'bash', ['-euo', 'pipefail', '-c', lines], cwd)
}

/** The program's output. */
async function must(what, command, words, cwd) {
  const { code, text } = await run(command, words, { cwd, env: environment, output: 'quiet', timeoutMs: 900_000 })
  if (code !== 0) throw new Error(`${what} ended with ${code}:\n${text}`)
  return text
}
