// What a broker does on a disk that misbehaves, on real processes: it serves what it can, says what is wrong,
// acknowledges nothing that is not durable, and has everything acknowledged when the disk is well again.
import { expect, it, onTestFinished } from 'vitest'
import { type BrokerProcess, eventually, Ledger, sleep, startBroker, startRefused } from './broker-process.js'
import { ALL_WRITING, type DiskOptions, FaultyDisk } from './faulty-disk.js'

const SLOTS = /^slot-/
const LIMIT_MS = 180_000
const MIB = 1024 * 1024
const FAILED = 'ERR_MILLRACE_STORAGE_FAILED'

interface World {
  readonly disk: FaultyDisk
  readonly ledger: Ledger
  start(): Promise<BrokerProcess>
}

async function newWorld(environment: string, options: DiskOptions): Promise<World> {
  const disk = await FaultyDisk.create(options)
  if ('refused' in disk) throw new Error(disk.refused)
  const ledger = new Ledger()
  onTestFinished(() => disk.end())
  return {
    disk,
    ledger,
    async start() {
      const broker = await startBroker(disk.directory, environment)
      await ledger.connectTo(broker)
      return broker
    },
  }
}

/** A broker with a topic and some records acknowledged. */
async function begin(world: World): Promise<BrokerProcess> {
  const broker = await world.start()
  await world.ledger.createTopic()
  expect(await world.ledger.send(40, 10_000)).toEqual([])
  return broker
}

/** After a repair and a new start everything acknowledged is there, and more can be sent. */
async function expectAllThere({ ledger, start, disk }: World): Promise<void> {
  disk.repair()
  await start()
  await ledger.verify()
  expect(await ledger.send(20, 5_000)).toEqual([])
  await ledger.verify()
  expect(await ledger.status()).toMatchObject({ failure: null, full: false, failedReads: 0 })
}

/** Reads go on, everything else is refused, and log and status say why. */
async function expectLatched({ ledger }: World, broker: BrokerProcess, reason: RegExp): Promise<void> {
  expect(new Set(await ledger.send(8, 5_000, 1_500))).toEqual(new Set([FAILED]))
  expect(await ledger.codeOfCreating('another')).toBe(FAILED)
  await ledger.verify()
  expect((await ledger.status()).failure).toMatch(reason)
  expect(broker.log()).toMatch(reason)
  expect(broker.log()).toMatch(/repair the disk, then start the broker again/)
}

export function declareDiskFaults(environment: 'ring' | 'portable'): void {
  const test = (name: string, body: (world: World) => Promise<void>, options: DiskOptions = {}): void =>
    it(name, async () => body(await newWorld(environment, options)), LIMIT_MS)

  test('a write that fails', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    const fault = disk.inject({ on: ['write'], effect: 'EIO', files: SLOTS, after: 3, times: 1 })
    expect(new Set(await ledger.send(60, 10_000, 1_500))).toEqual(new Set([FAILED]))
    expect(fault.met).toBe(1)
    // The disk is well again at once, and still nothing is written until the logs have been verified.
    await expectLatched(world, broker, /EIO/)
    await broker.stop()
    await expectAllThere(world)
  })

  test('a flush that fails and loses what it was for', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    disk.inject({ on: ['flush'], effect: 'EIO', files: SLOTS, after: 1, times: 1, losesUnflushed: true })
    // One flush may serve a whole wave, so there are several.
    let failures: readonly string[] = []
    for (let wave = 0; wave < 6 && failures.length === 0; wave++) failures = await ledger.send(20, 10_000, 1_500)
    expect(new Set(failures)).toEqual(new Set([FAILED]))
    await expectLatched(world, broker, /EIO/)
    await broker.kill()
    disk.cutPower()
    await expectAllThere(world)
  })

  test('a power cut in the middle of sending', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    const sending = ledger.send(400, 10_000, 500)
    const before = ledger.acknowledgedCount
    await eventually('more is acknowledged', () => ledger.acknowledgedCount > before + 40)
    await broker.kill()
    disk.cutPower()
    await sending
    await expectAllThere(world)
  })

  test('reads that fail', async (world) => {
    const { disk, ledger } = world
    const first = await begin(world)
    expect(await first.stop()).toBe(0)
    const broker = await world.start()
    const fault = disk.inject({ on: ['read'], effect: 'EIO', files: SLOTS })
    expect(await ledger.codeOfConsuming()).toBe('ERR_MILLRACE_DAMAGED')
    expect(fault.met).toBeGreaterThan(0)
    expect(await ledger.send(20, 5_000)).toEqual([])
    expect((await ledger.status()).failedReads).toBeGreaterThan(0)
    expect(broker.log()).toMatch(/cannot be read/)
    // What is read once the disk reads again was not taken for damaged for ever.
    fault.lift()
    await ledger.verify()
    await broker.stop()
    await expectAllThere(world)
  })

  test('a start on a disk that cannot be read', async (world) => {
    const { disk } = world
    const broker = await begin(world)
    await broker.kill()
    disk.inject({ on: ['read'], effect: 'EIO', files: SLOTS })
    const { code, words } = await startRefused(disk.directory, environment)
    expect(code).toBe(1)
    expect(words).toMatch(/cannot be read/)
    await expectAllThere(world)
  })

  test(
    'short writes and short reads',
    async (world) => {
      const { disk, ledger } = world
      const write = disk.inject({ on: ['write'], effect: 'short', files: SLOTS, probability: 0.5 })
      const read = disk.inject({ on: ['read'], effect: 'short', files: SLOTS, probability: 0.5 })
      const broker = await begin(world)
      expect(await ledger.send(100, 10_000)).toEqual([])
      expect(await broker.stop()).toBe(0)
      await world.start()
      await ledger.verify()
      expect([write.met > 10, read.met > 10]).toEqual([true, true])
      expect(await ledger.status()).toMatchObject({ failure: null, failedReads: 0 })
    },
    // Past the cache, the kernel resumes a short read through io_uring where it began, not where it ended.
    { asyncDirect: false, pastCache: environment === 'portable' },
  )

  test('a disk without space', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    await sleep(300)
    disk.capacityBytes = disk.usedBytes + 64 * 1024
    const refusals = await ledger.send(600, 20_000, 1_000)
    // Those behind the first only hear from the broker that one before them is missing; a slow machine may answer too late.
    expect(refusals).toContain('ERR_MILLRACE_DISK_FULL')
    expect(refusals).not.toContain('ERR_MILLRACE_OUT_OF_ORDER_SEQUENCE')
    expect((await ledger.status()).full).toBe(true)
    expect(broker.log()).toMatch(/the disk is full/)
    await ledger.verify()
    disk.capacityBytes += 96 * MIB
    await eventually('the broker has seen the space', async () => !(await ledger.status()).full)
    expect(await ledger.send(40, 10_000, 5_000), broker.log()).toEqual([])
    await ledger.verify()
    expect(await broker.stop()).toBe(0)
    await expectAllThere(world)
  })

  test('a disk that hangs for seconds', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    const before = ledger.acknowledgedCount
    const fault = disk.inject({ on: ['write', 'flush'], effect: 'hang', files: SLOTS })
    const sending = ledger.send(40, 10_000, 20_000)
    await eventually('the disk hangs', () => disk.hangingCount > 0)
    await sleep(2_000)
    // Nothing is acknowledged, reads and status are served, and nobody takes it for a failure.
    expect(ledger.acknowledgedCount).toBe(before)
    await ledger.verify()
    expect((await ledger.status()).failure).toBeNull()
    fault.lift()
    expect(await sending).toEqual([])
    await ledger.verify()
    // A stop waits for what the disk has not done, and is an orderly one when the disk comes back.
    const again = disk.inject({ on: ['write', 'flush'], effect: 'hang', files: SLOTS })
    const unfinished = ledger.send(8, 10_000, 1_000)
    await eventually('the disk hangs again', () => disk.hangingCount > 0)
    const stopping = broker.stop()
    await sleep(500)
    again.lift()
    expect(await stopping, broker.log()).toBe(0)
    await unfinished
    await expectAllThere(world)
  })

  test('a file system that has become read-only', async (world) => {
    const { disk, ledger } = world
    const broker = await begin(world)
    disk.inject({ on: ALL_WRITING, effect: 'EROFS' })
    expect(new Set(await ledger.send(8, 10_000, 1_500))).toEqual(new Set([FAILED]))
    await expectLatched(world, broker, /EROFS|read-only file system/i)
    await broker.stop()
    const { code, words } = await startRefused(disk.directory, environment)
    expect(code).toBe(1)
    expect(words).toMatch(/read-only/i)
    await expectAllThere(world)
  })
}
