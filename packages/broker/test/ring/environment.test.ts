// What the ring environment does beyond the contract: many turns, pins, registration, locks, and closing with work left.
import { mkdtempSync, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, expect, it } from 'vitest'
import type { Block, Environment } from '#src/environment.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { createRingEnvironment } from '#src/io/ring/ring-environment.js'
import { describeRing, recordingLogger, runProgram } from './ring-suite.js'

const folder = mkdtempSync(join(process.env.MILLRACE_TEST_DIRECTORY ?? tmpdir(), 'millrace-ring-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))
const MIB = 1024 * 1024
const open: Environment[] = []
let directories = 0

function newEnvironment(memoryBytes = 64 * MIB, logger = recordingLogger().logger): Environment {
  const environment = createRingEnvironment({ memoryBytes, logger })
  open.push(environment)
  return environment
}

afterEach(async () => {
  await Promise.all(open.splice(0).map((environment) => environment.close()))
})

function allocate(environment: Environment, byteLength: number): Block {
  const block = environment.memory.allocate(byteLength)
  if (block === null) throw new Error('no memory')
  return block
}

function dial(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true }, () => resolve(socket))
    socket.once('error', reject)
  })
}

const QUIET = { onBytes() {}, onFilled() {}, onClosed() {} }

describeRing('the ring environment', () => {
  it('dials a name by each of its addresses in turn', async () => {
    const environment = newEnvironment()
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => QUIET)
    const peers: string[] = []
    await environment.network.dial({ host: 'localhost', port, timeoutMs: 5000 }, (stream) => {
      peers.push(stream.peer)
      return QUIET
    })
    expect(peers).toEqual([`127.0.0.1:${port}`])
  })

  it('dials as many as it has room for, and says so of the next', async () => {
    const environment = newEnvironment()
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, () => QUIET)
    const ends = await Promise.allSettled(
      Array.from({ length: 520 }, () =>
        environment.network.dial({ host: '127.0.0.1', port, timeoutMs: 5000 }, () => QUIET),
      ),
    )
    expect(ends.filter(({ status }) => status === 'fulfilled')).toHaveLength(512)
    const refused = ends.find(({ status }) => status === 'rejected')
    expect(refused).toMatchObject({ reason: { code: 'OTHER', message: expect.stringContaining('too many') } })
    await environment.network.dial({ host: '127.0.0.1', port, timeoutMs: 5000 }, () => QUIET)
  })

  it('loses no turn however busy: echoes come back without pause', async () => {
    const environment = newEnvironment()
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => ({
      ...QUIET,
      onBytes: (chunk) => stream.write(chunk),
    }))
    const rounds = 2000
    let longestMs = 0
    await Promise.all(
      Array.from({ length: 16 }, async () => {
        const socket = await dial(port)
        await new Promise<void>((resolve) => {
          let left = rounds
          let lastMs = performance.now()
          socket.on('data', () => {
            const now = performance.now()
            longestMs = Math.max(longestMs, now - lastMs)
            lastMs = now
            if (--left === 0) resolve()
            else socket.write('ping')
          })
          socket.write('ping')
        })
        socket.destroy()
      }),
    )
    expect(longestMs).toBeLessThan(1000)
  }, 30_000)

  it('runs deferred work that defers more, for as long as it does', async () => {
    const environment = newEnvironment()
    let ran = 0
    const again = () => {
      ran++
      environment.clock.defer(again)
    }
    // More turns in a row than the loop allows: the kernel's own wake-ups come in between.
    environment.clock.defer(again)
    let seen = 0
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setTimeout(resolve, 20))
      expect(ran).toBeGreaterThan(seen + 20)
      seen = ran
    }
  })

  it('goes on after a callback that throws', async () => {
    const { code, stdout, stderr } = await runProgram(`
      environment = newEnvironment()
      process.on('uncaughtException', (error) => console.log(error.message))
      environment.clock.defer(() => { throw new Error('first') })
      environment.clock.defer(() => console.log('second'))
      environment.clock.defer(() => { throw new Error('third') })
      const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => handler({
        onBytes(chunk) { stream.write(chunk); throw new Error('in onBytes') },
      }))
      const socket = await connectTo(port)
      socket.once('data', () => { console.log('echo'); socket.destroy(); void environment.close() })
      socket.write('x')`)
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout.trim().split('\n')).toEqual(['first', 'second', 'third', 'in onBytes', 'echo'])
  })

  it('refuses to release a block that an operation uses', async () => {
    const environment = newEnvironment()
    const { memory } = environment
    const volume = await environment.disk.openVolume(join(folder, `v${directories++}`), { requireDirect: false })
    const file = await volume.open('slot', { create: true })
    const block = allocate(environment, MIB)
    const writing = file.write(0, block, 0, MIB)
    expect(() => memory.release(block)).toThrow(/no operation uses it/)
    await writing
    const received = allocate(environment, 4096)
    let sending: Block | null = null
    const { port } = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => {
      stream.receiveInto(received, 0, 100)
      sending = allocate(environment, 4096)
      stream.writeBlock(sending, 0, 4096, () => memory.release(sending!))
      expect(() => memory.release(sending!)).toThrow(/no operation uses it/)
      return QUIET
    })
    const socket = await dial(port)
    await new Promise((resolve) => socket.once('data', resolve))
    expect(() => memory.release(received)).toThrow(/no operation uses it/)
    socket.destroy()
    memory.release(block)
    expect(() => memory.release(block)).toThrow(/free|merged/)
    expect(() => file.write(0, block, 0, 4096)).toThrow(/used between allocation and release/)
    const foreign = newEnvironment()
    expect(() => foreign.memory.release(received)).toThrow(/belongs to the memory/)
    expect(() => file.write(0, allocate(foreign, 4096), 0, 4096)).toThrow(/belongs to the memory/)
  })

  it('hands out blocks from 4 KiB to its whole budget, and merges them again', () => {
    const { memory } = newEnvironment(256 * MIB)
    expect(memory.budgetBytes).toBe(256 * MIB)
    const sizes = Array.from({ length: 13 }, (_, i) => 4096 * 2 ** i)
    const blocks = sizes.map((size) => memory.allocate(size)!)
    expect(blocks.map(({ byteLength }) => byteLength)).toEqual(sizes)
    for (const block of blocks) {
      block.bytes[block.byteLength - 1] = 1
      memory.release(block)
    }
    expect(memory.usedBytes).toBe(0)
    const large = memory.allocate(64 * MIB)
    expect(large?.byteLength).toBe(64 * MIB)
    memory.release(large!)
  })

  it('is locked against the other environment, both ways', async () => {
    const ring = newEnvironment()
    const portable = createPortableEnvironment({ memoryBytes: MIB, logger: recordingLogger().logger })
    open.push(portable)
    const directory = join(folder, `v${directories++}`)
    for (const [holder, other] of [
      [ring, portable],
      [portable, ring],
    ] as const) {
      const volume = await holder.disk.openVolume(directory, { requireDirect: false })
      await expect(other.disk.openVolume(directory, { requireDirect: false })).rejects.toMatchObject({ code: 'LOCKED' })
      await volume.close()
    }
  })

  it('says what a volume is, on a disk and in memory', async () => {
    const environment = newEnvironment()
    const shared = mkdtempSync('/dev/shm/millrace-ring-')
    try {
      const volume = await environment.disk.openVolume(shared, { requireDirect: false })
      expect(volume.flushMethod).toBe('syncfs')
      expect(volume.note).toMatch(/tmpfs|buffered/)
      const file = await volume.open('slot', { create: true })
      const block = allocate(environment, 8192)
      block.bytes.fill(7)
      await file.write(4096, block, 0, 8192)
      await volume.flush([file])
      block.bytes.fill(0)
      expect(await file.read(4096, block, 0, 8192)).toBe(8192)
      expect(block.bytes.every((byte) => byte === 7)).toBe(true)
      await volume.close()
    } finally {
      rmSync(shared, { recursive: true, force: true })
    }
  })

  it('settles whatever was left when it closes, and refuses what comes later', async () => {
    const environment = newEnvironment()
    const volume = await environment.disk.openVolume(join(folder, `v${directories++}`), { requireDirect: false })
    const file = await volume.open('slot', { create: true })
    const block = allocate(environment, MIB)
    let stream: Parameters<Parameters<Environment['network']['listen']>[1]>[0] | null = null
    const listener = await environment.network.listen({ host: '127.0.0.1', port: 0 }, (accepted) => {
      stream = accepted
      return QUIET
    })
    const socket = await dial(listener.port)
    const writes = Array.from({ length: 16 }, (_, i) => file.write(i * MIB, block, 0, MIB))
    const [outcomes] = await Promise.all([Promise.allSettled(writes), environment.close(), environment.close()])
    for (const outcome of outcomes) {
      if (outcome.status === 'rejected') expect(outcome.reason).toMatchObject({ code: 'CLOSED' })
    }
    expect(block.bytes.byteLength).toBe(0)
    expect(environment.memory.allocate(4096)).toBeNull()
    await expect(file.write(0, block, 0, 4096)).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(file.sync()).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(volume.list()).rejects.toMatchObject({ code: 'CLOSED' })
    await expect(environment.disk.openVolume(folder, { requireDirect: false })).rejects.toMatchObject({
      code: 'CLOSED',
    })
    await expect(environment.network.listen({ host: '127.0.0.1', port: 0 }, () => QUIET)).rejects.toThrow(/closed/)
    await listener.close()
    stream!.write(new Uint8Array(10))
    stream!.end()
    stream!.destroy()
    await new Promise<void>((resolve) => environment.clock.defer(resolve))
    socket.destroy()
  })

  it('closes one environment of a thread while another works', async () => {
    const working = newEnvironment()
    const { port } = await working.network.listen({ host: '127.0.0.1', port: 0 }, (stream) => ({
      ...QUIET,
      onBytes: (chunk) => stream.write(chunk),
    }))
    const socket = await dial(port)
    for (let i = 0; i < 10; i++) {
      const other = newEnvironment()
      allocate(other, MIB).bytes.fill(i)
      await other.close()
      const echo = new Promise((resolve) => socket.once('data', resolve))
      socket.write('still there?')
      await echo
    }
    socket.destroy()
  })
})
