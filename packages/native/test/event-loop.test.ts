// Rings in the event loop of real processes: waking, staying alive, ending, exceptions, workers, and what never ends.
import { expect, it } from 'vitest'
import { binding } from '#src/binding.js'
import * as layout from '#src/layout.js'
import { describeNative, neverReadable } from './native-suite.js'
import { runProgram, SLOWDOWN } from './program.js'

/** A ring that turns in the event loop and collects what completes. */
const TURNING = `
const ring = new native.Ring({ entries: 64, completions: 256 })
const seen = []
const sink = { complete(slot, generation, result, flags) { if ((flags & 2) === 0) ring.letGo(); seen.push([slot, result]); onSeen(slot, result) } }
let onSeen = () => {}
let turns = 0
ring.start((woken) => { turns++; ring.beginTurn(); ring.submit(); ring.reap(sink) })
`

describeNative('event loop', () => {
  it('ends with a ring that nothing holds', async () => {
    const { code, signal, stderr } = await runProgram(`${TURNING} console.log('up')`)
    expect([code, signal, stderr]).toEqual([0, null, ''])
  })

  it('lives as long as an operation is in flight, and ends after it', async () => {
    const { code, stdout, stderr } = await runProgram(`${TURNING}
      ring.hold(); ring.nop(7, 1)
      process.on('exit', () => console.log(JSON.stringify(seen)))`)
    expect([code, stdout.trim(), stderr]).toEqual([0, '[[7,0]]', ''])
  })

  it('counts what held it before it was started', async () => {
    const { code, stdout, stderr } = await runProgram(`
      const ring = new native.Ring({ entries: 64, completions: 256 })
      const sink = { complete(slot) { ring.letGo(); console.log(slot) } }
      ring.hold(); ring.nop(3, 1)
      ring.start(() => { ring.beginTurn(); ring.submit(); ring.reap(sink) })`)
    expect([code, stdout.trim(), stderr]).toEqual([0, '3', ''])
  })

  it('is woken by the kernel', async () => {
    const { code, stdout, stderr } = await runProgram(`${TURNING}
      import { connect } from 'node:net'
      const { descriptor, port } = native.listenOn('127.0.0.1', 0, 16)
      ring.hold(); ring.acceptAll(descriptor, 1, 1)
      let left = 20
      const dial = () => connect(port, '127.0.0.1')
      onSeen = (slot, result) => { native.closeDescriptor(result); if (--left > 0) setTimeout(dial, 1); else { ring.close(100); console.log('done') } }
      setTimeout(dial, 20)`)
    expect([code, stdout.trim(), stderr]).toEqual([0, 'done', ''])
  })

  it('does not spin while it waits', async () => {
    const { code, stdout } = await runProgram(`${TURNING}
      const { descriptor } = native.listenOn('127.0.0.1', 0, 16)
      ring.hold(); ring.acceptAll(descriptor, 1, 1)
      setTimeout(() => {
        const before = process.cpuUsage(), turnsBefore = turns
        setTimeout(() => {
          const { user, system } = process.cpuUsage(before)
          console.log(JSON.stringify({ turns: turns - turnsBefore, cpuMs: (user + system) / 1000 }))
          process.exit(0)
        }, 500)
      }, 100)`)
    expect(code).toBe(0)
    const { turns, cpuMs } = JSON.parse(stdout)
    expect(turns).toBeLessThan(3)
    expect(cpuMs).toBeLessThan(50 * SLOWDOWN)
  })

  it('lets others have their turn while it is busy', async () => {
    const { code, stdout } = await runProgram(`${TURNING}
      let immediates = 0, timers = 0
      onSeen = () => { if (performance.now() < end) { ring.hold(); ring.nop(1, 1) } }
      const end = performance.now() + 300
      const again = () => { immediates++; if (performance.now() < end) setImmediate(again) }
      again()
      const timer = setInterval(() => { timers++; if (performance.now() > end) clearInterval(timer) }, 10)
      ring.hold(); ring.nop(1, 1)
      process.on('exit', () => console.log(JSON.stringify({ immediates, timers, completions: seen.length })))`)
    expect(code).toBe(0)
    const { immediates, timers, completions } = JSON.parse(stdout)
    expect(immediates).toBeGreaterThan(100 / SLOWDOWN)
    expect(timers).toBeGreaterThan(5 / SLOWDOWN)
    expect(completions).toBeGreaterThan(1000 / SLOWDOWN)
  })

  it('reports an exception of a turn as uncaught, and goes on when somebody catches it', async () => {
    const ended = await runProgram(
      `${TURNING} onSeen = () => { throw new Error('planted') }; ring.hold(); ring.nop(1, 1)`,
    )
    expect([ended.code, ended.signal]).toEqual([1, null])
    expect(ended.stderr).toContain('planted')
    const survived = await runProgram(`${TURNING}
      process.on('uncaughtException', (error) => console.log(error.message))
      onSeen = (slot) => { if (slot < 3) throw new Error('planted ' + slot) }
      for (let i = 0; i < 5; i++) { ring.hold(); ring.nop(i, 1) }
      process.on('exit', () => console.log(seen.length))`)
    expect([survived.code, survived.stdout.trim().split('\n')]).toEqual([
      0,
      ['planted 0', 'planted 1', 'planted 2', '5'],
    ])
  })

  it('runs promises between turns, and takes what they submit', async () => {
    const { code, stdout } = await runProgram(`${TURNING}
      const waiting = new Map()
      onSeen = (slot) => waiting.get(slot)?.()
      const nop = (slot) => new Promise((resolve) => { waiting.set(slot, resolve); ring.hold(); ring.nop(slot, 1) })
      for (let i = 0; i < 100; i++) await nop(i)
      console.log('through')`)
    expect([code, stdout.trim()]).toEqual([0, 'through'])
  })

  it('may be closed by its own turn, by a promise of it, and by a timer', async () => {
    for (const close of [
      'onSeen = () => ring.close(0)',
      'onSeen = (slot) => Promise.resolve().then(() => slot === 1 && ring.close(0))',
      'onSeen = (slot) => setTimeout(() => slot === 1 && ring.close(0), 1)',
      'onSeen = () => { ring.close(0); throw new Error("planted") }; process.on("uncaughtException", () => {})',
    ]) {
      const { code, signal, stderr } = await runProgram(
        `${TURNING} ${close}; ring.hold(); ring.nop(1, 1); ring.hold(); ring.nop(2, 1)`,
      )
      expect([code, signal, stderr], close).toEqual([0, null, ''])
    }
  })

  it('leaks a ring on purpose when something never completes, and its memory with it', async () => {
    const native = binding()
    const opened = native.ringOpen(8, 16, 0xffffffff)
    if (!('handle' in opened)) throw new Error('the ring was refused')
    const arena = native.arenaOpen(8192, opened.handle)
    // As if the kernel still owed one completion more than it ever gives: there is no portable way to hang a kernel.
    new Uint32Array(opened.control)[layout.CONTROL_FINALS / 4] = 0xffffffff
    expect(() => native.arenaClose(arena.handle)).toThrow(expect.objectContaining({ errno: 16 }))
    const begun = performance.now()
    expect(native.ringClose(opened.handle, 300)).toBe(1)
    expect(performance.now() - begun).toBeGreaterThan(250)
    expect(performance.now() - begun).toBeLessThan(1500)
    expect(native.arenaClose(arena.handle)).toBe(false)
    expect(arena.buffer.byteLength).toBe(0)
    const next = native.arenaOpen(8192, 0)
    expect(next.address).not.toBe(arena.address)
    expect(native.arenaClose(next.handle)).toBe(true)
  })

  it('waits two seconds and no longer when an environment ends with something that never completes', async () => {
    const { code, signal, stdout, stderr, elapsedMs } = await runProgram(`
      import { Worker } from 'node:worker_threads'
      const worker = new Worker(\`
        import { parentPort } from 'node:worker_threads'
        import('@millrace/native').then((native) => {
          const opened = native.binding().ringOpen(8, 16, 0xffffffff)
          native.binding().arenaOpen(8192, opened.handle)
          new Uint32Array(opened.control)[3] = 0xffffffff
          native.binding().ringStart(opened.handle, () => {})
          parentPort.postMessage('ready')
          setInterval(() => {}, 1000)
        })\`, { eval: true })
      worker.once('message', async () => { await worker.terminate(); console.log('terminated') })`)
    expect([code, signal, stdout.trim()]).toEqual([0, null, 'terminated'])
    expect(stderr).toMatch(/1 I\/O operations did not end within 2 s/)
    expect(elapsedMs).toBeGreaterThan(1900)
    expect(elapsedMs).toBeLessThan(8000)
  })

  it('works in two workers at once, which end in every way', async () => {
    const worker = (ending: string) => `
      import { parentPort } from 'node:worker_threads'
      import('@millrace/native').then((native) => {
        const ring = new native.Ring({ entries: 64, completions: 256 })
        const arena = new native.Arena(65536, ring)
        ring.registerBufferTable(1); ring.registerBuffer(0, arena.handle)
        let done = 0
        const sink = { complete(slot, g, result) { if (slot !== 1) return; ring.letGo(); if (++done === 2000) { parentPort.postMessage('ready'); ${ending} } if (done < 1e6) { ring.hold(); ring.nop(1, 1) } } }
        ring.start(() => { ring.beginTurn(); ring.submit(); ring.reap(sink) })
        const path = '/dev/zero'
        const zero = native.openFile(path, 0)
        ring.hold(); ring.nop(1, 1)
        ring.read(zero, arena.address, 65536, 0, 0, 2, 1)
        ring.read(${'NEVER'}, arena.address, 1, 0, -1, 3, 1)
      })`
    const { code, signal, stdout, stderr } = await runProgram(`
      import { Worker } from 'node:worker_threads'
      import { execFileSync } from 'node:child_process'
      import { mkdtempSync, rmSync } from 'node:fs'
      const folder = mkdtempSync('/tmp/millrace-native-')
      execFileSync('mkfifo', [folder + '/pipe'])
      const never = native.openFile(folder + '/pipe', 2)
      rmSync(folder, { recursive: true })
      const run = (source, terminate) => new Promise((resolve, reject) => {
        const worker = new Worker(source.replace('NEVER', String(never)), { eval: true })
        worker.once('message', () => { if (terminate) void worker.terminate() })
        worker.once('error', (error) => resolve(error.message))
        worker.once('exit', resolve)
      })
      const ends = [
        ...(await Promise.all([run(${JSON.stringify(worker(''))}, true), run(${JSON.stringify(worker(''))}, true)])),
        ...(await Promise.all([run(${JSON.stringify(worker('process.exit(5)'))}), run(${JSON.stringify(worker('throw new Error("planted")'))})])),
        await run(${JSON.stringify(worker('ring.close(1000); arena.close(); done = 1e6'))}),
      ]
      console.log(JSON.stringify(ends))`)
    expect([code, signal, stderr]).toEqual([0, null, ''])
    expect(JSON.parse(stdout)).toEqual([1, 1, 5, 'planted', 0])
  })

  it('survives a process that exits with reads in flight', async () => {
    expect(neverReadable()).toBeGreaterThan(2)
    const { code, signal, stderr } = await runProgram(`${TURNING}
      const { descriptor } = native.listenOn('127.0.0.1', 0, 16)
      const arena = new native.Arena(4096, ring)
      ring.hold(); ring.acceptAll(descriptor, 1, 1)
      setTimeout(() => process.exit(9), 20)`)
    expect([code, signal, stderr]).toEqual([9, null, ''])
  })
})
