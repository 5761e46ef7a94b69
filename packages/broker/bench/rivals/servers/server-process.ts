// A server as a process on a loopback port with its log in a file: ready when the port answers, ended with the bench whatever happens.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync, readFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer, type Server, Socket } from 'node:net'
import { wait } from '../../support/produce-load.js'

const READY_MS = 60_000
const END_MS = 15_000
const POLL_SECONDS = 0.1
const LOG_LINES_TOLD = 20

const running = new Set<ChildProcess>()
const killAll = (): void => {
  for (const child of running) child.kill('SIGKILL')
}
process.once('exit', killAll)
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => process.exit(1))

export interface RunningServer {
  readonly pid: number
  stop(): Promise<void>
}

export interface ServerCommand {
  readonly program: string
  readonly words: readonly string[]
  readonly env?: Readonly<Record<string, string>>
  readonly port: number
  readonly logFile: string
}

export async function startServer(command: ServerCommand): Promise<RunningServer> {
  const { program, words, env, port, logFile } = command
  const log = openSync(logFile, 'a')
  const child = spawn(program, [...words], { env: { ...process.env, ...env }, stdio: ['ignore', log, log] })
  closeSync(log)
  running.add(child)
  const exited = once(child, 'exit').finally(() => running.delete(child))
  // It fails where the program cannot be started: that has no pid, and is told below.
  exited.catch(() => {})
  const until = performance.now() + READY_MS
  while (!(await answers(port))) {
    const over = child.pid === undefined || child.exitCode !== null || child.signalCode !== null
    if (!over && performance.now() < until) {
      await wait(POLL_SECONDS)
      continue
    }
    child.kill('SIGKILL')
    const lines = readFileSync(logFile, 'utf8').trimEnd().split('\n').slice(-LOG_LINES_TOLD)
    throw new Error(`${program} does not answer on port ${port}:\n${lines.join('\n')}`)
  }
  return {
    pid: child.pid!,
    async stop() {
      if (child.exitCode !== null || child.signalCode !== null) return
      child.kill('SIGTERM')
      const late = setTimeout(() => child.kill('SIGKILL'), END_MS)
      await exited
      clearTimeout(late)
    },
  }
}

function answers(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = new Socket()
    const end = (answer: boolean) => (): void => {
      socket.destroy()
      resolve(answer)
    }
    socket.once('connect', end(true)).once('error', end(false)).connect(port, '127.0.0.1')
  })
}

/** Ports that nobody listens on at this moment. */
export async function freePorts(count: number): Promise<readonly number[]> {
  const servers = await Promise.all(Array.from({ length: count }, listen))
  const ports = servers.map((server) => (server.address() as AddressInfo).port)
  await Promise.all(servers.map((server) => new Promise((resolve) => server.close(resolve))))
  return ports
}

async function listen(): Promise<Server> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  return server
}
