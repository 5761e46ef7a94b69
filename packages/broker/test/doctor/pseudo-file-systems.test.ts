// Directories of the kernel's own file systems: `doctor` and `start` refuse them at once and say why.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it, onTestFinished } from 'vitest'
import { makeDirectory } from '#src/io/portable/directory-files.js'
import { temporaryDirectory } from '../server/running-broker.js'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))

async function run(...args: string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'], timeout: 20_000 })
  onTestFinished(() => void child.kill('SIGKILL'))
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text))
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text))
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve))
  return { code, stdout, stderr }
}

const ON_PROC =
  '/proc/millrace/data is on proc, which belongs to the kernel and keeps no files: choose a directory on a disk'

describe.runIf(existsSync('/proc/self'))('a data directory below /proc', () => {
  it('is bad news from the doctor', async () => {
    const { code, stdout } = await run('doctor', '--data', '/proc/millrace/data', '--json')
    expect(code).toBe(1)
    const { healthy, findings } = JSON.parse(stdout)
    expect(healthy).toBe(false)
    expect(findings).toContainEqual(expect.objectContaining({ subject: 'disk', state: 'bad', finding: ON_PROC }))
  })

  it.each(['portable', 'ring'])('is refused by a broker on the %s environment', async (environment) => {
    const { code, stderr } = await run(
      'start',
      '--data',
      '/proc/millrace/data',
      '--port',
      '0',
      '--environment',
      environment,
    )
    expect(code).toBe(1)
    expect(stderr).toContain(ON_PROC)
  })

  it('is refused below /sys as well', async () => {
    await expect(makeDirectory('/sys/millrace')).rejects.toMatchObject({ code: 'READ_ONLY' })
  })
})

describe('making a data directory', () => {
  it('makes its parents, and is content with what is there', async () => {
    const directory = join(await temporaryDirectory(), 'a', 'b', 'c')
    await Promise.all([makeDirectory(directory), makeDirectory(directory)])
    await makeDirectory(`${directory}/`)
    expect((await stat(directory)).isDirectory()).toBe(true)
  })

  it('is refused where a file stands', async () => {
    const directory = await temporaryDirectory()
    await writeFile(join(directory, 'file'), '')
    await expect(makeDirectory(join(directory, 'file'))).rejects.toMatchObject({ name: 'DiskError', code: 'EXISTS' })
    await expect(makeDirectory(join(directory, 'file', 'below'))).rejects.toMatchObject({ name: 'DiskError' })
    await rm(join(directory, 'file'))
  })
})
