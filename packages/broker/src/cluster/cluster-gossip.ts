// Gossip of a running broker: who the others are and how they are, as far as can be told without asking a quorum. What comes of
// it is shown, and has peers dialled and leaders asked for sooner; nothing is decided by it.
import type { RouteChange } from '@millrace/protocol'
import { type Environment, type ListenOptions, NetworkError, type Timer, type Volume } from '../environment.js'
import { GossipError } from '../gossip/gossip-error.js'
import type { GossipLimits } from '../gossip/gossip-limits.js'
import { GossipService } from '../gossip/gossip-service.js'
import type { Address, GossipEvent, MemberLoad, MemberRecord, MemberState, MemberView } from '../gossip/gossip-types.js'
import type { GossipKey } from '../gossip/keyring.js'
import type { Identity } from '../identity.js'
import { GOSSIP_LOAD_MS, GOSSIP_RETRY_MS, LEADERSHIP_DIGEST_MS } from '../limits.js'
import type { Metrics } from '../metrics.js'
import type { Shard } from '../shard.js'
import { VERSION } from '../version.js'
import type { ClusterMembers } from './cluster-members.js'
import type { LeaderTable } from './leader-table.js'
import { isKnown } from './leadership-digest.js'
import type { TopicDefinition } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import type { NodePeers } from './no-peers.js'

export interface ClusterGossipOptions {
  readonly environment: Environment
  readonly identity: Identity
  readonly rack: string | null
  readonly members: ClusterMembers
  readonly metadata: Pick<MetadataLog, 'digest' | 'version'>
  readonly leaders: Pick<LeaderTable, 'routes' | 'hashOf' | 'changes'>
  readonly topics: { list(): readonly Pick<TopicDefinition, 'topicId'>[] }
  readonly shard: Pick<Shard, 'partitions'>
  readonly volume: Pick<Volume, 'space'>
  readonly metrics: Pick<Metrics, 'producedBytes' | 'pushedBytes'>
  readonly peers: Pick<NodePeers, 'exchangeGossip' | 'askLeaders' | 'wake' | 'isConnected'>
  /** One or two; the first one is sealed with. */
  readonly keys: readonly GossipKey[]
  readonly limits: GossipLimits
}

/** How a broker is, as this one sees it. */
export interface BrokerLife {
  readonly state: MemberState
  /** For how long it has been so, in milliseconds. */
  readonly forMs: number
  /** As it says itself; null while it has not. */
  readonly load: MemberLoad | null
}

interface KnownState {
  readonly state: MemberState
  readonly bootId: number
  readonly sinceMs: number
}

/** Rumours of a node carry no more of its rack. */
const MAX_RACK_BYTES = 64
const NO_LOAD: MemberLoad = { bytesPerSecond: 0, freeDiskBytes: 0, partitionsLed: 0 }

export class ClusterGossip {
  readonly #options: ClusterGossipOptions
  #keys: readonly GossipKey[]
  #service: GossipService | null = null
  #starting: Promise<void> | null = null
  #retry: Timer | null = null
  #stopped = false
  #listen: ListenOptions | null = null
  /** Where others reach this broker. */
  #place: Address | null = null
  #load = NO_LOAD
  #loadedAtMs = Number.NEGATIVE_INFINITY
  #bytesThen = 0
  readonly #states = new Map<number, KnownState>()
  /** What the service was told last, of the metadata and of leaders. */
  #told = { position: -1, hash: 0 }
  #digested = { version: -1, changes: -1, atMs: Number.NEGATIVE_INFINITY }

  constructor(options: ClusterGossipOptions) {
    this.#options = options
    this.#keys = options.keys
    const { nodeId, starts } = options.identity
    this.#note({ nodeId, state: 'alive', bootId: starts })
  }

  /** The broker accepts connections at `listen`, and others reach it at `place`: by datagrams, too. */
  listening(listen: ListenOptions, place: Address): void {
    this.#listen = listen
    this.#place = place
    this.look()
  }

  /** Who belongs to the cluster, or where they are, may have changed. A broker without others is silent. */
  look(): void {
    const { members } = this.#options
    const service = this.#service
    if (service !== null) {
      service.setRegistry(new Set(members.ids))
      service.setSeeds(this.#seeds())
    } else if (members.others.length > 0 && this.#listen !== null && this.#starting === null && !this.#stopped) {
      this.#starting = this.#start(this.#listen).finally(() => {
        this.#starting = null
      })
    }
  }

  /** Something has come from a node, on a stream: the moment, too, to say what is new here, which costs no timer. */
  heard(nodeId: number): void {
    this.#observe()
    this.#service?.heard(nodeId)
  }

  /** A stream to a node has broken. */
  lost(nodeId: number): void {
    this.#service?.lostContact(nodeId)
  }

  /** There is a stream to a node. */
  connected(nodeId: number): void {
    const member = this.#options.members.others.find((one) => one.nodeId === nodeId)
    if (member !== undefined) this.#service?.meet(nodeId, member)
  }

  /** What is known here, for another node's state; null where it is not sealed as it should be, or nothing is known yet. */
  answer(state: Uint8Array): Uint8Array | null {
    try {
      return this.#service?.answerExchange(state) ?? null
    } catch (error) {
      // Counted and logged where it is met.
      if (error instanceof GossipError) return null
      throw error
    }
  }

  /** Null while nothing was heard of it. */
  lifeOf(nodeId: number): BrokerLife | null {
    const found = this.#states.get(nodeId)
    if (found === undefined) return null
    const forMs = Math.round(this.#options.environment.clock.monotonicMs() - found.sinceMs)
    return { state: found.state, forMs, load: this.#service?.member(nodeId)?.record?.load ?? null }
  }

  /** From now on these are the keys. @throws GossipError KEY, and then nothing has changed. */
  setKeys(keys: readonly GossipKey[]): void {
    this.#service?.keyring.replace(keys)
    this.#keys = keys
  }

  /** For `brokerStatus`; null while this broker does not gossip. */
  status(): Readonly<Record<string, unknown>> | null {
    const service = this.#service
    if (service === null) return null
    const members = service.members().map(({ nodeId, state }) => ({ nodeId, state }))
    return { keys: service.keyring.ids, members, ...service.statistics }
  }

  /** Every leader that this broker knows. */
  knownLeaderships(): readonly RouteChange[] {
    return [...this.#routes()]
  }

  /** Says good-bye, so that nobody has to find out. Always resolves. */
  leave(): Promise<void> {
    return this.#end((service) => service.leave())
  }

  /** Ends without a word. Always resolves. */
  close(): Promise<void> {
    return this.#end((service) => service.close())
  }

  async #end(how: (service: GossipService) => Promise<void>): Promise<void> {
    this.#stopped = true
    this.#retry?.cancel()
    await this.#starting
    const service = this.#service
    this.#service = null
    if (service !== null) await how(service)
  }

  /** Always resolves: a broker without gossip serves its clients all the same. */
  async #start(listen: ListenOptions): Promise<void> {
    const { environment, identity, members, limits, peers } = this.#options
    const { clusterId, nodeId, starts } = identity
    try {
      const service = await GossipService.start({
        environment,
        clusterId,
        nodeId,
        bootId: starts,
        record: this.#record(),
        listen,
        keys: this.#keys,
        seeds: this.#seeds(),
        registry: new Set(members.ids),
        streams: { exchange: (to, address, bytes) => peers.exchangeGossip(to === 0 ? this.#idAt(address) : to, bytes) },
        limits,
        observe: () => this.#observe(),
        listener: (event) => this.#hear(event),
      })
      this.#service = service
      this.look()
    } catch (error) {
      if (!(error instanceof NetworkError)) throw error
      const { code, message } = error
      environment.log.error({ code, reason: message, ...listen }, 'no datagrams are received: gossip has to wait')
      this.#retry = environment.clock.timer(GOSSIP_RETRY_MS, () => this.look())
    }
  }

  #seeds(): readonly Address[] {
    return this.#options.members.others.map(({ host, port }) => ({ host, port }))
  }

  /** 0, which nobody has, for an address that no member is at any more. */
  #idAt({ host, port }: Address): number {
    return this.#options.members.others.find((one) => one.host === host && one.port === port)?.nodeId ?? 0
  }

  // -------------------------------------------------------------- what this broker says

  /** Called often, and cheap: nothing is put together unless something has changed. */
  #observe(): void {
    const service = this.#service
    const { environment, metadata } = this.#options
    if (service === null) return
    const now = environment.clock.monotonicMs()
    this.#digestLeaders(service, now)
    const { digest } = metadata
    if (digest.position !== this.#told.position || digest.hash !== this.#told.hash) {
      this.#told = digest
      service.setMetadata(digest)
    }
    if (now - this.#loadedAtMs >= GOSSIP_LOAD_MS) void this.#measureLoad(now)
  }

  #digestLeaders(service: GossipService, now: number): void {
    const { metadata, leaders, topics } = this.#options
    const { version } = metadata
    const { changes } = leaders
    const isSame = version === this.#digested.version && changes === this.#digested.changes
    if (isSame || now - this.#digested.atMs < LEADERSHIP_DIGEST_MS) return
    this.#digested = { version, changes, atMs: now }
    let hash = 0
    for (const { topicId } of topics.list()) hash = (hash + leaders.hashOf(topicId)) >>> 0
    service.setLeadership({ version, hash })
  }

  *#routes(): Iterable<RouteChange> {
    const { topics, leaders } = this.#options
    for (const { topicId } of topics.list()) {
      let partition = 0
      for (const route of leaders.routes(topicId)) {
        if (isKnown(route)) yield { topicId, partition, route }
        partition++
      }
    }
  }

  /** Always resolves. */
  async #measureLoad(now: number): Promise<void> {
    const { metrics, shard, volume, environment } = this.#options
    const seconds = (now - this.#loadedAtMs) / 1_000
    const bytes = metrics.producedBytes + metrics.pushedBytes
    const bytesPerSecond = Number.isFinite(seconds) ? Math.round((bytes - this.#bytesThen) / seconds) : 0
    this.#loadedAtMs = now
    this.#bytesThen = bytes
    let partitionsLed = 0
    for (const { leads } of shard.partitions()) if (leads) partitionsLed++
    try {
      const { freeBytes: freeDiskBytes } = await volume.space()
      this.#load = { bytesPerSecond, freeDiskBytes, partitionsLed }
    } catch (cause) {
      environment.log.debug({ cause }, 'the space of the disk is not known')
      this.#load = { ...this.#load, bytesPerSecond, partitionsLed }
    }
    this.#service?.setRecord(this.#record())
  }

  #record(): MemberRecord {
    const { rack, environment } = this.#options
    const place = this.#place ?? { host: '', port: 0 }
    return {
      client: place,
      peer: place,
      shards: environment.cores.count,
      rack: clipped(rack ?? ''),
      version: VERSION,
      load: this.#load,
    }
  }

  // -------------------------------------------------------------- what it hears

  #hear(event: GossipEvent): void {
    const { environment, peers } = this.#options
    const { log } = environment
    switch (event.kind) {
      case 'member':
        if (event.change === 'removed') this.#states.delete(event.member.nodeId)
        else this.#note(event.member)
        break
      case 'pullLeadership':
        peers.askLeaders(event.from)
        break
      case 'pullMetadata':
        // The metadata themselves come by Raft: whoever has more of them may only be out of touch.
        peers.wake(event.from)
        break
      case 'metadataDiverged':
        log.error({ node: event.from, ...event.digest }, 'another broker has other metadata of the same version')
        break
      case 'refuted':
        log.info({ accused: event.accused }, 'this broker was missed, and has contradicted')
        break
      case 'contested':
        log.error({ ...event.claim }, 'somebody else speaks as this broker, or its data directory was put back')
    }
  }

  #note({ nodeId, state, bootId }: Pick<MemberView, 'nodeId' | 'state' | 'bootId'>): void {
    const { environment, identity, peers } = this.#options
    const known = this.#states.get(nodeId)
    // A new process of it lives for as long as that.
    if (known?.state === state && known.bootId === bootId) return
    const before = known?.state
    this.#states.set(nodeId, { state, bootId, sinceMs: environment.clock.monotonicMs() })
    if (nodeId === identity.nodeId) return
    const { log } = environment
    if (state === 'dead') log.warn({ node: nodeId }, 'a broker is dead, as far as anybody can tell')
    else if (state === 'left') log.info({ node: nodeId }, 'a broker has left in order')
    else if (state === 'alive' && before !== 'suspect') log.info({ node: nodeId }, 'a broker is alive')
    if (state === 'alive') peers.wake(nodeId)
    // Datagrams may be what does not get through: whoever is accused hears of it on the stream, and can contradict there.
    else if (peers.isConnected(nodeId)) this.connected(nodeId)
  }
}

/** As many whole characters as fit. */
function clipped(text: string): string {
  let clippedText = text
  while (new TextEncoder().encode(clippedText).length > MAX_RACK_BYTES) clippedText = clippedText.slice(0, -1)
  return clippedText
}
