// The tutorial as a stranger runs it, with a small load: it ends well, says everything, and leaves nothing behind.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url))

let scratch = ''
beforeEach(() => {
  scratch = mkdtempSync(join(tmpdir(), 'millrace-test-'))
})
afterEach(() => rmSync(scratch, { recursive: true, force: true }))

function start(args: readonly string[]) {
  // A shell with settings for another broker must not matter.
  const env = { ...process.env, TMPDIR: scratch, MILLRACE_BOOTSTRAP: 'elsewhere:1', MILLRACE_PORT: '1' }
  const child = spawn(process.execPath, [PROGRAM, ...args], { env })
  const output = { stdout: '', stderr: '' }
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output.stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    output.stderr += text
  })
  return { child, output, closed: once(child, 'close') }
}

async function isListening(port: number): Promise<boolean> {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    // Refused: nobody is there.
    return false
  } finally {
    socket.destroy()
  }
}

describe('the tutorial', () => {
  it('loses, doubles and misorders nothing, and says what it measured', { timeout: 60_000 }, async () => {
    const { output, closed } = start(['--records', '20000', '--json'])
    const [code] = await closed
    expect(code, output.stdout + output.stderr).toBe(0)
    const summary = JSON.parse(output.stdout.trimEnd().split('\n').at(-1) ?? '')
    expect(summary).toMatchObject({
      sent: 20_000,
      acknowledged: 20_000,
      received: 20_000,
      lost: 0,
      duplicated: 0,
      outOfOrder: 0,
      unresolved: 0,
    })
    for (const field of [
      'recordsPerSecond',
      'mbPerSecond',
      'p50Ms',
      'p99Ms',
      'p999Ms',
      'bytesOnDisk',
      'restartToFirstAckMs',
    ]) {
      expect(summary[field], field).toBeGreaterThan(0)
    }
    for (const field of ['brokerCpuSecondsPerGb', 'brokerPeakRssMb']) {
      if (process.platform === 'linux') expect(summary[field], field).toBeGreaterThan(0)
      else expect(summary[field], field).toBeNull()
    }
    expect(['ring', 'portable']).toContain(summary.environment)
    expect(summary.p50Ms).toBeLessThanOrEqual(summary.p99Ms)
    expect(summary.p99Ms).toBeLessThanOrEqual(summary.p999Ms)
    expect(output.stdout).toContain(`environment ${summary.environment}`)
    expect(output.stdout).toContain('20000 flights of 220 airports')
    expect(readdirSync(scratch)).toEqual([])
  })

  it('goes on when a leader of three brokers is killed', { timeout: 90_000 }, async () => {
    const { output, closed } = start(['--records', '6000', '--brokers', '3', '--json'])
    const [code] = await closed
    expect(code, output.stdout + output.stderr).toBe(0)
    const summary = JSON.parse(output.stdout.trimEnd().split('\n').at(-1) ?? '')
    expect(summary).toMatchObject({ brokers: 3, acknowledged: 6_000, lost: 0, duplicated: 0, outOfOrder: 0 })
    expect(summary.failoverMs).toBeGreaterThan(0)
    expect(readdirSync(scratch)).toEqual([])
  })

  it('runs on the environment asked for', { timeout: 60_000 }, async () => {
    const { output, closed } = start(['--records', '1000', '--environment', 'portable', '--json'])
    const [code] = await closed
    expect(code, output.stdout + output.stderr).toBe(0)
    expect(JSON.parse(output.stdout.trimEnd().split('\n').at(-1) ?? '')).toMatchObject({
      environment: 'portable',
      lost: 0,
    })
  })

  it('cleans up after Ctrl-C', { timeout: 60_000 }, async () => {
    const { child, output, closed } = start([])
    while (!output.stdout.includes('4. Load')) await once(child.stdout, 'data')
    child.kill('SIGINT')
    const [code] = await closed
    expect(code).toBe(130)
    expect(readdirSync(scratch)).toEqual([])
    const port = Number(/listens on localhost:(\d+)/.exec(output.stdout)?.[1])
    await expect.poll(() => isListening(port), { timeout: 10_000 }).toBe(false)
  })

  it.each([
    [['--records', 'many'], '--records needs a whole number'],
    [['--environment', 'windows'], '--environment is auto, ring or portable'],
    [['--recrods', '1'], '--recrods'],
  ])('refuses %j', async (args, message) => {
    const { output, closed } = start(args)
    const [code] = await closed
    expect(code).toBe(2)
    expect(output.stderr).toContain(message)
    expect(output.stderr).toContain('Usage: npm start')
  })

  it('has a help page', async () => {
    const { output, closed } = start(['--help'])
    expect(await closed).toEqual([0, null])
    expect(output.stdout).toContain('--records N')
  })
})
