// A broker as a process of its own: started on a fresh data directory, killed, started again, and always cleaned up.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'

const PROGRAM = fileURLToPath(new URL('bin/millrace-broker.js', import.meta.resolve('@millrace/broker/package.json')))
/** Linux counts the CPU time of processes in hundredths of a second. */
const TICKS_PER_SECOND = 100
const KEPT_LOG_CHARACTERS = 4_000

/** The line a broker prints with `--json` once clients may come. */
interface ReadyLine {
  readonly port: number
  readonly environment: string
  readonly reason: string | null
}

export class BrokerProcess {
  readonly dataDirectory = mkdtempSync(join(tmpdir(), 'millrace-flights-'))
  /** `ring` or `portable`, and why, in the broker's words. */
  environment = ''
  reason: string | null = null
  readonly #prefer: string
  readonly #flags: readonly string[]
  #port: number
  #child: ChildProcess | null = null
  #log = ''
  #earlierCpuSeconds: number | null = 0
  #earlierPeakRssMb: number | null = 0

  /**
   * @param prefer the environment to run on: auto, ring or portable.
   * @param port 0 for one that is free.
   * @param flags more of the broker's own.
   */
  constructor(prefer: string, port = 0, flags: readonly string[] = []) {
    this.#prefer = prefer
    this.#port = port
    this.#flags = flags
    // Whatever ends this program, nothing of the broker stays behind.
    process.once('exit', () => this.#cleanUp())
    process.once('SIGINT', () => process.exit(130))
    process.once('SIGTERM', () => process.exit(143))
  }

  get address(): string {
    return `localhost:${this.#port}`
  }

  get pid(): number | undefined {
    return this.#child?.pid
  }

  /** Resolves when clients may come; a second start listens on the same port. */
  async start(): Promise<void> {
    const flags = [
      '--data',
      this.dataDirectory,
      '--port',
      `${this.#port}`,
      '--environment',
      this.#prefer,
      ...this.#flags,
    ]
    // Settings of other brokers on this machine are none of ours.
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith('MILLRACE_')))
    const child = spawn(process.execPath, [PROGRAM, 'start', ...flags, '--json', '--log-level', 'warn'], {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#log = (this.#log + text).slice(-KEPT_LOG_CHARACTERS)
    })
    const ended = once(child, 'close').then(([code, signal]) => {
      // Only `kill` and `stop` let go of the child before it ends.
      if (this.#child === child) throw new Error(`the broker ended by itself (${signal ?? code}):\n${this.#log}`)
    })
    const ready = await Promise.race([readyLine(child.stdout), ended])
    if (ready === undefined) throw new Error('the broker was stopped while it started')
    this.#port = ready.port
    this.environment = ready.environment
    this.reason = ready.reason
  }

  /** Ends the broker without a warning, as a crash would. */
  kill(): Promise<void> {
    return this.#end('SIGKILL')
  }

  stop(): Promise<void> {
    return this.#end('SIGTERM')
  }

  /** CPU seconds of all lives so far; null where there is no /proc. */
  get cpuSeconds(): number | null {
    const stat = this.#proc('stat')
    if (stat === null || this.#earlierCpuSeconds === null) return this.#child === null ? this.#earlierCpuSeconds : null
    // Counting begins behind the program's name, which may hold anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    return this.#earlierCpuSeconds + (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND
  }

  /** The most memory any life so far has held; null where there is no /proc. */
  get peakRssMb(): number | null {
    const status = this.#proc('status')
    if (status === null || this.#earlierPeakRssMb === null) return this.#child === null ? this.#earlierPeakRssMb : null
    return Math.max(this.#earlierPeakRssMb, (Number(/VmHWM:\s+(\d+)/.exec(status)?.[1]) * 1024) / 1e6)
  }

  /** What the data directory takes on the disk, with all space that is reserved. */
  get bytesOnDisk(): number {
    const files = readdirSync(this.dataDirectory, { recursive: true, encoding: 'utf8' })
    return files.reduce((sum, name) => sum + statSync(join(this.dataDirectory, name)).blocks * 512, 0)
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child
    if (child === null) return
    this.#earlierCpuSeconds = this.cpuSeconds
    this.#earlierPeakRssMb = this.peakRssMb
    this.#child = null
    const closed = once(child, 'close')
    child.kill(signal)
    await closed
  }

  #proc(file: string): string | null {
    try {
      return readFileSync(`/proc/${this.#child?.pid}/${file}`, 'utf8')
    } catch {
      // No Linux, or no process: then there is nothing to read.
      return null
    }
  }

  #cleanUp(): void {
    const child = this.#child
    this.#child = null
    child?.kill('SIGKILL')
    // A dying broker may still be creating a file.
    rmSync(this.dataDirectory, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 })
  }
}

async function readyLine(output: Readable): Promise<ReadyLine> {
  const [line] = await once(createInterface(output), 'line')
  return JSON.parse(line)
}
