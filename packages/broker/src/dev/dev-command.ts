// millrace-broker dev: a cluster of broker processes on this machine, which end together.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { freePorts } from '../io/free-ports.js'
import { defaultMemoryBytes } from '../io/machine.js'
import { refusePseudoFileSystem } from '../io/pseudo-file-system.js'
import { DEV_READY_TIMEOUT_MS, DEV_RESTART_MAX_MS, DEV_RESTART_MS, LEAST_MEMORY_BYTES } from '../limits.js'
import type { Member } from '../members.js'
import { StartError } from '../start-error.js'
import { BrokerChild, type BrokerEnd } from './broker-child.js'
import { type DevOptions, withoutOthers } from './dev-options.js'

const HOST = '127.0.0.1'
const KILL_AFTER_MS = 5_000
const SIGNALS = ['SIGTERM', 'SIGINT'] as const

/** What makes the cluster end. */
type Reason = { readonly signal: string } | { readonly failure: string }

/** Runs until a signal comes or a broker fails. @returns whether every broker has ended in order, as it was asked to. */
export async function runDevCluster(options: DevOptions): Promise<boolean> {
  const ports =
    options.port === null ? await freePorts(HOST, options.brokers) : [...rangeFrom(options.port, options.brokers)]
  const members = ports.map((port, i): Member => ({ nodeId: i + 1, host: HOST, port }))
  const directory = await dataDirectoryOf(options)
  const cluster = new DevCluster(options, members, directory)
  try {
    return await cluster.run()
  } finally {
    if (options.dataDirectory === null) await rm(directory, { recursive: true, force: true })
  }
}

async function dataDirectoryOf({ dataDirectory }: DevOptions): Promise<string> {
  if (dataDirectory === null) return mkdtemp(join(tmpdir(), 'millrace-dev-'))
  const directory = resolve(dataDirectory)
  try {
    await refusePseudoFileSystem(directory)
    await mkdir(directory, { recursive: true })
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause)
    throw new StartError('DATA_UNUSABLE', `${directory} cannot be made: ${words}`, { cause })
  }
  return directory
}

function* rangeFrom(first: number, count: number): Generator<number> {
  for (let i = 0; i < count; i++) yield first + i
}

class DevCluster {
  private readonly children = new Map<number, BrokerChild>()
  private readonly restartTimers = new Set<NodeJS.Timeout>()
  private stopping = false
  private end: (reason: Reason) => void = () => {}
  private readonly reason = new Promise<Reason>((resolve) => {
    this.end = resolve
  })

  constructor(
    private readonly options: DevOptions,
    private readonly members: readonly Member[],
    private readonly directory: string,
  ) {}

  async run(): Promise<boolean> {
    const onSignal = (signal: string) => {
      if (this.stopping) for (const child of this.children.values()) child.kill()
      this.end({ signal })
    }
    for (const signal of SIGNALS) process.on(signal, onSignal)
    try {
      for (const member of this.members) this.start(member, DEV_RESTART_MS)
      void this.sayWhenReady()
      const reason = await this.reason
      const isAsked = 'signal' in reason
      say(isAsked ? `${reason.signal}: the cluster stops; another signal ends it at once` : reason.failure)
      const areOrderly = await this.stopInOrder()
      return isAsked && areOrderly
    } finally {
      for (const signal of SIGNALS) process.off(signal, onSignal)
    }
  }

  private start(member: Member, restartMs: number): void {
    const { passed, stopTimeoutMs } = this.options
    const child = new BrokerChild({
      member,
      variables: withoutOthers(process.env),
      args: [
        `--node-id=${member.nodeId}`,
        `--members=${this.members.map(({ nodeId, host, port }) => `${nodeId}=${host}:${port}`).join(',')}`,
        `--data=${this.dataOf(member)}`,
        `--memory=${this.memoryBytes}`,
        `--stop-timeout-ms=${stopTimeoutMs}`,
        ...passed,
      ],
      onLine: (line) => process.stderr.write(`node-${member.nodeId} | ${line}\n`),
    })
    this.children.set(member.nodeId, child)
    void child.ended.then((end) => this.ended(child, end, restartMs))
  }

  private ended(child: BrokerChild, end: BrokerEnd, restartMs: number): void {
    if (this.stopping) return
    if (end.isRemoved) {
      say(`${child.name} was removed from the cluster, which goes on without it`)
      this.children.delete(child.options.member.nodeId)
      return
    }
    const what = `${child.name} has ended by itself with ${end.how}`
    if (!this.options.restarts) {
      this.end({ failure: `${what}; the cluster stops (--restart would start it again)` })
      return
    }
    say(`${what}; it starts again in ${restartMs} ms`)
    const timer = setTimeout(() => {
      this.restartTimers.delete(timer)
      this.start(child.options.member, Math.min(restartMs * 2, DEV_RESTART_MAX_MS))
    }, restartMs)
    this.restartTimers.add(timer)
  }

  private async sayWhenReady(): Promise<void> {
    const children = [...this.children.values()]
    const late = setTimeout(
      () => this.end({ failure: `not every broker was ready within ${DEV_READY_TIMEOUT_MS} ms; the cluster stops` }),
      DEV_READY_TIMEOUT_MS,
    )
    const results = await Promise.allSettled(children.map((child) => child.ready))
    clearTimeout(late)
    // Whoever failed has said so by its end.
    if (results.every(({ status }) => status === 'fulfilled')) this.sayReady(children)
  }

  private sayReady(children: readonly BrokerChild[]): void {
    const bootstrap = this.members.map(({ host, port }) => `${host}:${port}`).join(',')
    const isTemporary = this.options.dataDirectory === null
    if (!this.options.json) {
      const data = `data in ${this.directory}${isTemporary ? ', removed at the end' : ''}`
      process.stdout.write(`${children.length} brokers ready, bootstrap ${bootstrap}; ${data}\n`)
      return
    }
    const brokers = children.map(({ options: { member }, pid }) => ({ ...member, pid, data: this.dataOf(member) }))
    const { directory } = this
    process.stdout.write(`${JSON.stringify({ ready: true, bootstrap, directory, isTemporary, brokers })}\n`)
  }

  /** One after the other, the last first, so that as long as possible a majority is there to take over. */
  private async stopInOrder(): Promise<boolean> {
    this.stopping = true
    for (const timer of this.restartTimers) clearTimeout(timer)
    let areOrderly = true
    for (const child of [...this.children.values()].reverse()) {
      const { how, isOrderly } = await child.stop(this.options.stopTimeoutMs + KILL_AFTER_MS)
      if (!isOrderly) say(`${child.name} has ended with ${how}`)
      areOrderly &&= isOrderly
    }
    return areOrderly
  }

  private dataOf({ nodeId }: Member): string {
    return join(this.directory, `node-${nodeId}`)
  }

  private get memoryBytes(): number {
    const { memoryBytes, brokers } = this.options
    return memoryBytes ?? Math.max(LEAST_MEMORY_BYTES, Math.floor(defaultMemoryBytes() / brokers))
  }
}

function say(words: string): void {
  process.stderr.write(`millrace-broker dev: ${words}\n`)
}
