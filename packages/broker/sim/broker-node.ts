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

/** How a broker comes to its cluster. */
export type Origin =
  /** So many are given each other's addresses and begin it together; one alone is given nobody's. */
  | { readonly kind: 'founder'; readonly founders: number }
  /** It asks any of these hosts to be let in. */
  | { readonly kind: 'joining'; readonly hosts: readonly string[] }

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
  /** Its disk is lost, or it was taken out of the cluster: it never starts again. */
  isGone = false
  /** 0 while the cluster has not given it one. */
  nodeId: number
  private wanted = true
  /** The disk that belongs here, while another one is in its place. */
  private rightDisk: DiskImage | null = null

  /** @param number of the machine, from 1; that of a founder is the id of its node as well. */
  constructor(
    readonly number: number,
    private readonly origin: Origin,
    private readonly scheduler: Scheduler,
    readonly machine: SimulatedMachine,
    private readonly openStore: OpenLogStore,
    private readonly events: BrokerNodeEvents,
  ) {
    this.nodeId = origin.kind === 'founder' ? number : 0
  }

  get host(): string {
    return hostOf(this.number)
  }

  /** `host:port`. */
  get address(): string {
    return `${this.host}:${BROKER_PORT}`
  }

  /** Boots the machine's next process. Does nothing unless it is off. */
  start(): void {
    if (this.state !== 'off' || this.isGone) return
    this.wanted = true
    this.state = 'starting'
    this.starts++
    const environment = this.machine.start()
    const begunAtMs = this.scheduler.nowMs
    const config = {
      dataDirectory: '/data',
      host: this.host,
      port: BROKER_PORT,
      insecure: true,
      onHalt: (error: unknown) => this.events.onBug(error),
      ...this.beginning(),
    }
    startBroker(environment, config, this.openStore).then(
      (broker) => {
        if (!this.isCurrent(environment)) return
        this.broker = broker
        this.nodeId = broker.nodeId
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

  /** Killed, and never seen again. */
  disappear(): void {
    this.kill()
    this.isGone = true
    this.wanted = false
  }

  private beginning() {
    const { origin } = this
    if (origin.kind === 'joining') return { join: origin.hosts.map((host) => ({ host, port: BROKER_PORT })) }
    if (origin.founders === 1) return { bootstrap: true }
    return { bootstrap: true, nodeId: this.number, clusterId: CLUSTER_ID, members: membersOf(origin.founders) }
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
