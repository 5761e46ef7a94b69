// Real brokers in the process of a test: temporary directories, free ports, everything gone afterwards.
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type Broker, startBroker } from './broker.js'
import type { Environment } from './environment.js'
import { chooseEnvironment } from './io/choose-environment.js'
import { createConsoleLogger, type LogLevel } from './io/console-logger.js'

export interface TestClusterOptions {
  /** Only 1 until there is replication. */
  readonly brokers?: number
  /** `auto` takes io_uring where it works. */
  readonly environment?: 'auto' | 'ring' | 'portable'
  /** Kept after `stop`; a temporary directory, removed by `stop`, unless given. */
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
  /** The answer to the `brokerStatus` operation. @throws Error while it is stopped. */
  status(): Readonly<Record<string, unknown>>
  /** Stops gracefully; harmless when it is stopped. */
  stop(): Promise<void>
  /** Stops if it runs, and starts again on the same data and the same port. */
  restart(): Promise<void>
}

export interface TestCluster {
  /** For `connect({ bootstrap })`. */
  readonly bootstrap: string
  readonly brokers: readonly TestBroker[]
  /** Stops every broker and removes what was temporary. Harmless when repeated. */
  stop(): Promise<void>
}

const MEMORY_BYTES = 128 * 1024 * 1024
const STOP_TIMEOUT_MS = 2_000

/**
 * @throws StartError when a broker cannot start; RangeError for more than one broker; EnvironmentUnavailableError when
 * `ring` is asked for and does not work here.
 */
export async function startTestCluster(options: TestClusterOptions = {}): Promise<TestCluster> {
  const count = options.brokers ?? 1
  if (count !== 1) throw new RangeError(`a cluster of ${count} brokers: there is no replication yet, so it is 1`)
  const directory = options.dataDirectory ?? (await mkdtemp(join(tmpdir(), 'millrace-test-')))
  await mkdir(directory, { recursive: true })
  const removeDirectory = async (): Promise<void> => {
    if (options.dataDirectory === undefined) await rm(directory, { recursive: true, force: true })
  }
  const broker = new OwnedBroker(directory, options)
  try {
    await broker.start(0)
  } catch (error) {
    await removeDirectory()
    throw error
  }
  const { host, port } = broker.address
  return {
    bootstrap: `${host}:${port}`,
    brokers: [broker],
    async stop() {
      await broker.stop()
      await removeDirectory()
    },
  }
}

class OwnedBroker implements TestBroker {
  address = { host: '', port: 0 }
  nodeId = 0
  environment: Environment['kind'] = 'portable'
  private running: { readonly broker: Broker; readonly environment: Environment } | null = null

  constructor(
    readonly dataDirectory: string,
    private readonly options: TestClusterOptions,
  ) {}

  async start(port: number): Promise<void> {
    const logger = createConsoleLogger({ level: this.options.logLevel ?? 'silent', format: 'text' })
    const memoryBytes = this.options.memoryBytes ?? MEMORY_BYTES
    const prefer = this.options.environment ?? 'auto'
    const environment = await chooseEnvironment({ prefer, memoryBytes, logger })
    try {
      const broker = await startBroker(environment, { dataDirectory: this.dataDirectory, port })
      this.running = { broker, environment }
      this.address = broker.address
      this.nodeId = broker.nodeId
      this.environment = environment.kind
    } catch (error) {
      await environment.close()
      throw error
    }
  }

  status(): Readonly<Record<string, unknown>> {
    if (this.running === null) throw new Error('the broker is stopped')
    return this.running.broker.status()
  }

  async stop(): Promise<void> {
    const running = this.running
    this.running = null
    if (running === null) return
    try {
      await running.broker.stop({ timeoutMs: STOP_TIMEOUT_MS })
    } finally {
      await running.environment.close()
    }
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start(this.address.port)
  }
}
