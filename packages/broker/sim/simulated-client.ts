// A simulated client process: the product's client in its own environment, with the applications that run in it.
import type { Mill } from '@millrace/client'
import { connectWith } from '@millrace/client/environment'
import type { AppContext } from './app-context.js'
import { mustBeMillraceError } from './app-context.js'
import { ConsumerApp } from './consumer-app.js'
import type { Coverage } from './coverage.js'
import type { ConsumerPlan, ProducerPlan } from './options.js'
import { ProducerApp } from './producer-app.js'
import type { SeededRandom } from './random.js'
import type { Recorder } from './recorder.js'
import type { Scheduler } from './scheduler.js'
import { SimulatedClientEnvironment } from './simulated-client-environment.js'
import type { SimulatedNetwork } from './simulated-network.js'

export interface ClientWorld {
  readonly scheduler: Scheduler
  readonly network: SimulatedNetwork
  readonly recorder: Recorder
  readonly coverage: Coverage
  /** `host:port` of every broker. */
  readonly bootstrap: readonly string[]
  /** An application has failed in a way that it must not. */
  onBug(error: unknown): void
}

export class SimulatedClient {
  readonly environment: SimulatedClientEnvironment
  readonly mill: Mill
  readonly producers: ProducerApp[] = []
  readonly consumers: ConsumerApp[] = []
  private readonly context: AppContext

  constructor(
    private readonly world: ClientWorld,
    readonly name: string,
    random: SeededRandom,
    bufferBytes: number,
  ) {
    const { scheduler, network, recorder, coverage, bootstrap } = world
    this.environment = new SimulatedClientEnvironment(scheduler, network, random.split('environment'), name)
    this.mill = connectWith(this.environment, { bootstrap, bufferBytes, wait: true })
    this.context = {
      environment: this.environment,
      recorder,
      coverage,
      random: random.split('applications'),
      sleep: (delayMs) =>
        new Promise((resolve) => scheduler.schedule(this.environment.process, delayMs, 'app', resolve)),
    }
    this.mill.status$.subscribe(({ kind }) => {
      if (kind === 'cursor-reopened') coverage.count('session resumed after a break')
    })
  }

  get alive(): boolean {
    return this.environment.process.alive
  }

  produce(plan: ProducerPlan, records: number): void {
    const app = new ProducerApp(this.context, `${this.name}/p${this.producers.length}`, plan, records)
    this.producers.push(app)
    this.supervise(app.run(this.mill))
  }

  consume(plan: ConsumerPlan): void {
    const app = new ConsumerApp(this.context, `${this.name}/c${this.consumers.length}`, plan)
    this.consumers.push(app)
    this.supervise(app.run(this.mill))
  }

  /** SIGKILL. */
  kill(): void {
    this.environment.kill()
    for (const app of this.producers) app.abandon()
  }

  async close(): Promise<void> {
    for (const app of this.consumers) app.stop()
    await this.mill.close().catch(mustBeMillraceError)
  }

  private supervise(running: Promise<void>): void {
    running.catch((error: unknown) => this.world.onBug(error))
  }
}
