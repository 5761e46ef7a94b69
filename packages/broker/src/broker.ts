// A broker: one data directory, one listener, and everything between them.
import type { Route } from '@millrace/protocol'
import { MapPublisher } from './cluster/map-publisher.js'
import { METADATA_KEY, MetadataLog } from './cluster/metadata-log.js'
import { Topics } from './cluster/topics.js'
import type { Environment, LogFields, Logger, Volume } from './environment.js'
import { claimIdentity, countStart, type Identity } from './identity.js'
import { DEFAULT_STOP_TIMEOUT_MS, RESERVE_BYTES, SCRUB_BYTES_PER_SECOND } from './limits.js'
import { isLoopback } from './loopback.js'
import { clusterIdOf, type Member, withOwnAddress } from './members.js'
import { Metrics } from './metrics.js'
import { RetentionLoop } from './partition/retention-loop.js'
import { type ConnectionLimits, DEFAULT_CONNECTION_LIMITS } from './server/connection-admission.js'
import type { ServerContext } from './server/context.js'
import { isBrokenAssertion } from './server/failures.js'
import { frameMemoryOf, Server } from './server/server.js'
import { Shard } from './shard.js'
import { StartError, startErrorFrom } from './start-error.js'
import type { LogStore, LogStoreOptions } from './storage/log-store.js'
import { refuseToReplace } from './storage/missing-log.js'
import { openLogStore } from './storage/open-log-store.js'
import { SOFTWARE, VERSION } from './version.js'

export interface BrokerConfig {
  readonly dataDirectory: string
  /** Address to listen on. Anything but a loopback address needs `insecure` until there is authentication. */
  readonly host?: string
  /** 0 picks a free one. */
  readonly port?: number
  /** What the cluster map tells clients to connect to; `host` and the port listened on unless given. */
  readonly advertisedHost?: string
  readonly advertisedPort?: number
  /** Refuse a directory that belongs to another node or cluster. */
  readonly nodeId?: number
  readonly clusterId?: string
  /**
   * Every node of the cluster, this one (`nodeId`) among them, with the address that clients and the others use; without
   * it a cluster of one. An empty directory's cluster id is derived from it unless `clusterId` is given.
   */
  readonly members?: readonly Member[]
  /** Begin a new cluster in an empty directory. On a loopback address that is the default. */
  readonly bootstrap?: boolean
  readonly requireDirect?: boolean
  /** Bytes a second that the scrubber reads of what is on disk, to find damage early. 0 is off. Default 8 MiB. */
  readonly scrubBytesPerSecond?: number
  /** Bytes of segments kept written ahead, so that bursts of flushed records need not wait for space. Default 0. */
  readonly reserveBytes?: number
  readonly insecure?: boolean
  /** Connections from one address, and new ones a second; 0 for no limit. More are refused with OVERLOADED. */
  readonly maxConnectionsPerAddress?: number
  readonly acceptsPerSecond?: number
  /** A broken assertion was met: whoever runs the broker must end it. By default it is only logged. */
  readonly onHalt?: (error: unknown) => void
}

export interface Broker {
  /** Where it listens. */
  readonly address: { readonly host: string; readonly port: number }
  readonly nodeId: number
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  /** The answer to the `brokerStatus` operation. */
  status(): Readonly<Record<string, unknown>>
  /**
   * Refuses new work, answers what is in flight, flushes, writes checkpoints and closes everything it has opened; the
   * environment stays. Always settles; harmless when repeated. @throws StorageError when something could not be flushed.
   */
  stop(options?: { readonly timeoutMs?: number }): Promise<void>
}

/** Opens the logs of a volume; the simulator and tests may give another. */
export type OpenLogStore = (environment: Environment, volume: Volume, options: LogStoreOptions) => Promise<LogStore>

export const DEFAULT_HOST = '127.0.0.1'
export const DEFAULT_PORT = 7420

/**
 * Starts a broker and resolves when it accepts connections.
 * @throws StartError when the world or the configuration does not allow it; then everything is closed again.
 */
export async function startBroker(
  environment: Environment,
  given: BrokerConfig,
  openStore: OpenLogStore = logStoreWith(given),
): Promise<Broker> {
  const config = withOwnAddress(given)
  checkAddress(config)
  const closers: (() => Promise<void>)[] = []
  try {
    return await start(environment, config, openStore, closers)
  } catch (error) {
    for (const close of closers.reverse()) {
      await close().catch((cause: unknown) => environment.log.warn({ cause }, 'closing after a failed start'))
    }
    throw startErrorFrom(error)
  }
}

function logStoreWith({
  reserveBytes = RESERVE_BYTES,
  scrubBytesPerSecond = SCRUB_BYTES_PER_SECOND,
}: BrokerConfig): OpenLogStore {
  const limits = { reserveBytes, scrubBytesPerSecond }
  return (environment, volume, options) => openLogStore(environment, volume, options, limits)
}

/** @throws StartError INSECURE */
function checkAddress(config: BrokerConfig): void {
  const host = config.host ?? DEFAULT_HOST
  if (isLoopback(host) || config.insecure === true) return
  throw new StartError(
    'INSECURE',
    `${host} can be reached by others, and there is no authentication yet: listen on ${DEFAULT_HOST}, ` +
      'or add --insecure on a network you trust',
  )
}

async function start(
  environment: Environment,
  config: BrokerConfig,
  openStore: OpenLogStore,
  closers: (() => Promise<void>)[],
): Promise<Broker> {
  const host = config.host ?? DEFAULT_HOST
  const requireDirect = config.requireDirect ?? false
  const volume = await environment.disk.openVolume(config.dataDirectory, { requireDirect })
  closers.push(() => volume.close())
  const bootstrap = config.bootstrap ?? isLoopback(host)
  const expected = {
    clusterId: config.clusterId,
    ...(config.members && { newClusterId: clusterIdOf(config.members) }),
    nodeId: config.nodeId,
    bootstrap,
  }
  const found = await claimIdentity(volume, environment.random, expected)
  const store = await openStore(environment, volume, found)
  closers.push(() => store.close())
  // Only now is it certain that the data is ours: until here an existing directory is as it was.
  const identity = await countStart(volume, found)

  const node = await openNode(environment, store, identity, volume, config)
  const server = new Server(node.context, connectionLimitsOf(config))
  node.connections = () => server.connections
  const listener = await server.listen({ host, port: config.port ?? DEFAULT_PORT })
  closers.push(() => server.stop(0))
  const retention = new RetentionLoop(
    environment.clock,
    () => node.shard.partitions(),
    (error) => node.context.reportBug(error, { during: 'retention' }),
  )
  retention.start()
  closers.push(async () => retention.stop())
  node.map.putNode({
    nodeId: identity.nodeId,
    host: config.advertisedHost ?? host,
    port: config.advertisedPort ?? listener.port,
    shardCount: environment.cores.count,
  })
  let stopped: Promise<void> | null = null
  return {
    address: { host: listener.host, port: listener.port },
    nodeId: identity.nodeId,
    clusterId: identity.clusterId,
    status: () => node.context.status(),
    stop(options) {
      retention.stop()
      stopped ??= stop(server, node.shard, store, volume, options?.timeoutMs ?? DEFAULT_STOP_TIMEOUT_MS)
      return stopped
    },
  }
}

function connectionLimitsOf({ maxConnectionsPerAddress, acceptsPerSecond }: BrokerConfig): ConnectionLimits {
  const { maxConnections, ...standard } = DEFAULT_CONNECTION_LIMITS
  return {
    maxConnections,
    maxConnectionsPerAddress: maxConnectionsPerAddress ?? standard.maxConnectionsPerAddress,
    acceptsPerSecond: acceptsPerSecond ?? standard.acceptsPerSecond,
  }
}

interface Node {
  readonly context: ServerContext
  readonly shard: Shard
  readonly map: MapPublisher
  connections: () => number
}

/** Everything between the logs and the listener. */
async function openNode(
  environment: Environment,
  store: LogStore,
  identity: Identity,
  volume: Volume,
  config: BrokerConfig,
): Promise<Node> {
  const { clock, memory, log, cores } = environment
  const metrics = new Metrics()
  // Invariant: starts is raised and flushed before anything is served, so that a term never comes twice.
  const term = identity.starts
  const route: Route = { nodeId: identity.nodeId, shard: cores.self, placement: 0, term }
  if (identity.starts > 1) refuseToReplace(store, METADATA_KEY)
  const metadata = await MetadataLog.open(store, { memory, clock, term })
  await bootstrapMetadata(metadata, identity)
  const shard = new Shard(environment, store, metrics)
  const map = new MapPublisher(identity.clusterId, metadata.version)
  const topics = new Topics({ metadata, shard, map, route, log })
  await topics.open()
  reportRecovery(store, log)
  const startedAtMs = clock.monotonicMs()
  const node: Node = {
    shard,
    map,
    connections: () => 0,
    context: {
      environment,
      shard,
      topics,
      map,
      metrics,
      frameMemory: frameMemoryOf(environment),
      peers: null,
      clusterId: identity.clusterId,
      nodeId: identity.nodeId,
      shardCount: cores.count,
      software: SOFTWARE,
      status: () => statusOf(node, store, identity, volume, startedAtMs),
      reportBug: (error, where) => reportBug(environment, metrics, config, error, where),
    },
  }
  return node
}

/** What recovery found, for whoever reads the log: damage by its place, since nobody else speaks of it. */
function reportRecovery({ recovery }: LogStore, log: Logger): void {
  for (const { key, position, reason } of recovery.damaged) {
    log.error({ ...key, position, reason }, 'a log is damaged: what is whole is served, nothing is appended')
  }
  if (recovery.logs === 0) return
  const { logs, replayedBytes, torn, durationMs } = recovery
  log.info({ logs, replayedBytes, torn: torn.length, durationMs: Math.round(durationMs) }, 'logs recovered')
}

/** The answer to the `brokerStatus` operation. */
function statusOf(
  { context, shard, connections }: Node,
  store: LogStore,
  identity: Identity,
  volume: Volume,
  startedAtMs: number,
): Readonly<Record<string, unknown>> {
  const { environment, topics, frameMemory, metrics } = context
  const { clock, memory, cores } = environment
  const { directory, direct, flushMethod, note } = volume
  const { nodeId, clusterId, starts } = identity
  return {
    nodeId,
    clusterId,
    version: VERSION,
    environment: environment.kind,
    uptimeMs: Math.round(clock.monotonicMs() - startedAtMs),
    starts,
    shards: cores.count,
    topics: topics.list().length,
    partitions: shard.partitionCount,
    connections: connections(),
    memory: { budgetBytes: memory.budgetBytes, usedBytes: memory.usedBytes, frameBytes: frameMemory.usedBytes },
    storage: { directory, direct, flushMethod, note, ...store.statistics },
    counters: metrics.snapshot(),
  }
}

/** The first command of a cluster carries its identity; every later start compares. @throws StartError DATA_OF_ANOTHER. */
async function bootstrapMetadata(metadata: MetadataLog, identity: Identity): Promise<void> {
  const { clusterId } = identity
  if (metadata.state.clusterId === null) await metadata.propose(() => ({ kind: 'bootstrap', clusterId }))
  if (metadata.state.clusterId !== clusterId) {
    throw new StartError(
      'DATA_OF_ANOTHER',
      `the metadata is of cluster ${metadata.state.clusterId}, the identity file of ${clusterId}: ` +
        'the data directory was put together from two; restore one of them',
    )
  }
}

function reportBug(
  environment: Environment,
  metrics: Metrics,
  config: BrokerConfig,
  error: unknown,
  where: LogFields,
): void {
  metrics.internalErrors++
  environment.log.error({ ...where, error }, 'unexpected error')
  if (isBrokenAssertion(error)) config.onHalt?.(error)
}

async function stop(server: Server, shard: Shard, store: LogStore, volume: Volume, timeoutMs: number): Promise<void> {
  await server.stop(timeoutMs)
  shard.close({ code: 'SHUTTING_DOWN', detail: '' })
  try {
    await store.close()
  } finally {
    await volume.close()
  }
}
