// A broker as a process of its own on a fresh data directory, and what it has cost so far.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { cpuSeconds, peakRssMb, rssMb } from './process-figures.js'

const PROGRAM = fileURLToPath(new URL('../../../bin/millrace-broker.js', import.meta.url))

export type Preference = 'auto' | 'ring' | 'portable'

export class BrokerUnderTest {
  readonly dataDirectory: string
  environment = ''
  bootstrap = ''
  #child: ChildProcess
  #cpuAtMark: number | null = 0

  private constructor(child: ChildProcess, dataDirectory: string) {
    this.#child = child
    this.dataDirectory = dataDirectory
  }

  static async start(prefer: Preference, flags: readonly string[] = []): Promise<BrokerUnderTest> {
    const dataDirectory = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
    const all = ['start', '--data', dataDirectory, '--port', '0', '--environment', prefer, '--json', ...flags]
    const profiling = process.execArgv.filter((flag) => flag.startsWith('--cpu-prof'))
    const child = spawn(process.execPath, [...profiling, PROGRAM, ...all, '--log-level', 'warn'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    const broker = new BrokerUnderTest(child, dataDirectory)
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the broker ended with ${String(code)} before it was ready`)
    })
    const [line] = (await Promise.race([once(createInterface(child.stdout!), 'line'), ended])) as [string]
    const ready = JSON.parse(line) as { port: number; environment: string }
    broker.environment = ready.environment
    broker.bootstrap = `127.0.0.1:${ready.port}`
    ended.catch(() => {})
    return broker
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** From now on `cpuSinceMark` counts. */
  mark(): void {
    this.#cpuAtMark = cpuSeconds(this.pid)
  }

  cpuSinceMark(): number | null {
    const now = cpuSeconds(this.pid)
    return now === null || this.#cpuAtMark === null ? null : now - this.#cpuAtMark
  }

  peakRssMb(): number | null {
    return peakRssMb(this.pid)
  }

  rssMb(): number | null {
    return rssMb(this.pid)
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode === null) {
      const exited = once(this.#child, 'exit')
      this.#child.kill('SIGTERM')
      await exited
    }
    rmSync(this.dataDirectory, { recursive: true, force: true })
  }
}
