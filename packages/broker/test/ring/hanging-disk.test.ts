// A disk that hangs: closing settles all the same, what the kernel holds is leaked on purpose, and it is said.

import { binding } from '@millrace/native'
import { expect, it } from 'vitest'
import { RingLoop } from '#src/io/ring/ring-loop.js'
import { mountHangingDisk } from './hanging-disk.js'
import { describeRing, recordingLogger, runProgram } from './ring-suite.js'

/** The environment over a file that hangs, by way of a link; `ending` comes when the flush is under way. */
const program = (path: string, ending: string) => `
  import { symlinkSync } from 'node:fs'
  environment = newEnvironment()
  const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
  symlinkSync(${JSON.stringify(path)}, scratch + '/hang')
  const file = await volume.open('hang')
  const flushing = file.sync().then(() => 'flushed', (error) => error.code)
  await sleep(50)
  const begun = performance.now()
  ${ending}`

async function onHangingDisk(body: (path: string) => Promise<void>): Promise<void> {
  const disk = mountHangingDisk()
  if ('refused' in disk) throw new Error(disk.refused)
  try {
    await body(disk.path)
  } finally {
    disk.end()
  }
}

/** Without root or FUSE nobody can hang a disk; the completion that never comes, below, is tried anyway. */
function refusal(): string | null {
  const trial = mountHangingDisk()
  if ('refused' in trial) return trial.refused.trim()
  trial.end()
  return null
}

describeRing('a disk that hangs', () => {
  const refused = refusal()
  if (refused !== null) {
    it(`passes by refusal: ${refused}`, () => expect(refused).toMatch(/\w+/))
    return
  }

  it('does not keep an environment from closing', async () => {
    await onHangingDisk(async (path) => {
      const ended = await runProgram(
        program(
          path,
          `await environment.close()
          console.log(JSON.stringify({ flushing: await flushing, closedMs: performance.now() - begun }))`,
        ),
      )
      expect([ended.code, ended.signal], ended.stderr).toEqual([0, null])
      const { flushing, closedMs } = JSON.parse(ended.stdout)
      expect(flushing).toBe('CLOSED')
      expect(closedMs).toBeGreaterThan(2000)
      expect(closedMs).toBeLessThan(4000)
      expect(ended.stderr).toMatch(/left to it until the process ends.*operations=1/)
    })
  }, 20_000)

  it('does not keep a process from exiting', async () => {
    await onHangingDisk(async (path) => {
      const ended = await runProgram(program(path, 'process.exit(7)'))
      expect([ended.code, ended.signal, ended.stderr]).toEqual([7, null, ''])
    })
  }, 20_000)

  it('is waited for while the process only waits, and the lock stays as long as it may be written', async () => {
    await onHangingDisk(async (path) => {
      const ended = await runProgram(
        program(
          path,
          `await environment.close()
          const again = newEnvironment()
          console.log(await again.disk.openVolume(scratch, { requireDirect: false }).catch((error) => error.code))
          await again.close()`,
        ),
      )
      expect([ended.code, ended.stdout.trim()]).toEqual([0, 'LOCKED'])
    })
  }, 20_000)
})

describeRing('a completion that never comes', () => {
  it('is given up after two seconds, told to who waits, and logged', async () => {
    const native = binding()
    const ringOpen = native.ringOpen
    const { logger, lines } = recordingLogger()
    let loop: RingLoop
    try {
      native.ringOpen = (...args) => {
        const opened = ringOpen(...args)
        // One completion less than the kernel will be found to owe, now and for ever.
        if ('control' in opened) new Uint32Array(opened.control)[3] = 0xffffffff
        return opened
      }
      loop = new RingLoop(logger)
    } finally {
      native.ringOpen = ringOpen
    }
    const told: number[] = []
    loop.acquire({ onCompletion: (result) => void told.push(result) })
    const begun = performance.now()
    await loop.close()
    expect(performance.now() - begun).toBeGreaterThan(1900)
    expect(performance.now() - begun).toBeLessThan(4000)
    expect(loop.leaked).toBe(true)
    expect(told).toEqual([-125])
    expect(lines).toMatchObject([{ level: 'warn', fields: { operations: 1 } }])
  })
})
