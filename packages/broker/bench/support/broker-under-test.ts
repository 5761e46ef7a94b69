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
  #child: ChildProcess | null = null
  #cpuAtMark: number | null = 0

  private constructor(
    private readonly prefer: Preference,
    private readonly flags: readonly string[],
  ) {
    this.dataDirectory = mkdtempSync(join(tmpdir(), 'millrace-bench-'))
  }

  static async start(prefer: Preference, flags: readonly string[] = []): Promise<BrokerUnderTest> {
    const broker = new BrokerUnderTest(prefer, flags)
    await broker.#spawn(0)
    return broker
  }

  async #spawn(port: number): Promise<void> {
    const { dataDirectory, prefer, flags } = this
    const all = ['start', '--data', dataDirectory, '--port', `${port}`, '--environment', prefer, '--json', ...flags]
    const profiling = process.execArgv.filter((flag) => flag.startsWith('--cpu-prof'))
    const child = spawn(process.execPath, [...profiling, PROGRAM, ...all, '--log-level', 'warn'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    this.#child = child
    const ended = once(child, 'exit').then(([code]) => {
      throw new Error(`the broker ended with ${String(code)} before it was ready`)
    })
    const [line] = (await Promise.race([once(createInterface(child.stdout!), 'line'), ended])) as [string]
    const ready = JSON.parse(line) as { port: number; environment: string }
    this.environment = ready.environment
    this.bootstrap = `127.0.0.1:${ready.port}`
    // From now on it is to end some time.
    ended.catch(() => {})
  }

  /** Ends the broker with the signal and starts it again on the same data and port; resolves when it is ready. */
  async restart(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const port = Number(this.bootstrap.split(':')[1])
    await this.#end(signal)
    await this.#spawn(port)
  }

  async #end(signal: 'SIGTERM' | 'SIGKILL'): Promise<void> {
    const child = this.#child
    if (child === null || child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill(signal)
    await exited
  }

  get pid(): number {
    return this.#child!.pid!
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
    await this.#end('SIGTERM')
    rmSync(this.dataDirectory, { recursive: true, force: true })
  }
}
