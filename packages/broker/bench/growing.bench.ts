// From nothing to a replicated record by the command line alone: one broker, two more by a command each, a topic with three
// replicas, and the first record that all of them have. Every step is the command that a user types.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { freePorts } from '#src/io/free-ports.js'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { wait } from './support/produce-load.js'
import { round } from './support/session.js'

export const name = 'growing'

const BROKER = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))
const COMMAND_LINE = fileURLToPath(new URL('../../../client/bin/millrace.js', import.meta.url))
const HOST = '127.0.0.1'
const BROKERS = 3
const TOPIC = 'payments'
/** What takes longer is a failure of the bench. */
const LIMIT_MS = 120_000
const POLL_SECONDS = 0.2

interface Member {
  readonly state: string
  readonly alive: boolean
  readonly votes: boolean
}

export async function run(options: RunOptions): Promise<object> {
  const { prefer } = benchOptions(options, 1)
  const directory = mkdtempSync(join(tmpdir(), 'millrace-growing-'))
  const brokers: ChildProcess[] = []
  try {
    const ports = await freePorts(HOST, BROKERS)
    const bootstrap = `${HOST}:${ports[0]}`
    const began = performance.now()
    const seconds = (): number => round((performance.now() - began) / 1000)
    const start = async (at: number, flags: readonly string[]): Promise<void> => {
      const common = ['--port', `${ports[at]}`, '--data', join(directory, `data-${at + 1}`), '--environment', prefer]
      brokers.push(await startBroker([...common, ...flags]))
    }
    await start(0, ['--bootstrap'])
    const firstReady = seconds()
    for (let at = 1; at < BROKERS; at++) await start(at, ['--join', bootstrap])
    const joined = seconds()
    await until('all brokers are members', async () => isThere(await members(bootstrap), () => true))
    const members3 = seconds()
    await command(['topic', 'create', TOPIC, '--partitions', '6', '--replicas', `${BROKERS}`, '-b', bootstrap])
    const created = seconds()
    await command(['produce', TOPIC, '-b', bootstrap], 'customer-1\n')
    const firstAcknowledged = seconds()
    await until('all brokers vote on the metadata', async () => isThere(await members(bootstrap), ({ votes }) => votes))
    return {
      name,
      brokers: BROKERS,
      totalSeconds: firstAcknowledged,
      /** Since the beginning: one after the other, as they were typed. */
      steps: { firstReady, joined, members: members3, created, firstAcknowledged, metadataReplicated: seconds() },
      recordsPerSecond: round(1 / firstAcknowledged, 3),
    }
  } finally {
    await Promise.all(brokers.map(stopBroker))
    rmSync(directory, { recursive: true, force: true })
  }
}

const isThere = (members: readonly Member[], holds: (member: Member) => boolean): boolean =>
  members.filter((member) => member.state === 'active' && member.alive && holds(member)).length === BROKERS

async function members(bootstrap: string): Promise<readonly Member[]> {
  const answer = JSON.parse(await command(['cluster', 'members', '--json', '-b', bootstrap])) as { members: Member[] }
  return answer.members
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT_MS
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`it took longer than ${LIMIT_MS} ms until ${what}`)
    await wait(POLL_SECONDS)
  }
}

/** Resolves when the broker says that it is ready. */
async function startBroker(flags: readonly string[]): Promise<ChildProcess> {
  const child = spawn(process.execPath, [BROKER, 'start', '--json', '--log-level', 'error', ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const ended = once(child, 'exit').then(([code]) => {
    throw new Error(`a broker ended with ${String(code)} before it was ready`)
  })
  await Promise.race([once(createInterface(child.stdout), 'line'), ended])
  // From now on it is to end some time.
  ended.catch(() => {})
  return child
}

async function stopBroker(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
}

/** What a command prints. @throws Error when it fails. */
async function command(args: readonly string[], input = ''): Promise<string> {
  const child = spawn(process.execPath, [COMMAND_LINE, ...args], { stdio: ['pipe', 'pipe', 'pipe'] })
  let printed = ''
  let said = ''
  child.stdout.on('data', (chunk: Buffer) => {
    printed += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString()
  })
  child.stdin.end(input)
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`millrace ${args.join(' ')} ended with ${String(code)}: ${said}`)
  return printed
}
