// One broker of the simulated cluster: the product's own code on a machine that can be killed, cut and restarted.
import { type Broker, type OpenLogStore, startBroker } from '#src/broker.js'
import { StartError } from '#src/start-error.js'
import { DiskImage } from './disk-image.js'
import type { TearOdds } from './file-image.js'
import type { Scheduler } from './scheduler.js'
import type { SimulatedEnvironment, SimulatedMachine } from './simulated-environment.js'

export const BROKER_PORT = 7420
/** All nodes of a cluster agree on it beforehand. */
const CLUSTER_ID = 'c1'.repeat(16)
/** How soon the operator tries again when a start was refused. */
const RESTART_MS = 50

export function hostOf(nodeId: number): string {
  return `broker-${nodeId}`
}

/** Where a client finds the brokers of a cluster. */
export function addressesOf(brokers: number): string[] {
  return Array.from({ length: brokers }, (_, i) => `${hostOf(i + 1)}:${BROKER_PORT}`)
}

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
  /** The disk that belongs here, while another one is in its place. */
  private rightDisk: DiskImage | null = null

  /** @param brokers how many there are in the cluster; this one is number `nodeId`, from 1. */
  constructor(
    readonly nodeId: number,
    private readonly brokers: number,
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
      host: hostOf(this.nodeId),
      port: BROKER_PORT,
      bootstrap: true,
      insecure: true,
      onHalt: (error: unknown) => this.events.onBug(error),
      ...(this.brokers > 1 && { nodeId: this.nodeId, clusterId: CLUSTER_ID, members: membersOf(this.brokers) }),
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

  /** Killed, and found again with a disk that has nothing on it. */
  wipeDisk(): void {
    this.kill()
    const { capacityBytes } = this.machine.disk
    const before = this.machine.swapDisk(new DiskImage(capacityBytes))
    this.rightDisk ??= before
  }

  /** Somebody has found the disk that belongs here. */
  restoreDisk(): void {
    if (this.rightDisk === null) return
    this.kill()
    this.machine.swapDisk(this.rightDisk)
    this.rightDisk = null
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

function membersOf(brokers: number) {
  return Array.from({ length: brokers }, (_, i) => ({ nodeId: i + 1, host: hostOf(i + 1), port: BROKER_PORT }))
}
