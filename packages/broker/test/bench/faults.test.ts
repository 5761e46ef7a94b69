// The command `npm run faults`: what it refuses, and that a short run does its work and says what it found.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'

const PROGRAM = fileURLToPath(new URL('../../dist-dev/bench/faults-main.js', import.meta.url))

async function faults(args: readonly string[]): Promise<{ code: unknown; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...args])
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

describe('npm run faults', { timeout: 240_000 }, () => {
  it.each([
    [['--minutes', '0'], '--minutes takes'],
    [['--minutes', 'x'], '--minutes takes'],
    [['--brokers', '3,x'], '--brokers takes'],
    [['--brokers', '0'], '--brokers takes'],
    [['--seed', '1.5'], '--seed takes'],
    [['--environment', 'epoll'], 'no environment epoll'],
    [['--phase', 'peace'], '--phase takes'],
    [['--colour'], "Unknown option '--colour'"],
  ])('refuses %j', async (args, words) => {
    const { code, stderr } = await faults(args)
    expect(code).toBe(2)
    expect(stderr).toContain(words)
    expect(stderr).toContain('usage: npm run faults')
  })

  it('hurts three brokers, and finds everything that was acknowledged', async () => {
    const { code, stdout } = await faults(['--minutes', '0.12', '--brokers', '3', '--seed', '3', '--json'])
    const closing: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')
    expect(closing, stdout).toMatchObject({ name: 'faults', ok: true, seed: 3, lost: 0, duplicated: 0, anomalies: 0 })
    const { runs } = closing as { runs: readonly Run[] }
    expect(runs).toHaveLength(1)
    const [{ acknowledged, reads, replicas, faults: hurt, operations, churn }] = runs as [Run]
    expect(acknowledged).toBeGreaterThan(50)
    expect(reads).toBeGreaterThan(50)
    // Three topics with ten partitions at least, on three brokers.
    expect(replicas).toBeGreaterThanOrEqual(30)
    expect(Object.keys(hurt).length).toBeGreaterThan(0)
    expect(Object.keys({ ...operations, ...churn }).length).toBeGreaterThan(0)
    expect(code).toBe(0)
  })

  it('cuts the metadata off, and nobody who sends or reads elsewhere is kept waiting', async () => {
    const args = ['--phase', 'cut-off', '--minutes', '0.1', '--brokers', '5', '--seed', '3', '--json']
    const { code, stdout } = await faults(args)
    const closing: unknown = JSON.parse(stdout.trimEnd().split('\n').at(-1) ?? '')
    expect(closing, stdout).toMatchObject({ ok: true, lost: 0, duplicated: 0, anomalies: 0 })
    const [run] = (closing as { runs: readonly Run[] }).runs
    expect(run!.cutOff).toMatchObject({ failed: 0 })
    const { seconds, stopped, running, sends, read } = run!.cutOff!
    expect(seconds).toBeGreaterThanOrEqual(6)
    expect([stopped.length, running.length]).toEqual([3, 2])
    expect(sends).toBeGreaterThan(50)
    expect(read).toBe(sends)
    expect(code).toBe(0)
  })
})

interface Run {
  readonly acknowledged: number
  readonly reads: number
  readonly replicas: number
  readonly faults: object
  readonly operations: object
  readonly churn: object
  readonly cutOff: {
    readonly seconds: number
    readonly stopped: readonly number[]
    readonly running: readonly number[]
    readonly sends: number
    readonly read: number
  } | null
}
