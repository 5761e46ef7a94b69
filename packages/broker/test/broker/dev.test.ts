// millrace-broker dev as people use it: processes that begin together, report one of them that fails, and end together.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import { access, mkdir, readdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { readDevOptions } from '#src/dev/dev-options.js'
import { freePorts } from '#src/io/free-ports.js'
import { MAX_DEV_BROKERS } from '#src/limits.js'
import { RawClient } from '../server/raw-client.js'
import { temporaryDirectory } from '../server/running-broker.js'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))
const LIMIT_MS = 30_000

interface Ready {
  readonly bootstrap: string
  readonly directory: string
  readonly isTemporary: boolean
  readonly brokers: readonly { nodeId: number; host: string; port: number; pid: number; data: string }[]
}

async function until(what: string, holds: () => boolean | Promise<boolean>): Promise<void> {
  const deadline = Date.now() + LIMIT_MS
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error(`never became true: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

/** A local cluster that is gone when the test is, whatever has happened. */
class Dev {
  stdout = ''
  stderr = ''
  readonly ended: Promise<number | string>
  readonly child: ChildProcessByStdio<null, Readable, Readable>

  constructor(args: readonly string[]) {
    const all = ['dev', '--environment=portable', '--memory=64m', '--json', ...args]
    this.child = spawn(process.execPath, [PROGRAM, ...all], { stdio: ['ignore', 'pipe', 'pipe'] })
    this.child.stdout.setEncoding('utf8').on('data', (text: string) => {
      this.stdout += text
    })
    this.child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.stderr += text
    })
    this.ended = once(this.child, 'close').then(([code, signal]) => (code ?? signal) as number | string)
    onTestFinished(async () => {
      this.child.kill('SIGKILL')
      await this.ended
    })
  }

  async ready(): Promise<Ready> {
    await until(
      `the cluster is ready: ${this.stderr}`,
      () => this.stdout.includes('\n') || this.child.exitCode !== null,
    )
    const line = this.stdout.split('\n')[0]
    if (!line) throw new Error(`the cluster has ended: ${this.stderr}`)
    return JSON.parse(line)
  }
}

const allGone = ({ brokers }: Ready) => until('all processes are gone', () => brokers.every(({ pid }) => !isAlive(pid)))

describe('millrace-broker dev', { timeout: 60_000 }, () => {
  it('starts brokers that know each other, and ends them in order', async () => {
    const dev = new Dev(['--brokers', '3'])
    const ready = await dev.ready()
    expect(ready).toMatchObject({ ready: true, isTemporary: true })
    expect(ready.brokers.map(({ nodeId }) => nodeId)).toEqual([1, 2, 3])
    expect(ready.bootstrap).toBe(ready.brokers.map(({ host, port }) => `${host}:${port}`).join(','))
    const clusterIds = new Set<unknown>()
    for (const { nodeId, host, port } of ready.brokers) {
      const client = await RawClient.open({ host, port })
      const { fields } = await client.admin('brokerStatus', {})
      expect(fields.nodeId).toBe(nodeId)
      clusterIds.add(fields.clusterId)
      client.close()
    }
    expect(clusterIds.size).toBe(1)
    expect((await readdir(ready.directory)).sort()).toEqual(['node-1', 'node-2', 'node-3'])
    dev.child.kill('SIGINT')
    expect(await dev.ended).toBe(0)
    await allGone(ready)
    await expect(access(ready.directory)).rejects.toThrow('ENOENT')
    const lines = dev.stderr.trimEnd().split('\n')
    for (const line of lines) expect(line).toMatch(/^(node-[123] \| |millrace-broker dev: )/)
    const stopped = lines.filter((line) => /info {2}stopped$/.test(line)).map((line) => line.slice(0, 6))
    expect(stopped).toEqual(['node-3', 'node-2', 'node-1'])
  })

  it('keeps a directory that it is given, and takes ports in a row', async () => {
    const data = join(await temporaryDirectory(), 'cluster')
    const [port = 0] = await freePorts('127.0.0.1', 1)
    for (const _ of [1, 2]) {
      const dev = new Dev(['--brokers=1', '--data', data, '--port', String(port)])
      const ready = await dev.ready()
      expect(ready).toMatchObject({ directory: data, isTemporary: false, bootstrap: `127.0.0.1:${port}` })
      dev.child.kill('SIGTERM')
      expect(await dev.ended).toBe(0)
    }
    expect(await readdir(data)).toEqual(['node-1'])
  })

  it('names a broker that ends by itself, and ends the cluster', async () => {
    const dev = new Dev(['--brokers', '2'])
    const ready = await dev.ready()
    process.kill(ready.brokers[1]!.pid, 'SIGKILL')
    expect(await dev.ended).toBe(1)
    expect(dev.stderr).toContain('millrace-broker dev: node-2 has ended by itself with signal SIGKILL')
    await allGone(ready)
    await expect(access(ready.directory)).rejects.toThrow('ENOENT')
  })

  it('starts it again when it is told to', async () => {
    const dev = new Dev(['--brokers', '2', '--restart'])
    const ready = await dev.ready()
    const { host, port, pid } = ready.brokers[0]!
    process.kill(pid, 'SIGKILL')
    await until('it is there again', () =>
      RawClient.open({ host, port }).then(
        (client) => {
          client.close()
          return true
        },
        () => false,
      ),
    )
    expect(dev.stderr).toContain('node-1 has ended by itself with signal SIGKILL; it starts again in 250 ms')
    dev.child.kill('SIGTERM')
    expect(await dev.ended).toBe(0)
    await allGone(ready)
  })

  it('leaves no broker behind when it is killed itself', async () => {
    const dev = new Dev(['--brokers', '2', '--data', await temporaryDirectory()])
    const ready = await dev.ready()
    dev.child.kill('SIGKILL')
    await allGone(ready)
  })

  it('says why a broker does not start', async () => {
    const data = await temporaryDirectory()
    await mkdir(join(data, 'node-1'))
    await writeFile(join(data, 'node-1', 'letter.txt'), 'x')
    const dev = new Dev(['--brokers', '2', '--data', data])
    expect(await dev.ended).toBe(1)
    expect(dev.stderr).toMatch(/^node-1 \| millrace-broker: .*letter\.txt/m)
    expect(dev.stderr).toContain('node-1 has ended by itself with code 1; the cluster stops')
    expect(dev.stdout).toBe('')
  })

  it('says why its directory cannot be', async () => {
    const dev = new Dev(['--data', '/proc/millrace'])
    expect(await dev.ended).toBe(1)
    expect(dev.stderr).toMatch(/^millrace-broker: \/proc\/millrace cannot be made: [^\n]+\n$/)
  })
})

describe('what dev is told', () => {
  it('has defaults, and passes on what each broker is to be told', () => {
    expect(readDevOptions([], {})).toMatchObject({
      brokers: 3,
      restarts: false,
      port: null,
      dataDirectory: null,
      passed: [],
    })
    const args = ['--restart', '--brokers=5', '--log-level', 'warn', '--port=7000', '--data', 'x', '--require-direct']
    expect(readDevOptions(args, { MILLRACE_MEMORY: '64m', MILLRACE_PORT: '1', MILLRACE_NODE_ID: '9' })).toMatchObject({
      brokers: 5,
      restarts: true,
      port: 7000,
      dataDirectory: 'x',
      memoryBytes: 64 * 1024 * 1024,
      passed: ['--log-level=warn', '--require-direct=true'],
    })
  })

  it.each([
    [['--brokers', '0'], `--brokers is "0"; it can be a whole number from 1 to ${MAX_DEV_BROKERS}`],
    [['--brokers=many'], '--brokers is "many"'],
    [['--brokers'], '--brokers needs a value'],
    [['--node-id', '1'], 'dev decides --node-id'],
    [['--members', '1=a:1'], 'dev decides --members'],
    [['--host', '127.0.0.1'], 'dev decides --host'],
    [['--config', 'a.json'], '--config is for one broker'],
    [['--port', '65535'], 'leaves no room'],
    [['--prot', '1'], 'did you mean --port?'],
  ])('is refused: %j', (args, message) => {
    expect(() => readDevOptions(args, {})).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }))
    expect(() => readDevOptions(args, {})).toThrow(message)
  })
})
