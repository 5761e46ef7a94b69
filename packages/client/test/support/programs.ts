// Programs as users write them, each a process of its own.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'

/** Where programs run, so that they find the packages. */
export const PACKAGE = fileURLToPath(new URL('../..', import.meta.url))
const LIMIT_MS = 50_000

export interface Ended {
  readonly code: number | null
  readonly output: string
}

/** Runs a program to its own end; one that does not come to it is killed, and its code is null. */
export async function run(words: readonly string[], { cwd = PACKAGE, input = '' } = {}): Promise<Ended> {
  const child = spawn(process.execPath, words, { cwd })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (output += text))
  child.stdin.end(input)
  const timer = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
  const [code] = (await once(child, 'close')) as [number | null]
  clearTimeout(timer)
  return { code, output: output.trim() }
}

/** Runs a module given as text. `flags` are for Node itself. */
export const runModule = (source: string, ...flags: readonly string[]): Promise<Ended> =>
  run([...flags, '--input-type=module', '-e', source])
