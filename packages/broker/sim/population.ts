// The clients of a run, dead or alive.
import type { Coverage } from './coverage.js'
import type { SeededRandom } from './random.js'
import type { Recorder } from './recorder.js'
import type { Scheduler } from './scheduler.js'
import { SimulatedClient } from './simulated-client.js'
import type { SimulatedNetwork } from './simulated-network.js'
import { stackOf } from './simulation-result.js'
import type { AdminContext } from './topic-admin.js'

export interface PopulationWorld {
  readonly scheduler: Scheduler
  readonly network: SimulatedNetwork
  readonly recorder: Recorder
  readonly coverage: Coverage
  readonly random: SeededRandom
  /** `host:port` of the brokers there are now. */
  readonly bootstrap: () => readonly string[]
  fail(invariant: string, message: string): void
}

/** Producers and consumers share so many clients. */
const WORKERS = 3

export class Population {
  readonly clients: SimulatedClient[] = []
  /** Those with applications of the workload, who may be killed. */
  private readonly workers: SimulatedClient[] = []
  private lastReader: SimulatedClient | null = null
  private count = 0

  constructor(private readonly world: PopulationWorld) {}

  get names(): readonly string[] {
    return this.alive.map(({ name }) => name)
  }

  get alive(): readonly SimulatedClient[] {
    return this.clients.filter(({ alive }) => alive)
  }

  newClient(): SimulatedClient {
    const { world } = this
    const name = `client-${++this.count}`
    const random = world.random.split(name)
    const bufferBytes = random.chance(0.15) ? 64 * 1024 : 32 * 1024 * 1024
    const onBug = (error: unknown) => world.fail('exception', stackOf(error))
    const client = new SimulatedClient({ ...world, bootstrap: world.bootstrap(), onBug }, name, random, bufferBytes)
    this.clients.push(client)
    return client
  }

  /** The one that reads everything at the end; it has no past when it is asked for first. */
  reader(): SimulatedClient {
    this.lastReader ??= this.newClient()
    return this.lastReader
  }

  workerAt(i: number): SimulatedClient {
    const worker = this.workers[i % WORKERS] ?? this.newClient()
    if (!this.workers.includes(worker)) this.workers.push(worker)
    return worker
  }

  /** Kills a client; another one takes over its work under new names. */
  killSome(random: SeededRandom): boolean {
    const candidates = this.workers.filter(({ alive }) => alive)
    if (candidates.length === 0) return false
    const victim = random.pick(candidates)
    victim.kill()
    const heir = this.newClient()
    this.workers.push(heir)
    for (const { plan, recordsLeft } of victim.producers) heir.produce(plan, recordsLeft)
    for (const { plan } of victim.consumers) heir.consume(plan)
    return true
  }

  adminOf({ mill }: SimulatedClient): AdminContext {
    return { mill, sleep: (delayMs: number) => this.world.scheduler.sleep(delayMs) }
  }
}
