// Declares tests of the ring environment, and runs programs on it in processes of their own.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import type { Logger } from '#src/environment.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { probeRing } from '#src/io/ring/ring-probe.js'

const PACKAGE = fileURLToPath(new URL('../..', import.meta.url))

/** Where the machine refuses rings, the refusal with its reason and the choice of the other side is the test instead. */
export function describeRing(name: string, declare: () => void): void {
  const { ring } = probeRing()
  if (ring.available) {
    describe(name, declare)
    return
  }
  it(`${name} passes by refusal: ${ring.reason}`, async () => {
    expect(ring.reason).toMatch(/\w+/)
    expect(ring.hint).toMatch(/\w+/)
    const { logger } = recordingLogger()
    const environment = await chooseEnvironment({ prefer: 'auto', memoryBytes: 1024 * 1024, logger })
    expect(environment.kind).toBe('portable')
    await environment.close()
  })
}

export interface LoggedLine {
  readonly level: string
  readonly message: string
  readonly fields: Readonly<Record<string, unknown>>
}

export function recordingLogger(): { readonly logger: Logger; readonly lines: LoggedLine[] } {
  const lines: LoggedLine[] = []
  const at = (level: string) => (fields: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ level, message, fields })
  return { logger: { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }, lines }
}

export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  /** Less what a sanitizer costs. */
  readonly elapsedMs: number
}

export interface ProgramOptions {
  readonly limitMs?: number
  readonly execArgv?: readonly string[]
  /** Put before node, as in `['prlimit', '--nofile=64']`. */
  readonly wrapper?: readonly string[]
}

/** What every program begins with, in a process or a worker. */
export const PRELUDE = `
import { createRingEnvironment } from '#src/io/ring/ring-environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { rmSync } from 'node:fs'
import { connect } from 'node:net'
import { parentPort, threadId, Worker } from 'node:worker_threads'
const logger = createConsoleLogger({ level: 'warn', format: 'text' })
const newEnvironment = (memoryBytes = 64 * 1024 * 1024) => createRingEnvironment({ memoryBytes, logger })
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms))
const scratch = (process.env.MILLRACE_TEST_DIRECTORY ?? '/tmp') + '/millrace-ring-' + process.pid + '-' + threadId
process.on('exit', () => rmSync(scratch, { recursive: true, force: true }))
let environment = null
const connectTo = (port) => new Promise((resolve, reject) => {
  const socket = connect(port, '127.0.0.1', () => resolve(socket))
  socket.once('error', reject)
})
const handler = (more) => ({ onBytes() {}, onFilled() {}, onClosed() {}, ...more })
`

/** Whether the addon is a sanitizer's: slower, and with memory of its own. */
export const SANITIZED = process.env.MILLRACE_NATIVE_SANITIZE !== undefined
const SLOWDOWN = SANITIZED ? 4 : 1

/** Runs an ES module over the compiled broker; killed after `limitMs`, which shows as a signal. */
export function runProgram(source: string, options: ProgramOptions = {}): Promise<Ending> {
  const { limitMs = 15_000, execArgv = [], wrapper = [] } = options
  const command = [...wrapper, process.execPath, ...execArgv, '--input-type=module', '-e', PRELUDE + source]
  return new Promise((resolve, reject) => {
    const begun = performance.now()
    const child = spawn(command[0]!, command.slice(1), {
      cwd: PACKAGE,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: limitMs * SLOWDOWN,
      killSignal: 'SIGKILL',
    })
    let stdout = ''
    let stderr = ''
    child.stdout.on('data', (chunk: Buffer) => {
      stdout += chunk.toString()
    })
    child.stderr.on('data', (chunk: Buffer) => {
      stderr += chunk.toString()
    })
    child.once('error', reject)
    child.once('close', (code, signal) => {
      resolve({ code, signal, stdout, stderr, elapsedMs: (performance.now() - begun) / SLOWDOWN })
    })
  })
}
