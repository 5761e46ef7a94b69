// Runs a small program over the compiled package in a process of its own, and says how it ended.
import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const PACKAGE = fileURLToPath(new URL('..', import.meta.url))

/** Under a sanitizer everything takes longer. */
export const SLOWDOWN = process.env.MILLRACE_NATIVE_SANITIZE === undefined ? 1 : 4

export interface Ending {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly stdout: string
  readonly stderr: string
  readonly elapsedMs: number
}

/** @param source an ES module; `native` is the package. Killed after `limitMs`, which shows as a signal. */
export function runProgram(source: string, limitMs = 15_000, execArgv: readonly string[] = []): Promise<Ending> {
  return new Promise((resolve, reject) => {
    const begun = performance.now()
    const text = `import * as native from '@millrace/native'\n${source}`
    const child = spawn(process.execPath, [...execArgv, '--input-type=module', '-e', text], {
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
      resolve({ code, signal, stdout, stderr, elapsedMs: performance.now() - begun })
    })
  })
}
