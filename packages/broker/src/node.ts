// Everything of a broker between its logs and its listener: groups and their peers, metadata, topics, the cluster map.
import type { RouteChange } from '@millrace/protocol'
import type { ClusterMembers } from './cluster/cluster-members.js'
import { ClusterView } from './cluster/cluster-view.js'
import { handOver } from './cluster/hand-over.js'
import { InternalReplicas } from './cluster/internal-replicas.js'
import { LeaderTable } from './cluster/leader-table.js'
import { MapPublisher } from './cluster/map-publisher.js'
import type { NodePlace } from './cluster/metadata-command.js'
import { MetadataLeader } from './cluster/metadata-leader.js'
import { METADATA_KEY, MetadataLog } from './cluster/metadata-log.js'
import { believedFounders, MetadataMembership } from './cluster/metadata-membership.js'
import type { NodePeers } from './cluster/no-peers.js'
import { isAt } from './cluster/node-operations.js'
import { localOperations } from './cluster/operations.js'
import { PartitionMembership } from './cluster/partition-membership.js'
import { RegistryFollower } from './cluster/registry-follower.js'
import { RouteNews } from './cluster/route-news.js'
import { Topics } from './cluster/topics.js'
import { Coordination } from './coordination/coordination.js'
import type { Environment, LogFields, Timer, Volume } from './environment.js'
import type { Identity } from './identity.js'
import { REGISTER_RETRY_MS, ROUTE_BATCH_MS } from './limits.js'
import type { Metrics } from './metrics.js'
import { isOnly } from './raft/configuration.js'
import { Groups } from './replication/groups.js'
import { RepairList } from './replication/repair-list.js'
import type { ReplicaGroup } from './replication/replica-group.js'
import { isBug } from './server/failures.js'
import { Shard, type ShardOptions } from './shard.js'
import { StartError } from './start-error.js'
import { keyText } from './storage/group-envelope.js'
import type { LogKey, LogStore } from './storage/log-store.js'
import { refuseToReplace } from './storage/missing-log.js'

/** What the way to the other brokers tells this node. */
export interface PeerEvents {
  readonly groups: Groups
  allLeaderships(): readonly RouteChange[]
  onLeaders(changes: readonly RouteChange[]): void
  onForward(payload: Uint8Array): Promise<Uint8Array>
  readonly onRefusedAsRemoved: () => void
  /** The disk a node is known by; null for one that has not been registered. */
  diskOf(nodeId: number): string | null
}

export interface NodeOptions {
  readonly environment: Environment
  readonly store: LogStore
  readonly volume: Pick<Volume, 'readSmall' | 'writeSmall'>
  readonly identity: Identity
  readonly members: ClusterMembers
  /** Nodes that the metadata group began with; none where this broker joined later. */
  readonly founders: readonly number[]
  /** What fails together with this broker. */
  readonly rack: string | null
  /** Of the topic of consumer groups, when it is made. */
  readonly groupPartitions: number
  readonly metrics: Metrics
  readonly report: (error: unknown, where: LogFields) => void
  readonly connectPeers: (events: PeerEvents) => NodePeers
  /** Who belongs to the cluster, or where they are, has changed. */
  readonly onMembers: () => void
  /** This broker was removed from the cluster for good, and has nothing left to do. */
  readonly onRemoved: () => void
}

export class Node {
  readonly groups: Groups
  readonly peers: NodePeers
  readonly map: MapPublisher
  readonly leaders: LeaderTable
  readonly shard: Shard
  readonly topics: Topics
  readonly metadataLeader: MetadataLeader
  readonly view: ClusterView
  readonly coordination: Coordination
  readonly #membership: PartitionMembership
  readonly #options: NodeOptions
  readonly #news: RouteNews
  #retry: Timer | null = null
  #opening = false
  #opened = false
  #stopped = false
  #whenReady: (() => void)[] = []
  /** Where this broker is reached, once it listens. */
  #own: NodePlace | null = null
  readonly #metadataMembership: MetadataMembership
  readonly #internalReplicas: InternalReplicas
  #registering = false
  readonly #registry: RegistryFollower

  private constructor(
    options: NodeOptions,
    parts: Pick<Node, 'groups' | 'peers' | 'leaders' | 'map'> & { readonly forgetLog: (key: LogKey) => void },
    readonly metadata: MetadataLog,
  ) {
    const { environment, store, identity, members, metrics, report } = options
    this.#options = options
    this.groups = parts.groups
    this.peers = parts.peers
    this.leaders = parts.leaders
    this.map = parts.map
    const { groups, leaders, map } = parts
    const { nodeId } = identity
    const { clock, log } = environment
    this.#news = new RouteNews({ nodeId, clock, map, peers: parts.peers })
    const during = (what: string) => (error: unknown) => report(error, { during: what })
    this.coordination = new Coordination({ environment, metrics, metadata, report: during('coordination of groups') })
    const onReplica: ShardOptions['onReplica'] = (topic, partition) => this.coordination.adopt(topic, partition)
    const { forgetLog: onReplicaDropped } = parts
    this.shard = new Shard({ environment, store, metrics, groups, leaders, nodeId, onReplica, onReplicaDropped })
    const { shard } = this
    this.topics = new Topics({
      metadata,
      shard,
      map,
      leaders,
      knownNodes: () => members.ids,
      log,
      report: during('opening topics'),
    })
    this.metadataLeader = new MetadataLeader({
      metadata,
      forwarder: this.peers,
      clock,
      local: localOperations({
        metadata,
        members,
        clusterId: identity.clusterId,
        topics: this.topics,
        shard,
        clock,
        map,
        leaders,
        groupPartitions: options.groupPartitions,
      }),
    })
    const { metadataLeader, peers } = this
    this.#metadataMembership = new MetadataMembership({ metadata, members, peers, clock, log, nodeId })
    this.#internalReplicas = internalReplicasOf(options, this)
    const { onMembers, onRemoved } = options
    this.#registry = new RegistryFollower({ environment, nodeId, members, map, peers, onMembers, onRemoved })
    this.view = new ClusterView({ environment, identity, members, metadata, metadataLeader, peers, leaders, shard })
    const parties = { metadata, metadataLeader, peers, leaders, shard, topics: this.topics }
    this.#membership = new PartitionMembership({
      ...parties,
      clock,
      haveOthersAll: (key) => this.view.haveOthersAll(key),
      report: during('changes of membership'),
    })
  }

  /** Opens the metadata; nothing moves before `start`. @throws StorageError, ProtocolError. */
  static async open(options: NodeOptions): Promise<Node> {
    const { environment, store, volume, identity, founders, report, connectPeers } = options
    const { clock, memory } = environment
    const { nodeId, clusterId } = identity
    const found = new Set(store.found.map(keyText))
    const replicationFailed = (error: unknown) => report(error, { during: 'replication' })
    const repairs = await RepairList.open(volume, { clock, log: environment.log, report: replicationFailed })
    let node: Node | null = null
    const leaders = new LeaderTable((changes) => node?.routesChanged(changes))
    const events: PeerEvents = {
      get groups(): Groups {
        return groups
      },
      allLeaderships: () => node?.ownLeaderships() ?? [],
      onLeaders: (changes) => void leaders.learn(changes),
      onForward: (payload) => node!.metadataLeader.onForward(payload),
      onRefusedAsRemoved: () => node?.refusedAsRemoved(),
      diskOf: (peer) => node?.metadata.state.diskOf(peer) ?? null,
    }
    const peers = connectPeers(events)
    const groups = new Groups({
      environment,
      nodeId,
      starts: identity.starts,
      peers,
      votes: store.votes,
      pulse: store.pulse,
      repairs,
      isLost: (key) => store.votes.hadLog(key) && !found.has(keyText(key)),
      report: replicationFailed,
    })
    // A log that nobody else has must not begin anew because it cannot be found.
    if (isOnly(founders, nodeId) && identity.starts > 1) refuseToReplace(store, METADATA_KEY)
    const metadata = await MetadataLog.open(store, {
      memory,
      clock,
      groups,
      members: believedFounders(founders, nodeId, options.members.others.length),
    })
    const map = new MapPublisher(clusterId, metadata.version, metadata.isSole)
    node = new Node(options, { groups, peers, leaders, map, forgetLog: (key) => found.delete(keyText(key)) }, metadata)
    node.#registry.tell()
    return node
  }

  /** Whether this broker decides alone what the metadata says: then nobody has to reach it before it can begin. */
  get isSole(): boolean {
    return this.metadata.isSole
  }

  /** Takes part from now on. For a broker that decides alone, resolves once its topics are open. @throws StorageError, StartError. */
  async start(): Promise<void> {
    const { report } = this.#options
    const { isSole } = this
    const ready = new Promise<void>((resolve, reject) => {
      this.#whenReady.push(resolve)
      this.metadata.onChanged = () => {
        this.#registry.follow(this.metadata.state)
        this.#bootstrap()
        this.#metadataMembership.look()
        this.#internalReplicas.look()
        this.coordination.followTopics()
        this.#openWhenKnown().catch((error: unknown) => {
          reject(error)
          // Whoever stops meanwhile closes the logs that were to be opened.
          if (!isSole && !this.#stopped) report(error, { during: 'opening what the metadata names' })
        })
      }
    })
    this.metadata.start()
    this.peers.start()
    this.metadata.onChanged()
    // A cluster needs a majority, which may be long in coming; the others have to reach this broker until then. Failures
    // are reported where they are met.
    if (!isSole) ready.catch(() => {})
    else await ready
  }

  /** This broker listens, and is reached by others there. */
  reachedAt({ host, port }: { readonly host: string; readonly port: number }): void {
    const { identity, rack, environment } = this.#options
    this.#own = { host, port, rack, shards: environment.cores.count }
    this.#registry.reachedAt({ nodeId: identity.nodeId, host, port })
    if (this.#opened) this.#register()
  }

  /** Resolves once this broker knows the metadata and serves what it leads. */
  ready(): Promise<void> {
    return this.#opened ? Promise.resolve() : new Promise((resolve) => this.#whenReady.push(resolve))
  }

  /** Whether the metadata knows this node by the disk that it has: from then on another disk under its name is noticed. */
  get isRegistered(): boolean {
    return this.metadata.state.diskOf(this.#options.identity.nodeId) === this.#options.identity.diskId
  }

  get isReady(): boolean {
    return this.#opened
  }

  /** Has others lead what this node leads, and its clients hear of them, as far as that can be had in time. Always resolves. */
  async handOver(timeoutMs: number): Promise<void> {
    if (this.#options.members.others.length > 0) await this.#handOver(timeoutMs)
    // What is still waited for here would keep clients until the end.
    this.coordination.stop({ code: 'SHUTTING_DOWN', detail: '' })
  }

  async #handOver(timeoutMs: number): Promise<void> {
    const { clock } = this.#options.environment
    const isFollowed = ({ key: { topicId, partition } }: ReplicaGroup, term: number): boolean =>
      !this.shard.hasTopic(topicId) || this.leaders.route(topicId, partition).term > term
    const isLast = ({ key }: ReplicaGroup): boolean => key.topicId === METADATA_KEY.topicId
    await handOver({ clock, groups: this.groups.all(), isFollowed, isLast }, timeoutMs)
    // What was heard last leaves with the next push.
    await new Promise<void>((resolve) => clock.timer(2 * ROUTE_BATCH_MS, resolve))
  }

  /** Another broker says that this one was removed, which it may have missed. */
  refusedAsRemoved(): void {
    this.#registry.refusedAsRemoved()
  }

  /** Takes part no more. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.coordination.stop({ code: 'SHUTTING_DOWN', detail: '' })
    this.#news.stop()
    this.#retry?.cancel()
    this.#registry.stop()
    this.#metadataMembership.stop()
    this.#internalReplicas.stop()
    this.#membership.stop()
    this.groups.stop()
    await this.peers.stop()
  }

  // -------------------------------------------------------------- beginning

  /** Whoever leads an empty metadata log gives the cluster its identity. */
  #bootstrap(): void {
    if (!this.metadata.leads || this.metadata.state.clusterId !== null) return
    const { clusterId } = this.#options.identity
    this.metadata
      .propose(() => ({ kind: 'bootstrap', clusterId }))
      .catch((error: unknown) => {
        // Whoever leads next does it.
        if (isBug(error)) this.#options.report(error, { during: 'bootstrap' })
      })
  }

  async #openWhenKnown(): Promise<void> {
    const { metadata } = this
    if (this.#opening || this.#stopped || !metadata.hasCommitted || metadata.state.clusterId === null) return
    this.#opening = true
    const { identity } = this.#options
    if (metadata.state.clusterId !== identity.clusterId) {
      throw new StartError(
        'DATA_OF_ANOTHER',
        `the metadata is of cluster ${metadata.state.clusterId}, the identity file of ${identity.clusterId}: ` +
          'the data directory was put together from two; restore one of them',
      )
    }
    await this.topics.open()
    this.#opened = true
    if (!this.#stopped) this.#membership.start()
    this.map.becomeReady()
    for (const resolve of this.#whenReady.splice(0)) resolve()
    this.#register()
  }

  /** Makes known which disk this node began with and where it is reached, until that is committed. */
  #register(): void {
    const { identity, environment, report } = this.#options
    const { nodeId, diskId } = identity
    const own = this.#own
    if (own === null || this.#stopped || this.#registering) return
    if (isAt(this.metadata.state.node(nodeId), diskId, own) || this.metadata.state.isRemoved(nodeId)) return
    this.#registering = true
    this.metadataLeader.perform('registerNode', { nodeId, diskId, ...own }, Number.POSITIVE_INFINITY).then(
      () => {
        this.#registering = false
      },
      (error: unknown) => {
        this.#registering = false
        if (isBug(error)) report(error, { during: 'registration' })
        else if (!this.#stopped) this.#retry = environment.clock.timer(REGISTER_RETRY_MS, () => this.#register())
      },
    )
  }

  // -------------------------------------------------------------- who leads

  ownLeaderships(): readonly RouteChange[] {
    const own: RouteChange[] = []
    for (const { leads, key, route } of this.shard.partitions()) {
      if (leads) own.push({ topicId: key.topicId, partition: key.partition, route })
    }
    return own
  }

  routesChanged(changes: readonly RouteChange[]): void {
    this.#news.tell(changes)
  }
}

function internalReplicasOf(
  { identity, environment, report }: NodeOptions,
  { metadata, leaders, peers }: Pick<Node, 'metadata' | 'leaders' | 'peers'>,
): InternalReplicas {
  return new InternalReplicas({
    nodeId: identity.nodeId,
    metadata,
    leaders,
    peers,
    clock: environment.clock,
    log: environment.log,
    report: (error) => report(error, { during: 'replicas of internal topics' }),
  })
}
