// The command as people use it: a process, its two outputs and its exit code.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { describe, expect, it, onTestFinished } from 'vitest'
import { freePorts } from '#src/io/free-ports.js'
import { VERSION } from '#src/version.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'
import { temporaryDirectory } from '../server/running-broker.js'
import { ENVIRONMENTS } from './environments.js'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))

interface Started {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  readonly output: () => { readonly stdout: string; readonly stderr: string }
  /** Resolves with the exit code, or the signal that ended it. */
  readonly ended: Promise<number | string>
  ready(): Promise<Record<string, unknown> & { host: string; port: number }>
}

function run(args: readonly string[], variables: Record<string, string> = {}): Started {
  const child = spawn(process.execPath, [PROGRAM, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, ...variables },
  })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string)
  return {
    child,
    output: () => ({ stdout, stderr }),
    ended,
    async ready() {
      const deadline = Date.now() + 15_000
      while (!stdout.includes('\n')) {
        if (child.exitCode !== null || Date.now() > deadline) throw new Error(`not ready: ${stdout}${stderr}`)
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      return JSON.parse(stdout.split('\n')[0]!)
    },
  }
}

async function result(args: readonly string[], variables: Record<string, string> = {}) {
  const started = run(args, variables)
  const code = await started.ended
  return { code, ...started.output() }
}

const COMMON = ['start', '--environment', 'portable', '--memory', '128m', '--json']
const START = ['start', '--port', '0', '--memory', '128m', '--json']

describe('millrace-broker', () => {
  it('prints its version, which is that of the package', async () => {
    expect(await result(['version'])).toMatchObject({ code: 0, stdout: `${VERSION}\n` })
    const manifest = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'))
    expect(manifest.version).toBe(VERSION)
  })

  it('prints one screen of help', async () => {
    const { code, stdout } = await result(['--help'])
    expect(code).toBe(0)
    expect(stdout).toContain('millrace-broker start')
    expect(stdout.split('\n').length).toBeLessThan(40)
    expect(await result(['start', '--help'])).toMatchObject({ code: 0, stdout })
    expect(await result([])).toMatchObject({ code: 0, stdout })
  })

  it.each([
    ['a command nobody knows', ['strat'], 'did you mean start?'],
    ['a flag nobody knows', ['start', '--dta', 'x'], '--dta is unknown; did you mean --data?'],
    ['a flag with a wrong value', ['start', '--port', 'x'], '--port is "x"'],
    ['a file that is not there', ['start', '--config', '/nowhere.json'], 'cannot be read'],
    ['an address others can reach', ['start', '--host', '0.0.0.0'], '--insecure'],
    ['an address to advertise that is none', ['start', '--advertise', 'a:b:c'], '--advertise is "a:b:c"'],
  ])('refuses %s in one line', async (_name, args, message) => {
    const { code, stdout, stderr } = await result([...args, '--log-level=error', '--data', '/tmp/millrace-never-made'])
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' })
    expect(stderr).toContain(message)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })

  it('refuses a file with an unknown key', async () => {
    const path = join(await temporaryDirectory(), 'broker.json')
    await writeFile(path, '{"prot": 1}')
    const { code, stderr } = await result(['start'], { MILLRACE_CONFIG: path })
    expect({ code, stderr }).toEqual({
      code: 2,
      stderr: `millrace-broker: ${path} has an unknown key prot; did you mean port?\n`,
    })
  })

  it('examines the machine', async () => {
    const data = join(await temporaryDirectory(), 'data')
    const text = await result(['doctor', '--data', data])
    expect(text.code).toBe(0)
    for (const subject of ['system', 'memory', 'io_uring', 'disk', 'direct I/O', 'flush']) {
      expect(text.stdout).toContain(subject)
    }
    const json = await result(['doctor', '--data', data, '--json'])
    expect(JSON.parse(json.stdout)).toMatchObject({ healthy: true, flush: { medianMs: expect.any(Number) } })
  })

  it('says what is wrong with a data directory it cannot use', async () => {
    const { code, stdout } = await result(['doctor', '--data', '/sys/nothing', '--json'])
    expect(code).toBe(1)
    expect(JSON.parse(stdout)).toMatchObject({ healthy: false })
  })
})

describe.each(ENVIRONMENTS)('millrace-broker start on the %s environment', (environment) => {
  const start = (data: string, ...more: string[]) =>
    run([...START, '--environment', environment, '--data', data, ...more])

  it('says when it is ready, serves, and stops on a signal', async () => {
    const broker = start(await temporaryDirectory(), '--log-format', 'json')
    const ready = await broker.ready()
    expect(ready).toMatchObject({ ready: true, environment, nodeId: 1, version: VERSION })
    const client = await RawClient.open(ready)
    await client.createTopic('flights')
    broker.child.kill('SIGTERM')
    expect(await broker.ended).toBe(0)
    await client.whenClosed()
    const lines = broker.output().stderr.trimEnd().split('\n')
    for (const line of lines) expect(JSON.parse(line)).toMatchObject({ level: 'info', message: expect.any(String) })
    expect(JSON.parse(lines.at(-1)!)).toMatchObject({ message: 'stopped' })
  })

  it('keeps what it has acknowledged when it is killed', async () => {
    const data = await temporaryDirectory()
    const broker = start(data)
    const client = await RawClient.open(await broker.ready())
    await client.createTopic('flights', { partitions: 2 })
    await client.createTopic('kept', { durability: 'buffered' })
    for (let sequence = 0; sequence < 20; sequence++) {
      const batches = [
        batchOf(5, { sequence }),
        batchOf(5, { sequence, partition: 1 }),
        batchOf(5, { sequence, topicId: 2 }),
      ]
      expect((await client.produce(batches)).codes).toEqual([null, null, null])
    }
    broker.child.kill('SIGKILL')
    expect(await broker.ended).toBe('SIGKILL')

    const again = start(data)
    const reader = await RawClient.open(await again.ready())
    for (const name of ['flights', 'kept']) {
      const { fields } = await reader.admin('describeTopic', { name })
      for (const { highWatermark, term } of fields.partitions as { highWatermark: number; term: number }[]) {
        // Every life has a term of its own; one whose vote is long in being saved stands again.
        expect({ highWatermark, isNewTerm: term >= 2 }).toEqual({ highWatermark: 100, isNewTerm: true })
      }
    }
    const retry = await reader.produce([batchOf(5, { sequence: 19 }), batchOf(1, { sequence: 20 })])
    expect(retry.results).toMatchObject([
      { code: 0, baseOffset: 95 },
      { code: 0, baseOffset: 100 },
    ])
    again.child.kill('SIGTERM')
    expect(await again.ended).toBe(0)
  })

  it('gives one line and code 1 for a port and a directory in use', async () => {
    const data = await temporaryDirectory()
    const broker = start(data)
    const { port } = await broker.ready()
    const others = [
      [['--data', data], `is in use by process ${broker.child.pid}`],
      [['--data', await temporaryDirectory(), '--port', String(port)], 'another program listens there'],
    ] as const
    for (const [args, message] of others) {
      const refused = await result([...START, '--environment', environment, '--log-level', 'error', ...args])
      expect({ code: refused.code, stdout: refused.stdout }).toEqual({ code: 1, stdout: '' })
      expect(refused.stderr).toContain(message)
      expect(refused.stderr.trimEnd().split('\n')).toHaveLength(1)
    }
    broker.child.kill('SIGINT')
    expect(await broker.ended).toBe(0)
  })
})

describe('a broker that was removed', () => {
  it('ends by itself with code 3 once it was removed from its cluster, and does not start again', {
    timeout: 60_000,
  }, async () => {
    const ports = await freePorts('127.0.0.1', 3)
    const data = await Promise.all(ports.map(() => temporaryDirectory()))
    const started = (at: number, ...more: string[]): Started =>
      run([...COMMON, '--port', String(ports[at]), '--data', data[at]!, ...more])
    const first = started(0, '--bootstrap')
    const { host, port } = await first.ready()
    const others = [1, 2].map((at) => started(at, '--join', `${host}:${port}`))
    const mill = connect({ bootstrap: `${host}:${port}` })
    onTestFinished(() => mill.close())
    const operator = admin(mill)
    const removed = async (nodeId: number): Promise<void> => {
      await operator.drainBroker(nodeId)
      await expect
        .poll(() => operator.removeBroker(nodeId).catch(String), { timeout: 20_000 })
        .toEqual({ decides: false })
    }
    const ids = await Promise.all(others.map(async (other) => (await other.ready()).nodeId as number))
    // One hears of it, the other is away and is told when it comes back.
    others[1]!.child.kill('SIGKILL')
    await others[1]!.ended
    await removed(ids[1]!)
    const back = started(2)
    expect(await back.ended).toBe(3)
    expect(back.output().stderr).toContain('was removed from the cluster')
    await removed(ids[0]!)
    expect(await others[0]!.ended).toBe(3)
    for (const at of [1, 2]) {
      const again = started(at)
      expect([await again.ended, again.output().stdout]).toEqual([3, ''])
      expect(again.output().stderr).toContain('was removed from the cluster for good')
    }
    first.child.kill('SIGTERM')
    expect(await first.ended).toBe(0)
  })
})
