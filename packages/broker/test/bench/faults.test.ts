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

describe('npm run faults', { timeout: 90_000 }, () => {
  it.each([
    [['--minutes', '0'], '--minutes takes'],
    [['--minutes', 'x'], '--minutes takes'],
    [['--brokers', '3,x'], '--brokers takes'],
    [['--brokers', '0'], '--brokers takes'],
    [['--seed', '1.5'], '--seed takes'],
    [['--environment', 'epoll'], 'no environment epoll'],
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
    expect(closing).toMatchObject({ name: 'faults', ok: true, seed: 3, lost: 0, duplicated: 0, anomalies: 0 })
    const { runs } = closing as { runs: readonly { acknowledged: number; reads: number; faults: object }[] }
    expect(runs).toHaveLength(1)
    expect(runs[0]!.acknowledged).toBeGreaterThan(50)
    expect(runs[0]!.reads).toBeGreaterThan(50)
    expect(Object.keys(runs[0]!.faults).length).toBeGreaterThan(0)
    expect(code).toBe(0)
  })
})
