// The simulated world itself: what a crash leaves, what misuse is caught, and that a seed decides everything.
import { describe, expect, it } from 'vitest'
import { BLOCK_BYTES, type DiskFile, type Volume } from '#src/environment.js'
import { setAmbientTraps } from '../../sim/ambient-traps.js'
import { PAGE_BYTES, SECTOR_BYTES, type TearOdds } from '../../sim/file-image.js'
import { goodNetwork } from '../../sim/pipe.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler } from '../../sim/scheduler.js'
import { SimulatedClientEnvironment } from '../../sim/simulated-client-environment.js'
import { type SimulatedEnvironment, SimulatedMachine } from '../../sim/simulated-environment.js'
import type { MemoryMisuse } from '../../sim/simulated-memory.js'
import { SimulatedNetwork } from '../../sim/simulated-network.js'

const FOREVER = { deadlineMs: Number.POSITIVE_INFINITY, events: 1_000_000 }
const WORST: TearOdds = { garbage: 0.1, zero: 0.1, newer: 0.5 }

class World {
  readonly scheduler = new Scheduler()
  readonly random: SeededRandom
  readonly network: SimulatedNetwork
  readonly machine: SimulatedMachine
  readonly misuses: MemoryMisuse[] = []

  constructor(seed: number) {
    this.random = new SeededRandom(`world-${seed}`)
    this.network = new SimulatedNetwork(this.scheduler, goodNetwork(), this.random.split('network'))
    this.machine = new SimulatedMachine(this.scheduler, this.network, this.random.split('machine'), {
      host: 'broker',
      diskBytes: 64 * 1024 * 1024,
      memoryBytes: 16 * 1024 * 1024,
      onLog: () => {},
      onMisuse: (_, misuse) => this.misuses.push(misuse),
      watcher: { onFlush: () => {}, onError: () => {} },
    })
  }

  /** Turns the world until the promise settles. */
  async await<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const mark = () => {
      settled = true
    }
    promise.then(mark, mark)
    const end = await this.scheduler.run(() => settled, FOREVER)
    if (end !== 'done') throw new Error(`the world stopped: ${end}`)
    return promise
  }

  async openFile(environment: SimulatedEnvironment, create: boolean): Promise<{ volume: Volume; file: DiskFile }> {
    const volume = await this.await(environment.disk.openVolume('/data', { requireDirect: true }))
    return { volume, file: await this.await(volume.open('slot', { create })) }
  }
}

function write(environment: SimulatedEnvironment, file: DiskFile, page: number, mark: number): Promise<void> {
  const block = environment.memory.allocate(BLOCK_BYTES)!
  block.bytes.fill(mark)
  return file.write(page * PAGE_BYTES, block, 0, BLOCK_BYTES)
}

async function readPage(
  world: World,
  environment: SimulatedEnvironment,
  file: DiskFile,
  page: number,
): Promise<Uint8Array> {
  const block = environment.memory.allocate(BLOCK_BYTES)!
  expect(await world.await(file.read(page * PAGE_BYTES, block, 0, BLOCK_BYTES))).toBe(BLOCK_BYTES)
  return block.bytes
}

/** The distinct bytes of a page, sector by sector. */
function marksOf(page: Uint8Array): number[] {
  const marks = new Set<number>()
  for (let at = 0; at < page.byteLength; at += SECTOR_BYTES) {
    const sector = page.subarray(at, at + SECTOR_BYTES)
    marks.add(sector.every((byte) => byte === sector[0]) ? sector[0]! : -1)
  }
  return [...marks].sort((left, right) => left - right)
}

/** A slot of eight pages, written through and synced, in a world about to lose power. */
async function prepared(seed: number) {
  const world = new World(seed)
  const environment = world.machine.start()
  const { volume, file } = await world.openFile(environment, true)
  await world.await(file.allocate(8 * PAGE_BYTES))
  for (let page = 0; page < 8; page++) await world.await(write(environment, file, page, 1))
  await world.await(file.sync())
  await world.await(volume.syncDirectory())
  return { world, environment, volume, file }
}

async function afterPowerCut(world: World): Promise<(page: number) => Promise<Uint8Array>> {
  world.machine.cutPower(WORST)
  const environment = world.machine.start()
  const { file } = await world.openFile(environment, false)
  return (page) => readPage(world, environment, file, page)
}

describe('a power failure', () => {
  it('is told by the boot id, and the end of a process is not', () => {
    const { machine } = new World(1)
    const ids = [machine.start().bootId]
    machine.killProcess()
    ids.push(machine.start().bootId)
    machine.cutPower(WORST)
    ids.push(machine.start().bootId)
    expect(ids[1]).toBe(ids[0])
    expect(ids[2]).not.toBe(ids[0])
  })

  it('keeps what was flushed and tears what was not, at sectors', async () => {
    const seen = new Set<number>()
    for (let seed = 0; seed < 40; seed++) {
      const { world, environment, volume, file } = await prepared(seed)
      await world.await(write(environment, file, 0, 2))
      await world.await(volume.flush([file]))
      await world.await(write(environment, file, 1, 3))
      void write(environment, file, 2, 4)
      const read = await afterPowerCut(world)
      expect(marksOf(await read(0))).toEqual([2])
      for (const mark of marksOf(await read(1))) {
        expect([-1, 0, 1, 3]).toContain(mark)
        seen.add(mark)
      }
      for (const mark of marksOf(await read(2))) expect([-1, 0, 1, 4]).toContain(mark)
      for (let page = 3; page < 8; page++) expect(marksOf(await read(page))).toEqual([1])
    }
    expect([...seen].sort((left, right) => left - right)).toEqual([-1, 0, 1, 3])
  })

  it('does not count a write that completed only after the flush was submitted', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const { world, environment, volume, file } = await prepared(seed)
      const writing = write(environment, file, 0, 2)
      const flushing = volume.flush([file])
      await world.await(Promise.all([writing, flushing]))
      const read = await afterPowerCut(world)
      if (marksOf(await read(0)).some((mark) => mark !== 2)) lost++
    }
    expect(lost).toBeGreaterThan(20)
  })

  it('may lose the first write into an extent that was only flushed, not synced', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const world = new World(seed)
      const environment = world.machine.start()
      const { volume, file } = await world.openFile(environment, true)
      await world.await(file.allocate(2 * PAGE_BYTES))
      await world.await(file.sync())
      await world.await(volume.syncDirectory())
      await world.await(write(environment, file, 0, 2))
      await world.await(volume.flush([file]))
      const read = await afterPowerCut(world)
      if (marksOf(await read(0)).some((mark) => mark !== 2)) lost++
    }
    expect(lost).toBeGreaterThan(20)
  })

  it('may lose files whose directory was not synced, and keeps small files whole', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const world = new World(seed)
      const environment = world.machine.start()
      const volume = await world.await(environment.disk.openVolume('/data', { requireDirect: true }))
      await world.await(volume.writeSmall('identity', new Uint8Array([1])))
      await world.await(volume.open('slot', { create: true }))
      void volume.writeSmall('identity', new Uint8Array([2, 2]))
      world.machine.cutPower(WORST)
      const again = await world.await(world.machine.start().disk.openVolume('/data', { requireDirect: true }))
      const names = (await world.await(again.list())).map(({ name }) => name)
      if (!names.includes('slot')) lost++
      const identity = await world.await(again.readSmall('identity'))
      expect([[1], [2, 2]]).toContainEqual([...identity!])
    }
    expect(lost).toBeGreaterThan(1)
    expect(lost).toBeLessThan(39)
  })

  it('makes nothing of a flush that failed, even when the next one succeeds', async () => {
    let lost = 0
    for (let seed = 0; seed < 40; seed++) {
      const { world, environment, volume, file } = await prepared(seed)
      await world.await(write(environment, file, 0, 2))
      world.machine.diskConditions.flushErrorRate = 1
      await expect(world.await(volume.flush([file]))).rejects.toMatchObject({ code: 'INPUT_OUTPUT' })
      world.machine.diskConditions.flushErrorRate = 0
      await world.await(volume.flush([file]))
      const before = marksOf(await readPage(world, environment, file, 0))
      const read = await afterPowerCut(world)
      expect(marksOf(await read(0))).toEqual(before)
      if (before[0] !== 2) lost++
    }
    expect(lost).toBeGreaterThan(5)
  })
})

it('a killed process keeps completed writes and frees its volume', async () => {
  const { world, environment, file } = await prepared(1)
  await world.await(write(environment, file, 0, 2))
  let settled = false
  void write(environment, file, 1, 3).finally(() => {
    settled = true
  })
  environment.clock.timer(1, () => {
    settled = true
  })
  world.machine.killProcess()
  const again = world.machine.start()
  const { file: reopened } = await world.openFile(again, false)
  expect(marksOf(await readPage(world, again, reopened, 0))).toEqual([2])
  expect([[1], [3]]).toContainEqual(marksOf(await readPage(world, again, reopened, 1)))
  await world.scheduler.run(() => false, FOREVER)
  expect(settled).toBe(false)
})

describe('misuse of memory', () => {
  it('is seen when a block changes or is released under a write', async () => {
    const { world, environment, file } = await prepared(2)
    const block = environment.memory.allocate(BLOCK_BYTES)!
    const writing = file.write(0, block, 0, BLOCK_BYTES)
    expect(() => environment.memory.release(block)).toThrow(/in flight/)
    block.bytes[100] = 9
    await expect(world.await(writing)).rejects.toThrow(/changed/)
    expect(world.misuses).toHaveLength(2)
  })

  it('is seen when a released block is written', () => {
    const world = new World(3)
    const { memory } = world.machine.start()
    const block = memory.allocate(BLOCK_BYTES)!
    memory.release(block)
    memory.check()
    block.bytes[5] = 1
    expect(() => memory.check()).toThrow(/after its release/)
    expect(() => memory.checksum(block, 0, 1, 0)).toThrow(/after its release/)
  })
})

describe('the network', () => {
  /** Sends numbered bytes and loses the connection; what arrived, and how each end was told. */
  async function lose(seed: number, how: (world: World) => void) {
    const world = new World(seed)
    const environment = world.machine.start()
    const client = new SimulatedClientEnvironment(
      world.scheduler,
      world.network,
      world.random.split('client'),
      'client',
    )
    const told: string[] = []
    let received = 0
    const listening = environment.network.listen({ host: 'broker', port: 7420 }, () => ({
      onBytes(chunk) {
        const from = received
        received += chunk.byteLength
        expect(chunk.every((byte, i) => byte === ((from + i) & 0xff))).toBe(true)
      },
      onFilled() {},
      onClosed: (error) => void told.push(`broker ${error === null}`),
    }))
    await world.await(listening)
    const link = client.dial('broker', 7420, {
      onOpen: () => link.write([Uint8Array.from({ length: 200_000 }, (_, i) => i & 0xff)]),
      onBytes() {},
      onDrain() {},
      onClosed: (error) => void told.push(`client ${error === null}`),
    })
    world.scheduler.schedule(null, world.random.between(0.05, 0.6), 'fault', () => how(world))
    await world.scheduler.run(() => false, FOREVER)
    return { received, told: told.sort() }
  }

  it('delivers an unknown prefix when a connection is lost, and tells both ends', async () => {
    const lengths = new Set<number>()
    let losses = 60
    for (let seed = 0; seed < 60; seed++) {
      const { received, told } = await lose(seed, (world) => {
        for (const connection of world.network.connections) connection.lose()
      })
      lengths.add(received)
      if (told.length > 0) expect(told).toEqual(['broker false', 'client false'])
      else losses--
    }
    expect(losses).toBeGreaterThan(20)
    expect(lengths.size).toBeGreaterThan(5)
  })

  it('goes silent without a word until the kernels lose patience', async () => {
    const { told } = await lose(4, (world) => {
      for (const connection of world.network.connections) connection.goSilent(world.scheduler)
    })
    expect(told).toEqual(['broker false', 'client false'])
  })

  it('tells the client when the broker is killed, and the dead broker nothing', async () => {
    for (let seed = 0; seed < 20; seed++) {
      const { told } = await lose(seed, (world) => world.machine.killProcess())
      expect(told).toEqual(['client false'])
    }
  })
})

describe('a seed', () => {
  async function digest(seed: number): Promise<string> {
    const { world, environment, volume, file } = await prepared(seed)
    for (let round = 0; round < 20; round++) {
      await world.await(Promise.all([0, 1, 2].map((page) => write(environment, file, page, round))))
      await world.await(volume.flush([file]))
    }
    return world.scheduler.trace.digest()
  }

  it('decides the whole run', async () => {
    expect(await digest(1)).toBe(await digest(1))
    expect(await digest(1)).not.toBe(await digest(2))
  })

  it('gives every purpose its own stream of numbers', () => {
    const first = new SeededRandom('7')
    const second = new SeededRandom('7')
    second.uint32()
    expect(first.split('disk').uint32()).toBe(second.split('disk').uint32())
    expect(first.split('disk').uint32()).not.toBe(first.split('network').uint32())
  })
})

it('forbids the real clock to product code only', () => {
  const takeOff = setAmbientTraps()
  try {
    expect(Date.now()).toBeGreaterThan(0)
    expect(new Date()).toBeInstanceOf(Date)
    expect(new Date(5).getTime()).toBe(5)
    const asProduct = new Function('call', 'return call()\n//# sourceURL=/x/packages/broker/dist/log.js') as (
      call: () => unknown,
    ) => unknown
    expect(() => asProduct(() => Date.now())).toThrow(/Date\.now/)
    expect(() => asProduct(() => new Date())).toThrow(/new Date/)
    expect(() => asProduct(() => Math.random())).toThrow(/Math\.random/)
    expect(() => asProduct(() => AbortSignal.timeout(5))).toThrow(/AbortSignal\.timeout/)
    expect(() => asProduct(() => setTimeout(() => {}, 1))).toThrow(/setTimeout/)
    expect(() => asProduct(() => queueMicrotask(() => {}))).toThrow(/queueMicrotask/)
    expect(() => asProduct(() => process.nextTick(() => {}))).toThrow(/nextTick/)
  } finally {
    takeOff()
  }
  expect(Date.now).toBe(Date.now)
})
