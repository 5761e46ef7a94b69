// Who is in the cluster and how they are, as one node sees it: messages and ticks in, effects out. No promise, clock, socket or
// byte. Gossip decides nothing: what it says are hints, and copies of what consensus has decided.
import { assert } from '@millrace/protocol'
import { viewOf } from './claims.js'
import { digestsDueMs, forgetHolder, hearDigests, setLeadership, setMetadata, tickDigests } from './digests.js'
import { assertGossipLimits } from './gossip-limits.js'
import { GossipState } from './gossip-state.js'
import type {
  Address,
  GossipCounters,
  GossipEffect,
  GossipMessage,
  GossipOptions,
  LeadershipDigest,
  MemberRecord,
  MemberView,
  MetadataDigest,
  NodeId,
} from './gossip-types.js'
import { learn, suspicionsDueMs, tickSuspicions } from './learning.js'
import { addressOf } from './member-table.js'
import { leave, setRecord, tickLoad } from './own-claim.js'
import {
  addToRing,
  heard,
  lostContact,
  postponeProbes,
  probingDueMs,
  receiveAck,
  receiveNack,
  receivePingRequest,
  tickProbing,
} from './probing.js'
import { spreadingDueMs, spreadSoon, tickSpreading } from './spreading.js'
import { answerState, askBack, exchangeDueMs, meet, tickExchange, tickSeeds } from './state-exchange.js'

export class GossipCore {
  private readonly state: GossipState

  constructor(options: GossipOptions) {
    assertGossipLimits(options.limits)
    this.state = new GossipState(options)
  }

  get nodeId(): NodeId {
    return this.state.nodeId
  }

  /** Of this process as the others know it: higher than it was started with when its data directory is older than they remember. */
  get bootId(): number {
    return this.state.own.bootId
  }

  get incarnation(): number {
    return this.state.own.incarnation
  }

  /** How many times as long as usual this node waits for others, because it is in a bad way itself; 1 when it is well. */
  get awarenessFactor(): number {
    return this.state.awareness.factor
  }

  get counters(): Readonly<GossipCounters> {
    return this.state.counters
  }

  get metadata(): MetadataDigest {
    return this.state.metadata
  }

  get leadership(): LeadershipDigest {
    return this.state.leadership
  }

  /** News that wait to be passed on. */
  get pendingNews(): number {
    return this.state.news.size
  }

  /** This node included. */
  members(): MemberView[] {
    return [...this.state.members.all()].map(({ claim }) => viewOf(claim))
  }

  member(nodeId: NodeId): MemberView | null {
    const entry = this.state.members.get(nodeId)
    return entry === undefined ? null : viewOf(entry.claim)
  }

  /** What to do now, in order. */
  takeEffects(): readonly GossipEffect[] {
    return this.state.takeEffects()
  }

  /** When a tick has something to do next, as far as is known now: nothing is lost by leaving out those before. */
  get dueMs(): number {
    const { state } = this
    const tellsMs = spreadingDueMs(state)
    if (state.hasLeft) return tellsMs
    const asksMs = Math.min(probingDueMs(state), exchangeDueMs(state), state.nextLoadAtMs)
    return Math.min(tellsMs, asksMs, suspicionsDueMs(state), digestsDueMs(state))
  }

  /** What comes in next comes in now. @param nowMs of a clock that never goes back. */
  advance(nowMs: number): void {
    assert(nowMs >= this.state.nowMs, 'time does not go back')
    this.state.nowMs = nowMs
  }

  /**
   * @param nowMs of a clock that never goes back.
   * @param dueMs when this tick was to come; one that is much later says that the node itself was not running.
   */
  tick(nowMs: number, dueMs = this.state.tickedAtMs + this.state.limits.tickMs): void {
    const { state } = this
    const lateMs = nowMs - dueMs
    this.advance(nowMs)
    state.tickedAtMs = nowMs
    state.awareness.noteTick(nowMs, lateMs)
    if (lateMs > state.limits.stallMs) this.postpone(lateMs)
    if (!state.hasLeft) {
      tickProbing(state)
      tickSuspicions(state)
      tickDigests(state)
      tickLoad(state)
    }
    tickSpreading(state)
    tickExchange(state)
    tickSeeds(state)
  }

  /** Any message, however old, odd or repeated. @param from whoever has sealed it. */
  step(message: GossipMessage, from: NodeId): void {
    const { state } = this
    if (from === state.nodeId || (state.registry !== null && !state.registry.has(from))) {
      state.counters.strangers++
      return
    }
    for (const claim of message.updates) this.learnOf(claim)
    hearDigests(state, from, message)
    this.answer(message, from)
    const entry = state.members.get(from)
    if (message.kind !== 'stateRequest' && message.kind !== 'stateReply') {
      if (entry === undefined || addressOf(entry) === null) askBack(state, from)
    }
  }

  /** What this node says of itself. A new load is told now and then, anything else at once. */
  setRecord(record: MemberRecord): void {
    setRecord(this.state, record)
  }

  /** Who may be a member. Those that are none any more are forgotten, and what they send is refused. */
  setRegistry(registry: ReadonlySet<NodeId> | null): void {
    const { state } = this
    state.registry = registry
    if (registry === null) return
    for (const { claim } of [...state.members.all()]) {
      const { nodeId } = claim
      if (registry.has(nodeId) || nodeId === state.nodeId) continue
      state.members.remove(nodeId)
      state.news.remove(nodeId)
      forgetHolder(state, nodeId)
      if (state.probe?.nodeId === nodeId) state.probe = null
      state.emit({ kind: 'member', change: 'removed', member: viewOf(claim) })
    }
  }

  /** Where members may be: what the metadata say of nodes that were never heard. */
  setSeeds(seeds: readonly Address[]): void {
    this.state.seeds = seeds
  }

  /** This node has applied the metadata log up to here; never less than before. */
  setMetadata(digest: MetadataDigest): void {
    setMetadata(this.state, digest)
  }

  /** What this node knows of leaders; its version never falls. */
  setLeadership(digest: LeadershipDigest): void {
    setLeadership(this.state, digest)
  }

  /** That node has just been heard on a stream: it is alive, whatever datagrams say. */
  heard(nodeId: NodeId): void {
    heard(this.state, nodeId)
  }

  /** A stream to that node has broken: it is probed at once. */
  lostContact(nodeId: NodeId): void {
    lostContact(this.state, nodeId)
  }

  /** There is a stream to that node again, where it listens: it is asked unless all is well with it. */
  meet(nodeId: NodeId, address: Address): void {
    meet(this.state, nodeId, address)
  }

  /** Says good-bye; the shell goes on for a few rounds, so that somebody hears it. */
  leave(): void {
    leave(this.state)
    spreadSoon(this.state)
  }

  private learnOf(claim: GossipMessage['updates'][number]): void {
    const { state } = this
    const isNew = state.members.get(claim.nodeId) === undefined
    learn(state, claim)
    if (isNew && state.members.get(claim.nodeId) !== undefined) addToRing(state, claim.nodeId)
  }

  private answer(message: GossipMessage, from: NodeId): void {
    const { state } = this
    switch (message.kind) {
      case 'ping':
        state.send(from, { kind: 'ack', sequence: message.sequence }, true)
        break
      case 'pingRequest':
        receivePingRequest(state, from, message.sequence, message.target)
        break
      case 'ack':
        receiveAck(state, from, message.sequence)
        break
      case 'nack':
        receiveNack(state, message.sequence)
        break
      case 'stateRequest':
        answerState(state, from)
        break
      default:
    }
  }

  /** This node itself was not running: nobody is to be blamed for what happened meanwhile. */
  private postpone(delayMs: number): void {
    postponeProbes(this.state, delayMs)
    for (const { suspicion } of this.state.members.suspected) if (suspicion !== null) suspicion.startMs += delayMs
  }
}
