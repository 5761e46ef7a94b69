// The state of gossip on one node, and what all parts of the core do with it: give out effects and datagrams.
import { assert } from '@millrace/protocol'
import { Awareness } from './awareness.js'
import { BroadcastQueue, retransmitLimit } from './broadcast-queue.js'
import { assertRecord, claimBytes } from './claim-codec.js'
import { DATAGRAM_OVERHEAD_BYTES } from './datagram-size.js'
import type { GossipLimits } from './gossip-limits.js'
import type {
  Address,
  Claim,
  Datagram,
  GossipCounters,
  GossipEffect,
  GossipOptions,
  LeadershipDigest,
  MemberRecord,
  MetadataDigest,
  NodeId,
} from './gossip-types.js'
import { addressOf, type MemberEntry, MemberTable } from './member-table.js'

const NOTHING: readonly never[] = []

/** The probe under way. */
export interface Probe {
  readonly nodeId: NodeId
  readonly sequence: number
  indirectAtMs: number
  endAtMs: number
  /** Who were asked to probe, too; 0 while nobody was. */
  helpers: number
  nacks: number
  hasAnswer: boolean
}

/** A probe for somebody else. */
export interface Relay {
  readonly requester: NodeId
  /** The requester's. */
  readonly sequence: number
  nackAtMs: number
  endAtMs: number
  saidNo: boolean
}

/** What somebody else has and this node has not. */
export interface Wanted<D> {
  digest: D
  from: NodeId
  /** When it is asked for, unless it has come by then. */
  atMs: number
}

/** What is sent, without what every datagram carries. */
export type Message =
  | { readonly kind: 'ping' | 'ack' | 'nack'; readonly sequence: number }
  | { readonly kind: 'pingRequest'; readonly sequence: number; readonly target: NodeId }
  | { readonly kind: 'gossip' }

export class GossipState {
  readonly nodeId: NodeId
  readonly limits: GossipLimits
  readonly random: (bound: number) => number
  readonly members: MemberTable
  readonly news = new BroadcastQueue()
  readonly awareness: Awareness
  readonly relays = new Map<number, Relay>()
  readonly counters: GossipCounters = {
    probes: 0,
    failedProbes: 0,
    refutations: 0,
    deaths: 0,
    strangers: 0,
    farFuture: 0,
    invalid: 0,
  }
  registry: ReadonlySet<NodeId> | null
  seeds: readonly Address[]
  readonly startedAtMs: number
  nowMs: number
  tickedAtMs: number
  record: MemberRecord
  hasLeft = false

  probe: Probe | null = null
  nextProbeAtMs: number
  /** In the order they are probed in, shuffled anew after each time round. */
  ring: NodeId[] = []
  ringAt = 0
  /** To be probed before all others. */
  readonly probeFirst = new Set<NodeId>()

  lastRoundAtMs: number
  nextRoundAtMs: number
  /** How often own digests that have changed are still to be told. */
  digestSends = 0
  nextExchangeAtMs: number
  nextSeedAtMs: number
  nextReconnectAtMs: number
  /** When a node without a known address may be asked for its state again. */
  nextAskBackAtMs = 0
  nextLoadAtMs: number

  metadata: MetadataDigest = { position: 0, hash: 0 }
  leadership: LeadershipDigest = { version: 0, hash: 0 }
  wantedMetadata: Wanted<MetadataDigest> | null = null
  wantedLeadership: Wanted<LeadershipDigest> | null = null
  /** Position at which two nodes were found to differ; said once. */
  divergedAt = 0

  private sequence: number
  private effects: GossipEffect[] = []

  constructor(options: GossipOptions) {
    const { nodeId, bootId, limits, random, nowMs, record } = options
    assert(nodeId > 0 && bootId > 0, 'a node and its start have ids from 1')
    assertRecord(record)
    this.nodeId = nodeId
    this.limits = limits
    this.random = random
    this.seeds = options.seeds
    this.registry = options.registry
    this.record = record
    this.nowMs = nowMs
    this.tickedAtMs = nowMs
    this.awareness = new Awareness(limits)
    this.members = new MemberTable(nodeId, random)
    // Nodes that start together do not go on in step.
    this.nextProbeAtMs = nowMs + random(limits.probePeriodMs)
    this.lastRoundAtMs = nowMs - limits.gossipPeriodMs
    this.nextRoundAtMs = nowMs + random(limits.gossipPeriodMs)
    this.nextExchangeAtMs = nowMs + random(limits.exchangePeriodMs)
    this.nextSeedAtMs = nowMs
    this.startedAtMs = nowMs
    this.nextReconnectAtMs = nowMs + limits.reconnectPeriodMs + random(limits.reconnectPeriodMs)
    this.nextLoadAtMs = nowMs
    this.sequence = random(2 ** 31)
    const profile = { bootId, incarnation: 0, record }
    this.members.put({ nodeId, bootId, incarnation: 0, state: 'alive', accusers: [], profile }, nowMs)
    this.news.add(this.own)
  }

  get own(): Claim {
    return this.members.get(this.nodeId)!.claim
  }

  get retransmits(): number {
    return retransmitLimit(this.limits.retransmitFactor, this.members.liveCount)
  }

  /** For a new ping; never 0, which no answer is waited for. */
  nextSequence(): number {
    this.sequence = (this.sequence % 0x7fff_ffff) + 1
    return this.sequence
  }

  emit(effect: GossipEffect): void {
    this.effects.push(effect)
  }

  takeEffects(): readonly GossipEffect[] {
    if (this.effects.length === 0) return NOTHING
    const taken = this.effects
    this.effects = []
    return taken
  }

  /** @param isAnswer it may go where the message came from when the address is not known. */
  send(to: NodeId, message: Message, isAnswer = false): void {
    const entry = this.members.get(to)
    const address = entry === undefined ? null : addressOf(entry)
    if (address === null && !isAnswer) return
    this.emit({ kind: 'send', to, address, message: this.withNews(entry, to, message) })
  }

  /** With as many news as the datagram has room for. */
  private withNews(entry: MemberEntry | undefined, to: NodeId, message: Message): Datagram {
    const { metadata, leadership, limits } = this
    const updates: Claim[] = []
    let budgetBytes = limits.datagramBytes - DATAGRAM_OVERHEAD_BYTES
    // Whoever is not taken for alive hears of it first of all, so that it can contradict (Lifeguard, buddy system).
    if (entry !== undefined && entry.claim.state !== 'alive') {
      const accusation = withoutProfile(entry.claim)
      updates.push(accusation)
      budgetBytes -= claimBytes(accusation)
    }
    updates.push(...this.news.take(budgetBytes, this.retransmits, to))
    if (this.digestSends > 0) this.digestSends--
    return { ...message, metadata, leadership, updates }
  }
}

/** Who is silent needs no introduction; whoever lacks it gets it with the next exchange of states. */
export function withoutProfile(claim: Claim): Claim {
  return claim.profile === null ? claim : { ...claim, profile: null }
}
