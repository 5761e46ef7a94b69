// One broker of a local cluster as a process of its own: its log with its name in front, its readiness and its end.
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { REMOVED_EXIT_CODE } from '../limits.js'
import type { Member } from '../members.js'

const PROGRAM = fileURLToPath(new URL('../main.js', import.meta.url))

export interface BrokerChildOptions {
  readonly member: Member
  readonly args: readonly string[]
  readonly variables: NodeJS.ProcessEnv
  /** Takes each line of its log, and what it says on standard output besides being ready. */
  readonly onLine: (line: string) => void
}

/** Code or signal, in words. */
export interface BrokerEnd {
  readonly how: string
  readonly isOrderly: boolean
  /** It was removed from the cluster, and must not be started again. */
  readonly isRemoved: boolean
}

/**
 * The process is in a group of its own, so that the Ctrl-C of a terminal reaches only who started it; the channel to it
 * breaks when that one ends, however that comes about, and then it stops by itself.
 */
export class BrokerChild {
  readonly name: string
  readonly ended: Promise<BrokerEnd>
  /** Resolves when it accepts connections; rejects if it ends before. */
  readonly ready: Promise<void>
  private readonly child: ChildProcess
  private hasEnded = false

  constructor(readonly options: BrokerChildOptions) {
    const { member, args, variables, onLine } = options
    this.name = `node-${member.nodeId}`
    this.child = spawn(process.execPath, [PROGRAM, 'start', '--json', ...args], {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      env: variables,
      detached: true,
    })
    this.ended = new Promise((resolve) => {
      this.child.once('error', (cause) => resolve({ how: cause.message, isOrderly: false, isRemoved: false }))
      this.child.once('close', (code, signal) =>
        resolve({
          how: signal === null ? `code ${code}` : `signal ${signal}`,
          isOrderly: code === 0,
          isRemoved: code === REMOVED_EXIT_CODE,
        }),
      )
    })
    void this.ended.then(() => {
      this.hasEnded = true
    })
    this.ready = new Promise((resolve, reject) => {
      this.eachLine(this.child.stdout, (line) => {
        if (isReadyLine(line)) resolve()
        else onLine(line)
      })
      void this.ended.then(({ how }) => reject(new Error(`${this.name} ended with ${how} before it was ready`)))
    })
    // Who starts it awaits `ready` or not; an end is reported by `ended` in any case.
    this.ready.catch(() => undefined)
    this.eachLine(this.child.stderr, onLine)
  }

  get pid(): number | undefined {
    return this.child.pid
  }

  /** Asks it to end, and makes it after `limitMs`. */
  async stop(limitMs: number): Promise<BrokerEnd> {
    if (!this.hasEnded) this.child.kill('SIGTERM')
    const patience = setTimeout(() => this.kill(), limitMs)
    try {
      return await this.ended
    } finally {
      clearTimeout(patience)
    }
  }

  kill(): void {
    if (!this.hasEnded) this.child.kill('SIGKILL')
  }

  private eachLine(stream: ChildProcess['stdout'], take: (line: string) => void): void {
    if (stream !== null) createInterface({ input: stream }).on('line', take)
  }
}

function isReadyLine(line: string): boolean {
  if (!line.startsWith('{')) return false
  try {
    const parsed: unknown = JSON.parse(line)
    return typeof parsed === 'object' && parsed !== null && 'ready' in parsed && parsed.ready === true
  } catch {
    return false
  }
}
