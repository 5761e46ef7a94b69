// Processes and workers that end at every stage of life, in every way, with operations in flight: the right exit code,
// no crash, no hang.
import { expect, it } from 'vitest'
import { describeRing, PRELUDE, runProgram } from './ring-suite.js'

/** Each leaves something unfinished behind. */
const STAGES: Readonly<Record<string, string>> = {
  'before set-up': '',
  'ring set up': 'environment = newEnvironment()',
  'memory registered': `environment = newEnvironment()
    const block = environment.memory.allocate(1 << 20)
    block.bytes.fill(1)`,
  'accept armed': `environment = newEnvironment()
    await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => handler())`,
  'receive in flight': `environment = newEnvironment()
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => handler())
    const socket = await connectTo(port)
    await sleep(10)`,
  'receive into a block in flight': `environment = newEnvironment()
    const block = environment.memory.allocate(1 << 20)
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => {
      stream.receiveInto(block, 0, 1 << 20)
      return handler()
    })
    const socket = await connectTo(port)
    socket.write(new Uint8Array(100_000))
    await sleep(10)`,
  'send in flight': `environment = newEnvironment()
    const block = environment.memory.allocate(1 << 20)
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => {
      for (let i = 0; i < 32; i++) stream.writeBlock(block, 0, 1 << 20, () => {})
      stream.write(new Uint8Array(50_000))
      return handler()
    })
    const socket = await connectTo(port)
    socket.pause()
    await sleep(10)`,
  'writes in flight': `environment = newEnvironment()
    const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
    const file = await volume.open('slot', { create: true })
    const block = environment.memory.allocate(1 << 20)
    const outcome = Promise.allSettled(Array.from({ length: 32 }, (_, i) => file.write(i << 20, block, 0, 1 << 20)))
    await Promise.resolve()`,
  'flush in flight': `environment = newEnvironment()
    const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
    const file = await volume.open('slot', { create: true })
    const block = environment.memory.allocate(1 << 20)
    await file.write(0, block, 0, 1 << 20)
    const outcome = Promise.allSettled([file.sync(), volume.flush([file]), volume.syncDirectory()])`,
  'during close': `environment = newEnvironment()
    const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
    const file = await volume.open('slot', { create: true })
    const block = environment.memory.allocate(1 << 20)
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => handler())
    const socket = await connectTo(port)
    const outcome = Promise.allSettled([file.write(0, block, 0, 1 << 20), environment.close()])
    await Promise.resolve()`,
  'after close': `environment = newEnvironment()
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => handler())
    const socket = await connectTo(port)
    await environment.close()`,
}

type Expected = readonly [code: number | null, signal: string | null]

const ENDINGS: readonly (readonly [name: string, source: string, expected: Expected])[] = [
  ['process.exit', 'process.exit(7)', [7, null]],
  ['an exception', "setTimeout(() => { throw new Error('planted') }); await sleep(5000)", [1, null]],
  ['SIGTERM', "process.kill(process.pid, 'SIGTERM'); await sleep(5000)", [null, 'SIGTERM']],
]

/** How workers end, what the main thread does about it, and what it hears of each. */
const WORKER_ENDINGS: readonly (readonly [name: string, inside: string, outside: string, heard: unknown])[] = [
  ['terminate', 'await sleep(5000)', 'await worker.terminate()', 1],
  ['process.exit', 'process.exit(5)', '', 5],
  ['an exception', "throw new Error('planted')", '', 'planted'],
  ['close in order', 'await environment?.close(); process.exit(0)', '', 0],
]

/** One process whose workers go through all stages, each to the same end. */
function workersOf(inside: string, outside: string): string {
  const programs = Object.values(STAGES).map(
    (stage) => `${PRELUDE}\n${stage}\nparentPort.postMessage('there'); ${inside}`,
  )
  return `
    const heard = []
    for (const program of ${JSON.stringify(programs)}) {
      const worker = new Worker(program, { eval: true })
      const ended = new Promise((resolve) => {
        worker.once('exit', resolve)
        worker.once('error', (error) => resolve(error.message))
      })
      await new Promise((resolve) => worker.once('message', resolve))
      ${outside}
      heard.push(await ended)
    }
    console.log(JSON.stringify(heard))`
}

describeRing('a process', () => {
  it.each(Object.entries(STAGES))('ends well: %s', async (_, stage) => {
    for (const [name, ending, [code, signal]] of ENDINGS) {
      const ended = await runProgram(`${stage}; ${ending}`)
      expect([ended.code, ended.signal], `${name}: ${ended.stderr}`).toEqual([code, signal])
      if (code === 1) expect(ended.stderr, name).toContain('planted')
      else expect(ended.stderr, name).toBe('')
      expect(ended.elapsedMs, name).toBeLessThan(8000)
    }
  })

  it.each(WORKER_ENDINGS)(
    'outlives workers at every stage of life that end by %s',
    async (_, inside, outside, heard) => {
      const ended = await runProgram(workersOf(inside, outside))
      expect([ended.code, ended.signal, ended.stderr]).toEqual([0, null, ''])
      expect(JSON.parse(ended.stdout)).toEqual(Object.keys(STAGES).map(() => heard))
    },
  )

  it('exits while its workers are at every stage of life', async () => {
    const programs = Object.values(STAGES).map(
      (stage) => `${PRELUDE}\n${stage}\nparentPort.postMessage('there'); await sleep(5000)`,
    )
    const ended = await runProgram(`
      for (const program of ${JSON.stringify(programs)}) {
        const worker = new Worker(program, { eval: true })
        await new Promise((resolve) => worker.once('message', resolve))
      }
      process.exit(7)`)
    expect([ended.code, ended.signal, ended.stderr]).toEqual([7, null, ''])
  })
})
