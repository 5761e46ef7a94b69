// One broker process of a cluster under test: killed, stopped for a while, started again on the same data.
import { appendFileSync, existsSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { BrokerChild, type BrokerEnd } from '#src/dev/broker-child.js'
import { IDENTITY_FILE, parseIdentity } from '#src/identity.js'
import type { BrokerDoor } from './broker-door.js'

const STOP_LIMIT_MS = 15_000

export interface ClusterNodeOptions {
  /** Where the process listens; others reach it at the door, if there is one. */
  readonly port: number
  readonly door: BrokerDoor | null
  readonly dataDirectory: string
  readonly logPath: string
  /** Takes each line of the log as well. */
  readonly onLine: (line: string) => void
  /** 0 while the cluster has yet to say it. */
  readonly nodeId: number
  /** Besides those of the place. */
  readonly args: () => readonly string[]
  /** Only until it is a node. */
  readonly joinArgs: () => readonly string[]
}

export class ClusterNode {
  /** It was taken out of the cluster, and never starts again. */
  isGone = false
  /** It is about to be: it may end by itself, and may be refused when it starts. */
  isLeaving = false
  /** How a process ended that nobody had ended. */
  crash: string | null = null
  private child: BrokerChild | null = null
  private id: number

  constructor(private readonly options: ClusterNodeOptions) {
    this.id = options.nodeId
  }

  get nodeId(): number {
    return this.id
  }

  get door(): BrokerDoor | null {
    return this.options.door
  }

  /** Where its process listens. */
  get port(): number {
    return this.options.port
  }

  get dataDirectory(): string {
    return this.options.dataDirectory
  }

  get logPath(): string {
    return this.options.logPath
  }

  get pid(): number | null {
    return this.child?.pid ?? null
  }

  /** Where it is reached. */
  get address(): string {
    const { door, port } = this.options
    return `127.0.0.1:${door?.port ?? port}`
  }

  /** Resolves when it accepts connections. @throws Error when it ends before. */
  async start(): Promise<void> {
    if (this.isGone) return
    const child = this.spawn((line) => {
      appendFileSync(this.options.logPath, `${line}\n`)
      this.options.onLine(line)
    })
    this.child = child
    void child.ended.then(({ how }) => {
      if (this.child !== child) return
      this.child = null
      if (!this.isLeaving) this.crash = how
    })
    try {
      await child.ready
    } catch (error) {
      if (this.child === child) this.child = null
      if (this.isGone || this.isLeaving) return
      throw error
    }
    if (this.id === 0) this.id = parseIdentity(readFileSync(this.identityPath), this.dataDirectory).nodeId
  }

  /** Starts it although it was removed, and tells what came of it: its end, or null when it runs after so long. */
  async tryStart(limitMs: number): Promise<{ readonly end: BrokerEnd | null; readonly lines: readonly string[] }> {
    const lines: string[] = []
    const child = this.spawn((line) => lines.push(line))
    try {
      return { end: await Promise.race([child.ended, sleep(limitMs, null)]), lines }
    } finally {
      child.kill()
      await child.ended
    }
  }

  /** Resolves when the process is gone. */
  async kill(): Promise<void> {
    const child = this.child
    this.child = null
    child?.kill()
    await child?.ended
  }

  /** In order, or after `limitMs` in any case. */
  async stop(limitMs = STOP_LIMIT_MS): Promise<void> {
    const child = this.child
    this.child = null
    await child?.stop(limitMs)
  }

  /** SIGSTOP and SIGCONT: a process that is there and does nothing. */
  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    if (this.pid !== null) process.kill(this.pid, signal)
  }

  wipe(): void {
    rmSync(this.dataDirectory, { recursive: true, force: true })
  }

  private get identityPath(): string {
    return join(this.dataDirectory, IDENTITY_FILE)
  }

  private spawn(onLine: (line: string) => void): BrokerChild {
    const { port, args, joinArgs } = this.options
    const beginning = existsSync(this.identityPath) ? [] : joinArgs()
    return new BrokerChild({
      member: { nodeId: this.id, host: '127.0.0.1', port },
      args: [`--data=${this.dataDirectory}`, ...beginning, ...args()],
      variables: process.env,
      onLine,
    })
  }
}
