// Runs gossip on the environment: the core gets its ticks and what arrives, and what it wants done is done.
import { assert } from '@millrace/protocol'
import type { DatagramSocket, Environment, ListenOptions, Timer } from '../environment.js'
import { GossipCore } from './gossip-core.js'
import { GossipError, type GossipErrorCode } from './gossip-error.js'
import { GOSSIP_LIMITS, type GossipLimits } from './gossip-limits.js'
import type {
  Address,
  GossipCounters,
  GossipEffect,
  GossipEvent,
  LeadershipDigest,
  MemberRecord,
  MemberView,
  MetadataDigest,
  NodeId,
  StateMessage,
} from './gossip-types.js'
import { type GossipKey, Keyring } from './keyring.js'
import { GossipSeal, type Opened } from './sealing.js'
import { SourceLimit } from './source-limit.js'

/** Exchanges of states under way; one more is left out, since there will be others. */
const MAX_EXCHANGES = 4
/** How many rounds of gossip a node that leaves stays for, so that somebody hears it. */
const ROUNDS_OF_GOODBYE = 2
/** Refusals of the same kind are logged once in so long. */
const REPEAT_LOG_MS = 60_000

/** What gossip needs of the streams between brokers. */
export interface GossipStreams {
  /**
   * Hands `bytes` to the gossip of the node at `address` and resolves with what its `answerExchange` gave. Rejects when that
   * fails; always settles. @param to 0 while nobody knows who is there.
   */
  exchange(to: NodeId, address: Address, bytes: Uint8Array): Promise<Uint8Array>
}

export interface GossipServiceOptions {
  readonly environment: Pick<Environment, 'clock' | 'random' | 'network' | 'crypto' | 'log'>
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  readonly nodeId: NodeId
  /** Higher than at every start before: how often the node has started. */
  readonly bootId: number
  /** What the others are told of this node; datagrams go to the port of `peer`. */
  readonly record: MemberRecord
  /** Where datagrams are received. */
  readonly listen: ListenOptions
  /** One or two; the first one is sealed with. */
  readonly keys: readonly GossipKey[]
  readonly seeds: readonly Address[]
  /** Who may be a member; null while the metadata are not known. */
  readonly registry: ReadonlySet<NodeId> | null
  readonly streams: GossipStreams
  readonly limits?: GossipLimits
  /** Called in each tick: the time to say what has changed since the last one. */
  readonly observe?: () => void
  /** As `onEvent`, from the first event on. */
  readonly listener?: GossipListener
}

export type GossipListener = (event: GossipEvent) => void

export interface GossipStatistics extends GossipCounters {
  /** How often the core was asked what time has brought about. */
  readonly ticks: number
  readonly datagramsSent: number
  readonly datagramBytesSent: number
  readonly datagramsReceived: number
  readonly exchanges: number
  readonly failedExchanges: number
  /** Datagrams and states that were not taken, by reason. */
  readonly refused: Readonly<Partial<Record<GossipErrorCode | 'FLOOD', number>>>
  /** How many times as long as usual this node waits for others; 1 when it is well. */
  readonly awarenessFactor: number
}

export class GossipService {
  /** Installed, used and removed on all nodes, one step after the other. */
  readonly keyring: Keyring
  private readonly core: GossipCore
  private readonly seal: GossipSeal
  private readonly sources: SourceLimit
  private readonly limits: GossipLimits
  private readonly listeners = new Set<GossipListener>()
  private registry: ReadonlySet<NodeId> | null
  private socket: DatagramSocket | null = null
  private timer: Timer | null = null
  /** When the next tick is to come, and when the last one came. */
  private dueMs: number
  private tickedAtMs: number
  /** What comes in meanwhile is part of the tick. */
  private isTicking = false
  private isClosed = false
  private exchanging = 0
  private readonly counts = {
    ticks: 0,
    datagramsSent: 0,
    datagramBytesSent: 0,
    datagramsReceived: 0,
    exchanges: 0,
    failedExchanges: 0,
  }
  private readonly loggedAtMs = new Map<GossipErrorCode, number>()
  private readonly refused: Partial<Record<GossipErrorCode | 'FLOOD', number>> = {}

  private constructor(private readonly options: GossipServiceOptions) {
    const { environment, clusterId, nodeId, bootId, record, seeds, registry } = options
    const { clock, random, crypto } = environment
    const limits = options.limits ?? GOSSIP_LIMITS
    this.limits = limits
    this.registry = registry
    this.keyring = new Keyring(options.keys)
    if (options.listener !== undefined) this.listeners.add(options.listener)
    this.sources = new SourceLimit(clock.monotonicMs())
    const draw = (bound: number): number => Math.floor((random.uint32() / 0x1_0000_0000) * bound)
    const nowMs = clock.monotonicMs()
    this.tickedAtMs = nowMs
    this.dueMs = nowMs + limits.tickMs
    this.core = new GossipCore({ nodeId, bootId, record, seeds, limits, random: draw, registry, nowMs })
    const { datagramBytes, maxMembers } = limits
    const startedMs = clock.wallMs()
    const sealing = { crypto, random, clusterId, nodeId, keyring: this.keyring, startedMs, datagramBytes, maxMembers }
    this.seal = new GossipSeal(sealing)
  }

  /** @throws NetworkError when datagrams cannot be received there; GossipError KEY. */
  static async start(options: GossipServiceOptions): Promise<GossipService> {
    const service = new GossipService(options)
    service.socket = await options.environment.network.datagrams(options.listen, (bytes, from) =>
      service.receive(bytes, from),
    )
    service.tick()
    return service
  }

  /** Where datagrams are received; of interest when the port was 0. */
  get port(): number {
    assert(this.socket !== null, 'the service has started')
    return this.socket.port
  }

  /** Every member that is known of, this node included. */
  members(): readonly MemberView[] {
    return this.core.members()
  }

  member(nodeId: NodeId): MemberView | null {
    return this.core.member(nodeId)
  }

  get statistics(): GossipStatistics {
    const { core, counts, refused } = this
    return { ...core.counters, ...counts, refused: { ...refused }, awarenessFactor: core.awarenessFactor }
  }

  /** @returns what ends it. */
  onEvent(listener: GossipListener): () => void {
    this.listeners.add(listener)
    return () => void this.listeners.delete(listener)
  }

  /** For the streams: what another node's exchange has brought, and what to answer. @throws GossipError, and then nothing. */
  answerExchange(bytes: Uint8Array): Uint8Array {
    const { from, message } = this.open(bytes, 'state', null)
    if (message.kind !== 'stateRequest') throw new GossipError('CORRUPT', `a ${message.kind} asks for nothing`)
    this.advance()
    this.core.step(message, from)
    const answers = this.carryOut(null)
    this.schedule()
    assert(answers.length === 1, 'a request is answered once')
    return this.seal.seal(answers[0]!, from, this.core.bootId)
  }

  setRecord(record: MemberRecord): void {
    this.change((core) => core.setRecord(record))
  }

  setRegistry(registry: ReadonlySet<NodeId>): void {
    this.registry = registry
    this.change((core) => core.setRegistry(registry))
  }

  setSeeds(seeds: readonly Address[]): void {
    this.change((core) => core.setSeeds(seeds))
  }

  setMetadata(digest: MetadataDigest): void {
    this.change((core) => core.setMetadata(digest))
  }

  setLeadership(digest: LeadershipDigest): void {
    this.change((core) => core.setLeadership(digest))
  }

  /** That node was heard on a stream just now. Cheap, and harmless however often. */
  heard(nodeId: NodeId): void {
    this.change((core) => core.heard(nodeId))
  }

  /** A stream to that node has broken. */
  lostContact(nodeId: NodeId): void {
    this.change((core) => core.lostContact(nodeId))
  }

  /** There is a stream to that node, which listens there. */
  meet(nodeId: NodeId, address: Address): void {
    this.change((core) => core.meet(nodeId, address))
  }

  /** Says good-bye, and closes. */
  async leave(): Promise<void> {
    const hasListeners = this.core.members().some(({ nodeId, state }) => {
      return nodeId !== this.core.nodeId && (state === 'alive' || state === 'suspect')
    })
    if (this.isClosed || !hasListeners) return this.close()
    this.change((core) => core.leave())
    const goodbyeMs = this.limits.gossipPeriodMs * ROUNDS_OF_GOODBYE
    await new Promise<void>((resolve) => this.options.environment.clock.timer(goodbyeMs, resolve))
    await this.close()
  }

  /** Ends without a word: the others find out by themselves. */
  async close(): Promise<void> {
    this.isClosed = true
    this.timer?.cancel()
    await this.socket?.close()
  }

  private tick(): void {
    if (this.isClosed) return
    this.timer?.cancel()
    this.timer = null
    const { clock } = this.options.environment
    this.isTicking = true
    this.options.observe?.()
    this.counts.ticks++
    this.tickedAtMs = clock.monotonicMs()
    this.core.tick(this.tickedAtMs, this.dueMs)
    this.carryOut(null)
    this.isTicking = false
    this.schedule()
  }

  /** The core is told what time it is before it hears of anything; a tick that is overdue comes first. */
  private advance(): void {
    const nowMs = this.options.environment.clock.monotonicMs()
    if (nowMs >= this.dueMs && !this.isTicking) this.tick()
    else this.core.advance(nowMs)
  }

  /** The timer goes off when a tick has something to do, and once in a probe period in any case: most ticks would find nothing. */
  private schedule(): void {
    if (this.isClosed || this.isTicking) return
    const { clock } = this.options.environment
    const { tickMs, probePeriodMs } = this.limits
    const latestMs = this.tickedAtMs + probePeriodMs
    const dueMs = Math.max(this.tickedAtMs + tickMs, Math.min(this.core.dueMs, latestMs))
    if (this.timer !== null && dueMs >= this.dueMs) return
    this.timer?.cancel()
    this.dueMs = dueMs
    this.timer = clock.timer(dueMs - clock.monotonicMs(), () => this.tick())
  }

  private change(act: (core: GossipCore) => void): void {
    if (this.isClosed) return
    this.advance()
    act(this.core)
    this.carryOut(null)
    this.schedule()
  }

  private receive(bytes: Uint8Array, source: Address): void {
    if (this.isClosed) return
    this.counts.datagramsReceived++
    const nowMs = this.options.environment.clock.monotonicMs()
    if (!this.sources.allows(source.host, nowMs)) {
      this.count('FLOOD')
      return
    }
    try {
      const { from, message } = this.open(bytes, 'datagram', source)
      this.sources.prove(source.host, nowMs)
      this.advance()
      this.core.step(message, from)
    } catch (cause) {
      // Counted by reason; whoever has sent it is told nothing.
      if (!(cause instanceof GossipError)) throw cause
      return
    }
    this.carryOut(source)
    this.schedule()
  }

  /** @param source of a datagram. */
  private open(bytes: Uint8Array, kind: 'datagram' | 'state', source: Address | null): Opened {
    try {
      return this.seal.open(bytes, kind, (nodeId) => this.registry === null || this.registry.has(nodeId))
    } catch (cause) {
      if (cause instanceof GossipError) {
        this.count(cause.code)
        this.logRefusal(cause, source)
      }
      throw cause
    }
  }

  /** Whoever has sent it is told nothing, so that somebody else has to know why a node is no member here. */
  private logRefusal({ code, message: reason }: GossipError, source: Address | null): void {
    const { clock, log } = this.options.environment
    const nowMs = clock.monotonicMs()
    // Networks do send a datagram twice.
    if (code === 'REPLAYED' || nowMs - (this.loggedAtMs.get(code) ?? Number.NEGATIVE_INFINITY) < REPEAT_LOG_MS) return
    this.loggedAtMs.set(code, nowMs)
    log.warn(
      { code, reason, from: source === null ? 'a stream' : `${source.host}:${source.port}` },
      'gossip is refused',
    )
  }

  private count(reason: GossipErrorCode | 'FLOOD'): void {
    this.refused[reason] = (this.refused[reason] ?? 0) + 1
  }

  /** @param source where the message that is being answered came from. @returns answers for the stream it came by. */
  private carryOut(source: Address | null): StateMessage[] {
    const answers: StateMessage[] = []
    for (const effect of this.core.takeEffects()) {
      if (effect.kind === 'answer') answers.push(effect.message)
      else if (effect.kind === 'send') this.send(effect, source)
      else if (effect.kind === 'exchange') this.exchange(effect, source)
      else for (const listener of this.listeners) listener(effect)
    }
    return answers
  }

  private send(effect: GossipEffect & { kind: 'send' }, source: Address | null): void {
    const address = effect.address ?? source
    if (address === null || this.socket === null) return
    const bytes = this.seal.seal(effect.message, effect.to, this.core.bootId)
    this.counts.datagramsSent++
    this.counts.datagramBytesSent += bytes.length
    this.socket.send(address.host, address.port, bytes)
  }

  private exchange(effect: GossipEffect & { kind: 'exchange' }, source: Address | null): void {
    const address = effect.address ?? source
    if (address === null || this.exchanging >= MAX_EXCHANGES) return
    this.exchanging++
    void this.exchangeWith(effect.to, address, effect.message).finally(() => this.exchanging--)
  }

  private async exchangeWith(to: NodeId, address: Address, message: StateMessage): Promise<void> {
    this.counts.exchanges++
    const reply = await this.replyOf(to, address, message)
    if (reply !== null) this.change((core) => core.step(reply.message, reply.from))
  }

  private async replyOf(to: NodeId, address: Address, message: StateMessage): Promise<Opened | null> {
    const { streams, environment } = this.options
    try {
      const bytes = await streams.exchange(to, address, this.seal.seal(message, to, this.core.bootId))
      if (this.isClosed) return null
      const reply = this.open(bytes, 'state', null)
      if (to !== 0 && reply.from !== to) throw new GossipError('MISDIRECTED', `node ${reply.from} has answered`)
      return reply
    } catch (cause) {
      this.counts.failedExchanges++
      environment.log.debug(
        { cause, nodeId: to, ...address },
        'states were not exchanged; somebody else is asked later',
      )
      return null
    }
  }
}
