// Real brokers in the process of a test: temporary directories, free ports, everything gone afterwards.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { LogLevel } from './io/console-logger.js'
import { freePorts } from './io/free-ports.js'
import { MAX_MEMBERS } from './limits.js'
import type { Member } from './members.js'
import { Links } from './testing/links.js'
import { OwnedBroker } from './testing/owned-broker.js'

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

export interface TestCluster {
  /** For `connect({ bootstrap })`. */
  readonly bootstrap: string
  readonly brokers: readonly TestBroker[]
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
  const links = new Links(members)
  const brokers = members.map((member) => {
    const isRunning = (nodeId: number): boolean => brokerOf(brokers, nodeId).isRunning
    const dataDirectory = count === 1 ? directory : join(directory, `node-${member.nodeId}`)
    return new OwnedBroker(dataDirectory, member, members, links, isRunning, options)
  })
  const cluster = new OwnedCluster(brokers, links, options.dataDirectory === undefined ? directory : null)
  try {
    await Promise.all(brokers.map((broker) => broker.start()))
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
  readonly bootstrap: string
  private stopped: Promise<void> | null = null

  constructor(
    readonly brokers: readonly OwnedBroker[],
    private readonly links: Links,
    private readonly temporaryDirectory: string | null,
  ) {
    this.bootstrap = brokers.map(({ address: { host, port } }) => `${host}:${port}`).join(',')
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
      if (this.temporaryDirectory !== null) await rm(this.temporaryDirectory, { recursive: true, force: true })
    }
  }
}
