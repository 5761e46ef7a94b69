// One broker of the simulated cluster: the product's own code on a machine that can be killed, cut and restarted.
import { type Broker, type OpenLogStore, startBroker } from '#src/broker.js'
import { StartError } from '#src/start-error.js'
import type { TearOdds } from './file-image.js'
import type { Scheduler } from './scheduler.js'
import type { SimulatedEnvironment, SimulatedMachine } from './simulated-environment.js'

export const BROKER_HOST = 'broker-1'
export const BROKER_PORT = 7420
/** How soon the operator tries again when a start was refused. */
const RESTART_MS = 50

export interface BrokerNodeEvents {
  onStarted(durationMs: number): void
  onStartRefused(error: StartError, begunAtMs: number): void
  /** A bug: the product says so itself, or threw what it does not declare. */
  onBug(error: unknown): void
}

type State = 'off' | 'starting' | 'running' | 'stopping'

/**
 * Every step is driven by events of the scheduler, never by awaiting the product: promises of a killed process do not
 * settle.
 */
export class BrokerNode {
  state: State = 'off'
  broker: Broker | null = null
  starts = 0
  private wanted = true

  constructor(
    private readonly scheduler: Scheduler,
    readonly machine: SimulatedMachine,
    private readonly openStore: OpenLogStore,
    private readonly events: BrokerNodeEvents,
  ) {}

  /** Boots the machine's next process. Does nothing unless it is off. */
  start(): void {
    if (this.state !== 'off') return
    this.wanted = true
    this.state = 'starting'
    this.starts++
    const environment = this.machine.start()
    const begunAtMs = this.scheduler.nowMs
    const config = {
      dataDirectory: '/data',
      host: BROKER_HOST,
      port: BROKER_PORT,
      bootstrap: true,
      insecure: true,
      onHalt: (error: unknown) => this.events.onBug(error),
    }
    startBroker(environment, config, this.openStore).then(
      (broker) => {
        if (!this.isCurrent(environment)) return
        this.broker = broker
        this.state = 'running'
        this.events.onStarted(this.scheduler.nowMs - begunAtMs)
      },
      (error: unknown) => {
        if (this.isCurrent(environment)) this.startFailed(error, begunAtMs)
      },
    )
  }

  kill(): void {
    if (this.state === 'off') return
    this.becomeOff()
    this.machine.killProcess()
  }

  cutPower(tear: TearOdds): void {
    if (this.state === 'off') return
    this.becomeOff()
    this.machine.cutPower(tear)
  }

  /** An orderly end; `done` hears of it unless something harder comes first. */
  stop(done: (error: unknown) => void): void {
    const { broker } = this
    const { environment } = this.machine
    if (this.state !== 'running' || broker === null || environment === null) return
    this.state = 'stopping'
    const finish = (error: unknown) => {
      if (!this.isCurrent(environment)) return
      void environment.close().then(() => {
        if (!this.isCurrent(environment)) return
        this.becomeOff()
        this.machine.ended()
        done(error)
      })
    }
    broker.stop({ timeoutMs: 500 }).then(() => finish(null), finish)
  }

  /** No further start happens by itself. */
  stayOff(): void {
    this.wanted = false
  }

  private startFailed(error: unknown, begunAtMs: number): void {
    if (error instanceof StartError) this.events.onStartRefused(error, begunAtMs)
    else this.events.onBug(error)
    this.becomeOff()
    this.machine.killProcess()
    this.scheduler.schedule(null, RESTART_MS, 'restart', () => {
      if (this.wanted) this.start()
    })
  }

  private becomeOff(): void {
    this.state = 'off'
    this.broker = null
  }

  private isCurrent(environment: SimulatedEnvironment): boolean {
    return this.machine.environment === environment
  }
}
