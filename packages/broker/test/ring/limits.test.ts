// Scarcity and abuse: locked memory, open files, forced garbage collection, a thousand openings, two workers at once.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { describeRing, PRELUDE, runProgram, SANITIZED } from './ring-suite.js'

/** Denies io_uring_setup with EPERM, as container runtimes do, then becomes the command given. */
const WITHOUT_RINGS = `
import ctypes, os, struct, sys
deny = struct.pack('HBBI', 0x20, 0, 0, 0) + struct.pack('HBBI', 0x15, 0, 1, 425)
deny += struct.pack('HBBI', 0x06, 0, 0, 0x00050001) + struct.pack('HBBI', 0x06, 0, 0, 0x7fff0000)
code = ctypes.create_string_buffer(deny)
program = ctypes.create_string_buffer(struct.pack('HxxxxxxQ', 4, ctypes.addressof(code)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) != 0 or libc.prctl(22, 2, program, 0, 0) != 0: sys.exit(99)
os.execv(sys.argv[1], sys.argv[1:])
`

describeRing('the ring environment', () => {
  it('gives way to the portable one where a container refuses rings', async () => {
    // Building the addon takes python3, so where there is an addon there is python3, unless it came prebuilt.
    if (spawnSync('python3', ['--version']).error !== undefined) return
    const { code, stdout, stderr } = await runProgram(
      `import { chooseEnvironment } from '#src/io/choose-environment.js'
      environment = await chooseEnvironment({ prefer: 'auto', memoryBytes: 8 << 20, logger })
      console.log(environment.kind)
      await environment.close()
      console.log(await chooseEnvironment({ prefer: 'ring', memoryBytes: 8 << 20, logger }).catch((error) => error.name))`,
      { wrapper: ['python3', '-c', WITHOUT_RINGS] },
    )
    expect([code, stdout.trim().split('\n')]).toEqual([0, ['portable', 'EnvironmentUnavailableError']])
    expect(stderr).toMatch(/because io_uring_setup is refused \(EPERM\).*seccomp.*to change it/)
  })

  it('writes as much as a full disk takes, and says that it is full', async () => {
    const mountPoint = mkdtempSync(join(tmpdir(), 'millrace-full-'))
    const mounted = spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=1m', 'full', mountPoint], { encoding: 'utf8' })
    try {
      if (mounted.status !== 0) {
        // Passed by refusal: only root may make a disk that is full.
        expect(process.getuid?.()).not.toBe(0)
        return
      }
      const { code, stdout, stderr } = await runProgram(`
        environment = newEnvironment()
        const volume = await environment.disk.openVolume(${JSON.stringify(mountPoint)}, { requireDirect: false })
        const file = await volume.open('slot', { create: true })
        const block = environment.memory.allocate(2 << 20)
        const outcomes = []
        outcomes.push(await file.allocate(2 << 20).then(() => 'done', (error) => error.code), await file.size())
        outcomes.push(await file.write(0, block, 0, 512 << 10).then(() => 'done', (error) => error.code))
        outcomes.push(await file.write(512 << 10, block, 0, 1 << 20).then(() => 'done', (error) => error.code))
        outcomes.push((await file.size()) > (512 << 10))
        console.log(JSON.stringify(outcomes))
        await volume.close()
        await environment.close()`)
      expect([code, stderr]).toEqual([0, ''])
      expect(JSON.parse(stdout)).toEqual(['NO_SPACE', 0, 'done', 'NO_SPACE', true])
    } finally {
      if (mounted.status === 0) spawnSync('umount', ['-l', mountPoint])
      rmSync(mountPoint, { recursive: true, force: true })
    }
  })

  it('works with unregistered memory where the limit on locked memory refuses more', async () => {
    // Root locks without limit as long as it has the capability.
    const wrapper =
      process.getuid?.() === 0
        ? ['setpriv', '--bounding-set=-ipc_lock', '--inh-caps=-ipc_lock', 'prlimit', '--memlock=6291456']
        : ['prlimit', '--memlock=6291456']
    expect(spawnSync(wrapper[0]!, ['--version']).status, 'util-linux has the tools').toBe(0)
    const { code, stdout, stderr } = await runProgram(
      `environment = newEnvironment(128 << 20)
      const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
      const file = await volume.open('slot', { create: true })
      const blocks = Array.from({ length: 48 }, () => environment.memory.allocate(1 << 20))
      await Promise.all(blocks.map((block, i) => { block.bytes.fill(i + 1); return file.write(i << 20, block, 0, 1 << 20) }))
      for (const block of blocks) block.bytes.fill(0)
      await Promise.all(blocks.map((block, i) => file.read(i << 20, block, 0, 1 << 20)))
      console.log(blocks.every((block, i) => block.bytes.every((byte) => byte === i + 1)))
      await environment.close()`,
      { wrapper },
    )
    expect([code, stdout.trim()]).toEqual([0, 'true'])
    expect(stderr.trim().split('\n')).toEqual([expect.stringContaining('raise the limit on locked memory')])
  })

  it('goes on accepting when it has run out of descriptors for a while', async () => {
    const { code, stdout, stderr } = await runProgram(
      `environment = newEnvironment()
      const streams = []
      const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => {
        streams.push(stream)
        return handler()
      })
      import { openSync, closeSync } from 'node:fs'
      const sockets = []
      for (let i = 0; i < 4; i++) sockets.push(await connectTo(port))
      const taken = []
      for (;;) { try { taken.push(openSync('/dev/null')) } catch { break } }
      closeSync(taken.pop())
      const late = await connectTo(port)
      await sleep(150)
      const before = streams.length
      for (const descriptor of taken) closeSync(descriptor)
      for (let i = 0; i < 100 && streams.length < 5; i++) await sleep(10)
      console.log(JSON.stringify([before, streams.length]))
      for (const socket of [...sockets, late]) socket.destroy()
      await environment.close()`,
      { wrapper: ['prlimit', '--nofile=128'] },
    )
    expect([code, stdout.trim()]).toEqual([0, '[4,5]'])
    expect(stderr).toContain('EMFILE')
  })

  it('keeps memory that only the kernel uses from the garbage collector', async () => {
    const { code, stdout, stderr } = await runProgram(
      `environment = newEnvironment(256 << 20)
      const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
      const file = await volume.open('slot', { create: true })
      const MIB = 1 << 20
      const poison = () => { for (let i = 0; i < 20; i++) new Uint8Array(MIB).fill(0xee); globalThis.gc() }
      // Nobody here keeps a block, a promise or a stream: only what is in flight does.
      const write = (i) => { const block = environment.memory.allocate(MIB); block.bytes.fill(i); void file.write(i * MIB, block, 0, MIB).then(() => { done++; environment.memory.release(block) }) }
      let done = 0
      for (let round = 0; round < 5; round++) { for (let i = 1; i <= 16; i++) write(i); poison(); while (done < 16 * (round + 1)) { await sleep(1); globalThis.gc() } }
      const wrong = []
      const read = (i) => { const block = environment.memory.allocate(MIB); void file.read(i * MIB, block, 0, MIB).then((count) => { done++; if (count !== MIB || !block.bytes.every((byte) => byte === i)) wrong.push(i) }) }
      done = 0
      for (let i = 1; i <= 16; i++) read(i)
      poison()
      while (done < 16) { await sleep(1); poison() }
      let bytes = 0, good = true
      const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => {
        const into = environment.memory.allocate(MIB)
        stream.receiveInto(into, 0, MIB)
        return handler({ onFilled() {
          good &&= into.bytes.every((byte) => byte === 0x33)
          const out = environment.memory.allocate(MIB)
          out.bytes.fill(0x44)
          stream.writeBlock(out, 0, MIB, () => {})
          stream.write(new Uint8Array(100_000).fill(0x44))
        } })
      })
      await Promise.all(Array.from({ length: 8 }, async () => {
        const socket = await connectTo(port)
        let got = 0
        const all = new Promise((resolve) => socket.on('data', (chunk) => { good &&= chunk.every((byte) => byte === 0x44); got += chunk.length; if (got === MIB + 100_000) resolve() }))
        for (let i = 0; i < 16; i++) { socket.write(new Uint8Array(MIB / 16).fill(0x33)); await sleep(1); if (i % 4 === 0) poison() }
        poison()
        await all
        bytes += got
        socket.destroy()
      }))
      console.log(JSON.stringify({ wrong, good, bytes }))
      await environment.close()`,
      { execArgv: ['--expose-gc'], limitMs: 60_000 },
    )
    expect([code, stderr]).toEqual([0, ''])
    expect(JSON.parse(stdout)).toEqual({ wrong: [], good: true, bytes: 8 * (1_048_576 + 100_000) })
  }, 60_000)

  it('is opened and closed a thousand times without growth of descriptors or memory', async () => {
    const { code, stdout, stderr } = await runProgram(
      `import { readdirSync } from 'node:fs'
      const once = async (i) => {
        const one = newEnvironment(8 << 20)
        const block = one.memory.allocate(64 << 10)
        block.bytes.fill(i)
        const { port } = await one.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => handler({ onBytes: (chunk) => stream.write(chunk) }))
        if (i % 10 === 0) {
          const socket = await connectTo(port)
          socket.write('x')
          await new Promise((resolve) => socket.once('data', resolve))
          const volume = await one.disk.openVolume(scratch, { requireDirect: false })
          const file = await volume.open('slot', { create: true })
          await file.write(0, block, 0, 64 << 10)
          await volume.flush([file])
          await volume.close()
          socket.destroy()
        }
        await one.close()
      }
      const measure = () => {
        globalThis.gc()
        // What the engine keeps of its heap for later is no leak, what is used of it is.
        const { rss, heapTotal, heapUsed } = process.memoryUsage()
        return { descriptors: readdirSync('/proc/self/fd').length, bytes: rss - heapTotal + heapUsed }
      }
      for (let i = 0; i < 200; i++) await once(i)
      const before = measure()
      for (let i = 0; i < 1000; i++) await once(i)
      await sleep(50)
      const after = measure()
      console.log(JSON.stringify({ descriptors: after.descriptors - before.descriptors, grownMib: (after.bytes - before.bytes) / 1048576 }))`,
      { execArgv: ['--expose-gc'], limitMs: 90_000 },
    )
    expect([code, stderr]).toEqual([0, ''])
    const { descriptors, grownMib } = JSON.parse(stdout)
    expect(descriptors).toBeLessThanOrEqual(2)
    if (!SANITIZED) expect(grownMib).toBeLessThan(12)
  }, 90_000)

  it('runs in two workers at once', async () => {
    const program = `${PRELUDE}
      environment = newEnvironment()
      const volume = await environment.disk.openVolume(scratch, { requireDirect: false })
      const file = await volume.open('slot', { create: true })
      const block = environment.memory.allocate(256 << 10)
      const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => handler({ onBytes: (chunk) => stream.write(chunk) }))
      const socket = await connectTo(port)
      let echoes = 0
      socket.on('data', () => { echoes++; socket.write('again') })
      socket.write('first')
      for (let i = 0; i < 200; i++) { block.bytes.fill(i); await file.write(i * (256 << 10), block, 0, 256 << 10) }
      let wrong = 0
      for (let i = 0; i < 200; i++) { await file.read(i * (256 << 10), block, 0, 256 << 10); if (!block.bytes.every((byte) => byte === i)) wrong++ }
      while (echoes < 100) await sleep(1)
      socket.destroy()
      await environment.close()
      parentPort.postMessage({ wrong, echoed: echoes >= 100 })`
    const { code, stdout, stderr } = await runProgram(`
      const answers = await Promise.all([1, 2].map(() => new Promise((resolve, reject) => {
        const worker = new Worker(${JSON.stringify(program)}, { eval: true })
        worker.once('message', resolve)
        worker.once('error', reject)
      })))
      console.log(JSON.stringify(answers))`)
    expect([code, stderr]).toEqual([0, ''])
    expect(JSON.parse(stdout)).toEqual([
      { wrong: 0, echoed: true },
      { wrong: 0, echoed: true },
    ])
  })

  it('keeps an idle process small and asleep', async () => {
    const { code, stdout } = await runProgram(`
      environment = newEnvironment(512 << 20)
      environment.memory.allocate(1 << 20)
      await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => handler())
      await sleep(200)
      const before = process.cpuUsage()
      await sleep(1000)
      const { user, system } = process.cpuUsage(before)
      console.log(JSON.stringify({ cpuMs: (user + system) / 1000, rssMib: process.memoryUsage.rss() / 1048576 }))
      process.exit(0)`)
    expect(code).toBe(0)
    const { cpuMs, rssMib } = JSON.parse(stdout)
    expect(cpuMs).toBeLessThan(20)
    if (!SANITIZED) expect(rssMib).toBeLessThan(75)
  })
})
