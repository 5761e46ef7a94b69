// Real brokers in the process of a test: temporary directories, free ports, everything gone afterwards.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogLevel } from './io/console-logger.js'
import { freePorts } from './io/free-ports.js'
import { MAX_MEMBERS } from './limits.js'
import type { Member } from './members.js'
import { Links } from './testing/links.js'
import { type Beginning, OwnedBroker } from './testing/owned-broker.js'

export interface TestClusterOptions {
  /** 1 unless given. */
  readonly brokers?: number
  /** `auto` takes io_uring where it works. */
  readonly environment?: 'auto' | 'ring' | 'portable'
  /** Kept after `stop`; a temporary directory, removed by `stop`, unless given. One for each broker below it. */
  readonly dataDirectory?: string
  /** Memory for data of each broker. 128 MiB unless given. */
  readonly memoryBytes?: number
  /** What the brokers log on standard error. `silent` unless given. */
  readonly logLevel?: LogLevel
}

export interface TestBroker {
  readonly nodeId: number
  /** Stays the same over restarts. */
  readonly address: { readonly host: string; readonly port: number }
  readonly environment: 'ring' | 'portable' | 'simulated'
  readonly dataDirectory: string
  readonly isRunning: boolean
  /** The answer to the `brokerStatus` operation. @throws Error while it is stopped. */
  status(): Readonly<Record<string, unknown>>
  /** Stops gracefully; harmless when it is stopped. */
  stop(): Promise<void>
  /** Ends it as `kill -9` does: nothing is answered or flushed any more, connections break. Harmless when stopped. */
  kill(): Promise<void>
  /** Stops if it runs, and starts again on the same data and the same port. */
  restart(): Promise<void>
}

export interface PartitionOptions {
  /** Cut only what the first sends to the second. */
  readonly oneWay?: boolean
}

export interface AddedBrokerOptions {
  /** What fails together with it. */
  readonly rack?: string
}

export interface TestCluster {
  /** For `connect({ bootstrap })`. */
  readonly bootstrap: string
  readonly brokers: readonly TestBroker[]
  /**
   * Starts a broker more, which joins the cluster through those that run. Resolves when it accepts connections.
   * @throws Error when none of them lets it in.
   */
  addBroker(options?: AddedBrokerOptions): Promise<TestBroker>
  /** @throws RangeError when there is no such node. */
  broker(nodeId: number): TestBroker
  /** `kill` of the broker with this id. */
  kill(nodeId: number): Promise<void>
  /** `restart` of the broker with this id. */
  restart(nodeId: number): Promise<void>
  /**
   * Cuts the link between two brokers, or between each of some and each of others: connections stay and carry nothing,
   * new ones are not answered. Clients still reach every broker.
   */
  partition(a: number | readonly number[], b: number | readonly number[], options?: PartitionOptions): Promise<void>
  /** Makes every link whole again. What was cut off on the way goes on. */
  heal(): Promise<void>
  /** Stops every broker and removes what was temporary. Harmless when repeated. */
  stop(): Promise<void>
}

const HOST = '127.0.0.1'

/**
 * Resolves when every broker accepts connections.
 * @throws StartError when a broker cannot start; RangeError for a number of brokers that cannot be;
 * EnvironmentUnavailableError when `ring` is asked for and does not work here.
 */
export async function startTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const count = options.brokers ?? 1
  if (!Number.isInteger(count) || count < 1 || count > MAX_MEMBERS) {
    throw new RangeError(`a cluster of ${count} brokers: it can be a whole number from 1 to ${MAX_MEMBERS}`)
  }
  const directory = options.dataDirectory ?? (await mkdtemp(join(tmpdir(), 'millrace-test-')))
  await mkdir(directory, { recursive: true })
  const ports = await freePorts(HOST, count)
  const members = ports.map((port, i): Member => ({ nodeId: i + 1, host: HOST, port }))
  const cluster = new OwnedCluster(members, { ...options, directory })
  try {
    await Promise.all(cluster.brokers.map((broker) => broker.start()))
  } catch (error) {
    await cluster.stop()
    throw error
  }
  return cluster
}

function brokerOf(brokers: readonly OwnedBroker[], nodeId: number): OwnedBroker {
  const broker = brokers.find((one) => one.nodeId === nodeId)
  if (broker === undefined) throw new RangeError(`there is no node ${nodeId}`)
  return broker
}

class OwnedCluster implements TestCluster {
  readonly brokers: OwnedBroker[]
  private readonly links: Links
  private readonly isTemporary: boolean
  private stopped: Promise<void> | null = null

  constructor(
    members: readonly Member[],
    private readonly options: TestClusterOptions & { readonly directory: string },
  ) {
    this.links = new Links([...members])
    this.isTemporary = options.dataDirectory === undefined
    const beginning: Beginning = members.length === 1 ? { bootstrap: true } : { members }
    this.brokers = members.map((member) => {
      const isAtTop = members.length === 1 && !this.isTemporary
      return this.make(
        member,
        isAtTop ? options.directory : join(options.directory, `node-${member.nodeId}`),
        beginning,
      )
    })
  }

  private make(member: Member, dataDirectory: string, beginning: Beginning): OwnedBroker {
    const isRunning = (nodeId: number): boolean => this.brokers.some((one) => one.nodeId === nodeId && one.isRunning)
    return new OwnedBroker(dataDirectory, member, beginning, this.links, isRunning, this.options)
  }

  get bootstrap(): string {
    return this.brokers.map(({ address: { host, port } }) => `${host}:${port}`).join(',')
  }

  async addBroker({ rack }: AddedBrokerOptions = {}): Promise<TestBroker> {
    const [port = 0] = await freePorts(HOST, 1)
    // The cluster hands out ids in order, and removed brokers stay in this list.
    const member = { nodeId: this.brokers.length + 1, host: HOST, port }
    const { directory } = this.options
    // A directory that was given for one broker is that broker's own.
    const place = this.isTemporary || this.brokers.length > 1 ? join(directory, `node-${member.nodeId}`) : null
    const running = this.brokers.filter(({ isRunning }) => isRunning).map(({ address }) => address)
    this.links.add(member)
    const broker = this.make(member, place ?? `${directory}-node-${member.nodeId}`, {
      join: running,
      rack: rack ?? null,
    })
    this.brokers.push(broker)
    await broker.start()
    return broker
  }

  broker(nodeId: number): TestBroker {
    return brokerOf(this.brokers, nodeId)
  }

  kill(nodeId: number): Promise<void> {
    return this.broker(nodeId).kill()
  }

  restart(nodeId: number): Promise<void> {
    return this.broker(nodeId).restart()
  }

  async partition(
    a: number | readonly number[],
    b: number | readonly number[],
    options: PartitionOptions = {},
  ): Promise<void> {
    for (const from of [a].flat()) {
      for (const to of [b].flat()) {
        if (this.broker(from) === this.broker(to)) throw new RangeError(`node ${from} has no link to itself`)
        await this.links.cut(from, to)
        if (options.oneWay !== true) await this.links.cut(to, from)
      }
    }
  }

  heal(): Promise<void> {
    return this.links.heal()
  }

  stop(): Promise<void> {
    this.stopped ??= this.stopOnce()
    return this.stopped
  }

  private async stopOnce(): Promise<void> {
    try {
      await this.links.heal()
      await Promise.all(this.brokers.map((broker) => broker.stop()))
    } finally {
      await this.links.close()
      if (this.isTemporary) await rm(this.options.directory, { recursive: true, force: true })
    }
  }
}
