// Bugs the simulator has found, each as a scenario of its own: seeds rot when code changes, these do not.

import { connectWith } from '@millrace/client/environment'
import { describe, expect, it } from 'vitest'
import { type Broker, startBroker } from '#src/broker.js'
import { StartError } from '#src/start-error.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { goodNetwork } from '../../sim/pipe.js'
import { SeededRandom } from '../../sim/random.js'
import { Scheduler } from '../../sim/scheduler.js'
import { SimulatedClientEnvironment } from '../../sim/simulated-client-environment.js'
import { SimulatedMachine } from '../../sim/simulated-environment.js'
import { SimulatedNetwork } from '../../sim/simulated-network.js'
import { createTopic, deleteTopic } from '../../sim/topic-admin.js'

const HOST = 'broker-1'
const LIMITS = { slotBytes: [128 * 1024, 1024 * 1024, 4 * 1024 * 1024], maxGroupBytes: 512 * 1024, reserveSlots: 1 }
const FOREVER = { deadlineMs: Number.POSITIVE_INFINITY, events: 1_000_000 }

/** One machine with one broker, driven step by step. */
class World {
  readonly scheduler = new Scheduler()
  readonly random = new SeededRandom('scenario')
  readonly network = new SimulatedNetwork(this.scheduler, goodNetwork(), this.random.split('network'))
  readonly machine = new SimulatedMachine(this.scheduler, this.network, this.random.split('machine'), {
    host: HOST,
    diskBytes: 256 * 1024 * 1024,
    memoryBytes: 256 * 1024 * 1024,
    onLog: (_, { level, message, fields }) => {
      if (message === 'unexpected error') throw new Error(`${level} ${message}`, { cause: fields.error })
    },
    onMisuse: (_, misuse) => {
      throw misuse
    },
    watcher: { onFlush: () => {}, onError: () => {} },
  })

  start(): Promise<Broker> {
    const config = { dataDirectory: '/data', host: HOST, port: 7420, bootstrap: true, insecure: true }
    const open: typeof openLogStore = (...args) => openLogStore(args[0], args[1], args[2], LIMITS)
    return this.turn(startBroker(this.machine.start(), config, open))
  }

  /** @returns how many timers of it are left. */
  async stop(broker: Broker): Promise<number> {
    const { environment } = this.machine
    await this.turn(broker.stop().then(() => environment?.close()))
    this.machine.ended()
    return environment?.process.pendingTimers ?? 0
  }

  client() {
    const environment = new SimulatedClientEnvironment(
      this.scheduler,
      this.network,
      this.random.split('client'),
      'client',
    )
    return connectWith(environment, { bootstrap: `${HOST}:7420` })
  }

  async turn<T>(promise: Promise<T>): Promise<T> {
    let settled = false
    const mark = () => {
      settled = true
    }
    promise.then(mark, mark)
    const end = await this.scheduler.run(() => settled, FOREVER)
    if (end !== 'done') throw new Error(`the world stopped: ${end}`)
    return promise
  }
}

describe('found by the simulator', () => {
  it('a broker does not begin anew when the segment of its metadata cannot be read', async () => {
    const world = new World()
    const broker = await world.start()
    const admin = { mill: world.client(), sleep: (delayMs: number) => world.scheduler.sleep(delayMs) }
    await world.turn(createTopic(admin, { name: 'orders', partitions: 1, durability: 'flushed' }))
    await world.turn(admin.mill.close())
    await world.stop(broker)
    const before = [...world.machine.disk.directory('/data').files.keys()]
    world.machine.diskConditions.unreadable = (name) => name.startsWith('slot-')
    const refusal = await world.start().catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(StartError)
    expect(refusal).toMatchObject({ code: 'DATA_CORRUPT' })
    expect(String(refusal)).toMatch(/slot-\d+.*cannot be read/)
    expect([...world.machine.disk.directory('/data').files.keys()]).toEqual(expect.arrayContaining(before))
    world.machine.killProcess()
    world.machine.diskConditions.unreadable = () => false
    const again = await world.start()
    expect(again.status()).toMatchObject({ topics: 1, partitions: 1 })
    await world.stop(again)
  })

  it('a topic can be deleted while the disk is full', async () => {
    const world = new World()
    const broker = await world.start()
    const admin = { mill: world.client(), sleep: (delayMs: number) => world.scheduler.sleep(delayMs) }
    await world.turn(createTopic(admin, { name: 'orders', partitions: 2, durability: 'flushed' }))
    await world.turn(admin.mill.producer('orders').send(Buffer.from('k'), Buffer.from('v')))
    world.machine.diskConditions.full = true
    await world.turn(deleteTopic(admin, 'orders'))
    world.machine.diskConditions.full = false
    await world.turn(admin.mill.close())
    await world.stop(broker)
    const again = await world.start()
    expect(again.status()).toMatchObject({ topics: 0, partitions: 0 })
    await world.stop(again)
  })
  it('a broker that is stopped as soon as it has started leaves no timer behind', async () => {
    const world = new World()
    const broker = await world.start()
    const admin = { mill: world.client(), sleep: (delayMs: number) => world.scheduler.sleep(delayMs) }
    await world.turn(createTopic(admin, { name: 'orders', partitions: 2, durability: 'flushed' }))
    await world.turn(admin.mill.close())
    expect(await world.stop(broker)).toBe(0)
    for (let waitMs = 0; waitMs < 15; waitMs += 3) {
      const again = await world.start()
      await world.turn(world.scheduler.sleep(waitMs))
      expect(await world.stop(again), `after ${waitMs} ms`).toBe(0)
    }
  })
})
