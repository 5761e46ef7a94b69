// The brokers of a run, each on its own machine, and the network between everybody.
import { openLogStore } from '#src/storage/open-log-store.js'
import { storageLimits } from '#src/storage/storage-limits.js'
import { BrokerNode, hostOf, type Origin } from './broker-node.js'
import type { Coverage } from './coverage.js'
import type { Moment } from './faults.js'
import type { SimulationOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { Recorder } from './recorder.js'
import type { Scheduler } from './scheduler.js'
import { SimulatedMachine } from './simulated-environment.js'
import { type Connection, SimulatedNetwork } from './simulated-network.js'
import { stackOf } from './simulation-result.js'

/** No start takes longer unless the disk is slow. */
const START_MS = 200
const DISK_BYTES = 512 * 1024 * 1024
const RIGHT_CLOCK = { clockRate: 1, wallOffsetMs: 0 }
/** Unsent bytes of one connection: what may be pushed, what replies may take, and one batch beyond. */
const MOST_UNSENT_BYTES = 256 * 1024 + 4 * 1024 * 1024 + 4 * 1024 * 1024

export interface ClusterWorld {
  readonly options: SimulationOptions
  readonly scheduler: Scheduler
  readonly coverage: Coverage
  readonly recorder: Recorder
  readonly random: SeededRandom
  onDamage(fields: Readonly<Record<string, unknown>>): void
  /** A replica has found at its start that it may lack something. */
  onRepair(fields: Readonly<Record<string, unknown>>): void
  /** Something happens that a fault may want to meet. */
  onMoment(moment: Moment): void
  fail(invariant: string, message: string): void
  log(text: string, fields: object): void
}

/** Nobody may be there to let a new broker in, and one that was removed has come to its end. */
const isFate = (code: string): boolean => code === 'NOT_JOINED' || code === 'NODE_REMOVED'

export class SimulatedCluster {
  readonly network: SimulatedNetwork
  /** Those that are there: brokers come and go. */
  readonly nodes: BrokerNode[]
  private machines = 0

  constructor(private readonly world: ClusterWorld) {
    const { options, scheduler, random } = world
    this.network = new SimulatedNetwork(scheduler, { ...options.network }, random.split('network'))
    this.network.onArrival = () => world.onMoment('bytes arrived')
    const origin: Origin = { kind: 'founder', founders: options.brokers }
    this.nodes = Array.from({ length: options.brokers }, () => this.makeNode(origin))
  }

  /** Another machine, with an empty disk: its broker asks those that are there to be let in. It is off. */
  addNode(): BrokerNode {
    const node = this.makeNode({ kind: 'joining', hosts: this.hosts })
    this.nodes.push(node)
    return node
  }

  /** The machine is gone for good, and its disk with it. */
  removeNode(node: BrokerNode): void {
    node.disappear()
    this.nodes.splice(this.nodes.indexOf(node), 1)
  }

  /** Connections that clients have dialled; brokers never let go of each other. */
  private get clientConnections(): readonly Connection[] {
    return [...this.network.connections].filter(({ dialer }) => !this.hosts.includes(dialer.outgoing.path.from))
  }

  /**
   * Whether every broker runs, and none knows of a client's connection any more, but for those that the client's kernel gave
   * up without a word: a broker closes them after a while of silence.
   */
  get hasNoClients(): boolean {
    const silent = this.clientConnections.filter(({ dialer }) => dialer.hasGivenUp).length
    const most = this.nodes.length - 1 + silent
    return (
      this.clientConnections.length === silent &&
      this.nodes.every(({ broker }) => broker !== null && Number(broker.status().connections) <= most)
    )
  }

  /** Who is connected to whom, and how many connections each broker knows of: for the report of a run that does not end. */
  describeConnections(): string {
    const open = [...this.network.connections].map(({ dialer, acceptor }) => `${dialer.address} to ${acceptor.address}`)
    const counts = this.nodes.map(({ nodeId, state, broker }) => `${nodeId}: ${broker?.status().connections ?? state}`)
    return `open are ${open.join(', ')}; the brokers count ${counts.join(', ')}`
  }

  /** Whether nothing is on its way from a client to a broker, or from a broker to its disk. */
  get isQuiet(): boolean {
    const arriving = this.clientConnections.some(({ acceptor }) => acceptor.incoming.hasUndelivered)
    return !arriving && this.nodes.every(({ machine }) => machine.disk.unfinished.size === 0)
  }

  /** Looks now and then at what must stay within bounds. */
  watchLimits(): void {
    for (const { acceptor } of this.network.connections) {
      const { unsentBytes } = acceptor.outgoing
      if (unsentBytes > MOST_UNSENT_BYTES) {
        this.world.fail('limit', `the broker has ${unsentBytes} bytes unsent to one client`)
      }
    }
    this.world.scheduler.schedule(null, 10, 'watch', () => this.watchLimits())
  }

  /** Names of all machines. */
  get hosts(): readonly string[] {
    return this.nodes.map(({ host }) => host)
  }

  private makeNode(origin: Origin): BrokerNode {
    const { world } = this
    const number = ++this.machines
    const { scheduler, options } = world
    const { clockRate, wallOffsetMs } = options.clocks[number - 1] ?? RIGHT_CLOCK
    let lastDiskErrorMs = Number.NEGATIVE_INFINITY
    const machine = new SimulatedMachine(scheduler, this.network, world.random.split(`machine-${number}`), {
      host: hostOf(number),
      clockRate,
      diskBytes: DISK_BYTES,
      memoryBytes: options.brokerMemoryBytes,
      onLog: (process, { level, fields, message }) => {
        if (message === 'unexpected error') world.fail('exception', `${process.name} met ${stackOf(fields.error)}`)
        if (message.startsWith('records on disk are damaged') || message.startsWith('a log is damaged')) {
          // A file that cannot be read at a start is as good as gone until the next one.
          if (scheduler.nowMs - lastDiskErrorMs > START_MS) world.onDamage(fields)
        }
        if (message.startsWith('a replica may lack batches')) world.onRepair(fields)
        world.log(`${process.name} ${level} ${message}`, fields)
      },
      onMisuse: (process, misuse) => world.fail('memory', `${process.name}: ${stackOf(misuse)}`),
      watcher: {
        onWritten: () => world.onMoment('write completed'),
        onFlushSubmitted: () => world.onMoment('flush submitted'),
        onFlush: () => {},
        onError: (operation) => {
          lastDiskErrorMs = scheduler.nowMs
          if (operation === 'flush') world.recorder.diskLosses.push({ atMs: scheduler.nowMs, node: node.nodeId })
          world.log(`the disk of broker ${number} fails a ${operation}`, {})
        },
      },
    })
    machine.setWallClock(wallOffsetMs)
    const limits = storageLimits({ ...options.storage })
    const node = new BrokerNode(number, origin, scheduler, machine, (...args) => openLogStore(...args, limits), {
      onStarted: (durationMs) => {
        world.coverage.count('broker started')
        world.log(`broker ${number} started in ${durationMs.toFixed(1)} ms`, {})
      },
      onStartRefused: (error, begunAtMs) => {
        world.coverage.count('start refused')
        world.log(`start of broker ${number} refused: ${error.code} ${error.message}`, {})
        // Nothing but the disk, and only while it fails, may keep a broker from starting that belongs to the cluster.
        if (lastDiskErrorMs >= begunAtMs || isFate(error.code)) return
        world.fail('start-refused', `${error.code}: ${stackOf(error)}`)
      },
      onBug: (error) => world.fail('exception', stackOf(error)),
    })
    return node
  }
}
