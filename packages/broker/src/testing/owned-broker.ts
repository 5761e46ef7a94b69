// One broker of a test: started, stopped, killed and started again on the same data and the same port.
import { type Broker, type BrokerConfig, startBroker } from '../broker.js'
import { chooseEnvironment } from '../io/choose-environment.js'
import { createConsoleLogger, type LogLevel } from '../io/console-logger.js'
import type { Member } from '../members.js'
import type { Links } from './links.js'
import { type MortalEnvironment, mortal } from './mortal-environment.js'

export interface OwnedBrokerOptions {
  readonly environment?: 'auto' | 'ring' | 'portable'
  readonly memoryBytes?: number
  readonly logLevel?: LogLevel
}

/** How a broker comes to its cluster when its directory is empty. */
export type Beginning =
  /** By configuration: the same list on each. */
  | { readonly members: readonly Member[] }
  /** It is the first of a cluster that others join. */
  | { readonly bootstrap: true }
  | { readonly join: readonly { readonly host: string; readonly port: number }[]; readonly rack: string | null }

const MEMORY_BYTES = 128 * 1024 * 1024
const STOP_TIMEOUT_MS = 2_000

export class OwnedBroker {
  readonly nodeId: number
  readonly address: { readonly host: string; readonly port: number }
  environment: MortalEnvironment['kind'] = 'portable'
  private hasBegun = false
  private running: { readonly broker: Broker; readonly environment: MortalEnvironment } | null = null

  constructor(
    readonly dataDirectory: string,
    member: Member,
    private readonly beginning: Beginning,
    private readonly links: Links,
    private readonly isOtherRunning: (nodeId: number) => boolean,
    private readonly options: OwnedBrokerOptions,
  ) {
    this.nodeId = member.nodeId
    this.address = { host: member.host, port: member.port }
  }

  get isRunning(): boolean {
    return this.running !== null
  }

  async start(): Promise<void> {
    const logger = createConsoleLogger({ level: this.options.logLevel ?? 'silent', format: 'text' })
    const memoryBytes = this.options.memoryBytes ?? MEMORY_BYTES
    const prefer = this.options.environment ?? 'auto'
    const inner = await chooseEnvironment({ prefer, memoryBytes, logger })
    const network = this.links.networkOf(this.nodeId, inner.network, this.isOtherRunning)
    const environment = mortal({ ...inner, network })
    try {
      const broker = await startBroker(environment, this.config)
      if (broker.nodeId !== this.nodeId) {
        await broker.stop()
        throw new Error(`the cluster calls the broker ${broker.nodeId}, the test ${this.nodeId}`)
      }
      this.hasBegun = true
      this.running = { broker, environment }
      this.environment = environment.kind
    } catch (error) {
      await environment.close()
      throw error
    }
  }

  /** What a broker has on its disk it is not told again. */
  private get config(): BrokerConfig {
    const { dataDirectory, nodeId, address, beginning, hasBegun } = this
    if ('members' in beginning) return { dataDirectory, nodeId, members: beginning.members }
    const where = { dataDirectory, ...address }
    if ('bootstrap' in beginning) return { ...where, bootstrap: true }
    const rack = beginning.rack === null ? {} : { rack: beginning.rack }
    return hasBegun ? { ...where, ...rack } : { ...where, ...rack, join: beginning.join }
  }

  status(): Readonly<Record<string, unknown>> {
    if (this.running === null) throw new Error(`broker ${this.nodeId} is stopped`)
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

  async kill(): Promise<void> {
    const running = this.running
    this.running = null
    await running?.environment.kill()
  }

  async restart(): Promise<void> {
    await this.stop()
    await this.start()
  }
}
