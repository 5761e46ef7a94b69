// A worker that is terminated while the kernel holds its I/O: nothing crashes, and no memory is used twice.
import { expect, it } from 'vitest'
import { eventually, sleep } from '../faults/broker-process.js'
import { describeFaults } from '../faults/faults-suite.js'
import { FaultyDisk } from '../faults/faulty-disk.js'
import { describeRing, PRELUDE, runProgram } from './ring-suite.js'

/** In a worker: reads and a flush that hang, into memory filled with a pattern. */
const inWorker = (directory: string) => `${PRELUDE}
  environment = newEnvironment()
  const volume = await environment.disk.openVolume(${JSON.stringify(directory)}, { requireDirect: false })
  const file = await volume.open('slot', { create: true })
  const block = environment.memory.allocate(1 << 20)
  block.bytes.fill(0x77)
  await file.write(0, block, 0, 1 << 20)
  void file.read(0, block, 0, 1 << 20)
  void file.read(0, block, 0, 64 << 10)
  void file.sync()
  setTimeout(() => parentPort.postMessage('under way'), 100)`

/** The process around it: what it allocates after the worker has gone must stay what it wrote there. */
const program = (directory: string) => `
  const worker = new Worker(${JSON.stringify(inWorker(directory))}, { eval: true })
  await new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject) })
  let last = performance.now(), longestMs = 0
  const ticking = setInterval(() => { const now = performance.now(); longestMs = Math.max(longestMs, now - last); last = now }, 10)
  const begun = performance.now()
  await worker.terminate()
  const terminatedMs = performance.now() - begun
  environment = newEnvironment()
  const blocks = Array.from({ length: 32 }, () => environment.memory.allocate(1 << 20))
  blocks.forEach((block, i) => block.bytes.fill(i + 1))
  await sleep(300)
  clearInterval(ticking)
  const intact = blocks.every((block, i) => block.bytes.every((byte) => byte === i + 1))
  await environment.close()
  console.log(JSON.stringify({ terminatedMs, longestMs, intact }))`

await describeFaults(() => {
  describeRing('a worker that is terminated', () => {
    it('while its disk hangs ends when the disk answers, and leaves its memory to the kernel until then', async () => {
      const disk = await FaultyDisk.create()
      if ('refused' in disk) throw new Error(disk.refused)
      try {
        disk.inject({ on: ['read', 'flush'], effect: 'hang', files: /^slot$/ })
        const running = runProgram(program(disk.directory), { limitMs: 30_000 })
        await eventually('the disk hangs', () => disk.hangingCount > 0)
        await sleep(4000)
        disk.repair()
        const { code, signal, stdout, stderr } = await running
        expect([code, signal], stderr).toEqual([0, null])
        expect(stderr).toMatch(/did not end within 2 s; their ring and memory stay until the process ends/)
        const { terminatedMs, intact } = JSON.parse(stdout)
        expect(intact).toBe(true)
        expect(terminatedMs).toBeGreaterThan(2000)
      } finally {
        await disk.end()
      }
    }, 40_000)
  })
})
