// A broker on a real environment and an in-memory log store, for tests that look at what it says and does.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { onTestFinished } from 'vitest'
import { type Broker, type BrokerConfig, startBroker } from '#src/broker.js'
import type { Environment, LogFields, Logger } from '#src/environment.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { type MemoryDisk, MemoryLogStore, type MemoryStoreOptions, newMemoryDisk } from '../partition/memory-log.js'

const MEMORY_BYTES = 128 * 1024 * 1024

/** Keeps what is logged at warn and above. */
export class LogCapture implements Logger {
  readonly lines: { level: string; message: string; fields: LogFields }[] = []
  debug(): void {}
  info(): void {}
  warn(fields: LogFields, message: string): void {
    this.lines.push({ level: 'warn', message, fields })
  }
  error(fields: LogFields, message: string): void {
    this.lines.push({ level: 'error', message, fields })
  }
}

export interface RunningBroker {
  readonly broker: Broker
  readonly environment: Environment
  /** Memory the environment keeps for itself. */
  readonly memoryBytesAtRest: number
  readonly store: MemoryLogStore
  readonly disk: MemoryDisk
  readonly directory: string
  readonly log: LogCapture
  readonly halted: unknown[]
}

export interface RunOptions {
  /** Portable unless given. */
  readonly environment?: 'portable' | 'ring'
  readonly directory?: string
  readonly disk?: MemoryDisk
  readonly store?: MemoryStoreOptions
  readonly memoryBytes?: number
  readonly config?: Partial<BrokerConfig>
}

const newDirectory = (): Promise<string> => mkdtemp(join(tmpdir(), 'millrace-broker-'))
const remove = (directory: string): Promise<void> => rm(directory, { recursive: true, force: true })

export async function temporaryDirectory(): Promise<string> {
  const directory = await newDirectory()
  onTestFinished(() => remove(directory))
  return directory
}

/** Starts a broker that is stopped when the test ends. */
export async function runBroker(options: RunOptions = {}): Promise<RunningBroker> {
  const directory = options.directory ?? (await temporaryDirectory())
  const { running, stop } = await launch({ ...options, directory })
  onTestFinished(stop)
  return running
}

/** Starts a broker for several tests. `stop` always resolves. */
export async function runBrokerForSeveral(
  options: RunOptions,
): Promise<{ readonly running: RunningBroker; stop(): Promise<void> }> {
  const directory = await newDirectory()
  const { running, stop } = await launch({ ...options, directory })
  return { running, stop: () => stop().then(() => remove(directory)) }
}

async function launch(
  options: RunOptions & { readonly directory: string },
): Promise<{ readonly running: RunningBroker; stop(): Promise<void> }> {
  const { directory } = options
  const log = new LogCapture()
  const memoryBytes = options.memoryBytes ?? MEMORY_BYTES
  const environment = await chooseEnvironment({ prefer: options.environment ?? 'portable', memoryBytes, logger: log })
  const memoryBytesAtRest = environment.memory.usedBytes
  const disk = options.disk ?? newMemoryDisk()
  const store = new MemoryLogStore(environment, disk, options.store)
  const halted: unknown[] = []
  const config = {
    dataDirectory: directory,
    port: 0,
    onHalt: (error: unknown) => halted.push(error),
    ...options.config,
  }
  try {
    const broker = await startBroker(environment, config, async () => store)
    const stop = async (): Promise<void> => {
      // Whether a stop may fail is for the test to say.
      await broker.stop({ timeoutMs: 200 }).catch(() => undefined)
      await environment.close()
    }
    return { running: { broker, environment, memoryBytesAtRest, store, disk, directory, log, halted }, stop }
  } catch (error) {
    await environment.close()
    throw error
  }
}
