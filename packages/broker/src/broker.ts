// A broker: one data directory, one listener, and everything between them.
import { reportRecovery, statusOf } from './broker-status.js'
import { ClusterGossip } from './cluster/cluster-gossip.js'
import { ClusterMembers } from './cluster/cluster-members.js'
import type { MetadataLog } from './cluster/metadata-log.js'
import type { NodePeers } from './cluster/no-peers.js'
import type { Coordination } from './coordination/coordination.js'
import type { Environment, LogFields, Volume } from './environment.js'
import { openKey } from './gossip/cluster-keys.js'
import { GOSSIP_LIMITS, type GossipLimits } from './gossip/gossip-limits.js'
import type { GossipKey } from './gossip/keyring.js'
import { claimIdentity, countStart, type Identity } from './identity.js'
import type { Address } from './joining/addresses.js'
import { expectedIdentity } from './joining/expected-identity.js'
import { type RememberedMembers, readMembersFile } from './joining/members-file.js'
import { MembersMemory } from './joining/members-memory.js'
import {
  DEFAULT_GROUP_PARTITIONS,
  DEFAULT_HOST,
  DEFAULT_PORT,
  DEFAULT_STOP_TIMEOUT_MS,
  FRAME_MEMORY_SHARE,
  PEER_FRAME_MEMORY_SHARE,
  RESERVE_BYTES,
  SCRUB_BYTES_PER_SECOND,
  TRANSFER_TIMEOUT_MS,
} from './limits.js'
import { isLoopback } from './loopback.js'
import { type Member, withOwnAddress } from './members.js'
import { Metrics } from './metrics.js'
import { Node, type PeerEvents } from './node.js'
import { RetentionLoop } from './partition/retention-loop.js'
import { PeerNetwork } from './peers/peer-network.js'
import { configurationOf } from './replication/raft-batch.js'
import type { ReplicaGroup } from './replication/replica-group.js'
import { connectionLimitsOf } from './server/connection-admission.js'
import type { ServerContext } from './server/context.js'
import { isBrokenAssertion } from './server/failures.js'
import { frameMemoryOf, Server } from './server/server.js'
import { StartError, startErrorFrom } from './start-error.js'
import type { LogStore, LogStoreOptions } from './storage/log-store.js'
import { openLogStore } from './storage/open-log-store.js'
import { SOFTWARE } from './version.js'

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
   * What gossip between brokers is sealed with: one key, or two while they are changed, the one in use first. Without any,
   * everybody who knows the id of the cluster can take part.
   */
  readonly clusterKeys?: readonly GossipKey[]
  /** How often and how long gossip does what it does; for tests and the simulator. */
  readonly gossipLimits?: GossipLimits
  /**
   * All brokers of the cluster, this one (`nodeId`) among them, the same list on each. Others reach this one at the
   * address it has there. A broker without is a cluster by itself.
   */
  readonly members?: readonly Member[]
  /**
   * Brokers of a cluster that an empty directory is to become part of: any one of them lets this one in. Of a directory
   * that belongs to a cluster already nothing is asked.
   */
  readonly join?: readonly Address[]
  /** What fails together with this broker, such as a rack or a zone: replicas are spread over them. */
  readonly rack?: string
  /** Begin a new cluster in an empty directory. On a loopback address that is the default without `join` and `members`. */
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
  /** Partitions of the topic that coordinators of consumer groups use, when it is made. Default 8. */
  readonly groupPartitions?: number
  /** A broken assertion was met: whoever runs the broker must end it. By default it is only logged. */
  readonly onHalt?: (error: unknown) => void
  /** The broker was removed for good: whoever runs it should stop it. It does not start on its data again. */
  readonly onRemoved?: () => void
}

export interface Broker {
  /** Where it listens. */
  readonly address: { readonly host: string; readonly port: number }
  readonly nodeId: number
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  /** The answer to the `brokerStatus` operation. */
  status(): Readonly<Record<string, unknown>>
  /** The replicas of this broker, to look into and not to touch: for the simulator. */
  replicas(): Iterable<ReplicaGroup>
  /** The metadata as this broker has it, and the groups that it coordinates: for the simulator. */
  readonly metadata: MetadataLog
  readonly coordination: Pick<Coordination, 'served'>
  /** From now on gossip is sealed with the first of these keys. @throws GossipError KEY, and then nothing has changed. */
  setClusterKeys(keys: readonly GossipKey[]): void
  /** Resolves once this broker knows the metadata of its cluster and serves what it leads. */
  ready(): Promise<void>
  /**
   * Refuses new work, answers what is in flight, flushes, writes checkpoints and closes everything it has opened; the
   * environment stays. Always settles; harmless when repeated. @throws StorageError when something could not be flushed.
   */
  stop(options?: { readonly timeoutMs?: number }): Promise<void>
}

/** Opens the logs of a volume; the simulator and tests may give another. */
export type OpenLogStore = (environment: Environment, volume: Volume, options: LogStoreOptions) => Promise<LogStore>

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
  const volume = await environment.disk.openVolume(config.dataDirectory, {
    requireDirect: config.requireDirect ?? false,
  })
  closers.push(() => volume.close())
  const found = await claimIdentity(volume, environment.random, expectedIdentity(environment, { ...config, host }))
  const store = await openStore(environment, volume, found)
  closers.push(() => store.close())
  // Only now is it certain that the data is ours: until here an existing directory is as it was.
  const identity = await countStart(volume, found)
  const remembered = await readMembersFile(volume)
  const members = membersOf(config, identity, remembered, environment.cores.count)
  const founders = remembered?.founders ?? config.members?.map(({ nodeId }) => nodeId) ?? [identity.nodeId]
  const parts = await openParts(environment, { store, identity, volume, config, members, founders, remembered })
  const { node, context, server, gossip } = parts
  closers.push(() => node.stop())
  closers.push(() => gossip.close())
  // Others have to reach this broker before anybody can lead; one that is alone opens its topics first.
  const { isSole } = node
  if (isSole) await node.start()
  reportRecovery(store, environment.log)
  const listener = await server.listen({ host, port: config.port ?? DEFAULT_PORT })
  closers.push(() => server.stop(0))
  const place = { host: config.advertisedHost ?? host, port: config.advertisedPort ?? listener.port }
  node.reachedAt(place)
  gossip.listening({ host, port: listener.port }, place)
  if (!isSole) await node.start()
  const retention = new RetentionLoop(
    environment.clock,
    () => node.shard.partitions(),
    (error) => context.reportBug(error, { during: 'retention' }),
  )
  retention.start()
  closers.push(async () => retention.stop())
  let stopped: Promise<void> | null = null
  return {
    address: { host: listener.host, port: listener.port },
    nodeId: identity.nodeId,
    clusterId: identity.clusterId,
    status: () => context.status(),
    replicas: () => node.groups.all(),
    metadata: node.metadata,
    coordination: node.coordination,
    ready: () => node.ready(),
    setClusterKeys: (keys) => gossip.setKeys(keys),
    stop(options) {
      retention.stop()
      stopped ??= stop(parts, store, volume, options?.timeoutMs ?? DEFAULT_STOP_TIMEOUT_MS)
      return stopped
    },
  }
}

function membersOf(
  { members }: BrokerConfig,
  { nodeId }: Identity,
  remembered: RememberedMembers | null,
  shards: number,
): ClusterMembers {
  return new ClusterMembers({
    nodeId,
    configured: members ?? [],
    remembered: remembered?.members ?? [],
    removed: remembered?.removed ?? [],
    shards,
  })
}

interface Opened {
  readonly environment: Environment
  readonly store: LogStore
  readonly identity: Identity
  readonly volume: Volume
  readonly config: BrokerConfig
  readonly members: ClusterMembers
  readonly founders: readonly number[]
  readonly remembered: RememberedMembers | null
}

interface Parts {
  readonly node: Node
  readonly context: ServerContext
  readonly server: Server
  readonly gossip: ClusterGossip
}

/** Everything between the logs and the listener. */
async function openParts(environment: Environment, opened: Omit<Opened, 'environment'>): Promise<Parts> {
  const { store, volume, identity, config, members, founders } = opened
  const { clock, cores } = environment
  const metrics = new Metrics()
  const report = (error: unknown, where: LogFields): void => reportBug(environment, metrics, config, error, where)
  let peers: PeerNetwork | null = null
  let gossip: ClusterGossip | null = null
  const connectPeers = (events: PeerEvents): NodePeers => {
    peers = peersOf({ ...opened, environment }, metrics, events, report, () => gossip)
    return peers
  }
  const frameMemory = frameMemoryOf(environment)
  const memory = new MembersMemory(volume, members, { ...opened, log: environment.log })
  const onMembers = (): void => {
    // What peers take is taken from clients: storage reckons with both together.
    if (members.others.length > 0) {
      frameMemory.limitTo(frameMemoryOf(environment, FRAME_MEMORY_SHARE - PEER_FRAME_MEMORY_SHARE).budgetBytes)
    }
    memory.refresh()
    gossip?.look()
  }
  const node = await Node.open({
    environment,
    store,
    volume,
    identity,
    members,
    founders,
    rack: config.rack ?? null,
    groupPartitions: config.groupPartitions ?? DEFAULT_GROUP_PARTITIONS,
    metrics,
    report,
    connectPeers,
    onMembers,
    onRemoved: config.onRemoved ?? (() => {}),
  })
  const life = gossipOf({ ...opened, environment }, metrics, node)
  gossip = life
  const startedAtMs = clock.monotonicMs()
  const context: ServerContext = {
    environment,
    shard: node.shard,
    topics: node.topics,
    map: node.map,
    metadata: node.metadataLeader,
    view: node.view,
    coordination: node.coordination,
    metrics,
    frameMemory,
    peers,
    clusterId: identity.clusterId,
    nodeId: identity.nodeId,
    shardCount: cores.count,
    software: SOFTWARE,
    status: () => ({ ...statusOf({ node, context, server }, opened, startedAtMs), gossip: life.status() }),
    reportBug: report,
  }
  const server = new Server(context, connectionLimitsOf(config))
  return { node, context, server, gossip: life }
}

function gossipOf(
  { environment, identity, members, volume, config }: Opened,
  metrics: Metrics,
  node: Node,
): ClusterGossip {
  const { clusterKeys: keys = [openKey(identity.clusterId)], gossipLimits: limits = GOSSIP_LIMITS } = config
  const { metadata, leaders, topics, shard, peers } = node
  const own = { environment, identity, rack: config.rack ?? null, members, volume, metrics, keys, limits }
  const gossip = new ClusterGossip({ ...own, metadata, leaders, topics, shard, peers })
  node.view.lifeOf = (nodeId) => gossip.lifeOf(nodeId)
  return gossip
}

function peersOf(
  { environment, identity }: Opened,
  metrics: Metrics,
  events: PeerEvents,
  reportBug: (error: unknown, where: LogFields) => void,
  gossip: () => ClusterGossip | null,
): PeerNetwork {
  return new PeerNetwork({
    environment,
    clusterId: identity.clusterId,
    self: identity,
    members: [],
    metrics,
    reportBug,
    frameMemory: frameMemoryOf(environment, PEER_FRAME_MEMORY_SHARE),
    knownDisks: events.diskOf,
    decodeConfiguration: configurationOf,
    handlers: {
      onRaft: (_from, key, message) => events.groups.onRaft(key, message),
      onAppend: (_from, key, append) => events.groups.onAppend(key, append),
      onInstall: (_from, key, message, state) => events.groups.onInstall(key, message, state),
      onSetBeat: (from, beat) => events.groups.onSetBeat(from, beat),
      onSetBeatReply: (from, reply) => events.groups.onSetBeatReply(from, reply),
      onLeaders: (_from, changes) => events.onLeaders(changes),
      onForward: (_from, payload) => events.onForward(payload),
      onGossip: (_from, state) => gossip()?.answer(state) ?? null,
      onHeard: (nodeId) => gossip()?.heard(nodeId),
      onRefusedAsRemoved: events.onRefusedAsRemoved,
      onConnected: (nodeId) => gossip()?.connected(nodeId),
      onLost(nodeId) {
        events.groups.onLost(nodeId)
        gossip()?.lost(nodeId)
      },
      knownLeaderships: () => gossip()?.knownLeaderships() ?? [],
      allLeaderships: () => events.allLeaderships(),
    },
  })
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

async function stop(
  { node, server, gossip }: Parts,
  store: LogStore,
  volume: Volume,
  timeoutMs: number,
): Promise<void> {
  const goodbye = gossip.leave()
  // Others lead before clients are turned away, so that these have somewhere to go.
  await node.handOver(Math.min(timeoutMs, TRANSFER_TIMEOUT_MS))
  await server.stop(timeoutMs)
  node.shard.close({ code: 'SHUTTING_DOWN', detail: '' })
  await goodbye
  await node.stop()
  try {
    await store.close()
  } finally {
    await volume.close()
  }
}
